package mail_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"mobileid/activities/mail"
)

func newFiles(t testing.TB, folder string) *mail.Files {
	t.Helper()
	files, err := mail.NewFiles(folder, from, nil)
	require.NoError(t, err)
	return files
}

func mailsIn(t testing.TB, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.eml"))
	require.NoError(t, err)
	return names
}

func onlyFile(t testing.TB, folder string) []byte {
	t.Helper()
	names := mailsIn(t, folder)
	require.Len(t, names, 1)
	content, err := os.ReadFile(names[0])
	require.NoError(t, err)
	return content
}

func TestFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "mail")
	m := message()
	require.NoError(t, newFiles(t, folder).Send(t.Context(), m))
	names := mailsIn(t, folder)
	require.Equal(t, []string{filepath.Join(folder, "20261008T140509.000Z_lockRequested_"+m.ID()+".eml")}, names)
	info, err := os.Stat(names[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	header, containers, parts := read(t, onlyFile(t, folder))
	require.Equal(t, "<"+m.ID()+"@example.org>", header.Get("Message-ID"))
	require.Equal(t, "Thu, 08 Oct 2026 14:05:09 +0000", header.Get("Date"))
	require.Equal(t, []string{"multipart/alternative"}, containers)
	require.Len(t, parts, 2)

	drafts, err := filepath.Glob(filepath.Join(folder, ".draft-*"))
	require.NoError(t, err)
	require.Empty(t, drafts)
}

// A repeat makes no second file: not in another process, not at the same time, not with
// other words, and not at another time.
func TestFileOncePerID(t *testing.T) {
	folder := t.TempDir()
	var group errgroup.Group
	for i := range 8 {
		m := message()
		m.Date, m.Text = at.Add(time.Duration(i)*time.Second), fmt.Sprintf("try %d", i)
		files := newFiles(t, folder)
		group.Go(func() error { return files.Send(t.Context(), m) })
	}
	require.NoError(t, group.Wait())
	first := onlyFile(t, folder)
	late := message()
	late.Date = time.Time{}
	require.NoError(t, newFiles(t, folder).Send(t.Context(), late))
	require.Equal(t, first, onlyFile(t, folder))

	other := message()
	other.To.Address = "anna@example.net"
	require.NoError(t, newFiles(t, folder).Send(t.Context(), other))
	require.Len(t, mailsIn(t, folder), 2, "another address is another message")
}

// After a stop between its two names, the next try gives a message the one it lacks.
func TestFileHalfNamed(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, newFiles(t, folder).Send(t.Context(), message()))
	name := mailsIn(t, folder)[0]
	first := onlyFile(t, folder)
	require.NoError(t, os.Remove(name))

	again := message()
	again.Date, again.Text = at.Add(time.Hour), "other words"
	require.NoError(t, newFiles(t, folder).Send(t.Context(), again))
	require.Equal(t, []string{name}, mailsIn(t, folder))
	require.Equal(t, first, onlyFile(t, folder))
}

func TestFileCancelled(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newFiles(t, folder).Send(ctx, message())
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, mailsIn(t, folder))
}

func TestFileWithoutFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "mail")
	files := newFiles(t, folder)
	require.NoError(t, os.RemoveAll(folder))
	err := files.Send(t.Context(), message())
	require.Equal(t, mail.Unavailable, failureOf(t, err).Failure)
	require.True(t, mail.Retry(err))
}

// killedFolder tells a run of this test program to write mails until it is killed.
const killedFolder = "MAIL_TEST_WRITE_INTO"

func bigMessage(i int) mail.Message {
	m := message()
	m.RunID = fmt.Sprintf("run-%d", i)
	m.Text = strings.Repeat("a line of a mail that is long enough to be cut\n", 20_000) + "the end\n"
	m.HTML = ""
	return m
}

func TestMain(m *testing.M) {
	if folder := os.Getenv(killedFolder); folder != "" {
		files, err := mail.NewFiles(folder, from, nil)
		for i := 0; err == nil; i++ {
			err = files.Send(context.Background(), bigMessage(i))
			fmt.Println(i)
		}
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A writer that is killed leaves whole mails, and nothing that looks like one and is not.
func TestFileKilled(t *testing.T) {
	folder := t.TempDir()
	for round := range 5 {
		writer := exec.CommandContext(t.Context(), os.Args[0])
		writer.Env = append(os.Environ(), killedFolder+"="+folder)
		out, err := writer.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, writer.Start())
		lines := bufio.NewScanner(out)
		for range 3*(round+1) + 1 {
			require.True(t, lines.Scan())
		}
		require.NoError(t, writer.Process.Kill())
		require.Error(t, writer.Wait())
	}
	names := mailsIn(t, folder)
	require.GreaterOrEqual(t, len(names), 3)
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.True(t, bytes.HasSuffix(content, []byte("the end\r\n")), name)
	}
	for i := range names {
		require.NoError(t, newFiles(t, folder).Send(t.Context(), bigMessage(i)))
	}
	ids := map[string]bool{}
	for _, name := range mailsIn(t, folder) {
		_, id, _ := strings.Cut(filepath.Base(name), "_")
		require.False(t, ids[id], "a second file of "+id)
		ids[id] = true
	}
}
