// Package catest is the contract that every driver of a CA must pass, as a test
// suite: each mistake that others made when they revoked certificates is a named
// case. A driver's own package starts its CA, the real one where it can run and a
// strict fake where it cannot, and hands it to [Run].
package catest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
)

// Start runs a CA of its own for one case, whose certificate bears the name. It
// listens on loopback, and stops with the test.
type Start func(t testing.TB, name pkix.Name) *Server

// Product says what is behind the driver.
type Product struct {
	Driver string // its package, for example "stepca"
	Name   string // for example "step-ca v0.30.2"
	Fake   bool   // not the product itself
	// Reasons are those that the driver sends and the CA takes, beside unspecified.
	// All others it refuses as ca.BadReason. Where the interface carries no reason,
	// these are what the driver lets pass without it.
	Reasons []mobileid.Reason
	// TakesUnknownSerials: the CA revokes what it never issued, and says so.
	TakesUnknownSerials bool
	// Expired is what becomes of a certificate past notAfter.
	Expired mobileid.CertificateOutcome
	// Without says, by the name of a case, why the product has no such thing.
	Without map[string]string
}

// Server is a running CA and a driver for it.
type Server struct {
	Issuer *x509.Certificate
	Driver ca.Driver
	Faults *Faults // what the driver's requests go through

	// Issue makes a certificate.
	Issue func(t testing.TB, request IssueRequest) *x509.Certificate
	// Denied is a driver whose credentials the CA does not accept for revoking.
	Denied ca.Driver
	// Hold puts a certificate on hold; nil if the product has no hold.
	Hold func(t testing.TB, cert *x509.Certificate)
	// Approve, if the product has approvals, makes requests wait for one from now
	// on; what it returns grants or refuses the one that waits for a certificate.
	Approve func(t testing.TB) (decide func(t testing.TB, cert *x509.Certificate, granted bool))
	// OCSPURL and CRLURL are where others look; empty if the product has none.
	OCSPURL string
	CRLURL  string
	// CRL returns the CRL in DER as the CA would publish it now, for a CA whose
	// list is not at CRLURL; nil if it has none.
	CRL func(t testing.TB) []byte
}

// IssueRequest says what to issue.
type IssueRequest struct {
	Serial   *big.Int  // nil: the CA's choice
	NotAfter time.Time // zero: in a year; may be past
}

// Name returns what a driver is told of a certificate.
func Name(t testing.TB, cert *x509.Certificate) ca.Certificate {
	t.Helper()
	c, err := mobileid.NewCertificate(cert, mobileid.CertificateValid)
	require.NoError(t, err)
	return ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter, DER: c.DER}
}

// authority is the CA as a worker has it.
func (s *Server) authority(t testing.TB) *ca.Authority {
	t.Helper()
	a := &ca.Authority{Name: "under-test", Issuer: s.Issuer, Driver: s.Driver, RequestTimeout: 20 * time.Second, Concurrency: 4}
	var err error
	if s.OCSPURL != "" {
		a.OCSP, err = ca.NewOCSP(s.OCSPURL, s.Issuer, ca.NewHTTPClient(a.RequestTimeout), time.Now)
		require.NoError(t, err)
	}
	if s.CRLURL != "" {
		a.CRL, err = ca.NewCRL(s.CRLURL, s.Issuer, ca.NewHTTPClient(a.RequestTimeout), time.Now)
		require.NoError(t, err)
	}
	return a
}

// issue issues, and sees that it is the issuer's and what was asked for.
func (s *Server) issue(t testing.TB, request IssueRequest) *x509.Certificate {
	t.Helper()
	cert := s.Issue(t, request)
	require.Equal(t, s.Issuer.RawSubject, cert.RawIssuer)
	require.NoError(t, cert.CheckSignatureFrom(s.Issuer))
	if request.Serial != nil {
		require.Equal(t, hex.EncodeToString(request.Serial.Bytes()), hex.EncodeToString(cert.SerialNumber.Bytes()))
	}
	return cert
}
