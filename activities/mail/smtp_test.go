package mail_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
	"mobileid/activities/mail"
)

// What arrives, over STARTTLS and after AUTH, is what was sent.
func TestDelivered(t *testing.T) {
	for _, row := range []struct {
		name    string
		options serverOptions
		change  func(*mail.SMTPOptions)
		auth    bool
	}{
		{"STARTTLS by default, signed in", serverOptions{}, func(*mail.SMTPOptions) {}, true},
		{"STARTTLS, signed in by LOGIN", serverOptions{login: true}, func(*mail.SMTPOptions) {}, true},
		{"TLS from the start, signed in", serverOptions{implicit: true}, func(o *mail.SMTPOptions) { o.Security = mail.TLS }, true},
		{"STARTTLS, not signed in", serverOptions{noAuth: true}, func(o *mail.SMTPOptions) { o.Username, o.PasswordFile = "", "" }, false},
		{"no TLS, because that is configured", serverOptions{noTLS: true}, func(o *mail.SMTPOptions) {
			o.Security, o.Username, o.PasswordFile, o.ServerCAFile = mail.NoTLS, "", "", ""
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, row.options)
			m := message()
			m.Inline = []mail.Inline{{ID: "qr@mobile-id", Name: "qr.png", Type: "image/png", Content: qr(t)}}
			sender := s.sender(t, row.change, func(o *mail.SMTPOptions) { o.ReplyTo = &netmail.Address{Address: "desk@example.org"} })
			require.NoError(t, sender.Send(t.Context(), m))

			mails := s.mails()
			require.Len(t, mails, 1)
			require.Equal(t, from.Address, mails[0].from)
			require.Equal(t, anna.Address, mails[0].to)
			require.Equal(t, row.auth, mails[0].signedIn)
			header, containers, parts := read(t, mails[0].content)
			for name, want := range map[string]string{
				"From":           `"Mobile ID" <mobile-id@example.org>`,
				"Reply-To":       "<desk@example.org>",
				"Message-Id":     "<" + m.ID() + "@example.org>",
				"Date":           "Thu, 08 Oct 2026 14:05:09 +0000",
				"Auto-Submitted": "auto-generated",
				"Mime-Version":   "1.0",
				"User-Agent":     "",
				"X-Mailer":       "",
			} {
				require.Equal(t, want, header.Get(name), name)
			}
			require.Equal(t, `Anna Öst <anna@example.com>`, decoded(t, header.Get("To")))
			require.Equal(t, m.Subject, decoded(t, header.Get("Subject")))
			require.Equal(t, []string{"multipart/related", "multipart/alternative"}, containers)
			require.Equal(t, []part{
				{"text/plain", "UTF-8", "", "", strings.ReplaceAll(m.Text, "\n", "\r\n")},
				{"text/html", "UTF-8", "", "", m.HTML},
				{"image/png", "", "<qr@mobile-id>", "inline", string(m.Inline[0].Content)},
			}, parts)
		})
	}
}

func smtpError(code int, words string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: words}
}

// A reply 4yz, wherever it comes, is tried again; the server has the mail once.
func TestTemporary(t *testing.T) {
	once := func(try int) error {
		if try == 1 {
			return smtpError(451, "greylisted")
		}
		return nil
	}
	for name, fault := range map[string]func(*server){
		"for the address": func(s *server) { s.rcpt = func(try int, _ string) error { return once(try) } },
		"for the content": func(s *server) { s.content = once },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, serverOptions{}, fault)
			sender := s.sender(t)
			err := sender.Send(t.Context(), message())
			e := failureOf(t, err)
			require.Equal(t, mail.Unavailable, e.Failure)
			require.Equal(t, 451, e.Code)
			require.ErrorContains(t, err, "greylisted")
			require.True(t, mail.Retry(err))
			require.NoError(t, sender.Send(t.Context(), message()))
			require.Len(t, s.mails(), 1)
		})
	}
}

// One address that does not exist is final for that address, and for no other. The
// error does not show it.
func TestRefusedAddress(t *testing.T) {
	s := startServer(t, serverOptions{}, func(s *server) {
		s.rcpt = func(_ int, to string) error {
			if to == "gone@example.com" {
				return smtpError(550, "<GONE@example.com>: no such user")
			}
			return nil
		}
	})
	sender := s.sender(t)
	gone := message()
	gone.To = netmail.Address{Address: "gone@example.com"}
	err := sender.Send(t.Context(), gone)
	e := failureOf(t, err)
	require.Equal(t, mail.Undeliverable, e.Failure)
	require.Equal(t, 550, e.Code)
	require.False(t, mail.Retry(err))
	require.ErrorContains(t, err, "<(address)>: no such user")
	require.NotContains(t, strings.ToLower(err.Error()), "gone@")
	require.NoError(t, sender.Send(t.Context(), message()))
}

func TestRefused(t *testing.T) {
	for _, row := range []struct {
		name    string
		fault   func(*server)
		failure mail.Failure
	}{
		{"content", func(s *server) { s.content = func(int) error { return smtpError(554, "looks like spam") } }, mail.Undeliverable},
		{"sender", func(s *server) { s.from = smtpError(550, "you may not send as this") }, mail.Denied},
		{"address, for want of signing in", func(s *server) { s.rcpt = func(int, string) error { return smtpError(530, "sign in first") } }, mail.Denied},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, serverOptions{}, row.fault)
			err := s.sender(t).Send(t.Context(), message())
			e := failureOf(t, err)
			require.Equal(t, row.failure, e.Failure)
			require.Equal(t, row.failure == mail.Denied, e.RetryAfter > 0)
			require.Empty(t, s.mails())
		})
	}
}

// Nothing is sent to a server that is not the one we trust, or that does not protect it.
func TestNotTrusted(t *testing.T) {
	other := catest.NewCredentials(t, "another server")
	for _, row := range []struct {
		name    string
		options serverOptions
		change  func(*mail.SMTPOptions)
		words   string
	}{
		{"no STARTTLS", serverOptions{noTLS: true}, func(*mail.SMTPOptions) {}, "STARTTLS"},
		{"another certificate, STARTTLS", serverOptions{}, func(o *mail.SMTPOptions) { o.ServerCAFile = other.CertFile }, "certificate"},
		{"another certificate, TLS", serverOptions{implicit: true}, func(o *mail.SMTPOptions) { o.ServerCAFile, o.Security = other.CertFile, mail.TLS }, "certificate"},
		{"a certificate that only the test vouches for", serverOptions{}, func(o *mail.SMTPOptions) { o.ServerCAFile = "" }, "certificate"},
		{"another host", serverOptions{}, func(o *mail.SMTPOptions) { o.Address = strings.Replace(o.Address, "127.0.0.1", "127.0.0.2", 1) }, ""},
		{"no way to sign in", serverOptions{noAuth: true}, func(*mail.SMTPOptions) {}, "PLAIN"},
		{"TLS from the start, which the server does not speak", serverOptions{}, func(o *mail.SMTPOptions) { o.Security = mail.TLS }, "TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, row.options)
			if row.name == "another host" {
				forward(t, s)
			}
			err := s.sender(t, row.change).Send(t.Context(), message())
			e := failureOf(t, err)
			require.Equal(t, mail.Denied, e.Failure, err)
			require.Positive(t, e.RetryAfter)
			require.True(t, mail.Retry(err), "an operator may cure it")
			require.ErrorContains(t, err, row.words)
			require.Empty(t, s.mails())
		})
	}
	var unknown x509.UnknownAuthorityError
	s := startServer(t, serverOptions{})
	err := s.sender(t, func(o *mail.SMTPOptions) { o.ServerCAFile = other.CertFile }).Send(t.Context(), message())
	require.ErrorAs(t, err, &unknown)
}

// forward makes a server reachable at 127.0.0.2, for which its certificate is not.
func forward(t testing.TB, s *server) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.2:"+port)
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.address)
			if err != nil {
				in.Close()
				return
			}
			group.Go(func() { io.Copy(out, in); out.Close() })
			group.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
}

// A wrong password is neither repeated by us nor by what the server says about it.
func TestWrongPassword(t *testing.T) {
	s := startServer(t, serverOptions{})
	file := passwordFile(t, "swordfish")
	sender := s.sender(t, func(o *mail.SMTPOptions) { o.PasswordFile = file })
	err := sender.Send(t.Context(), message())
	e := failureOf(t, err)
	require.Equal(t, mail.Denied, e.Failure)
	require.Equal(t, 535, e.Code)
	for cause := error(e); cause != nil; cause = errors.Unwrap(cause) {
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", cause, cause, cause), "swordfish")
	}
	require.NotContains(t, fmt.Sprintf("%+v", sender), "swordfish")

	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	require.NoError(t, sender.Send(t.Context(), message()), "the file is read for each mail")

	require.NoError(t, os.Remove(file))
	err = sender.Send(t.Context(), message())
	require.Equal(t, mail.Denied, failureOf(t, err).Failure)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The server has taken the mail and the connection is cut before it says so: nobody
// knows. The next try can be recognised as the same mail.
func TestCutAfterContent(t *testing.T) {
	s := startServer(t, serverOptions{}, func(s *server) { s.cut = 1 })
	sender := s.sender(t)
	err := sender.Send(t.Context(), message())
	require.Equal(t, mail.Ambiguous, failureOf(t, err).Failure, err)
	require.True(t, mail.Retry(err))

	require.NoError(t, sender.Send(t.Context(), message()))
	mails := s.mails()
	require.Len(t, mails, 2)
	first, _, _ := read(t, mails[0].content)
	second, _, _ := read(t, mails[1].content)
	require.NotEmpty(t, first.Get("Message-Id"))
	require.Equal(t, first.Get("Message-Id"), second.Get("Message-Id"))
}

// script is a server that says what a test wants, line by line, and then hangs up.
func script(t testing.TB, talk func(say func(string), hear func() string)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			lines := bufio.NewReader(conn)
			talk(func(line string) { _, _ = io.WriteString(conn, line+"\r\n") },
				func() string { line, _ := lines.ReadString('\n'); return line })
			conn.Close()
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return listener.Addr().String()
}

func plainSender(t testing.TB, address string, timeout time.Duration) *mail.SMTP {
	t.Helper()
	sender, err := mail.NewSMTP(mail.SMTPOptions{Address: address, Security: mail.NoTLS, From: from, Timeout: timeout})
	require.NoError(t, err)
	return sender
}

// Trouble with the connection is tried again, at whatever step. Only past the end of the
// content may the server have the mail.
func TestDisconnected(t *testing.T) {
	steps := []string{"220 hello", "250 hello", "250 sender", "250 address", "354 go on"}
	for said := range len(steps) + 1 {
		t.Run(fmt.Sprintf("after %d replies", said), func(t *testing.T) {
			address := script(t, func(say func(string), hear func() string) {
				for i, reply := range steps[:said] {
					if i > 0 {
						hear()
					}
					say(reply)
				}
				if said == len(steps) {
					for line := hear(); line != ".\r\n" && line != ""; line = hear() {
					}
				}
			})
			err := plainSender(t, address, 0).Send(t.Context(), message())
			want := mail.Unavailable
			if said == len(steps) {
				want = mail.Ambiguous
			}
			require.Equal(t, want, failureOf(t, err).Failure, err)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		listener.Close()
		err = plainSender(t, listener.Addr().String(), 0).Send(t.Context(), message())
		require.Equal(t, mail.Unavailable, failureOf(t, err).Failure)
	})
}

func TestOddServers(t *testing.T) {
	for _, row := range []struct {
		name    string
		talk    func(say func(string), hear func() string)
		failure mail.Failure
		words   string
	}{
		{"no mail here", func(say func(string), hear func() string) { say("554 no mail here"); hear() }, mail.Denied, "554 no mail here"},
		{"too busy", func(say func(string), hear func() string) { say("421 too busy"); hear() }, mail.Unavailable, "421 too busy"},
		{"endless greeting", func(say func(string), _ func() string) {
			for range 10_000 {
				say("220-" + strings.Repeat("hello ", 100))
			}
		}, mail.Unavailable, "has sent more than"},
		{"another protocol", func(say func(string), _ func() string) { say("HTTP/1.1 400 Bad Request") }, mail.Denied, "HTTP/1.1"},
		{"words without end or sense", func(say func(string), hear func() string) {
			say("220 hello")
			hear()
			say("451 \x1b[2J" + strings.Repeat("é", 2000))
			hear()
			say("451 \x1b[2J" + strings.Repeat("é", 2000))
			hear()
		}, mail.Unavailable, "451"},
		{"a reply to the content that nobody knows", func(say func(string), hear func() string) {
			for _, reply := range []string{"220 hello", "250 hello", "250 sender", "250 address", "354 go on"} {
				say(reply)
				hear()
			}
			for line := hear(); line != ".\r\n" && line != ""; line = hear() {
			}
			say("354 still going on")
			hear()
		}, mail.Ambiguous, "354 still going on"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := plainSender(t, script(t, row.talk), 10*time.Second).Send(t.Context(), message())
			require.Equal(t, row.failure, failureOf(t, err).Failure, err)
			require.ErrorContains(t, err, row.words)
			require.Less(t, len(err.Error()), 1000)
			require.NotContains(t, err.Error(), "\x1b")
		})
	}
}

// A server that says nothing is given up after the time-out, and at once when the
// caller's context ends.
func TestSilence(t *testing.T) {
	started := time.Now()
	connected := make(chan struct{}, 2)
	address := script(t, func(say func(string), hear func() string) {
		say("220 hello")
		hear()
		connected <- struct{}{}
		hear() // until the client hangs up
	})
	err := plainSender(t, address, 200*time.Millisecond).Send(t.Context(), message())
	require.Equal(t, mail.Unavailable, failureOf(t, err).Failure)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	<-connected

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-connected
		cancel()
	}()
	err = plainSender(t, address, time.Hour).Send(ctx, message())
	require.Equal(t, mail.Unavailable, failureOf(t, err).Failure)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, time.Since(started), 15*time.Second, "it did not wait for the server, which hangs up after 20 s")
}

// Addresses beyond ASCII need a server that takes them.
func TestBeyondASCII(t *testing.T) {
	m := message()
	m.To.Address = "åsa@exämple.com"
	s := startServer(t, serverOptions{utf8: true})
	require.NoError(t, s.sender(t).Send(t.Context(), m))
	require.Equal(t, m.To.Address, s.mails()[0].to)

	s = startServer(t, serverOptions{})
	err := s.sender(t).Send(t.Context(), m)
	require.Equal(t, mail.Undeliverable, failureOf(t, err).Failure)
	require.ErrorContains(t, err, "SMTPUTF8")
}

func TestManyAtOnce(t *testing.T) {
	s := startServer(t, serverOptions{})
	sender := s.sender(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			m := message()
			m.RunID = fmt.Sprint("run ", i)
			if err := sender.Send(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Len(t, s.mails(), 8)
}

// All faults of the options are told at once.
func TestSMTPOptions(t *testing.T) {
	_, err := mail.NewSMTP(mail.SMTPOptions{
		Address: "mail.example.com", Security: "ssl", Username: user, ServerCAFile: "nowhere.pem", Timeout: -1,
		From: netmail.Address{Name: "x\ny", Address: "a@b"}, ReplyTo: &netmail.Address{Address: "nobody"},
	})
	for _, fault := range []string{"host:port", `"ssl"`, "password file", "nowhere.pem", "negative", "from: the name", "reply-to: the address"} {
		require.ErrorContains(t, err, fault)
	}
	_, err = mail.NewSMTP(mail.SMTPOptions{Address: "localhost:25", Security: mail.NoTLS, Username: user, PasswordFile: "p", From: from})
	require.ErrorContains(t, err, "password would be read")
}
