package embedded_test

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
	"mobileid/activities/messaging/embedded"
)

// Words that stand in an input for what no fuzzer finds.
const (
	addressWord = "ADDRESS" // of the phone that a command waits for
	commandWord = "COMMAND" // the id of that
)

// Any request to the messaging server, of a client and of a phone: nothing breaks,
// nobody without the key has anything taken, and a command waits until the phone that
// was asked has answered it.
func FuzzInterface(f *testing.F) {
	dir := f.TempDir()
	server, err := embedded.Open(f.Context(), dir, embedded.Options{PublicURL: "https://messaging.example" + embedded.BasePath})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, server.Close()) })
	key, command := sentCommand(f, dir)
	handler := server.Handler()
	ask := func(t testing.TB, method, path, key, body string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path}
		r.Header.Set("X-Api-Key", key)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const provision, certificate, callback = "/hermod/rest/command/provision", "/hermod/rest/command/certificate", "/hermod/util/callback-url"
	post := func(t testing.TB) (address, id string) {
		t.Helper()
		w := ask(t, http.MethodPost, provision, key, command)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		accepted, err := messaging.ParseAccepted(messaging.KindProvision, w.Body.Bytes())
		require.NoError(t, err)
		target, err := device.ParseContent(accepted.Destinations[0].URI)
		require.NoError(t, err)
		return target.Path, accepted.CommandID
	}
	address, id := post(f)

	for _, path := range []string{provision, certificate, callback, addressWord, "/hermod/rest/ms/none", "/hermod/rest/ms/%00", "/healthz", "/hermod//rest/../x"} {
		f.Add("GET", path, false, "")
		for _, body := range []string{command, `{"commandHeader":{"lifespan":1},"certCommand":{"profileid":"p"}}`, `{"callbackURL":"https://x.example"}`, `null`, `[`} {
			f.Add("POST", path, true, body)
			f.Add("PUT", path, true, body)
		}
		f.Add("POST", path, false, command)
	}
	for _, answer := range []string{
		`{"commandId":"COMMAND","outcome":"refused","reason":"no\u0000"}`, `{"commandId":"COMMAND","outcome":"answered","profileId":"p1","jws":"a.b.c"}`,
		`{"commandId":"COMMAND","outcome":"timedout"}`, `{"commandId":"COMMAND"}`, `{"commandId":"none","outcome":"refused"}`,
		`{"commandId":"COMMAND","outcome":"answered","profileId":"../p","installed":["a","a"]}`,
	} {
		f.Add("POST", addressWord, false, answer)
		f.Add("POST", "/hermod/rest/ms/none", false, answer)
	}
	f.Fuzz(func(t *testing.T, method, path string, withKey bool, body string) {
		ours := strings.Contains(path, addressWord)
		path = strings.ReplaceAll(path, addressWord, address)
		body = strings.ReplaceAll(body, commandWord, id)
		given := ""
		if withKey {
			given = key
			if path == callback {
				given = "" // callbacks of a test go nowhere
			}
		}
		w := ask(t, method, path, given, body)
		require.Less(t, w.Code, 500, w.Body)
		if w.Code >= 400 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
			var refusal struct{ Message string }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &refusal))
			require.NotEmpty(t, refusal.Message)
		}
		if !withKey && strings.HasPrefix(path, "/hermod/rest/command/") {
			require.GreaterOrEqual(t, w.Code, 300, "a command is taken from anybody")
		}
		// Nobody hears of a command who does not know the address of its phone.
		if !ours {
			require.NotContains(t, w.Body.String(), id)
		}
		answered := ours && method == http.MethodPost && w.Code == http.StatusOK
		waits := ask(t, http.MethodGet, address, "", "")
		if answered {
			address, id = post(t)
			return
		}
		require.Equal(t, http.StatusOK, waits.Code, waits.Body)
		var waiting device.Command
		require.NoError(t, json.NewDecoder(waits.Body).Decode(&waiting))
		require.Equal(t, id, waiting.CommandID)
		require.JSONEq(t, command, string(waiting.Body))
	})
}

// sentCommand is what a client sends for a command with a long life: its key as the
// header has it, and the body.
func sentCommand(f *testing.F, dir string) (key, body string) {
	f.Helper()
	taken := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		key, body = r.Header.Get("X-Api-Key"), string(sent)
	}))
	defer taken.Close()
	trusted := filepath.Join(f.TempDir(), "ca.pem")
	require.NoError(f, os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: taken.Certificate().Raw}), 0o600))
	client, err := messaging.NewClient(messaging.Options{
		URL: taken.URL, ClientID: embedded.ClientID, APIKeyFile: filepath.Join(dir, embedded.APIKeyFile), ServerCAFile: trusted,
	})
	require.NoError(f, err)
	defer client.Close()
	template, err := messaging.CSRTemplate(pkix.Name{CommonName: "Anna"})
	require.NoError(f, err)
	_, _ = client.Provision(f.Context(), messaging.Provision{
		Header: messaging.Header{Lifespan: 24 * time.Hour, Timeout: time.Minute, ExternalID: "external-1"},
		Nonce:  rand.Text(), UserID: "anna@example.com", ServerName: "Smart ID", ProfileName: "MobileID Anna",
		Keys: []messaging.KeyRequest{{KeyID: "auth", Usage: messaging.Authentication, Types: []messaging.KeyType{messaging.P256}, CSRTemplate: template}},
	})
	require.NotEmpty(f, body)
	return key, body
}
