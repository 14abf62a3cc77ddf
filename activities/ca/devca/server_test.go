package devca

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestFirstStartMakesTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "ca")
	s := open(t, dir, Options{CommonName: "Test CA", ServerNames: []string{"ca.example", "192.0.2.7"}})
	require.Equal(t, "Test CA", s.Certificate().Subject.CommonName)
	require.NoError(t, s.Certificate().CheckSignatureFrom(s.Certificate()))

	for name, mode := range map[string]fs.FileMode{
		"ca.pem": 0o644, "ca.key": 0o600, "crl.pem": 0o644, "journal": 0o600, "tls-ca.pem": 0o644, "tls-ca.key": 0o600,
		"tls.pem": 0o644, "tls.key": 0o600, "client.pem": 0o644, "client.key": 0o600, "lock": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 11, "no temporary file is left")

	server, err := readCertificate(filepath.Join(dir, "tls.pem"))
	require.NoError(t, err)
	for _, name := range []string{"localhost", "127.0.0.1", "ca.example", "192.0.2.7"} {
		require.NoError(t, server.VerifyHostname(name))
	}
}

func TestLaterStartKeepsTheFolder(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{CommonName: "First"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	before := contents(t, dir)

	s, err = Open(dir, Options{CommonName: "Second"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Equal(t, before, contents(t, dir), "nothing changed, so nothing is written")

	s, err = Open(dir, Options{ServerNames: []string{"new.example"}})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	after := contents(t, dir)
	require.NotEqual(t, before["tls.pem"], after["tls.pem"], "a further name needs another certificate")
	delete(before, "tls.pem")
	delete(after, "tls.pem")
	require.Equal(t, before, after)
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	found := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		found[entry.Name()] = string(content)
	}
	return found
}

// TestInterruptedFirstStart stops a first start after each of its files.
func TestInterruptedFirstStart(t *testing.T) {
	whole := t.TempDir()
	s, err := Open(whole, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	order := []string{"ca.key", "ca.pem", "tls-ca.key", "tls-ca.pem", "tls.key", "tls.pem", "client.key", "client.pem", "journal", "crl.pem"}
	for n := range order {
		t.Run("before "+order[n], func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range order[:n] {
				content, err := os.ReadFile(filepath.Join(whole, name))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, "."+order[n]+".new"), []byte("half"), 0o600))
			s := open(t, dir, Options{})
			issue(t, s, "")
			require.Len(t, contents(t, dir), 11)
		})
	}
}

func TestLostFiles(t *testing.T) {
	for _, row := range []struct {
		name  string
		lose  []string
		words string
	}{
		{"the CA's key", []string{"ca.key"}, "ca.key"},
		{"the CA's certificate", []string{"ca.pem"}, "ca.pem"},
		{"the whole CA", []string{"ca.pem", "ca.key"}, "ca.pem"},
		{"the CRL, and with it the number", []string{"crl.pem"}, "crl.pem"},
		{"the client's key", []string{"client.key"}, "client.key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, Options{})
			require.NoError(t, err)
			issue(t, s, "")
			require.NoError(t, s.Close())
			for _, name := range row.lose {
				require.NoError(t, os.Remove(filepath.Join(dir, name)))
			}
			_, err = Open(dir, Options{})
			require.ErrorContains(t, err, row.words)
			require.False(t, owned(dir), "a failed start gives the folder up")
		})
	}
}

func TestForeignFiles(t *testing.T) {
	other := t.TempDir()
	s, err := Open(other, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	for _, name := range []string{"ca.key", "ca.pem", "crl.pem", "client.key"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, Options{})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			content, err := os.ReadFile(filepath.Join(other, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			_, err = Open(dir, Options{})
			require.Error(t, err)
		})
	}
}

// owned reports whether a process owns the folder, by taking it for an instant.
func owned(dir string) bool {
	lock, err := folder(dir).lock()
	if err != nil {
		return errors.Is(err, ErrInUse)
	}
	return lock.Close() != nil
}

func TestFolderHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	require.True(t, owned(dir))
	_, err = Open(dir, Options{})
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, dir)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice is no fault")
	require.False(t, owned(dir))
	open(t, dir, Options{})
}

func TestClosedServerTakesNoChanges(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	require.NoError(t, err)
	cert := issue(t, s, "")
	require.NoError(t, s.Close())
	_, err = s.Revoke(context.Background(), cert.SerialNumber, mobileid.Superseded)
	require.ErrorIs(t, err, ErrRefusesChanges)
	require.ErrorIs(t, err, ErrClosed)
}

func TestOptions(t *testing.T) {
	for _, row := range []struct {
		name    string
		options Options
	}{
		{"negative interval", Options{CRLInterval: -1}},
		{"validity shorter than two intervals", Options{CRLInterval: time.Hour, CRLValidity: time.Hour}},
		{"validity too short for the seconds of a CRL", Options{CRLValidity: time.Second}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Open(t.TempDir(), row.options)
			require.Error(t, err)
		})
	}
}

func TestRevocationSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	cert := issue(t, s, "")
	first := revoke(t, s, cert, mobileid.KeyCompromise)
	require.Equal(t, mobileid.StatusRevoked, first.Status)
	require.NoError(t, s.Close())

	s = open(t, dir, Options{})
	second, err := s.Revoke(context.Background(), cert.SerialNumber, mobileid.Superseded)
	require.ErrorIs(t, err, ErrAlreadyRevoked)
	require.Equal(t, mobileid.KeyCompromise, second.Reason)
	require.Equal(t, first.RevokedAt, second.RevokedAt)
}

func TestHoldThenFinal(t *testing.T) {
	now := newClock(time.Date(2026, 1, 2, 15, 4, 5, 600_000_000, time.UTC))
	s := open(t, t.TempDir(), Options{Clock: now.Now})
	cert := issue(t, s, "")

	held := revoke(t, s, cert, mobileid.CertificateHold)
	require.Equal(t, mobileid.StatusOnHold, held.Status)
	require.Equal(t, time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), held.RevokedAt)
	require.EqualValues(t, holdCode, entryOf(listed(t, s, 1), cert).ReasonCode)
	now.Move(time.Hour)
	require.Equal(t, held.RevokedAt, revoke(t, s, cert, mobileid.CertificateHold).RevokedAt, "a hold on hold changes nothing")

	final := revoke(t, s, cert, mobileid.KeyCompromise)
	require.Equal(t, mobileid.StatusRevoked, final.Status)
	require.Equal(t, held.RevokedAt.Add(time.Hour), final.RevokedAt)
	require.Eventually(t, func() bool {
		entry := entryOf(published(t, s), cert)
		return entry.ReasonCode == 1 && entry.RevocationTime.Equal(final.RevokedAt)
	}, deadline, time.Millisecond)

	_, err := s.Release(context.Background(), cert.SerialNumber)
	require.ErrorIs(t, err, ErrNotOnHold)
}

func TestRelease(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	first, cert, last := issue(t, s, ""), issue(t, s, ""), issue(t, s, "")
	for _, c := range []*x509.Certificate{first, cert, last} {
		revoke(t, s, c, mobileid.CertificateHold)
	}
	listed(t, s, 3)
	released, err := s.Release(context.Background(), cert.SerialNumber)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, released.Status)
	list := listed(t, s, 2)
	require.Nil(t, entryOf(list, cert))
	require.NotNil(t, entryOf(list, first))
	require.NotNil(t, entryOf(list, last))
	revoke(t, s, cert, mobileid.Superseded)
	require.NotNil(t, entryOf(listed(t, s, 3), cert))
}

func TestUnknownSerials(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	issue(t, s, "11")
	for _, row := range []struct{ name, serial string }{
		{"never issued", "12"},
		{"zero", "0"},
		{"negative", "-11"},
		{"too long", "1100000000000000000000000000000000000000ff"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := s.Revoke(context.Background(), integer(t, row.serial), mobileid.Superseded)
			require.ErrorIs(t, err, ErrUnknownSerial)
			_, err = s.Status(context.Background(), integer(t, row.serial))
			require.ErrorIs(t, err, ErrUnknownSerial)
		})
	}
}

func TestOneOfManyRevokesWins(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	cert := issue(t, s, "")
	var won, lost atomic.Int32
	dates := make(chan time.Time, 32)
	var all sync.WaitGroup
	for range cap(dates) {
		all.Go(func() {
			status, err := s.Revoke(context.Background(), cert.SerialNumber, mobileid.Superseded)
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrAlreadyRevoked):
				lost.Add(1)
			}
			dates <- status.RevokedAt
		})
	}
	all.Wait()
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, cap(dates)-1, lost.Load())
	first := <-dates
	for range cap(dates) - 1 {
		require.Equal(t, first, <-dates)
	}
}

func TestCancelledBeforeTheChange(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	cert := issue(t, s, "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Revoke(ctx, cert.SerialNumber, mobileid.Superseded)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, mobileid.StatusGood, status(t, s, cert).Status)
}
