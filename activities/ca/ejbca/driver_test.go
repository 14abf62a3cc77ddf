package ejbca_test

import (
	"crypto/x509/pkix"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/ejbca"
	"mobileid/activities/ca/ejbca/ejbcatest"
)

var (
	someName = pkix.Name{CommonName: "Some CA"}
	someCert = ca.Certificate{CertificateID: mobileid.CertificateID{Issuer: "aa", Serial: "1f"}}
)

func kindOf(t testing.TB, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// answering is a driver whose requests the test answers, for a CA with a slash and a
// comma in its name.
func answering(t testing.TB, handle http.HandlerFunc) *ejbca.Driver {
	t.Helper()
	officer := catest.NewCredentials(t, "RA officer")
	d := newDriver(t, ejbca.Options{
		URL: "https://localhost/ejbca/ejbca-rest-api/", IssuerDN: `CN=A/S CA,O=Foo\, Inc. å`, ClientCertFile: officer.CertFile, ClientKeyFile: officer.KeyFile,
	})
	d.Client().Transport = catest.Handler(handle)
	return d
}

// What goes over the wire: the DN as one segment, the serial number in hex, the
// reason as a word, and no body.
func TestWire(t *testing.T) {
	var uri, method string
	var length int64
	d := answering(t, func(w http.ResponseWriter, r *http.Request) {
		uri, method, length = r.URL.RequestURI(), r.Method, r.ContentLength
		_, _ = w.Write([]byte(`{"serial_number":"1F","revoked":true,"revocation_date":"2026-01-02T03:04:05Z"}`))
	})
	_, err := d.Revoke(t.Context(), someCert, mobileid.PrivilegeWithdrawn)
	require.NoError(t, err)
	require.Equal(t, http.MethodPut, method)
	require.Equal(t, `/ejbca/ejbca-rest-api/v1/certificate/CN=A%2FS%20CA%2CO=Foo%5C%2C%20Inc.%20%C3%A5/1f/revoke?reason=PRIVILEGES_WITHDRAWN`, uri)
	require.Zero(t, length)
}

func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		name    string
		code    int
		body    string
		outcome ca.Outcome
		kind    ca.Kind
	}{
		{"revoked", 200, `{"serial_number":"1F","revoked":true,"revocation_date":"2026-01-02T03:04:05+01:00"}`, ca.Revoked, ""},
		{"with prefix and zeros", 200, `{"serial_number":"0x001f","revoked":true,"revocation_date":"2026-01-02T03:04:05Z"}`, ca.Revoked, ""},
		{"a hold was lifted", 200, `{"serial_number":"1F","revoked":false,"message":"Successfully revoked"}`, "", ca.Ambiguous},
		{"another serial", 200, `{"serial_number":"2F","revoked":true,"revocation_date":"2026-01-02T03:04:05Z"}`, "", ca.Ambiguous},
		{"no date", 200, `{"serial_number":"1F","revoked":true}`, "", ca.Ambiguous},
		{"approval", 202, `{"status_code":202,"request_id":7}`, ca.Pending, ""},
		{"already", 409, `{"error_code":409,"error_message":"has previously been revoked"}`, ca.AlreadyRevoked, ""},
		{"unknown", 404, `{"error_code":404,"error_message":"not found"}`, "", ca.NotFound},
		{"a wrong address", 404, `<html>404</html>`, "", ca.Unsupported},
		{"bad reason", 400, `{"error_code":400,"error_message":"Invalid revocation reason."}`, "", ca.BadReason},
		{"bad serial", 400, `{"error_code":400,"error_message":"Invalid serial number format"}`, "", ca.Unsupported},
		{"back-dating", 422, `{"error_code":422,"error_message":"x"}`, "", ca.Unsupported},
		{"not authorised", 403, `{"error_code":403,"error_message":"x"}`, "", ca.Denied},
		{"offline", 503, `{"error_code":503,"error_message":"CA offline"}`, "", ca.Unavailable},
		{"general failure", 500, `{"error_code":500,"error_message":"General failure."}`, "", ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.code)
				_, _ = w.Write([]byte(row.body))
			})
			answer, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified)
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.outcome, answer.Outcome)
		})
	}
}

func TestCheck(t *testing.T) {
	fake := ejbcatest.Start(t, someName)
	require.NoError(t, newDriver(t, fake.Driver(fake.Officer)).Check(t.Context()))
	wrong := fake.Driver(fake.Officer)
	wrong.IssuerDN = "Some CA"
	err := newDriver(t, wrong).Check(t.Context())
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.ErrorContains(t, err, `"CN=Some CA"`, "it names those that there are")
	stranger := newDriver(t, fake.Driver(catest.NewCredentials(t, "stranger")))
	require.Equal(t, ca.Denied, kindOf(t, stranger.Check(t.Context())))
}

func TestOptions(t *testing.T) {
	_, err := ejbca.New(ejbca.Options{URL: "http://x", ServerCAFile: "nowhere"})
	for _, fault := range []string{"https", "issuer DN", "client certificate", "server CA"} {
		require.ErrorContains(t, err, fault, "all faults are told at once")
	}
}

// FuzzAnswers feeds the parsers of outside bytes.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"serial_number":"1F","revoked":true,"revocation_reason":"SUPERSEDED","revocation_date":"2026-01-02T03:04:05Z"}`,
		`{"serial_number":"","revoked":true}`, `{"error_code":404}`, `[]`, ``,
	} {
		f.Add(200, seed)
		f.Add(404, seed)
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
		if answer, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified); err == nil {
			require.Contains(t, []ca.Outcome{ca.Revoked, ca.AlreadyRevoked, ca.Pending}, answer.Outcome)
		}
		if evidence, err := d.Status(t.Context(), someCert); err == nil && evidence.Status == mobileid.StatusRevoked {
			require.True(t, evidence.Reason.Final())
			require.False(t, evidence.RevokedAt.IsZero())
		}
	})
}
