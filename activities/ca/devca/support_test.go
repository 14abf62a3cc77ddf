package devca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// deadline is how long a test waits for what happens in the background.
const deadline = time.Minute

// open opens the CA of a folder until the end of the test.
func open(t testing.TB, dir string, options Options) *Server {
	t.Helper()
	if options.CRLInterval == 0 {
		options.CRLInterval = 5 * time.Millisecond
	}
	s, err := Open(dir, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func newCSR(t testing.TB, key crypto.Signer, subject pkix.Name) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	require.NoError(t, err)
	return der
}

// issue issues a certificate, with the serial number given in hex unless that is empty.
func issue(t testing.TB, s *Server, serial string) *x509.Certificate {
	t.Helper()
	request := IssueRequest{
		CSR:      newCSR(t, newKey(t), pkix.Name{CommonName: "Anna"}),
		Profile:  ProfileAuthentication,
		Validity: 24 * time.Hour,
	}
	if serial != "" {
		request.Serial = integer(t, serial)
	}
	cert, err := s.Issue(context.Background(), request)
	require.NoError(t, err)
	return cert
}

func integer(t testing.TB, hex string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(hex, 16)
	require.True(t, ok)
	return n
}

func revoke(t testing.TB, s *Server, cert *x509.Certificate, reason mobileid.Reason) CertificateStatus {
	t.Helper()
	status, err := s.Revoke(context.Background(), cert.SerialNumber, reason)
	require.NoError(t, err)
	return status
}

func status(t testing.TB, s *Server, cert *x509.Certificate) CertificateStatus {
	t.Helper()
	status, err := s.Status(context.Background(), cert.SerialNumber)
	require.NoError(t, err)
	return status
}

// published returns the newest CRL, after checking who signed it.
func published(t testing.TB, s *Server) *x509.RevocationList {
	t.Helper()
	list, err := x509.ParseRevocationList(s.publisher.current.Load().der.content)
	require.NoError(t, err)
	require.NoError(t, list.CheckSignatureFrom(s.Certificate()))
	return list
}

// listed waits until a CRL lists exactly so many certificates, and returns it.
func listed(t testing.TB, s *Server, entries int) *x509.RevocationList {
	t.Helper()
	var list *x509.RevocationList
	require.Eventually(t, func() bool {
		list = published(t, s)
		return len(list.RevokedCertificateEntries) == entries
	}, deadline, time.Millisecond)
	return list
}

// entryOf returns the entry of a certificate, or nil.
func entryOf(list *x509.RevocationList, cert *x509.Certificate) *x509.RevocationListEntry {
	for i, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return &list.RevokedCertificateEntries[i]
		}
	}
	return nil
}

// clock is a time that a test moves.
type clock struct{ now chan time.Time }

func newClock(now time.Time) clock {
	c := clock{make(chan time.Time, 1)}
	c.now <- now
	return c
}

func (c clock) Now() time.Time {
	now := <-c.now
	c.now <- now
	return now
}

func (c clock) Move(d time.Duration) { c.now <- (<-c.now).Add(d) }
