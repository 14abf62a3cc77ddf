package stepca_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/stepca"
)

var someName = pkix.Name{CommonName: "Some CA"}

func kindOf(t testing.TB, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// What goes over the wire: a decimal serial number, passive, and a token of its own
// for every try.
func TestWire(t *testing.T) {
	var bodies []map[string]any
	d := answering(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/1.0/revoke", r.URL.Path)
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		var body map[string]any
		require.NoError(t, json.Unmarshal(text, &body))
		bodies = append(bodies, body)
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	})
	cert := ca.Certificate{CertificateID: mobileid.CertificateID{Issuer: "aa", Serial: "123"}}
	for range 2 {
		answer, err := d.Revoke(t.Context(), cert, mobileid.KeyCompromise)
		require.NoError(t, err)
		require.Equal(t, ca.Revoked, answer.Outcome)
	}
	require.Len(t, bodies, 2)
	require.Equal(t, "291", bodies[0]["serial"], "0x123")
	require.Equal(t, true, bodies[0]["passive"])
	require.InDelta(t, 1, bodies[0]["reasonCode"], 0)
	require.NotEqual(t, bodies[0]["ott"], bodies[1]["ott"])
	claims := payload(t, bodies[0]["ott"])
	require.Equal(t, "291", claims["sub"])
	require.Contains(t, claims["aud"], "/1.0/revoke")
	require.NotEqual(t, claims["jti"], payload(t, bodies[1]["ott"])["jti"])
	require.NotContains(t, claims, "iat", "a CA that was started after it would refuse the token")
}

func payload(t testing.TB, token any) map[string]any {
	t.Helper()
	require.IsType(t, "", token)
	parts := strings.Split(fmt.Sprint(token), ".")
	require.Len(t, parts, 3)
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(text, &claims))
	return claims
}

func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		name    string
		code    int
		body    string
		outcome ca.Outcome
		kind    ca.Kind
	}{
		{"done", 200, `{"status":"ok"}`, ca.Revoked, ""},
		{"not done", 200, `{"status":"no"}`, "", ca.Ambiguous},
		{"nothing", 200, ``, "", ca.Ambiguous},
		{"already", 400, `{"status":400,"message":"certificate with serial number '1' is already revoked."}`, ca.AlreadyRevoked, ""},
		{"already, says a proxy", 502, `{"status":502,"message":"x is already revoked"}`, "", ca.Ambiguous},
		{"a bad request that mentions it", 400, `{"status":400,"message":"is already revoked: cannot parse"}`, "", ca.Unsupported},
		{"token used", 401, `{"status":401,"message":"token already used"}`, "", ca.Denied},
		{"stored, but no CRL", 500, `{"status":500}`, "", ca.Ambiguous},
		{"already, but another", 400, `{"status":400,"message":"certificate with serial number '11' is already revoked."}`, "", ca.Unsupported},
		{"a session is already revoked", 400, `{"status":400,"message":"your session is already revoked."}`, "", ca.Unsupported},
		{"no database", 501, `{"status":501}`, "", ca.Unsupported},
		{"no step-ca", 404, `404 page not found`, "", ca.Unsupported},
		{"busy", 503, ``, "", ca.Unavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.code)
				_, _ = w.Write([]byte(row.body))
			})
			answer, err := d.Revoke(t.Context(), ca.Certificate{CertificateID: mobileid.CertificateID{Serial: "1"}}, mobileid.Unspecified)
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.outcome, answer.Outcome)
		})
	}
}

// answering is a driver whose requests the test answers.
func answering(t testing.TB, handle http.HandlerFunc) *stepca.Driver {
	t.Helper()
	d := newDriver(t, startFiles(t))
	d.Client().Transport = catest.Handler(handle)
	return d
}

// startFiles are options whose files are there, without a CA.
func startFiles(t testing.TB) stepca.Options {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	server.Close()
	root := filepath.Join(t.TempDir(), "root.pem")
	require.NoError(t, os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	return stepca.Options{URL: "https://127.0.0.1:1", ServerCAFile: root, Provisioner: "p", KeyFile: strangersKey(t)}
}

func TestCheck(t *testing.T) {
	server := startCA(t, someName)
	require.NoError(t, newDriver(t, server.Driver()).Check(t.Context()))
	stranger := server.Driver()
	stranger.KeyFile = strangersKey(t)
	require.Equal(t, ca.Denied, kindOf(t, newDriver(t, stranger).Check(t.Context())))
	require.NoError(t, server.Stop())
	require.Equal(t, ca.Unavailable, kindOf(t, newDriver(t, server.Driver()).Check(t.Context())))
	require.NoError(t, server.Restart(t.Context()))
}

// step-ca lists 20 provisioners at a time, and 100 if asked.
func TestCheckReadsAllPages(t *testing.T) {
	server := startCA(t, someName)
	text, err := os.ReadFile(server.Driver().KeyFile)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	key, ok := parsed.(*ecdsa.PrivateKey)
	require.True(t, ok)
	var asked []string
	handle := func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("cursor"))
		if r.URL.Query().Get("cursor") == "" {
			_, _ = w.Write([]byte(`{"provisioners":[{"type":"ACME","name":"mobileid"}],"nextCursor":"two"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"provisioners": []any{map[string]any{
			"type": "JWK", "name": "mobileid", "key": stepca.JWK(&key.PublicKey),
		}}})
	}
	web := httptest.NewTLSServer(http.HandlerFunc(handle))
	t.Cleanup(web.Close)
	options := server.Driver()
	options.URL = web.URL
	d := newDriver(t, options)
	d.Client().Transport = web.Client().Transport
	require.NoError(t, d.Check(t.Context()))
	require.Equal(t, []string{"", "two"}, asked)
}

// A CA that was away, and comes back with what it knew.
func TestCAStoppedForAWhile(t *testing.T) {
	server := startCA(t, someName)
	d := newDriver(t, server.Driver())
	cert := catest.Name(t, issue(t, server, d, catest.IssueRequest{}))
	require.NoError(t, server.Stop())
	_, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.True(t, ca.Curable(err), "%v", err)
	require.NoError(t, server.Restart(t.Context()))
	answer, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
}

func TestOptions(t *testing.T) {
	_, err := stepca.New(stepca.Options{URL: "http://x", KeyFile: "nowhere"})
	for _, fault := range []string{"https", "server CA", "provisioner: none", "provisioner key"} {
		require.ErrorContains(t, err, fault, "all faults are told at once")
	}
	files := startFiles(t)
	files.URL += "/ca"
	_, err = stepca.New(files)
	require.ErrorContains(t, err, "path")
	require.NoError(t, os.WriteFile(files.KeyFile, []byte("hunter2"), 0o600))
	_, err = stepca.New(files)
	require.ErrorContains(t, err, "P-256")
	require.NotContains(t, err.Error(), "hunter2")
}

// A serial number with a leading zero is octal for step-ca, if it is not decimal.
func TestSerialNumberIsNotOctal(t *testing.T) {
	server := startCA(t, someName)
	d := newDriver(t, server.Driver())
	cert := catest.Name(t, issue(t, server, d, catest.IssueRequest{Serial: big.NewInt(0x123)}))
	_, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.NoError(t, err)
	crl, err := ca.NewCRL(server.CRLURL, server.Issuer, nil, time.Now)
	require.NoError(t, err)
	evidence, err := crl.Check(t.Context(), cert)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
	for _, other := range []string{"53", "7b"} { // octal and decimal 123
		cert.Serial = other
		evidence, err = crl.Check(t.Context(), cert)
		require.NoError(t, err)
		require.Equal(t, mobileid.StatusGood, evidence.Status, "serial %s", other)
	}
}

// FuzzAnswers feeds the parser of outside bytes.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{`{"status":"ok"}`, `{"status":400,"message":" is already revoked."}`, `[]`, ``, `{"status":{}}`} {
		f.Add(200, seed)
		f.Add(400, seed)
	}
	var code int
	var body string
	d := answering(f, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	})
	f.Fuzz(func(t *testing.T, c int, b string) {
		if c < 200 || c > 599 {
			return
		}
		code, body = c, b
		answer, err := d.Revoke(t.Context(), ca.Certificate{CertificateID: mobileid.CertificateID{Serial: "1"}}, mobileid.Unspecified)
		if err == nil {
			require.Contains(t, []ca.Outcome{ca.Revoked, ca.AlreadyRevoked}, answer.Outcome)
		}
	})
}
