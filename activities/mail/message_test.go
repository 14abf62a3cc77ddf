package mail_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/mail"
)

var (
	anna = netmail.Address{Name: "Anna Öst", Address: "anna@example.com"}
	from = netmail.Address{Name: "Mobile ID", Address: "mobile-id@example.org"}
	at   = time.Date(2026, 10, 8, 14, 5, 9, 0, time.UTC)
)

func message() mail.Message {
	return mail.Message{
		RunID: "run-1", Kind: mail.KindLockRequested, To: anna, Date: at,
		Subject: "Your mobile ID is being locked: Anna Öst", Text: "Hallå,\n\n.\nfrom a line that begins with a dot\n", HTML: "<p>Hallå &amp; så</p>",
	}
}

func failureOf(t testing.TB, err error) *mail.Error {
	t.Helper()
	var e *mail.Error
	require.ErrorAs(t, err, &e)
	return e
}

// qr is a PNG.
func qr(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 21, 21))))
	return b.Bytes()
}

// part is one leaf of a message, decoded.
type part struct {
	kind, charset, id, disposition, content string
}

// read takes a message apart with nothing but the standard library.
func read(t testing.TB, wire []byte) (netmail.Header, []string, []part) {
	t.Helper()
	for line := range strings.Lines(string(wire)) {
		require.LessOrEqual(t, len(line), 998, "RFC 5322 section 2.1.1")
	}
	m, err := netmail.ReadMessage(bytes.NewReader(wire))
	require.NoError(t, err)
	var containers []string
	var parts []part
	var walk func(header func(string) string, body io.Reader)
	walk = func(header func(string) string, body io.Reader) {
		kind, params, err := mime.ParseMediaType(header("Content-Type"))
		require.NoError(t, err)
		if strings.HasPrefix(kind, "multipart/") {
			containers = append(containers, kind)
			reader := multipart.NewReader(body, params["boundary"])
			for {
				next, err := reader.NextRawPart()
				if err == io.EOF {
					return
				}
				require.NoError(t, err)
				walk(next.Header.Get, next)
			}
		}
		switch header("Content-Transfer-Encoding") {
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		default:
			require.Fail(t, "encoding", header("Content-Transfer-Encoding"))
		}
		content, err := io.ReadAll(body)
		require.NoError(t, err)
		disposition, _, _ := mime.ParseMediaType(header("Content-Disposition"))
		parts = append(parts, part{kind, params["charset"], header("Content-ID"), disposition, string(content)})
	}
	walk(m.Header.Get, m.Body)
	return m.Header, containers, parts
}

func decoded(t testing.TB, header string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	require.NoError(t, err)
	return text
}

// The same process, kind and address have one Message-ID; whatever differs in one of
// them has another, and no two cut differently are the same.
func TestIDs(t *testing.T) {
	base := message()
	again := message()
	again.Subject, again.Date = "other words", at.Add(time.Hour)
	require.Equal(t, base.ID(), again.ID())
	require.Regexp(t, `^[0-9a-f]{32}$`, base.ID())

	seen := map[string]string{base.ID(): "base"}
	for name, change := range map[string]func(*mail.Message){
		"another run":     func(m *mail.Message) { m.RunID = "run-2" },
		"another kind":    func(m *mail.Message) { m.Kind = mail.KindLockFinished },
		"another address": func(m *mail.Message) { m.To.Address = "anna@example.net" },
		"cut differently": func(m *mail.Message) { m.RunID, m.Kind = "run-1l", "ockRequested" },
	} {
		m := message()
		change(&m)
		require.NotContains(t, seen, m.ID(), name)
		seen[m.ID()] = name
	}
}

func TestMessagesRefused(t *testing.T) {
	files := newFiles(t, t.TempDir())
	for _, row := range []struct {
		name, field string
		change      func(*mail.Message)
	}{
		{"no run", "run id", func(m *mail.Message) { m.RunID = "" }},
		{"no kind", "kind", func(m *mail.Message) { m.Kind = "" }},
		{"a kind that is a path", "kind", func(m *mail.Message) { m.Kind = "../x" }},
		{"no address", "address", func(m *mail.Message) { m.To.Address = "" }},
		{"no domain", "address", func(m *mail.Message) { m.To.Address = "anna" }},
		{"two addresses", "address", func(m *mail.Message) { m.To.Address = "anna@example.com,eve@example.com" }},
		{"an address with a command", "address", func(m *mail.Message) { m.To.Address = "anna@example.com>\r\nRCPT TO:<eve@example.com" }},
		{"an address with a name", "address", func(m *mail.Message) { m.To.Address = "Anna <anna@example.com>" }},
		{"a very long address", "address", func(m *mail.Message) { m.To.Address = strings.Repeat("a", 250) + "@example.com" }},
		{"a name with a header", "name", func(m *mail.Message) { m.To.Name = "Anna\r\nBcc: eve@example.com" }},
		{"a name that is not UTF-8", "name", func(m *mail.Message) { m.To.Name = "\xff" }},
		{"no subject", "subject", func(m *mail.Message) { m.Subject = "" }},
		{"a subject with a header", "subject", func(m *mail.Message) { m.Subject = "Hi\nBcc: eve@example.com" }},
		{"an endless subject", "subject", func(m *mail.Message) { m.Subject = strings.Repeat("a", 1001) }},
		{"no text", "text", func(m *mail.Message) { m.Text = "" }},
		{"an inline file's id with a header", "inline id", func(m *mail.Message) { m.Inline = []mail.Inline{{ID: "a\r\nX: y"}} }},
		{"an inline file's name with a header", "inline name", func(m *mail.Message) { m.Inline = []mail.Inline{{Name: "a\r\nX: y"}} }},
		{"an inline file's type with a header", "inline type", func(m *mail.Message) { m.Inline = []mail.Inline{{Type: "a\r\nX: y"}} }},
		{"too much", "message", func(m *mail.Message) { m.Text = strings.Repeat("a", 5<<20) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := message()
			row.change(&m)
			err := files.Send(t.Context(), m)
			e := failureOf(t, err)
			require.Equal(t, mail.Invalid, e.Failure)
			require.Equal(t, row.field, e.Field)
			require.False(t, mail.Retry(err))
			require.NotContains(t, err.Error(), "eve@example.com")
		})
	}
}

// What an address book and a store can hold goes out as it is.
func TestMessagesTaken(t *testing.T) {
	for _, row := range []struct {
		name string
		to   netmail.Address
	}{
		{"plain", netmail.Address{Address: "anna@example.com"}},
		{"a comma and quotes", netmail.Address{Name: `Öst, "Anna" <a@b>`, Address: "anna@example.com"}},
		{"a long name", netmail.Address{Name: strings.Repeat("Ö", 120), Address: "anna@example.com"}},
		{"a plus and a dash", netmail.Address{Address: "anna+mid@sub-domain.example.com"}},
		{"an apostrophe", netmail.Address{Address: "o'neil@example.com"}},
		{"beyond ASCII", netmail.Address{Address: "åsa@exämple.com"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			folder := t.TempDir()
			m := message()
			m.To, m.Subject = row.to, strings.Repeat("ö", 400)
			require.NoError(t, newFiles(t, folder).Send(t.Context(), m))
			header, _, _ := read(t, onlyFile(t, folder))
			list, err := header.AddressList("To")
			require.NoError(t, err)
			require.Equal(t, []*netmail.Address{&row.to}, list)
			require.Equal(t, m.Subject, decoded(t, header.Get("Subject")))
		})
	}
}

func TestRetry(t *testing.T) {
	for failure, again := range map[mail.Failure]bool{
		mail.Unavailable: true, mail.Ambiguous: true, mail.Denied: true, mail.Undeliverable: false, mail.Invalid: false,
	} {
		require.Equal(t, again, mail.Retry(&mail.Error{Failure: failure}), failure)
	}
	require.True(t, mail.Retry(io.EOF), "nobody has classified it")
}
