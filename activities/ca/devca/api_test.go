package devca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

// apiClient returns an HTTP client that shows the given certificates.
func apiClient(t *testing.T, c *devcatest.CA, pairs ...tls.Certificate) *http.Client {
	t.Helper()
	trusted, err := os.ReadFile(filepath.Join(c.Dir, devca.ServerCAFile))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(trusted))
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: pairs}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: deadline}
}

func clientPair(t *testing.T, c *devcatest.CA, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, name+".pem"), filepath.Join(c.Dir, name+".key"))
	require.NoError(t, err)
	return pair
}

func call(t *testing.T, client *http.Client, method, url, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "application/json", response.Header.Get("Content-Type"))
	var answer map[string]any
	require.NoError(t, json.Unmarshal(content, &answer), string(content))
	return response.StatusCode, answer
}

func TestAPI(t *testing.T) {
	c := devcatest.Start(t, func(o *devca.Options) {
		o.Clock = func() time.Time { return time.Now().Truncate(time.Hour) } // so that dates can be foretold
	})
	client := apiClient(t, c, clientPair(t, c, "client"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: devcatest.CSR(t, key, "Anna")}))
	for _, serial := range []string{"a1", "a2", "a3"} {
		c.IssueSerial(t, "Anna", serial)
	}
	at := time.Now().UTC().Truncate(time.Hour).Format(time.RFC3339)
	about := func(serial, status, reason string) map[string]any {
		body := map[string]any{"serial": serial, "status": status, "at": at}
		if reason != "" {
			body["reason"], body["revokedAt"] = reason, at
		}
		return body
	}
	const path = "/v1/certificates"
	for _, row := range []struct {
		name, method, path, body string
		code                     int
		want                     map[string]any // nil: an error body
		err                      string
	}{
		{"status of a good one", "GET", path + "/a1", "", 200, about("a1", "good", ""), ""},
		{"revoke", "POST", path + "/a1/revoke", `{"reason":"keyCompromise"}`, 200, about("a1", "revoked", "keyCompromise"), ""},
		{"revoke again for another reason", "POST", path + "/a1/revoke", `{"reason":"superseded"}`, 409, about("a1", "revoked", "keyCompromise"), ""},
		{"hold what is revoked", "POST", path + "/a1/revoke", `{"reason":"certificateHold"}`, 409, about("a1", "revoked", "keyCompromise"), ""},
		{"release what is revoked", "POST", path + "/a1/release", `{}`, 409, about("a1", "revoked", "keyCompromise"), ""},
		{"status of a revoked one", "GET", path + "/a1", "", 200, about("a1", "revoked", "keyCompromise"), ""},
		{"hold", "POST", path + "/a2/revoke", `{"reason":"certificateHold"}`, 200, about("a2", "onHold", "certificateHold"), ""},
		{"hold again", "POST", path + "/a2/revoke", `{"reason":"certificateHold"}`, 200, about("a2", "onHold", "certificateHold"), ""},
		{"release", "POST", path + "/a2/release", `{}`, 200, about("a2", "good", ""), ""},
		{"release what is good", "POST", path + "/a2/release", `{}`, 409, about("a2", "good", ""), ""},
		{"status of an unknown one", "GET", path + "/b1", "", 404, about("b1", "unknown", ""), ""},
		{"revoke an unknown one", "POST", path + "/b1/revoke", `{"reason":"superseded"}`, 404, nil, "unknownSerial"},
		{"a reason that is none", "POST", path + "/a3/revoke", `{"reason":"stolen"}`, 400, nil, "badReason"},
		{"a reason in other letters", "POST", path + "/a3/revoke", `{"reason":"KeyCompromise"}`, 400, nil, "badReason"},
		{"removeFromCRL as a reason", "POST", path + "/a3/revoke", `{"reason":"removeFromCRL"}`, 400, nil, "badReason"},
		{"no reason", "POST", path + "/a3/revoke", `{}`, 400, nil, "badReason"},
		{"a misspelt field", "POST", path + "/a3/revoke", `{"reason":"superseded","reson":"x"}`, 400, nil, "badRequest"},
		{"no JSON", "POST", path + "/a3/revoke", `reason=superseded`, 400, nil, "badRequest"},
		{"no body", "POST", path + "/a3/revoke", ``, 400, nil, "badRequest"},
		{"two objects", "POST", path + "/a3/revoke", `{"reason":"superseded"}{}`, 400, nil, "badRequest"},
		{"a body that is too long", "POST", path + "/a3/revoke", `{"reason":"` + strings.Repeat("x", 70_000) + `"}`, 413, nil, "tooLarge"},
		{"serial in upper case", "GET", path + "/A1", "", 400, nil, "badRequest"},
		{"serial with a leading zero", "GET", path + "/0a1", "", 400, nil, "badRequest"},
		{"serial with a prefix", "GET", path + "/0xa1", "", 400, nil, "badRequest"},
		{"serial that is too long", "GET", path + "/" + strings.Repeat("a", 41), "", 400, nil, "badRequest"},
		{"key that is no hash", "GET", "/v1/keys/" + strings.Repeat("0g", 32), "", 400, nil, "badRequest"},
		{"key that is too short", "GET", "/v1/keys/" + strings.Repeat("00", 31), "", 400, nil, "badRequest"},
		{"key that is too long", "GET", "/v1/keys/" + strings.Repeat("00", 33), "", 400, nil, "badRequest"},
		{"another method", "DELETE", path + "/a1", "", 405, nil, "methodNotAllowed"},
		{"GET of a revocation", "GET", path + "/a1/revoke", "", 405, nil, "methodNotAllowed"},
		{"another address", "GET", "/v2/certificates/a1", "", 404, nil, "notFound"},
		{"request that is no PEM", "POST", path, `{"csr":"x","profile":"signature","days":1}`, 400, nil, "badRequest"},
		{"no days", "POST", path, quoted(t, csr, "signature", 0), 400, nil, "badRequest"},
		{"too many days", "POST", path, quoted(t, csr, "signature", 1_000_000), 400, nil, "badRequest"},
		{"no profile", "POST", path, quoted(t, csr, "", 1), 400, nil, "badRequest"},
	} {
		t.Run(row.name, func(t *testing.T) {
			code, answer := call(t, client, row.method, c.APIURL+row.path, row.body)
			require.Equal(t, row.code, code)
			if row.want != nil {
				require.Equal(t, row.want, answer)
				return
			}
			require.Equal(t, row.err, answer["error"])
			require.NotEmpty(t, answer["message"])
		})
	}
	require.Equal(t, mobileid.StatusGood, c.Status(t, c.IssueSerial(t, "Anna", "a4")).Status)
	code, answer := call(t, client, "GET", c.APIURL+path+"/a3", "")
	require.Equal(t, 200, code)
	require.Equal(t, "good", answer["status"], "none of the refused requests had an effect")

	code, answer = call(t, client, "POST", c.APIURL+path, quoted(t, csr, "signature", 2))
	require.Equal(t, 201, code)
	text, _ := answer["certificate"].(string)
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, answer["serial"], cert.SerialNumber.Text(16))
}

func quoted(t *testing.T, csr, profile string, days int) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"csr": csr, "profile": profile, "days": days})
	require.NoError(t, err)
	return string(body)
}

func TestAPINeedsTheClientCertificate(t *testing.T) {
	c := devcatest.Start(t)
	other := devcatest.Start(t)
	cert, key := c.Issue(t, "Anna")
	for _, row := range []struct {
		name  string
		pairs []tls.Certificate
	}{
		{"none", nil},
		{"of another CA's transport", []tls.Certificate{clientPair(t, other, "client")}},
		{"the server's own", []tls.Certificate{clientPair(t, c, "tls")}},
		{"a mobile ID's, for client authentication", []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.APIURL+"/v1/certificates/1", nil)
			require.NoError(t, err)
			response, err := apiClient(t, c, row.pairs...).Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			require.ErrorContains(t, err, "tls: ")
		})
	}
	t.Run("by plain HTTP", func(t *testing.T) {
		recorder := httptest.NewRecorder()
		c.Server.API().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/v1/certificates/1/revoke", bytes.NewReader([]byte(`{}`))))
		require.Equal(t, http.StatusForbidden, recorder.Code)
	})
}
