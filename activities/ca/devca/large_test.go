package devca

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// fill gives the CA of a new folder so many certificates, serials from 1, half of
// them revoked. They are one certificate many times over: signing a million would
// take longer than what is measured.
func fill(t testing.TB, entries int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := Open(dir, Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	require.NoError(t, err)
	der := base64.StdEncoding.EncodeToString(sample(t, s).Raw)
	at := s.now()
	var last uint64
	for n := 1; n <= entries; n++ {
		last, err = s.journal.append(record{at: at, op: opIssue, serial: nth(n), argument: der})
		require.NoError(t, err)
		if n%2 == 0 {
			last, err = s.journal.append(record{at: at, op: opRevoke, serial: nth(n), argument: string(mobileid.Superseded)})
			require.NoError(t, err)
		}
		if n%10_000 == 0 {
			require.NoError(t, s.journal.wait(last))
		}
	}
	require.NoError(t, s.journal.wait(last))
	require.NoError(t, s.Close())
	return dir
}

// sample is a certificate that the CA has signed and not taken up.
func sample(t testing.TB, s *Server) *x509.Certificate {
	t.Helper()
	cert, err := signCertificate(authority("sample", s.now(), time.Hour), s.identity.ca.key.Public(), s.identity.ca)
	require.NoError(t, err)
	return cert
}

func nth(n int) (serial serialNumber) {
	binary.BigEndian.PutUint64(serial[12:], uint64(n))
	return serial
}

func TestManyEntries(t *testing.T) {
	const entries = 30_000
	dir := fill(t, entries)
	began := time.Now()
	s := open(t, dir, Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	t.Logf("start with %d certificates, and a CRL of %d: %s", entries, entries/2, time.Since(began))
	require.Len(t, published(t, s).RevokedCertificateEntries, entries/2)
	require.Less(t, time.Since(began), deadline)

	// A CRL of this length is signed meanwhile, and no revocation waits for it.
	signed := make(chan error, 1)
	go func() { signed <- s.publisher.publish() }()
	revoked, slowest := 0, time.Duration(0)
	for done := false; !done; revoked++ {
		began := time.Now()
		_, err := s.Revoke(context.Background(), big.NewInt(int64(2*revoked+1)), mobileid.KeyCompromise)
		require.NoError(t, err)
		slowest = max(slowest, time.Since(began))
		select {
		case err := <-signed:
			require.NoError(t, err)
			done = true
		default:
		}
	}
	require.Greater(t, revoked, 1)
	t.Logf("%d revocations while a CRL was signed, the slowest in %s", revoked, slowest)
}

// BenchmarkRevoke revokes with every record synced to disk, as always, and a CRL
// at most each second beside it. Half of the entries are revoked before.
func BenchmarkRevoke(all *testing.B) {
	for _, size := range []struct {
		name    string
		entries int
	}{{"1e3", 1_000}, {"1e4", 10_000}, {"1e5", 100_000}, {"1e6", 1_000_000}} {
		dir := "" // of all runs for this size
		taken := size.entries
		for _, callers := range []int{1, 32} {
			all.Run(fmt.Sprintf("entries=%s/callers=%d", size.name, callers), func(b *testing.B) {
				if dir == "" {
					dir = fill(all, size.entries)
				}
				s := open(b, dir, Options{CRLInterval: time.Second})
				require.GreaterOrEqual(b, len(s.certificates), size.entries)
				first := taken + 1
				taken += b.N
				enrol(b, s, first, b.N)
				var done atomic.Int64
				var running sync.WaitGroup
				b.ResetTimer()
				for range callers {
					running.Go(func() {
						for n := int(done.Add(1)); n <= b.N; n = int(done.Add(1)) {
							_, err := s.Revoke(context.Background(), nth(first+n-1).integer(), mobileid.KeyCompromise)
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				running.Wait()
				b.StopTimer()
			})
		}
	}
}

// enrol adds certificates that can be revoked.
func enrol(b *testing.B, s *Server, first, count int) {
	b.Helper()
	der := sample(b, s).Raw
	var last uint64
	for n := first; n < first+count; n++ {
		var err error
		last, err = s.add(nth(n), der)
		require.NoError(b, err)
	}
	require.NoError(b, s.journal.wait(last))
}

// BenchmarkStart opens a folder, CRL included.
func BenchmarkStart(b *testing.B) {
	for _, entries := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			dir := fill(b, entries)
			s, err := Open(dir, Options{}) // signs the CRL that the journal asks for
			require.NoError(b, err)
			require.NoError(b, s.Close())
			for b.Loop() {
				s, err := Open(dir, Options{})
				require.NoError(b, err)
				require.NoError(b, s.Close())
			}
		})
	}
}

// BenchmarkPublish signs a CRL and puts it on disk.
func BenchmarkPublish(b *testing.B) {
	for _, entries := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("listed=%d", entries/2), func(b *testing.B) {
			s := open(b, fill(b, entries), Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
			for b.Loop() {
				require.NoError(b, s.publisher.publish())
			}
		})
	}
}
