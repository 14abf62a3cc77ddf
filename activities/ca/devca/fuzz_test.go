package devca_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/devca"
)

// FuzzAnswers feeds the driver's parsers of outside bytes.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"serial":"1f","status":"revoked","reason":"superseded","revokedAt":"2026-01-02T03:04:05Z","at":"2026-01-02T03:04:05Z"}`,
		`{"serial":"1f","status":"good","at":"2026-01-02T03:04:05Z"}`, `{"serial":"1f","certificate":"-----BEGIN CERTIFICATE-----"}`,
		`{"error":"unknownKey"}`, `[]`, ``,
	} {
		for _, code := range []int{200, 201, 404, 409} {
			f.Add(code, seed)
		}
	}
	credentials := catest.NewCredentials(f, "worker")
	d, err := devca.NewDriver(devca.DriverOptions{
		URL: "https://devca.example", ClientCertFile: credentials.CertFile, ClientKeyFile: credentials.KeyFile, ServerCAFile: credentials.CertFile,
	})
	require.NoError(f, err)
	var code int
	var body string
	d.Client().Transport = catest.Handler(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	})
	cert := ca.Certificate{CertificateID: mobileid.CertificateID{Serial: "1f"}}
	csr := catest.NewCSR(f, "Anna")
	f.Fuzz(func(t *testing.T, c int, b string) {
		if c < 200 || c > 599 {
			return
		}
		code, body = c, b
		if answer, err := d.Revoke(t.Context(), cert, mobileid.Superseded); err == nil {
			require.Contains(t, []ca.Outcome{ca.Revoked, ca.AlreadyRevoked, ca.OnHold}, answer.Outcome)
		}
		if evidence, err := d.Status(t.Context(), cert); err == nil {
			require.Contains(t, []mobileid.Status{mobileid.StatusGood, mobileid.StatusRevoked, mobileid.StatusOnHold, mobileid.StatusUnknown}, evidence.Status)
			require.Len(t, evidence.Proof.SHA256, 64)
		}
		if found, err := d.Issued(t.Context(), csr); err == nil {
			require.Empty(t, found, "no certificate of a fuzzer is for our key")
		}
	})
}
