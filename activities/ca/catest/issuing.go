package catest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
)

// IssuingServer is a running CA that issues, and a driver for it.
type IssuingServer struct {
	Issuer    *x509.Certificate
	Driver    ca.Driver // a ca.Issuer
	Faults    *Faults   // what the requests to issue go through
	Procedure string    // of certificates for authentication
}

// NewCSR makes a request for a new key.
func NewCSR(t testing.TB, commonName string) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, newKey(t))
	require.NoError(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	return csr
}

// RunIssuing runs the contract of drivers that issue: a key gets one certificate,
// and an answer that is lost leaves none that nobody can find.
func RunIssuing(t *testing.T, start func(t testing.TB) *IssuingServer) {
	authority := func(t *testing.T, s *IssuingServer) *ca.Authority {
		a := &ca.Authority{Name: "under-test", Issuer: s.Issuer, Driver: s.Driver, RequestTimeout: 20 * time.Second}
		require.True(t, a.Issues())
		return a
	}
	ask := func(s *IssuingServer, csr *x509.CertificateRequest) ca.IssueRequest {
		return ca.IssueRequest{CSR: csr, Procedure: s.Procedure, NotAfter: time.Now().AddDate(2, 0, 0)}
	}
	t.Run("issued, and the same again", func(t *testing.T) {
		s := start(t)
		a, csr := authority(t, s), NewCSR(t, "Anna")
		none, err := a.Issued(t.Context(), csr)
		require.NoError(t, err)
		require.Empty(t, none)
		first, err := a.IssueOnce(t.Context(), ask(s, csr))
		require.NoError(t, err)
		again, err := a.IssueOnce(t.Context(), ask(s, csr))
		require.NoError(t, err)
		require.Equal(t, first, again)
		found, err := a.Issued(t.Context(), csr)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, first, found[0])
		other, err := a.IssueOnce(t.Context(), ask(s, NewCSR(t, "Anna")))
		require.NoError(t, err)
		require.NotEqual(t, first.Serial, other.Serial, "another key, another certificate")
	})
	t.Run("the answer is lost", func(t *testing.T) {
		for name, fault := range map[string]fault{
			"cut": cutAfter, "500": answerAfter(http.StatusInternalServerError, "oops"), "garbage": answerAfter(http.StatusOK, "<html>"),
		} {
			t.Run(name, func(t *testing.T) {
				s := start(t)
				a, csr := authority(t, s), NewCSR(t, "Anna")
				s.Faults.order(1, fault)
				_, err := a.IssueOnce(t.Context(), ask(s, csr))
				require.Equal(t, ca.Ambiguous, kindOf(t, err))
				found, err := a.Issued(t.Context(), csr)
				require.NoError(t, err)
				require.Len(t, found, 1, "who gives up knows what to revoke")
				cert, err := a.IssueOnce(t.Context(), ask(s, csr))
				require.NoError(t, err)
				require.Equal(t, found[0], cert, "who does not, gets the same one")
			})
		}
	})
	t.Run("down, nothing done", func(t *testing.T) {
		s := start(t)
		a, csr := authority(t, s), NewCSR(t, "Anna")
		s.Faults.order(1, refused)
		_, err := a.IssueOnce(t.Context(), ask(s, csr))
		require.Equal(t, ca.Unavailable, kindOf(t, err))
		found, err := a.Issued(t.Context(), csr)
		require.NoError(t, err)
		require.Empty(t, found)
	})
	t.Run("no such procedure", func(t *testing.T) {
		s := start(t)
		a, csr := authority(t, s), NewCSR(t, "Anna")
		request := ask(s, csr)
		request.Procedure = "no such procedure"
		_, err := a.IssueOnce(t.Context(), request)
		require.Error(t, err)
		require.False(t, ca.Curable(err), "%v", err)
	})
	t.Run("a certificate for another key", func(t *testing.T) {
		s := start(t)
		a := authority(t, s)
		_, err := a.IssueOnce(t.Context(), ask(s, NewCSR(t, "Anna")))
		require.NoError(t, err)
		s.Faults.order(1, replay())
		_, err = a.IssueOnce(t.Context(), ask(s, NewCSR(t, "Anna")))
		require.Error(t, err, "it is not what was asked for")
	})
	t.Run("another CA's certificate", func(t *testing.T) {
		s := start(t)
		a := authority(t, s)
		a.Issuer = NewIssuer(t, pkix.Name{CommonName: "Somebody else"}).Certificate
		_, err := a.IssueOnce(t.Context(), ask(s, NewCSR(t, "Anna")))
		require.Error(t, err)
		require.False(t, ca.Curable(err))
	})
}
