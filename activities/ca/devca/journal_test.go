package devca

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// written makes a CA with one certificate of each fate, closes it, and returns
// its folder and the lines of its journal.
func written(t *testing.T) (dir string, lines []string) {
	t.Helper()
	dir = t.TempDir()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	for _, serial := range []string{"11", "22", "33", "44"} {
		issue(t, s, serial)
	}
	_, err = s.Revoke(context.Background(), integer(t, "22"), mobileid.KeyCompromise)
	require.NoError(t, err)
	for _, serial := range []string{"33", "44"} {
		_, err = s.Revoke(context.Background(), integer(t, serial), mobileid.CertificateHold)
		require.NoError(t, err)
	}
	_, err = s.Release(context.Background(), integer(t, "44"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	content, err := os.ReadFile(filepath.Join(dir, journalFile))
	require.NoError(t, err)
	return dir, strings.SplitAfter(strings.TrimSuffix(string(content), "\n"), "\n")
}

func rewrite(t *testing.T, dir string, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, journalFile), []byte(content), 0o600))
}

func statuses(t *testing.T, s *Server) string {
	t.Helper()
	var found []string
	for _, serial := range []string{"11", "22", "33", "44"} {
		status, err := s.Status(context.Background(), integer(t, serial))
		if err != nil {
			found = append(found, "none")
			continue
		}
		found = append(found, string(status.Status))
	}
	return strings.Join(found, " ")
}

func TestJournalIsReadBack(t *testing.T) {
	dir, lines := written(t)
	require.Len(t, lines, 9)
	require.Equal(t, "good revoked onHold good", statuses(t, open(t, dir, Options{})))
}

func TestTornJournal(t *testing.T) {
	dir, lines := written(t)
	whole := strings.Join(lines, "") + "\n"
	last := len(lines[len(lines)-1]) + 1
	for _, row := range []struct {
		name    string
		content string
		want    string
		size    int
	}{
		{"one byte of a next line", whole + "5", "good revoked onHold good", len(whole)},
		{"zeros after the end", whole + string(make([]byte, 4096)), "good revoked onHold good", len(whole)},
		{"last line without its line feed", whole[:len(whole)-1], "good revoked onHold onHold", len(whole) - last},
		{"half of the last line", whole[:len(whole)-last/2], "good revoked onHold onHold", len(whole) - last},
	} {
		t.Run(row.name, func(t *testing.T) {
			rewrite(t, dir, row.content)
			s, err := Open(dir, Options{})
			require.NoError(t, err)
			require.Equal(t, row.want, statuses(t, s))
			info, err := os.Stat(filepath.Join(dir, journalFile))
			require.NoError(t, err)
			require.EqualValues(t, row.size, info.Size(), "what was cut off must be gone from the file")

			_, err = s.Revoke(context.Background(), integer(t, "11"), mobileid.Superseded)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			s, err = Open(dir, Options{})
			require.NoError(t, err, "what is written after the cut must fit")
			require.True(t, strings.HasPrefix(statuses(t, s), "revoked"))
			require.NoError(t, s.Close())
		})
	}
}

func TestDamagedJournal(t *testing.T) {
	dir, lines := written(t)
	edit := func(change func(lines []string) []string) string {
		return strings.Join(change(append([]string(nil), lines...)), "") + "\n"
	}
	flip := func(n, at int) string {
		return edit(func(l []string) []string {
			b := []byte(l[n-1])
			b[at] ^= 1
			l[n-1] = string(b)
			return l
		})
	}
	for _, row := range []struct {
		name    string
		content string
		line    string
	}{
		{"a flipped bit in a certificate", flip(3, 60), "line 3:"},
		{"a flipped bit in a checksum", flip(4, 2), "line 4:"},
		{"a flipped bit in the last line", flip(9, 30), "line 9:"},
		{"a lost line", edit(func(l []string) []string { return append(l[:2:2], l[3:]...) }), "line 3:"},
		{"swapped lines", edit(func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }), "line 3:"},
		{"a line twice", edit(func(l []string) []string { return append(l[:6:6], l[5:]...) }), "line 7:"},
		{"an empty line", edit(func(l []string) []string { l[4] += "\n"; return l }), "line 6:"},
		{"a line in the middle cut short", edit(func(l []string) []string { l[4] = l[4][:40] + "\n"; return l }), "line 5:"},
		{"another version", edit(func(l []string) []string { l[0] = "devca-journal 2\n"; return l }), "line 1:"},
		{"no header", edit(func(l []string) []string { return l[1:] }), "line 1:"},
		{"empty", "", "line 1:"},
		{"a line without end", strings.Join(lines[:2], "") + strings.Repeat("x", maxJournalLine+1), "line 3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			rewrite(t, dir, row.content)
			_, err := Open(dir, Options{})
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorContains(t, err, row.line)
			kept, err := os.ReadFile(filepath.Join(dir, journalFile))
			require.NoError(t, err)
			require.Equal(t, row.content, string(kept), "a damaged journal is evidence, and not to be touched")
		})
	}
}

func TestInconsistentJournal(t *testing.T) {
	for _, row := range []struct {
		name   string
		record record
	}{
		{"revocation of what was never issued", record{op: opRevoke, argument: "superseded", serial: serialNumber{19: 9}}},
		{"serial issued twice", record{op: opIssue, argument: "AA==", serial: serialNumber{19: 1}}},
		{"release of what is good", record{op: opRelease, argument: "-", serial: serialNumber{19: 1}}},
		{"reason that is none", record{op: opRevoke, argument: "whim", serial: serialNumber{19: 1}}},
		{"operation that is none", record{op: "bless", argument: "-", serial: serialNumber{19: 1}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, Options{})
			require.NoError(t, err)
			issue(t, s, "1")
			row.record.at = s.now()
			number, err := s.journal.append(row.record)
			require.NoError(t, err)
			require.NoError(t, s.journal.wait(number))
			require.NoError(t, s.Close())
			_, err = Open(dir, Options{})
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorContains(t, err, "line 3:")
		})
	}
}

func TestJournalAfterAFailedWrite(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	require.NoError(t, err)
	cert, other, revoked := issue(t, s, ""), issue(t, s, ""), issue(t, s, "")
	revoke(t, s, revoked, mobileid.Superseded)
	require.NoError(t, s.journal.file.Close()) // from now on writing fails

	_, err = s.Revoke(context.Background(), cert.SerialNumber, mobileid.KeyCompromise)
	require.ErrorIs(t, err, errBroken)
	require.NotErrorIs(t, err, ErrRefusesChanges, "what was being written may be on disk")
	_, err = s.Status(context.Background(), cert.SerialNumber)
	require.ErrorIs(t, err, errBroken, "nobody may be told of a revocation that may be lost")
	_, err = s.Revoke(context.Background(), other.SerialNumber, mobileid.KeyCompromise)
	require.ErrorIs(t, err, ErrRefusesChanges, "what came after surely did not happen")
	require.Equal(t, mobileid.StatusRevoked, status(t, s, revoked).Status, "what is on disk can still be read")
	require.Error(t, s.health())
	require.Error(t, s.Close())
}

func TestJournalHoldsTheCertificate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	cert := issue(t, s, "7f")
	content, err := os.ReadFile(filepath.Join(dir, journalFile))
	require.NoError(t, err)
	fields := bytes.Fields(bytes.Split(content, []byte("\n"))[1])
	require.Len(t, fields, 5)
	require.Equal(t, "issue", string(fields[2]))
	require.Equal(t, "7f", string(fields[3]))
	der, err := base64.StdEncoding.DecodeString(string(fields[4]))
	require.NoError(t, err)
	require.Equal(t, cert.Raw, der)
}
