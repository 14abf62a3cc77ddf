package mail_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"io"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/mail"
)

// go test ./activities/mail -run TestLetters -update
var update = flag.Bool("update", false, "write the golden files anew")

var composer = mail.Composer{
	Contact:     "Service desk, day and night: +46 8 123 45 67\nservicedesk@example.org",
	SelfService: "https://id.example.org/selfservice",
}

// bare has no more than what it must have.
var bare = mail.Composer{Contact: "Contact the service desk of your organisation."}

const hostile = "<script>alert(1)</script>\r\nBcc: eve@example.com\r\n\r\n{{.}} \"' & https://evil.example/lock?now=1 \u202eevil\u2028 \x1b[2J\x00\xff javascript:x"

func certificate(serial string) mobileid.Certificate {
	return mobileid.Certificate{CertificateID: mobileid.CertificateID{Serial: serial}, NotAfter: at.AddDate(2, 0, 0)}
}

func result(serial string, outcome mobileid.CertificateOutcome, revoked time.Time) mobileid.CertificateResult {
	return mobileid.CertificateResult{CertificateID: mobileid.CertificateID{Serial: serial}, Outcome: outcome, RevokedAt: revoked}
}

func letters(t testing.TB) map[string]mail.Letter {
	full := mail.About{UserName: "Anna Öst", MobileID: "mid-1001", Name: "MobileID Anna Öst", Reference: "MobileIDSelfServiceProcLock/mid-1001"}
	minimal := mail.About{MobileID: "mid-1001"}
	evil := mail.About{UserName: hostile, MobileID: hostile, Name: hostile + strings.Repeat("long ", 1000), Reference: hostile}
	var manyBefore []mobileid.Certificate
	var many []mobileid.CertificateResult
	for i := range 25 {
		manyBefore = append(manyBefore, certificate(fmt.Sprintf("%s%04x", hostile, i)))
		many = append(many, result(fmt.Sprintf("%s%04x", hostile, i), mobileid.CertificateOutcome(hostile), time.Time{}))
	}
	step := func(n int) time.Time { return at.Add(time.Duration(n) * time.Minute) }
	return map[string]mail.Letter{
		"lock_requested_full": mail.LockRequested{
			About: full, Times: mail.Times{RequestedAt: at}, DecidedBy: mail.ByOwner, Reason: mobileid.KeyCompromise,
			Certificates: []mobileid.Certificate{certificate("1f2e3d4c"), certificate("7")}, ThenGet: true,
		},
		"lock_requested_operator": mail.LockRequested{About: full, Times: mail.Times{RequestedAt: at, LockedAt: step(1)}, DecidedBy: mail.ByOperator, Reason: mobileid.PrivilegeWithdrawn},
		"lock_requested_minimal":  mail.LockRequested{About: minimal, Times: mail.Times{RequestedAt: at}, DecidedBy: mail.ByOwner},
		"lock_requested_hostile":  mail.LockRequested{About: evil, Times: mail.Times{RequestedAt: at}, DecidedBy: mail.ByOwner, Reason: hostile, Certificates: manyBefore},
		"lock_finished_full": mail.LockFinished{
			About: full, Times: mail.Times{RequestedAt: at, LockedAt: step(1), RevokedAt: step(2), VisibleAt: step(3)}, DecidedBy: mail.ByOwner, Reason: mobileid.Superseded,
			Certificates: []mobileid.CertificateResult{
				result("1f2e3d4c", mobileid.OutcomeRevoked, step(2)), result("99aabbcc", mobileid.OutcomeAlreadyRevoked, step(-90)), result("7", mobileid.OutcomeExpiredNotRevoked, time.Time{}),
			}, GetStarted: true,
		},
		"lock_finished_operator": mail.LockFinished{About: full, Times: mail.Times{RequestedAt: at, LockedAt: step(1), RevokedAt: step(2)}, DecidedBy: mail.ByOperator},
		"lock_finished_minimal":  mail.LockFinished{About: minimal, Times: mail.Times{LockedAt: at}, DecidedBy: mail.ByOwner},
		"lock_finished_hostile":  mail.LockFinished{About: evil, Times: mail.Times{LockedAt: at}, DecidedBy: mail.ByOwner, Reason: hostile, Certificates: many},
		"get_finished_full": mail.GetFinished{
			About: full, RequestedAt: at, ActiveAt: step(2), ValidUntil: at.AddDate(2, 0, 0), DecidedBy: mail.ByOwner, Certificates: []mobileid.Certificate{certificate("1f2e3d4c"), certificate("99aabbcc")},
		},
		"get_finished_minimal": mail.GetFinished{About: minimal, ActiveAt: at, ValidUntil: at.AddDate(2, 0, 0), DecidedBy: mail.ByOperator},
		"get_finished_hostile": mail.GetFinished{About: evil, ActiveAt: at, ValidUntil: at.AddDate(2, 0, 0), DecidedBy: mail.ByOwner, Certificates: manyBefore},
		"get_failed_full": mail.GetFailed{
			About: full, RequestedAt: at, FailedAt: step(30), Problem: "The phone did not answer in time.", CleanedUp: true, OldLocked: true,
		},
		"get_failed_minimal":      mail.GetFailed{About: minimal, FailedAt: at},
		"get_failed_nothing_made": mail.GetFailed{About: minimal, FailedAt: at, NothingMade: true},
		"get_failed_hostile":      mail.GetFailed{About: evil, FailedAt: at, Problem: hostile},
		"get_qr_full":             mail.GetQR{About: full, PNG: qr(t), ValidUntil: step(60), App: "Smart ID"},
		"get_qr_minimal":          mail.GetQR{About: minimal, PNG: qr(t)},
		"get_qr_hostile":          mail.GetQR{About: evil, PNG: qr(t), App: hostile},
		"lock_overdue_full": mail.LockOverdue{Threshold: 4 * time.Hour, SeenAt: step(250), More: 3, Locks: []mobileid.OverdueLock{
			{MobileID: "mid-1001", RequestedAt: at, Phase: "needsOperator", NeedsOperator: true, Why: "devca refuses: no such certificate"},
			{MobileID: "mid-1002", RequestedAt: step(1), Phase: "revoking", Why: "CAUnavailable: connection refused (try 31)"},
		}},
		"lock_overdue_minimal": mail.LockOverdue{Threshold: 15 * time.Minute, SeenAt: step(16), Locks: []mobileid.OverdueLock{{MobileID: "mid-1001", RequestedAt: at}}},
		"lock_overdue_hostile": mail.LockOverdue{Threshold: 90 * time.Second, SeenAt: step(2), Locks: []mobileid.OverdueLock{{MobileID: hostile, RequestedAt: at, Phase: hostile, Why: hostile}}},
	}
}

// Every letter says what it should, arrives as it was written, and has nothing to click.
func TestLetters(t *testing.T) {
	for name, letter := range letters(t) {
		t.Run(name, func(t *testing.T) {
			writer := composer
			if !strings.HasSuffix(name, "_full") {
				writer = bare
			}
			to := anna
			if strings.HasSuffix(name, "_hostile") {
				to.Name = hostile
			}
			m, err := writer.Compose("run-1", to, letter)
			require.NoError(t, err)
			m.Date = at
			golden(t, name+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
			golden(t, name+".html", m.HTML)
			requireHarmless(t, m, writer)
			requireWellFormed(t, m.HTML)
			require.Equal(t, words(m.Text, false), words(m.HTML, true), "both say the same times, names and numbers")

			folder := t.TempDir()
			require.NoError(t, newFiles(t, folder).Send(t.Context(), m))
			header, containers, parts := read(t, onlyFile(t, folder))
			require.Equal(t, m.Subject, decoded(t, header.Get("Subject")))
			for _, injected := range []string{"Bcc", "Cc"} {
				require.NotContains(t, header, injected)
			}
			list, err := header.AddressList("To")
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, anna.Address, list[0].Address)
			require.Equal(t, strings.ReplaceAll(m.Text, "\n", "\r\n"), parts[0].content)
			require.Equal(t, strings.ReplaceAll(m.HTML, "\n", "\r\n"), parts[1].content)
			if qr, ok := letter.(mail.GetQR); ok {
				require.Equal(t, []string{"multipart/related", "multipart/alternative"}, containers)
				require.Equal(t, part{"image/png", "", "<qr@mobile-id>", "inline", string(qr.PNG)}, parts[2])
				require.Contains(t, m.HTML, `src="cid:qr@mobile-id"`)
			} else {
				require.Equal(t, []string{"multipart/alternative"}, containers)
				require.Len(t, parts, 2)
			}
		})
	}
}

func golden(t testing.TB, name, content string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(kept), content, "run: go test ./activities/mail -run TestLetters -update")
}

// requireHarmless sees that nothing in a message acts, loads or opens anything.
func requireHarmless(t testing.TB, m mail.Message, writer mail.Composer) {
	t.Helper()
	for _, text := range []string{m.Text, m.HTML} {
		shown := text
		if writer.SelfService != "" {
			require.Equal(t, 1, strings.Count(shown, writer.SelfService))
			shown = strings.ReplaceAll(shown, writer.SelfService, "")
		}
		require.NotRegexp(t, `(?i)[a-z]://`, shown, "no address but that of Self-Service")
		require.False(t, strings.ContainsFunc(text, func(r rune) bool {
			return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Cf, r) || r == '\u2028'
		}))
		require.NotContains(t, text, "<no value>")
	}
	require.NotRegexp(t, `(?i)<(a|script|form|iframe|object|link|base|button|input|svg|style)\b`, m.HTML)
	require.NotRegexp(t, `(?i)\s(href|action|on[a-z]+)\s*=\s*["']`, m.HTML)
	for _, source := range regexp.MustCompile(`(?i)src="([^"]*)"`).FindAllStringSubmatch(m.HTML, -1) {
		require.Equal(t, "cid:qr@mobile-id", source[1], "nothing is loaded from elsewhere")
	}
	require.NotContains(t, m.Subject, "\n")
}

// requireWellFormed sees that every element is closed.
func requireWellFormed(t testing.TB, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "br", "img"}, xml.HTMLEntity
	depth := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
	require.Zero(t, depth)
}

// words are the times and the ends of serial numbers in a text: what must not differ.
func words(text string, html bool) []string {
	if html {
		text = regexp.MustCompile(`(?s)<head>.*</head>|<[^>]*>`).ReplaceAllString(text, "")
	}
	return regexp.MustCompile(`\d+ [A-Z][a-z]+ \d{4}, [\d:]+ UTC|ends in \S+|not (yet|confirmed|needed|recorded)`).FindAllString(text, -1)
}

// What a letter cannot do without is asked for by name.
func TestLettersRefused(t *testing.T) {
	about := mail.About{MobileID: "mid-1001"}
	requested := mail.Times{RequestedAt: at, LockedAt: at}
	for _, row := range []struct {
		name, field string
		letter      mail.Letter
	}{
		{"no mobile ID", "mobile ID", mail.LockRequested{Times: requested, DecidedBy: mail.ByOwner}},
		{"nobody decided", "decider", mail.LockRequested{About: about, Times: requested}},
		{"not requested", "requested at", mail.LockRequested{About: about, DecidedBy: mail.ByOwner}},
		{"not locked", "locked at", mail.LockFinished{About: about, DecidedBy: mail.ByOwner, Times: mail.Times{RequestedAt: at}}},
		{"not active", "active at", mail.GetFinished{About: about, DecidedBy: mail.ByOwner, ValidUntil: at}},
		{"valid for ever", "valid until", mail.GetFinished{About: about, DecidedBy: mail.ByOwner, ActiveAt: at}},
		{"not failed", "failed at", mail.GetFailed{About: about}},
		{"no QR", "QR", mail.GetQR{About: about}},
		{"no locks", "locks", mail.LockOverdue{Threshold: time.Minute, SeenAt: at}},
		{"no threshold", "threshold", mail.LockOverdue{SeenAt: at, Locks: []mobileid.OverdueLock{{}}}},
		{"not seen", "seen at", mail.LockOverdue{Threshold: time.Minute, Locks: []mobileid.OverdueLock{{}}}},
		{"no PNG", "QR", mail.GetQR{About: about, PNG: []byte("GIF89a")}},
		{"a huge file", "QR", mail.GetQR{About: about, PNG: append(qr(t), make([]byte, 256<<10)...)}},
		{"a huge image", "QR", mail.GetQR{About: about, PNG: hugePNG(t)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := composer.Compose("run-1", anna, row.letter)
			e := failureOf(t, err)
			require.Equal(t, mail.Invalid, e.Failure)
			require.Equal(t, row.field, e.Field)
		})
	}
	letter := mail.LockRequested{About: about, Times: requested, DecidedBy: mail.ByOwner}
	_, err := mail.Composer{}.Compose("run-1", anna, letter)
	require.Equal(t, "contact", failureOf(t, err).Field)
	_, err = composer.Compose("run-1", netmail.Address{Address: "nobody"}, letter)
	require.Equal(t, "address", failureOf(t, err).Field)
	_, err = composer.Compose("", anna, letter)
	require.Equal(t, "run id", failureOf(t, err).Field)
}

func hugePNG(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 2001, 1))))
	return b.Bytes()
}

// Two tries of one letter are the same message.
func TestComposeTwice(t *testing.T) {
	for name, letter := range letters(t) {
		first, err := composer.Compose("run-1", anna, letter)
		require.NoError(t, err)
		second, err := composer.Compose("run-1", anna, letter)
		require.NoError(t, err)
		require.Equal(t, first, second, name)
		require.Equal(t, letter.Kind(), first.Kind)
	}
}
