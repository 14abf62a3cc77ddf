package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/wneessen/go-mail/smtp"
)

const (
	// maxReplies is what a server may say in one session, in bytes.
	maxReplies = 64 << 10
	// maxWords is how much of a reply an error shows, in bytes.
	maxWords = 300
	// quitWait is how long to wait for the end of a session whose outcome is known.
	quitWait = 2 * time.Second
	// defaultTimeout is for SMTPOptions without one. RFC 5321 section 4.5.3.2 advises up
	// to ten minutes for the last reply alone: whoever gives up sooner sends twice.
	defaultTimeout = time.Minute
)

// Security is how the connection to the server is protected.
type Security string

// The ways to protect a connection. A server that cannot do what is configured gets no
// mail.
const (
	StartTLS Security = "starttls" // TLS from the STARTTLS command on, usually port 587
	TLS      Security = "tls"      // TLS from the start, usually port 465
	NoTLS    Security = "none"     // none: whoever is in between reads and changes the mail
)

// SMTPOptions say which server sends the mail, and for whom.
type SMTPOptions struct {
	Address      string   // host:port; the certificate must be for the host
	Security     Security // empty: StartTLS
	Username     string   // empty: the server asks for none
	PasswordFile string   // read for each message
	ServerCAFile string   // PEM; empty: the trust store of the system
	Timeout      time.Duration
	From         netmail.Address
	ReplyTo      *netmail.Address // nil: none
}

// SMTP hands messages over to a mail server. It is safe for concurrent use, and makes a
// connection a message.
type SMTP struct {
	sender
	options SMTPOptions
	host    string
	helo    string
	trust   *x509.CertPool // nil: the system's
}

var _ Sender = (*SMTP)(nil)

// NewSMTP returns a sender. It reads the file with the server's CA, and reports all
// faults of the options at once; it does not connect.
func NewSMTP(options SMTPOptions) (*SMTP, error) {
	var faults []error
	host, _, err := net.SplitHostPort(options.Address)
	if err != nil || host == "" {
		faults = append(faults, fmt.Errorf("address %q is not host:port", options.Address))
	}
	switch options.Security {
	case "":
		options.Security = StartTLS
	case StartTLS, TLS:
	case NoTLS:
		if options.Username != "" || options.ServerCAFile != "" {
			faults = append(faults, errors.New("security none: takes no user name, because the password would be read on the way, and no server CA"))
		}
	default:
		faults = append(faults, fmt.Errorf("security %q is not known", options.Security))
	}
	if (options.Username == "") != (options.PasswordFile == "") {
		faults = append(faults, errors.New("user name and password file: one without the other"))
	}
	from, err := newSender(options.From, options.ReplyTo)
	faults = append(faults, err)
	var trust *x509.CertPool
	if options.ServerCAFile != "" {
		if trust, err = readTrust(options.ServerCAFile); err != nil {
			faults = append(faults, err)
		}
	}
	if options.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout %s is negative", options.Timeout))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	helo, err := os.Hostname()
	if err != nil {
		helo = "localhost"
	}
	return &SMTP{sender: from, options: options, host: host, helo: helo, trust: trust}, nil
}

// Send implements [Sender]. It returns nil once the server has answered for the whole
// message with 250, and not before.
func (s *SMTP) Send(ctx context.Context, message Message) error {
	op := "send mail " + message.ID()
	content, err := s.encode(op, message)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	session := &session{ctx: ctx, op: op, to: message.To.Address}
	defer session.close()
	if err := session.open(s); err != nil {
		return err
	}
	if err := session.hand(s.from.Address, content); err != nil {
		return err
	}
	session.quit()
	return nil
}

// session is one connection, for one message.
type session struct {
	ctx  context.Context //nolint:containedctx // it lives as long as the call to Send
	op   string
	to   string
	conn net.Conn
	smtp *smtp.Client
	stop func() bool
}

// open connects, and brings the session to where it may hand over mail.
func (c *session) open(s *SMTP) error {
	const connecting = "connect"
	raw, err := (&net.Dialer{}).DialContext(c.ctx, "tcp", s.options.Address)
	if err != nil {
		return c.failure(connecting, err)
	}
	// The library knows no context: the connection is taken away from it.
	c.stop = context.AfterFunc(c.ctx, func() { _ = raw.Close() })
	c.conn = &bounded{Conn: raw, left: maxReplies}
	encryption := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.host, RootCAs: s.trust}
	if s.options.Security == TLS {
		encrypted := tls.Client(c.conn, encryption)
		if err := encrypted.HandshakeContext(c.ctx); err != nil {
			return c.failure("TLS", err)
		}
		c.conn = encrypted
	}
	if c.smtp, err = smtp.NewClient(c.conn, s.host); err != nil {
		return c.failure(connecting, err)
	}
	if err := c.smtp.Hello(s.helo); err != nil {
		return c.failure("EHLO", err)
	}
	if s.options.Security == StartTLS {
		if offered, _ := c.smtp.Extension("STARTTLS"); !offered {
			return c.denied("STARTTLS", "the server does not offer it")
		}
		if err := c.smtp.StartTLS(encryption); err != nil {
			return c.failure("STARTTLS", err)
		}
	}
	if s.options.Username == "" {
		return nil
	}
	return c.signIn(s)
}

// signIn proves who we are. What the server says to that is not repeated: it has just
// been told the password.
func (c *session) signIn(s *SMTP) error {
	const step = "AUTH"
	password, err := os.ReadFile(s.options.PasswordFile)
	if err != nil {
		return &Error{Failure: Denied, Op: c.op, Field: "password file", Err: err, RetryAfter: deniedWait}
	}
	user, word := s.options.Username, strings.TrimRight(string(password), "\r\n")
	_, offered := c.smtp.Extension(step)
	var way smtp.Auth
	switch mechanisms := strings.Fields(strings.ToUpper(offered)); {
	case slices.Contains(mechanisms, "PLAIN"):
		way = smtp.PlainAuth("", user, word, s.host, false)
	case slices.Contains(mechanisms, "LOGIN"):
		way = smtp.LoginAuth(user, word, s.host, false)
	default:
		return c.denied(step, "the server offers neither PLAIN nor LOGIN")
	}
	err = c.smtp.Auth(way)
	var reply *textproto.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reply):
		return c.failure(step, &textproto.Error{Code: reply.Code, Msg: "the server did not let us in"})
	case disconnected(err):
		return c.failure(step, err)
	}
	return c.denied(step, "the server did not let us in")
}

// The steps whose refusal concerns the address or the message, and not us.
const (
	stepRecipient = "RCPT"
	stepData      = "DATA"
	stepContent   = "content"
	stepAnswer    = "end of content"
)

// hand hands the message over. Until its last line has been sent, the server cannot
// have taken it; from then on the server's answer decides, and without one nobody
// knows (RFC 5321 section 4.1.1.4).
func (c *session) hand(from string, content []byte) error {
	if !ascii(from + c.to) {
		if offered, _ := c.smtp.Extension("SMTPUTF8"); !offered {
			return &Error{Failure: Undeliverable, Op: c.op + ": " + stepRecipient, Words: "the server takes no addresses beyond ASCII (SMTPUTF8)"}
		}
	}
	if err := c.smtp.Mail("<" + from + ">"); err != nil {
		return c.failure("MAIL", err)
	}
	if err := c.smtp.Rcpt("<" + c.to + ">"); err != nil {
		return c.failure(stepRecipient, err)
	}
	body, err := c.smtp.Data()
	if err != nil {
		return c.failure(stepData, err)
	}
	if _, err := body.Write(content); err != nil {
		// Not closed: that would end a message that is not whole.
		return c.failure(stepContent, err)
	}
	if err := body.Close(); err != nil {
		return c.failure(stepAnswer, err)
	}
	return nil
}

// failure says what a failed step means for the next try.
func (c *session) failure(step string, err error) *Error {
	e := &Error{Failure: Unavailable, Op: c.op + ": " + step, Err: err}
	var reply *textproto.Error
	switch {
	case errors.As(err, &reply):
		e.Code, e.Words, e.Err = reply.Code, c.clean(reply.Msg), nil
		c.quit()
		switch {
		case reply.Code >= 400 && reply.Code < 500:
		case reply.Code >= 500:
			e.Failure = Denied
			if step == stepRecipient || step == stepData || step == stepAnswer {
				e.Failure = Undeliverable
			}
			if reply.Code == 530 || reply.Code == 535 || reply.Code == 538 {
				e.Failure = Denied // about signing in, wherever it is said (RFC 4954 section 6)
			}
		case step == stepAnswer:
			e.Failure = Ambiguous // an answer, but none that RFC 5321 knows
		}
	case step == stepAnswer:
		e.Failure = Ambiguous
	case !disconnected(err):
		e.Failure = Denied
	}
	if e.Failure == Denied {
		e.RetryAfter = deniedWait
	}
	if cause := c.ctx.Err(); cause != nil && e.Code == 0 {
		e.Err = fmt.Errorf("%w (%s)", cause, c.clean(err.Error()))
	}
	return e
}

func (c *session) denied(step, words string) *Error {
	c.quit()
	return &Error{Failure: Denied, Op: c.op + ": " + step, Words: words, RetryAfter: deniedWait}
}

// clean makes the server's words fit for a log line: servers like to repeat the
// address, which belongs to a person.
func (c *session) clean(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, ""))
	words = withoutAddress(words, c.to)
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "…"
	}
	return strings.TrimSpace(words)
}

// withoutAddress replaces an address in whatever case it is written.
func withoutAddress(words, address string) string {
	lower, wanted := strings.ToLower(words), strings.ToLower(address)
	if len(lower) != len(words) || wanted == "" {
		// Some letters change their length with their case: what is repeated as sent goes.
		return strings.ReplaceAll(words, address, "(address)")
	}
	var b strings.Builder
	for {
		at := strings.Index(lower, wanted)
		if at < 0 {
			b.WriteString(words)
			return b.String()
		}
		b.WriteString(words[:at] + "(address)")
		words, lower = words[at+len(wanted):], lower[at+len(wanted):]
	}
}

// disconnected reports trouble with the connection, as opposed to a server that we do
// not want to talk to.
func disconnected(err error) bool {
	var network net.Error
	var lookup *net.DNSError
	var alert tls.AlertError
	switch {
	case errors.As(err, &alert):
		return false // the server says that it does not like our TLS
	case errors.As(err, &network), errors.As(err, &lookup):
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTalkative)
}

// quit ends the session as the protocol wants it. How it ends changes nothing.
func (c *session) quit() {
	if c.smtp == nil {
		return
	}
	_ = c.conn.SetDeadline(time.Now().Add(quitWait))
	_ = c.smtp.Quit()
}

func (c *session) close() {
	if c.conn != nil {
		c.stop()
		_ = c.conn.Close()
	}
}

// errTalkative reports a server that says more than anybody needs.
var errTalkative = fmt.Errorf("the server has sent more than %d bytes", maxReplies)

// bounded is a connection on which only so much is read, encrypted bytes included.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTalkative
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func readTrust(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("server CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("server CA: %s holds no PEM certificate", file)
	}
	return pool, nil
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}
