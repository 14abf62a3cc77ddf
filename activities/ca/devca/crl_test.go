package devca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestFirstCRL(t *testing.T) {
	now := newClock(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC))
	s := open(t, t.TempDir(), Options{Clock: now.Now, CRLValidity: 2 * time.Hour})
	list := published(t, s)
	require.EqualValues(t, 1, list.Number.Int64())
	require.Empty(t, list.RevokedCertificateEntries)
	require.Equal(t, now.Now(), list.ThisUpdate)
	require.Equal(t, now.Now().Add(2*time.Hour), list.NextUpdate)
	require.Equal(t, s.Certificate().SubjectKeyId, list.AuthorityKeyId)
}

func TestCRLCarriesReasons(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	oidReason := asn1.ObjectIdentifier{2, 5, 29, 21}
	codes := map[string]int{}
	for _, reason := range []mobileid.Reason{
		mobileid.Unspecified, mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
		mobileid.CessationOfOperation, mobileid.CertificateHold, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
	} {
		cert := issue(t, s, "")
		revoke(t, s, cert, reason)
		codes[cert.SerialNumber.Text(16)], _ = reason.Code()
	}
	for _, entry := range listed(t, s, len(codes)).RevokedCertificateEntries {
		code := codes[entry.SerialNumber.Text(16)]
		require.Equal(t, code, entry.ReasonCode)
		has := false
		for _, extension := range entry.Extensions {
			has = has || extension.Id.Equal(oidReason)
		}
		require.Equal(t, code != 0, has, "unspecified is said by leaving the extension out")
	}
}

// TestSerialBytesInCRL looks at the bytes, because a library may read back what
// it wrote wrongly.
func TestSerialBytesInCRL(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	rows := []struct {
		name, serial string
		der          []byte
	}{
		{"one byte", "1", []byte{0x02, 0x01, 0x01}},
		{"high bit in one byte", "80", []byte{0x02, 0x02, 0x00, 0x80}},
		{"all bits in one byte", "ff", []byte{0x02, 0x02, 0x00, 0xff}},
		{"leading zero nibble", "abc", []byte{0x02, 0x02, 0x0a, 0xbc}},
		{"digits only", "1234", []byte{0x02, 0x02, 0x12, 0x34}},
		{"high bit in 19 bytes", "ff000000000000000000000000000000000001",
			append([]byte{0x02, 0x14, 0x00, 0xff}, append(make([]byte, 17), 0x01)...)},
		{"20 bytes", "7f00000000000000000000000000000000000001",
			append([]byte{0x02, 0x14, 0x7f}, append(make([]byte, 18), 0x01)...)},
	}
	for _, row := range rows {
		cert := issue(t, s, row.serial)
		require.Contains(t, string(cert.RawTBSCertificate), string(row.der))
		revoke(t, s, cert, mobileid.Superseded)
	}
	list := listed(t, s, len(rows))
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var found bool
			for _, entry := range list.RevokedCertificateEntries {
				var fields []asn1.RawValue
				_, err := asn1.Unmarshal(entry.Raw, &fields)
				require.NoError(t, err)
				found = found || bytes.Equal(fields[0].FullBytes, row.der)
			}
			require.True(t, found)
		})
	}
}

func TestCRLNumberOnlyGrows(t *testing.T) {
	dir := t.TempDir()
	last := int64(0)
	for range 3 {
		s, err := Open(dir, Options{CRLInterval: time.Millisecond})
		require.NoError(t, err)
		at := published(t, s).Number.Int64()
		require.GreaterOrEqual(t, at, last)
		revoke(t, s, issue(t, s, ""), mobileid.Superseded)
		require.Eventually(t, func() bool { return published(t, s).Number.Int64() > at }, deadline, time.Millisecond)
		require.NoError(t, s.Close())
		last = published(t, s).Number.Int64()
	}
	require.GreaterOrEqual(t, last, int64(4))
}

// TestCRLIsBehindTheJournal starts with a CRL that misses a revocation, as a
// crash leaves it.
func TestCRLIsBehindTheJournal(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{CRLInterval: time.Hour, CRLValidity: 4 * time.Hour})
	require.NoError(t, err)
	cert := issue(t, s, "")
	revoke(t, s, cert, mobileid.KeyCompromise)
	require.Nil(t, entryOf(published(t, s), cert), "the interval is not over")
	require.NoError(t, s.Close())

	s = open(t, dir, Options{CRLInterval: time.Hour, CRLValidity: 4 * time.Hour})
	list := published(t, s)
	require.NotNil(t, entryOf(list, cert))
	require.EqualValues(t, 2, list.Number.Int64())
}

func TestCRLIsUnchangedAtRestart(t *testing.T) {
	now := newClock(time.Now())
	dir := t.TempDir()
	s, err := Open(dir, Options{CRLInterval: time.Millisecond, Clock: now.Now})
	require.NoError(t, err)
	for range 5 {
		revoke(t, s, issue(t, s, ""), mobileid.Superseded)
	}
	listed(t, s, 5)
	require.NoError(t, s.Close())
	before := published(t, s)

	s, err = Open(dir, Options{CRLInterval: time.Minute, Clock: now.Now})
	require.NoError(t, err)
	require.Equal(t, before.Raw, published(t, s).Raw)
	require.NoError(t, s.Close())

	now.Move(time.Hour)
	s = open(t, dir, Options{CRLInterval: time.Minute, Clock: now.Now})
	require.EqualValues(t, 1, published(t, s).Number.Int64()-before.Number.Int64(), "nextUpdate is past")
}

func TestCRLIsRenewedWithoutChanges(t *testing.T) {
	s := open(t, t.TempDir(), Options{CRLInterval: time.Millisecond, CRLValidity: 2 * time.Second})
	first := published(t, s)
	require.Eventually(t, func() bool { return published(t, s).Number.Cmp(first.Number) > 0 }, deadline, 5*time.Millisecond)
	require.True(t, time.Now().Before(first.NextUpdate.Add(time.Second)))
}

func TestAtMostOneCRLPerInterval(t *testing.T) {
	s := open(t, t.TempDir(), Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	for range 20 {
		revoke(t, s, issue(t, s, ""), mobileid.Superseded)
	}
	require.EqualValues(t, 1, published(t, s).Number.Int64())
}

func TestCRLOnDiskIsTheOneServed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	revoke(t, s, issue(t, s, ""), mobileid.Superseded)
	listed(t, s, 1)
	content, err := os.ReadFile(filepath.Join(dir, CRLFile))
	require.NoError(t, err)
	require.Equal(t, s.publisher.current.Load().pem.content, content)
}

func TestCRLThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	warnings := make(warnings, 100)
	s := open(t, dir, Options{CRLInterval: time.Millisecond, Logger: slog.New(slog.NewTextHandler(warnings, nil))})
	// A directory in the place of the temporary file stops the writing.
	obstacle := filepath.Join(dir, "."+CRLFile+".new")
	require.NoError(t, os.MkdirAll(filepath.Join(obstacle, "full"), 0o700))
	cert := issue(t, s, "")
	revoke(t, s, cert, mobileid.KeyCompromise)
	require.Contains(t, <-warnings, "publish CRL")
	require.Equal(t, mobileid.StatusRevoked, status(t, s, cert).Status, "a CRL that fails does not fail the revocation")
	require.Empty(t, published(t, s).RevokedCertificateEntries)

	require.NoError(t, os.Rename(obstacle, filepath.Join(t.TempDir(), "away")))
	list := listed(t, s, 1)
	require.NotNil(t, entryOf(list, cert))
	require.Greater(t, list.Number.Int64(), int64(2), "the number of a CRL that failed is not used again")
	require.Empty(t, warnings, "one warning for a series of failures")
}

// warnings is a log that a test can wait for.
type warnings chan string

func (w warnings) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

func TestDamagedCRL(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	path := filepath.Join(dir, CRLFile)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, row := range []struct {
		name    string
		content []byte
	}{
		{"empty", nil},
		{"cut short", whole[:len(whole)/2]},
		{"another letter", bytes.Replace(whole, []byte("A"), []byte("B"), 3)},
		{"a certificate instead", encodeCertificate(s.Certificate().Raw)},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, row.content, 0o600))
			_, err := Open(dir, Options{})
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorContains(t, err, CRLFile)
		})
	}
}

func TestEntriesFollowChanges(t *testing.T) {
	s := open(t, t.TempDir(), Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	var certs []*x509.Certificate
	for range 6 {
		certs = append(certs, issue(t, s, ""))
	}
	for _, cert := range certs {
		revoke(t, s, cert, mobileid.CertificateHold)
	}
	for _, cert := range certs[:3] {
		_, err := s.Release(context.Background(), cert.SerialNumber)
		require.NoError(t, err)
	}
	revoke(t, s, certs[5], mobileid.KeyCompromise)
	require.NoError(t, s.publisher.publish())
	list := published(t, s)
	require.Len(t, list.RevokedCertificateEntries, 3)
	require.EqualValues(t, holdCode, entryOf(list, certs[3]).ReasonCode)
	require.EqualValues(t, holdCode, entryOf(list, certs[4]).ReasonCode)
	require.EqualValues(t, 1, entryOf(list, certs[5]).ReasonCode)
}
