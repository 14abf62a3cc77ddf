package messaging_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

func clientFor(t testing.TB, server *httptest.Server, timeout time.Duration) *messaging.Client {
	t.Helper()
	client, err := messaging.NewClient(messaging.Options{
		URL: server.URL + "/hermod", ClientID: "mobileid", APIKeyFile: file(t, "key", apiKey+"\n"), Timeout: timeout,
		ServerCAFile: file(t, "ca.pem", certificatePEM(server)),
	})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func certificatePEM(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func TestAnswersThatAreNotTheOneHopedFor(t *testing.T) {
	accepted := `{"commandId": "1", "destinations": [{"to": "@tmp", "bid": "b", "uri": "u"}]}`
	for _, row := range []struct {
		name   string
		status int
		header string // Retry-After
		body   string
		want   messaging.Kind
		words  string
	}{
		{"unknown key", 401, "", "", messaging.Denied, "HTTP 401"},
		{"forbidden", 403, "", "", messaging.Denied, "HTTP 403"},
		{"bad request, with the secrets in it", 400, "", fmt.Sprintf(`{"message": "do not like %s and %s"}`, nonce, apiKey), messaging.Invalid, "do not like … and …"},
		{"not found", 404, "", "<html>", messaging.Invalid, "HTTP 404"},
		{"rate limit", 429, "7", "", messaging.Unavailable, "HTTP 429"},
		{"unavailable", 503, "", "", messaging.Unavailable, "HTTP 503"},
		{"failed", 500, "7", "", messaging.Ambiguous, "HTTP 500"},
		{"redirected", 302, "", "", messaging.Invalid, "HTTP 302"},
		{"another success", 202, "", accepted, messaging.Ambiguous, "HTTP 202"},
		{"no JSON", 200, "", nonce, messaging.Ambiguous, "cannot be read"},
		{"wrong type", 200, "", `{"commandId": 1}`, messaging.Ambiguous, `"commandId" has the wrong type`},
		{"no id", 200, "", `{"destinations": [{"uri": "u"}]}`, messaging.Ambiguous, "commandId"},
		{"no destination", 200, "", `{"commandId": "1"}`, messaging.Ambiguous, "destinations"},
		{"no uri", 200, "", `{"commandId": "1", "destinations": [{"bid": "b"}]}`, messaging.Ambiguous, "uri"},
		{"something after it", 200, "", accepted + accepted, messaging.Ambiguous, "follows"},
		{"too large", 200, "", strings.Repeat(" ", 64<<10+1), messaging.Ambiguous, "too large"},
	} {
		t.Run(row.name, func(t *testing.T) {
			client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/hermod/rest/command/provision" {
					t.Error("it followed a redirection")
				}
				w.Header().Set("Location", "/elsewhere")
				if row.header != "" {
					w.Header().Set("Retry-After", row.header)
				}
				w.WriteHeader(row.status)
				fmt.Fprint(w, row.body)
			})
			_, err := client.Provision(t.Context(), provision(t))
			e := requireKind(t, err, row.want)
			require.Contains(t, err.Error(), row.words)
			if row.want == messaging.Unavailable && row.header != "" {
				require.Equal(t, 7*time.Second, e.RetryAfter)
			} else {
				require.Zero(t, e.RetryAfter)
			}
		})
	}
}

// requireKind checks the kind of an error, and that it is free of secrets.
func requireKind(t *testing.T, err error, want messaging.Kind) *messaging.Error {
	t.Helper()
	var e *messaging.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, want, e.Kind, err)
	require.Equal(t, want == messaging.Unavailable || want == messaging.Ambiguous, messaging.Curable(err))
	for _, secret := range []string{nonce, apiKey, base64.StdEncoding.EncodeToString([]byte("mobileid:" + apiKey))} {
		require.NotContains(t, err.Error(), secret)
	}
	return e
}

func TestWhetherItWasSent(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		server := httptest.NewTLSServer(http.NotFoundHandler())
		client := clientFor(t, server, deadline)
		server.Close()
		_, err := client.Provision(t.Context(), provision(t))
		requireKind(t, err, messaging.Unavailable)
	})
	t.Run("the server is not the one that is trusted", func(t *testing.T) {
		asked := false
		server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
		defer server.Close()
		client, err := messaging.NewClient(messaging.Options{URL: server.URL, ClientID: "mobileid", APIKeyFile: file(t, "key", apiKey)})
		require.NoError(t, err)
		_, err = client.Provision(t.Context(), provision(t))
		requireKind(t, err, messaging.Unavailable)
		require.False(t, asked)
	})
	t.Run("no answer in time", func(t *testing.T) {
		release := make(chan struct{})
		server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		defer server.Close()
		defer close(release)
		_, err := clientFor(t, server, 3*time.Second).Provision(t.Context(), provision(t))
		requireKind(t, err, messaging.Ambiguous)
	})
	t.Run("cut off", func(t *testing.T) {
		client := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"commandId"`)
		})
		_, err := client.Provision(t.Context(), provision(t))
		requireKind(t, err, messaging.Ambiguous)
	})
	require.True(t, messaging.Curable(errors.New("nobody has classified it")))
}

func TestNewClientReportsAllFaults(t *testing.T) {
	_, err := messaging.NewClient(messaging.Options{
		URL: "http://x", ClientID: "a:b", APIKeyFile: file(t, "key", "hunter2\nhunter3"), ServerCAFile: file(t, "ca", "x"), Timeout: -1,
	})
	for _, words := range []string{"url", "client ID", "API key", "server CA", "timeout"} {
		require.ErrorContains(t, err, words)
	}
	require.NotContains(t, err.Error(), "hunter")
}
