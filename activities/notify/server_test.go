package notify_test

import (
	"bytes"
	"io"
	"log"
	"net"
	netmail "net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"mobileid/activities/mail"
	"mobileid/starter/stack/port"
)

// taken is a mail that a server has taken.
type taken struct {
	to        string
	messageID string
	subject   string
	content   []byte
}

// server is a mail server on loopback, which can be started late.
type server struct {
	address string
	rcpt    func(to string) error // what it says of an address; nil: yes

	mu    sync.Mutex
	taken []taken
}

// reserve finds an address at which nobody listens.
func reserve(t testing.TB) *server {
	t.Helper()
	number, err := port.Reserve()
	require.NoError(t, err)
	return &server{address: net.JoinHostPort("127.0.0.1", number)}
}

// startServer starts a server at an address of its own.
func startServer(t testing.TB) *server {
	s := reserve(t)
	s.start(t)
	return s
}

// start serves until the test ends.
func (s *server) start(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", s.address)
	require.NoError(t, err)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{server: s}, nil }))
	server.ErrorLog = log.New(io.Discard, "", 0)
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.NoError(t, <-done)
	})
}

// mails are those that the server has taken.
func (s *server) mails() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]taken(nil), s.taken...)
}

// sender is a client of the server.
func (s *server) sender(t testing.TB) *mail.SMTP {
	t.Helper()
	sender, err := newSMTP(s.address)
	require.NoError(t, err)
	return sender
}

func newSMTP(address string) (*mail.SMTP, error) {
	return mail.NewSMTP(mail.SMTPOptions{Address: address, Security: mail.NoTLS, From: netmail.Address{Address: "mobile-id@example.org"}})
}

type session struct {
	server *server
	to     string
}

func (s *session) Reset()                               {}
func (s *session) Logout() error                        { return nil }
func (s *session) Mail(string, *smtp.MailOptions) error { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	if s.server.rcpt != nil {
		return s.server.rcpt(to)
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	message, err := netmail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.taken = append(s.server.taken, taken{
		to: s.to, messageID: message.Header.Get("Message-Id"), subject: message.Header.Get("Subject"), content: content,
	})
	return nil
}
