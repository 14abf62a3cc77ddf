package mail

import (
	"bytes"
	"embed"
	htmltemplate "html/template"
	netmail "net/mail"
	"strings"
	"text/template"
	"time"
	"unicode"

	"mobileid"
)

// maxPlain is the longest name that a letter shows, in characters.
const maxPlain = 120

// maxListed is how many certificates a letter lists.
const maxListed = 20

//go:embed templates
var templateFiles embed.FS

// The words of each kind: the partials that all share, and its own two files.
var (
	functions = map[string]any{
		"when": when, "ending": ending, "inWords": inWords, "outcome": outcome, "indent": indent,
		"more": func(n int) int { return n - maxListed }, "listed": func(i int) bool { return i < maxListed },
	}
	texts = map[Kind]*template.Template{}
	pages = map[Kind]*htmltemplate.Template{}
)

func init() {
	for kind, file := range map[Kind]string{
		KindLockRequested: "lock_requested", KindLockFinished: "lock_finished",
		KindGetFinished: "get_finished", KindGetFailed: "get_failed", KindGetQR: "get_qr",
		KindLockOverdue: "lock_overdue",
	} {
		texts[kind] = template.Must(template.New("").Funcs(functions).Option("missingkey=error").
			ParseFS(templateFiles, "templates/partials.txt", "templates/"+file+".txt"))
		pages[kind] = htmltemplate.Must(htmltemplate.New("").Funcs(functions).Option("missingkey=error").
			ParseFS(templateFiles, "templates/partials.html", "templates/"+file+".html"))
	}
}

// Composer writes messages.
type Composer struct {
	Contact     string // whom to ask and where; may have several lines. Needed
	SelfService string // address of Self-Service, shown as text; empty: not shown
}

// qrID is how the HTML of a letter names the image of the QR.
const qrID = "qr@mobile-id"

// Compose writes the message of one process to one address. The letter must be the same
// for each try.
func (c Composer) Compose(runID string, to netmail.Address, letter Letter) (Message, error) {
	letter, err := letter.ready()
	if err != nil {
		return Message{}, err
	}
	op := "write " + string(letter.Kind())
	if strings.TrimSpace(c.Contact) == "" {
		return Message{}, invalid(op, "contact", "is missing")
	}
	view := struct {
		Letter      Letter
		Subject     string
		Contact     []string
		SelfService string
	}{Letter: letter, Contact: strings.Split(strings.TrimSpace(c.Contact), "\n"), SelfService: c.SelfService}
	var subject, text, page bytes.Buffer
	if err := texts[letter.Kind()].ExecuteTemplate(&subject, "subject", view); err != nil {
		return Message{}, &Error{Failure: Invalid, Op: op, Err: err}
	}
	view.Subject = subject.String()
	if err := texts[letter.Kind()].ExecuteTemplate(&text, "letter", view); err != nil {
		return Message{}, &Error{Failure: Invalid, Op: op, Err: err}
	}
	if err := pages[letter.Kind()].ExecuteTemplate(&page, "page", view); err != nil {
		return Message{}, &Error{Failure: Invalid, Op: op, Err: err}
	}
	message := Message{
		RunID:   runID,
		Kind:    letter.Kind(),
		To:      netmail.Address{Name: plain(to.Name), Address: to.Address},
		Subject: view.Subject,
		Text:    text.String(),
		HTML:    page.String(),
	}
	if qr, ok := letter.(GetQR); ok {
		message.Inline = []Inline{{ID: qrID, Name: "qr.png", Type: "image/png", Content: qr.PNG}}
	}
	return message, message.check(op)
}

// plain makes a text fit for a line that people read: no line ends, no other control
// or formatting characters (those that turn the direction of writing, too), not
// overlong, and nothing that a mail program makes a link of because of its scheme.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "://", ": //")
	if runes := []rune(text); len(runes) > maxPlain {
		text = strings.TrimSpace(string(runes[:maxPlain])) + "…"
	}
	return text
}

// when shows a time in UTC: the reader's zone is not known.
func when(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04:05 UTC") }

// ending is the end of a serial number, which is what people compare.
func ending(serial string) string {
	serial = plain(serial)
	return serial[max(0, len(serial)-4):]
}

// inWords says why a mobile ID is locked; empty if that says nothing.
func inWords(reason mobileid.Reason) string {
	switch reason {
	case mobileid.KeyCompromise:
		return "somebody else may have it, or its keys"
	case mobileid.Superseded:
		return "it is replaced by another"
	case mobileid.CessationOfOperation:
		return "it is no longer used"
	case mobileid.AffiliationChanged:
		return "what it says about you has changed"
	case mobileid.PrivilegeWithdrawn:
		return "the issuer has withdrawn it"
	}
	return ""
}

// outcome says how the revocation of a certificate ended.
func outcome(c mobileid.CertificateResult) string {
	date := ""
	if !c.RevokedAt.IsZero() {
		date = " on " + when(c.RevokedAt)
	}
	switch c.Outcome {
	case mobileid.OutcomeRevoked:
		return "revoked" + date
	case mobileid.OutcomeAlreadyRevoked:
		return "had been revoked before" + date
	case mobileid.OutcomeExpiredNotRevoked:
		return "had expired, and was not revoked"
	}
	return "not decided"
}

// indent sets lines apart in a plain text.
func indent(lines []string) string { return "    " + strings.Join(lines, "\n    ") }
