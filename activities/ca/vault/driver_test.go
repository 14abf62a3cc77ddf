package vault_test

import (
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/vault"
)

var someName = pkix.Name{CommonName: "Some CA"}

func kindOf(t testing.TB, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// By serial number alone, as a worker asks: no certificate travels with a lock.
func TestRevokeBySerialNumber(t *testing.T) {
	e := startEngine(t, someName)
	d := newDriver(t, e.options())
	cert := catest.Name(t, e.issueByRole(t, "phone"))
	cert.DER = nil
	before, err := d.Status(t.Context(), cert)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, before.Status)
	answer, err := d.Revoke(t.Context(), cert, mobileid.KeyCompromise)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	after, err := d.Status(t.Context(), cert)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, after.Status)
	require.Equal(t, answer.RevokedAt, after.RevokedAt)
	require.Empty(t, after.Reason)
}

// A role that keeps no certificates: by serial number they are not found, and by
// the certificate itself they are revoked.
func TestRevokeWhatIsNotStored(t *testing.T) {
	e := startEngine(t, someName)
	d := newDriver(t, e.options())
	cert := catest.Name(t, e.issueByRole(t, "unstored"))
	bare := cert
	bare.DER = nil
	_, err := d.Revoke(t.Context(), bare, mobileid.Unspecified)
	require.Equal(t, ca.NotFound, kindOf(t, err))
	answer, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	status, err := d.Status(t.Context(), bare)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, status.Status)
}

// With auto_rebuild the CRL lags: the lock is done at the CA, and not yet visible.
func TestCRLIsRebuiltLater(t *testing.T) {
	e := startEngine(t, someName)
	e.call(t, http.MethodPost, "config/crl", map[string]any{"auto_rebuild": true, "auto_rebuild_grace_period": "1h"})
	crl, err := ca.NewCRL(e.public.URL+"/crl", e.issuer.Certificate, nil, time.Now)
	require.NoError(t, err)
	a := &ca.Authority{Name: "vault", Issuer: e.issuer.Certificate, Driver: newDriver(t, e.options()), CRL: crl}
	cert := catest.Name(t, e.issueByRole(t, "phone"))
	result, err := a.Revoke(t.Context(), cert, mobileid.Unspecified, false, time.Now())
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, result.StatusAtCA)
	require.True(t, result.VisibleAt.IsZero(), "others cannot see it yet")
	e.call(t, http.MethodGet, "crl/rotate", nil)
	finding, err := a.Prove(t.Context(), cert, time.Time{})
	require.NoError(t, err)
	require.False(t, finding.VisibleAt.IsZero())
}

// Two issuers in one mount, and a certificate of each with one serial number, of which
// the engine keeps the other's.
func TestSerialNumberOfAnotherIssuer(t *testing.T) {
	for _, row := range []struct {
		name   string
		issuer pkix.Name
	}{
		{"of another name", pkix.Name{CommonName: "Other CA"}},
		{"of the same name", someName},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := startEngine(t, someName)
			bundle := bundlePEM(t, catest.NewIssuer(t, row.issuer))
			imported := e.call(t, http.MethodPost, "issuers/import/bundle", map[string]any{"pem_bundle": bundle})
			ids, ok := imported["imported_issuers"].([]any)
			require.True(t, ok)
			bystander := parse(t, fmt.Sprint(e.call(t, http.MethodPost, fmt.Sprintf("issuer/%s/issue/phone", ids[0]), map[string]any{"common_name": "berta"})["certificate"]))
			cert := catest.Name(t, e.issue(t, catest.IssueRequest{Serial: bystander.SerialNumber}))
			d := newDriver(t, e.options())
			for _, der := range [][]byte{cert.DER, nil} {
				cert.DER = der
				_, err := d.Revoke(t.Context(), cert, mobileid.KeyCompromise)
				require.Equal(t, ca.Unsupported, kindOf(t, err))
				_, err = d.Status(t.Context(), cert)
				require.Equal(t, ca.Unsupported, kindOf(t, err))
			}
			evidence, err := d.Status(t.Context(), catest.Name(t, bystander))
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusGood, evidence.Status)
		})
	}
}

// What is at hand is not what was named: neither of them is revoked.
func TestCertificateOfAnotherName(t *testing.T) {
	e := startEngine(t, someName)
	d := newDriver(t, e.options())
	cert, other := catest.Name(t, e.issueByRole(t, "unstored")), catest.Name(t, e.issueByRole(t, "unstored"))
	cert.DER = other.DER
	_, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	evidence, err := d.Status(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusUnknown, evidence.Status)
}

// The issuer has been removed from the mount, or was never there.
func TestIssuerIsNotThere(t *testing.T) {
	e, other := startEngine(t, someName), startEngine(t, pkix.Name{CommonName: "Other CA"})
	cert := catest.Name(t, other.issueByRole(t, "phone"))
	_, err := newDriver(t, e.options()).Revoke(t.Context(), cert, mobileid.Unspecified)
	require.Equal(t, ca.NotFound, kindOf(t, err))
}

// An answer that leaves the time out does not say "good".
func TestStatusWithoutTime(t *testing.T) {
	e := startEngine(t, someName)
	cert := catest.Name(t, e.issueByRole(t, "phone"))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER})
	for _, data := range []map[string]any{{"certificate": string(text)}, {"certificate": string(text), "revocation_time": -1}} {
		body, err := json.Marshal(map[string]any{"data": data})
		require.NoError(t, err)
		_, err = answering(t, http.StatusOK, string(body)).Status(t.Context(), cert)
		require.Equal(t, ca.Ambiguous, kindOf(t, err))
	}
}

func TestWrongMount(t *testing.T) {
	e := startEngine(t, someName)
	cert := catest.Name(t, e.issueByRole(t, "phone"))
	options := e.options()
	options.Mount = "pki-of-another"
	d := newDriver(t, options)
	_, err := d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	_, err = d.Status(t.Context(), cert)
	require.Equal(t, ca.Unsupported, kindOf(t, err), "a wrong address is not a CA that does not know the certificate")
}

// The token is read for each request, and is in no error.
func TestTokenFile(t *testing.T) {
	e := startEngine(t, someName)
	d := newDriver(t, e.options())
	cert := catest.Name(t, e.issueByRole(t, "phone"))
	e.write(t, "token", []byte("hvs.expired-secret"))
	_, err := d.Status(t.Context(), cert)
	require.NoError(t, err, "certificates are public")
	_, err = d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.Equal(t, ca.Denied, kindOf(t, err))
	require.NotContains(t, err.Error(), "expired-secret")
	for _, gone := range []func() error{
		func() error { return os.WriteFile(e.file("token"), nil, 0o600) }, func() error { return os.Remove(e.file("token")) },
	} {
		require.NoError(t, gone())
		_, err = d.Revoke(t.Context(), cert, mobileid.Unspecified)
		require.Equal(t, ca.Unavailable, kindOf(t, err), "it may be just being renewed")
	}
	e.write(t, "token", []byte(token))
	_, err = d.Revoke(t.Context(), cert, mobileid.Unspecified)
	require.NoError(t, err)
}

func TestOptions(t *testing.T) {
	_, err := vault.New(vault.Options{Mount: "a/../b c", TokenFile: "nowhere", ServerCAFile: "nowhere"})
	for _, fault := range []string{"https", "mount", "token", "server CA"} {
		require.ErrorContains(t, err, fault, "all faults are told at once")
	}
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hvs.secret\nhvs.another"), 0o600))
	_, err = vault.New(vault.Options{URL: "https://localhost", TokenFile: file})
	require.ErrorContains(t, err, "holds no token")
	require.NotContains(t, err.Error(), "hvs")
}

// answers of versions that do not run here, and of whoever else may answer.
func TestAnswers(t *testing.T) {
	expired := ca.Certificate{CertificateID: mobileid.CertificateID{Issuer: "aa", Serial: "1f"}, NotAfter: time.Now().Add(-time.Hour)}
	valid := expired
	valid.NotAfter = time.Now().Add(time.Hour)
	for _, row := range []struct {
		name    string
		cert    ca.Certificate
		code    int
		body    string
		outcome ca.Outcome
		kind    ca.Kind
	}{
		{"revoked", valid, 200, `{"data":{"state":"revoked","revocation_time":1700000000}}`, ca.Revoked, ""},
		{"expired, as 204", expired, 204, ``, ca.ExpiredNotRevoked, ""},
		{"expired, as a warning", expired, 200, `{"data":null,"warnings":["certificate has expired"]}`, ca.ExpiredNotRevoked, ""},
		{"a warning for a valid one", valid, 200, `{"data":null,"warnings":["x"]}`, "", ca.Ambiguous},
		{"no data and no warning", expired, 200, `{"data":null}`, "", ca.Ambiguous},
		{"another state", valid, 200, `{"data":{"state":"pending","revocation_time":0}}`, "", ca.Ambiguous},
		{"no time", valid, 200, `{"data":{"state":"revoked"}}`, "", ca.Ambiguous},
		{"sealed", valid, 503, `{"errors":["Vault is sealed"]}`, "", ca.Unavailable},
		{"not found", valid, 400, `{"errors":["certificate with serial 1f not found."]}`, "", ca.NotFound},
		{"another not found", valid, 400, `{"errors":["issuer default not found"]}`, "", ca.Unsupported},
		{"of no issuer of the mount", valid, 500, `{"errors":["unable to verify signature on presented cert from any present issuer in this mount; x"]}`, "", ca.NotFound},
		{"broken", valid, 500, `{"errors":["x"]}`, "", ca.Ambiguous},
		{"a standby that cannot forward", valid, 307, ``, "", ca.Unavailable},
		{"a list", valid, 200, `[]`, "", ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := revoking(t, row.code, row.body)
			answer, err := d.Revoke(t.Context(), row.cert, mobileid.Unspecified)
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.outcome, answer.Outcome)
		})
	}
}

// answering is a driver of a server that always says the same.
func answering(t testing.TB, code int, body string) *vault.Driver {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	})
}

// revoking is a driver of a server that keeps no certificate, and says the same to
// all requests to revoke one.
func revoking(t testing.TB, code int, body string) *vault.Driver {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":[]}`))
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	})
}

func serving(t testing.TB, handle http.HandlerFunc) *vault.Driver {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	d := newDriver(t, vault.Options{URL: "https://localhost", TokenFile: file})
	d.Client().Transport = catest.Handler(handle)
	return d
}

func TestCheck(t *testing.T) {
	for _, row := range []struct {
		name string
		code int
		body any
		kind ca.Kind
	}{
		{"may revoke", 200, map[string]any{"data": map[string]any{"capabilities": []string{"update"}}}, ""},
		{"root", 200, map[string]any{"data": map[string]any{"capabilities": []string{"root"}}}, ""},
		{"may read", 200, map[string]any{"data": map[string]any{"capabilities": []string{"read"}}}, ca.Denied},
		{"not let in", 403, map[string]any{"errors": []string{"permission denied"}}, ca.Denied},
	} {
		t.Run(row.name, func(t *testing.T) {
			body, err := json.Marshal(row.body)
			require.NoError(t, err)
			err = answering(t, row.code, string(body)).Check(t.Context())
			if row.kind == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, row.kind, kindOf(t, err))
		})
	}
}

// FuzzAnswers feeds the parsers of outside bytes: nothing but the engine's own word
// about this very certificate is a revocation, and nothing panics.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"data":{"state":"revoked","revocation_time":1700000000}}`, `{"data":null,"warnings":["x"]}`, `{"data":{"certificate":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----","revocation_time":1}}`,
		`{"errors":[]}`, ``, `[]`, `{"data":{"revocation_time":1e400}}`,
	} {
		f.Add(200, seed)
		f.Add(404, seed)
	}
	cert := ca.Certificate{CertificateID: mobileid.CertificateID{Issuer: "aa", Serial: "1f"}, NotAfter: time.Now().Add(time.Hour)}
	f.Fuzz(func(t *testing.T, code int, body string) {
		if code < 200 || code > 599 {
			return
		}
		d := answering(t, code, body)
		if evidence, err := d.Status(t.Context(), cert); err == nil {
			require.NotEqual(t, mobileid.StatusRevoked, evidence.Status, "no certificate has this issuer")
		}
		if answer, err := revoking(t, code, body).Revoke(t.Context(), cert, mobileid.Unspecified); err == nil {
			require.Contains(t, []ca.Outcome{ca.Revoked, ca.ExpiredNotRevoked}, answer.Outcome)
			require.True(t, code == http.StatusNoContent || answer.Outcome == ca.Revoked, "it has not expired")
		}
	})
}
