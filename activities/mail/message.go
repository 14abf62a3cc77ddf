package mail

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

const (
	// maxAddress is the longest address, in bytes (RFC 5321 section 4.5.3.1.3, without
	// the angle brackets).
	maxAddress = 254
	// maxSubject keeps the header line, encoded, far below RFC 5322's 998 bytes a line
	// and a folded header of a few kilobytes.
	maxSubject = 1000
	// maxMessage is the longest message, in bytes before encoding. Servers commonly take
	// 10 MB.
	maxMessage = 4 << 20
)

// Sender sends messages. It does not try again; see [Retry].
type Sender interface {
	// Send returns nil once somebody else answers for the message: the server has taken
	// it, or it is on disk.
	Send(ctx context.Context, message Message) error
}

// Message is one message to one address.
type Message struct {
	// RunID, Kind and To.Address are what a message is sent once for.
	RunID string // the process: its first run, stable over continue-as-new and reset
	Kind  Kind
	To    netmail.Address

	Date    time.Time // zero: when it is sent
	Subject string    // one line
	Text    string
	HTML    string // empty: plain text alone
	Inline  []Inline
}

// Inline is a file that the HTML of a message shows.
type Inline struct {
	ID      string // the HTML names it as cid:ID (RFC 2392)
	Name    string // file name, for programs that offer to save it
	Type    string // for example image/png
	Content []byte
}

// ID is the part of the Message-ID before the @: 32 hex digits, the same for the same
// process, kind and address. It tells nothing about any of them.
func (m Message) ID() string {
	hash := sha256.New()
	for _, part := range []string{"mobileid mail", m.RunID, string(m.Kind), m.To.Address} {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// check refuses, as Invalid naming the field, what would not arrive as it is meant.
func (m Message) check(op string) error {
	if m.RunID == "" {
		return invalid(op, "run id", "is missing")
	}
	if m.Kind == "" || strings.Trim(string(m.Kind), letters) != "" {
		return invalid(op, "kind", "is not a word of letters") // it is part of a file's name
	}
	if problem := addressProblem(m.To.Address); problem != "" {
		return invalid(op, "address", problem)
	}
	lines := []struct{ field, text string }{{"name", m.To.Name}, {"subject", m.Subject}}
	size := len(m.Text) + len(m.HTML)
	for _, file := range m.Inline {
		lines = append(lines, struct{ field, text string }{"inline id", file.ID},
			struct{ field, text string }{"inline name", file.Name}, struct{ field, text string }{"inline type", file.Type})
		size += len(file.Content)
	}
	for _, line := range lines {
		if problem := lineProblem(line.text); problem != "" {
			return invalid(op, line.field, problem)
		}
	}
	if m.Subject == "" {
		return invalid(op, "subject", "is missing")
	}
	if m.Text == "" {
		return invalid(op, "text", "is missing")
	}
	if size > maxMessage {
		return invalid(op, "message", fmt.Sprintf("has %d bytes, more than %d", size, maxMessage))
	}
	return nil
}

// lineProblem says what is wrong with a text that becomes part of a header. Line ends
// would begin headers of their own.
func lineProblem(text string) string {
	switch {
	case len(text) > maxSubject:
		return fmt.Sprintf("has more than %d bytes", maxSubject)
	case !utf8.ValidString(text):
		return "is not UTF-8"
	case strings.ContainsFunc(text, unicode.IsControl):
		return "holds line ends or other control characters"
	}
	return ""
}

// addressProblem says what is wrong with an address such as anna@example.com.
func addressProblem(address string) string {
	if address == "" {
		return "is missing"
	}
	if len(address) > maxAddress {
		return fmt.Sprintf("has more than %d bytes", maxAddress)
	}
	// Quoted local parts are legal, and of no use but to confuse; spaces and brackets
	// would end the address in an SMTP command.
	if !utf8.ValidString(address) || strings.ContainsFunc(address, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`"<>()[]\,;:`, r)
	}) {
		return "holds characters that no address has"
	}
	parsed, err := netmail.ParseAddress(address)
	if err != nil || parsed.Address != address || parsed.Name != "" {
		return "is not name@domain"
	}
	return ""
}

// sender is whom messages come from.
type sender struct {
	from    netmail.Address
	replyTo *netmail.Address // nil: none
}

// encode returns the message as it goes over the wire, with CRLF.
func (s sender) encode(op string, m Message) ([]byte, error) {
	if err := m.check(op); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithEncoding(gomail.EncodingQP))
	msg.SetAddrHeaderFromMailAddress(gomail.HeaderFrom, &s.from)
	msg.SetAddrHeaderFromMailAddress(gomail.HeaderTo, &m.To)
	if s.replyTo != nil {
		msg.SetAddrHeaderFromMailAddress(gomail.HeaderReplyTo, s.replyTo)
	}
	msg.SetMessageIDWithValue(m.ID() + "@" + domain(s.from.Address))
	date := m.Date
	if date.IsZero() {
		date = time.Now()
	}
	msg.SetDateWithValue(date.UTC())
	msg.Subject(m.Subject)
	// RFC 3834 section 5, and Exchange's own: nobody's holiday notice answers.
	msg.SetGenHeader(gomail.Header("Auto-Submitted"), "auto-generated")
	msg.SetGenHeader(gomail.HeaderXAutoResponseSuppress, "All")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	for _, file := range m.Inline {
		err := msg.EmbedReader(file.Name, bytes.NewReader(file.Content),
			gomail.WithFileContentID("<"+file.ID+">"), gomail.WithFileContentType(gomail.ContentType(file.Type)))
		if err != nil {
			return nil, &Error{Failure: Invalid, Op: op, Field: "inline", Err: err}
		}
	}
	var wire bytes.Buffer
	if _, err := msg.WriteTo(&wire); err != nil {
		return nil, &Error{Failure: Invalid, Op: op, Err: err}
	}
	return wire.Bytes(), nil
}

func domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// newSender reports all faults at once.
func newSender(from netmail.Address, replyTo *netmail.Address) (sender, error) {
	faults := []error{addressFault("from", from)}
	if replyTo != nil {
		faults = append(faults, addressFault("reply-to", *replyTo))
	}
	return sender{from: from, replyTo: replyTo}, errors.Join(faults...)
}

func addressFault(field string, address netmail.Address) error {
	if problem := addressProblem(address.Address); problem != "" {
		return fmt.Errorf("%s: the address %s", field, problem)
	}
	if problem := lineProblem(address.Name); problem != "" {
		return fmt.Errorf("%s: the name %s", field, problem)
	}
	return nil
}
