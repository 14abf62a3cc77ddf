package mail_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
	"mobileid/activities/mail"
)

const (
	user     = "mobile-id"
	password = "hunter2 with spaces"
)

// taken is a mail that a server has taken.
type taken struct {
	from, to string
	signedIn bool
	content  []byte
}

// server is a mail server on loopback. Its faults are set before a client connects.
type server struct {
	address string
	trust   string // PEM file
	smtp    *smtp.Server

	rcpt    func(try int, to string) error
	from    error
	content func(try int) error
	cut     int // how many connections are cut after the content was taken

	mu    sync.Mutex
	tries int
	taken []taken
}

type serverOptions struct {
	implicit, noTLS, noAuth, login, utf8 bool
}

func startServer(t testing.TB, options serverOptions, change ...func(*server)) *server {
	t.Helper()
	s := &server{}
	for _, c := range change {
		c(s)
	}
	credentials := catest.NewCredentials(t, "mail server")
	s.trust = credentials.CertFile
	pair, err := tls.LoadX509KeyPair(credentials.CertFile, credentials.KeyFile)
	require.NoError(t, err)
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		opened := &opened{server: s, conn: c}
		if options.noAuth {
			return opened, nil
		}
		return withAuth{opened, options.login}, nil
	}))
	s.smtp.ErrorLog = log.New(io.Discard, "", 0)
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = 20*time.Second, 20*time.Second
	s.smtp.EnableSMTPUTF8 = options.utf8
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	switch {
	case options.implicit:
		listener = tls.NewListener(listener, config)
	case !options.noTLS:
		s.smtp.TLSConfig = config
	}
	done := make(chan error, 1)
	go func() { done <- s.smtp.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, s.smtp.Close())
		require.NoError(t, <-done)
	})
	return s
}

// mails are those that the server has taken.
func (s *server) mails() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]taken(nil), s.taken...)
}

func (s *server) sender(t testing.TB, change ...func(*mail.SMTPOptions)) *mail.SMTP {
	t.Helper()
	options := mail.SMTPOptions{Address: s.address, ServerCAFile: s.trust, Username: user, PasswordFile: passwordFile(t, password), From: from}
	for _, c := range change {
		c(&options)
	}
	sender, err := mail.NewSMTP(options)
	require.NoError(t, err)
	return sender
}

func passwordFile(t testing.TB, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(content+"\n"), 0o600))
	return file
}

// opened is one session at the server.
type opened struct {
	server *server
	conn   *smtp.Conn
	mail   taken
}

func (o *opened) Reset()        {}
func (o *opened) Logout() error { return nil }

func (o *opened) Mail(from string, _ *smtp.MailOptions) error {
	o.mail.from = from
	return o.server.from
}

func (o *opened) Rcpt(to string, _ *smtp.RcptOptions) error {
	o.server.mu.Lock()
	defer o.server.mu.Unlock()
	o.server.tries++
	o.mail.to = to
	if o.server.rcpt != nil {
		return o.server.rcpt(o.server.tries, to)
	}
	return nil
}

func (o *opened) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	o.mail.content = content
	s := o.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.content != nil {
		if err := s.content(s.tries); err != nil {
			return err
		}
	}
	s.taken = append(s.taken, o.mail)
	if len(s.taken) <= s.cut {
		return errors.Join(errors.New("cut"), o.conn.Conn().Close())
	}
	return nil
}

// withAuth is a session at a server that asks who we are.
type withAuth struct {
	*opened
	login bool
}

func (w withAuth) AuthMechanisms() []string {
	if w.login {
		return []string{sasl.Login}
	}
	return []string{sasl.Plain}
}

func (w withAuth) Auth(string) (sasl.Server, error) {
	if w.login {
		return &login{check: w.check}, nil
	}
	return sasl.NewPlainServer(func(_, name, word string) error { return w.check(name, word) }), nil
}

func (w withAuth) check(name, word string) error {
	if name != user || word != password {
		// As rude as a server can be.
		return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: name + " has not the password " + word}
	}
	w.mail.signedIn = true
	return nil
}

// login is the server's side of LOGIN, which was never more than a draft: it asks for
// the name, then for the password.
type login struct {
	check func(name, word string) error
	asked int
	name  string
}

func (l *login) Next(response []byte) ([]byte, bool, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.name = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.name, string(response))
}
