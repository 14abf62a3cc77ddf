package devca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A key gets one certificate, however often and however many at once ask for it, and
// after a restart too.
func TestIssueOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	key, other := newKey(t), newKey(t)
	request := IssueRequest{CSR: newCSR(t, key, pkix.Name{CommonName: "Anna"}), Profile: ProfileAuthentication, Validity: time.Hour, Once: true}
	all := make([]*x509.Certificate, 8)
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			cert, err := s.Issue(context.Background(), request)
			if err == nil {
				all[i] = cert
			}
		})
	}
	group.Wait()
	for _, cert := range all {
		require.NotNil(t, cert)
		require.Equal(t, all[0].Raw, cert.Raw)
	}
	unrelated, err := s.Issue(context.Background(), IssueRequest{CSR: newCSR(t, other, pkix.Name{CommonName: "Anna"}), Profile: ProfileSignature, Validity: time.Hour, Once: true})
	require.NoError(t, err)
	require.NotEqual(t, all[0].SerialNumber, unrelated.SerialNumber)
	again := request
	again.Once = false
	more, err := s.Issue(context.Background(), again)
	require.NoError(t, err)
	require.NotEqual(t, all[0].SerialNumber, more.SerialNumber, "who does not ask for once gets another one")

	hash := sha256.Sum256(all[0].RawSubjectPublicKeyInfo)
	for range 2 {
		found, err := s.Issued(context.Background(), hash)
		require.NoError(t, err)
		require.Equal(t, all[0].Raw, found.Raw)
		_, err = s.Issued(context.Background(), sha256.Sum256([]byte("another key")))
		require.ErrorIs(t, err, ErrUnknownKey)
		repeat, err := s.Issue(context.Background(), request)
		require.NoError(t, err)
		require.Equal(t, all[0].Raw, repeat.Raw)
		require.NoError(t, s.Close())
		s = open(t, dir, Options{})
	}
}
