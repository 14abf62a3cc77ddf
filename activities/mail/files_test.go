package mail_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// Variables that make a run of this test program write mails until it ends.
const (
	writeInto = "MAIL_TEST_WRITE_INTO" // the folder
	fileLimit = "MAIL_TEST_FILE_LIMIT" // bytes past which no file may grow; empty: none
)

func bigMessage(i int) mail.Message {
	m := message()
	m.RunID = fmt.Sprintf("run-%d", i)
	m.Text = strings.Repeat("a line of a mail that is long enough to be cut\n", 20_000) + "the end\n"
	m.HTML = ""
	return m
}

func TestMain(m *testing.M) {
	if folder := os.Getenv(writeInto); folder != "" {
		write(folder)
	}
	os.Exit(m.Run())
}

// write ends at the first error, or by a signal.
func write(folder string) {
	files, err := mail.NewFiles(folder, from, nil)
	if limit, none := strconv.ParseUint(os.Getenv(fileLimit), 10, 64); err == nil && none == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit})
	}
	for i := 0; err == nil; i++ {
		err = files.Send(context.Background(), bigMessage(i))
		fmt.Println(i)
	}
	fmt.Println(err)
	os.Exit(1)
}

func requireWhole(t testing.TB, folder string) {
	t.Helper()
	for _, name := range mailsIn(t, folder) {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.True(t, bytes.HasSuffix(content, []byte("the end\r\n")), name)
	}
}

// A writer that is stopped in the middle of a file leaves no mail, and nothing that
// keeps the next one from writing it.
func TestFileCutShort(t *testing.T) {
	folder := t.TempDir()
	writer := exec.CommandContext(t.Context(), os.Args[0])
	writer.Env = append(os.Environ(), writeInto+"="+folder, fileLimit+"="+strconv.Itoa(300_000))
	out, err := writer.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "file", "it has met the limit")
	require.Empty(t, mailsIn(t, folder))
	require.NoError(t, newFiles(t, folder).Send(t.Context(), bigMessage(0)))
	require.Len(t, mailsIn(t, folder), 1)
	requireWhole(t, folder)
}

// A writer that is killed at any time leaves whole mails, and what it wrote is not
// written again.
func TestFileKilled(t *testing.T) {
	folder := t.TempDir()
	for round := range 3 {
		writer := exec.CommandContext(t.Context(), os.Args[0])
		writer.Env = append(os.Environ(), writeInto+"="+folder)
		out, err := writer.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, writer.Start())
		lines := bufio.NewScanner(out)
		for range 2*round + 1 {
			require.True(t, lines.Scan())
		}
		require.NoError(t, writer.Process.Kill())
		require.Error(t, writer.Wait())
	}
	requireWhole(t, folder)
	before := mailsIn(t, folder)
	require.GreaterOrEqual(t, len(before), 5)
	for i := range before {
		require.NoError(t, newFiles(t, folder).Send(t.Context(), bigMessage(i)))
	}
	require.Equal(t, before, mailsIn(t, folder))
}
