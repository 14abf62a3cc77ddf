package notify_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/identitymanager/postgrestest"
	"mobileid/activities/mail"
	"mobileid/activities/notify"
)

// limit is far more than any wait in a test takes.
const limit = time.Minute

var (
	auditKey = []byte("0123456789abcdef0123456789abcdef")
	composer = mail.Composer{Contact: "Service desk: +46 8 123 45 67"}
)

// options are those of a store that writes every notice.
func options(driver, dsn string) identitymanager.Options {
	return identitymanager.Options{
		Driver: driver, DSN: dsn, AuditKey: auditKey,
		Notices: identitymanager.Notices{Lock: true, Get: true, QR: true},
	}
}

// eachDatabase runs a test on SQLite and on PostgreSQL, with the schema and the users
// anna and otto.
func eachDatabase(t *testing.T, test func(t *testing.T, s *identitymanager.Store, o identitymanager.Options)) {
	for driver, dsn := range map[string]func(t *testing.T) string{
		identitymanager.SQLite:   func(t *testing.T) string { return filepath.Join(t.TempDir(), "im.db") },
		identitymanager.Postgres: func(t *testing.T) string { return postgrestest.Start(t).NewDatabase(t) },
	} {
		t.Run(driver, func(t *testing.T) {
			o := options(driver, dsn(t))
			s := open(t, o)
			require.NoError(t, s.Migrate(t.Context()))
			for id, emails := range map[string][]string{"anna": {"anna@example.com", "a@example.org"}, "otto": {"otto@example.com"}} {
				user := mobileid.User{ID: id, Name: "The " + id, Active: true, Roles: []string{mobileid.SelfServiceRole}}
				require.NoError(t, s.PutUser(t.Context(), user, emails...))
			}
			test(t, s, o)
		})
	}
}

func open(t testing.TB, o identitymanager.Options) *identitymanager.Store {
	t.Helper()
	s, err := identitymanager.Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// lock locks a new mobile ID with one certificate.
func lock(t testing.TB, s *identitymanager.Store, id, owner string) {
	t.Helper()
	now := time.Now()
	require.NoError(t, s.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: id, Name: "MobileID " + owner, Owner: mobileid.User{ID: owner}, State: mobileid.Active,
		Certificates: []mobileid.Certificate{{
			CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: serial(id)},
			IssuerDN:      "CN=Test", NotBefore: now, NotAfter: now.Add(time.Hour), State: mobileid.CertificateValid,
		}},
	}))
	_, err := s.Lock(t.Context(), mobileid.LockOrder{
		MobileID: id, Owner: owner, RequestedAt: now, Reason: mobileid.Superseded, Decision: mobileid.Decision{UserID: owner},
		Process: mobileid.Process{Name: "MobileIDSelfServiceProcLock", WorkflowID: "MobileIDSelfServiceProcLock/" + id, RunID: "run-1"},
	})
	require.NoError(t, err)
}

// serial is the serial number of the certificate of mid-N.
func serial(id string) string { return "1" + strings.TrimPrefix(id, "mid-") }

// patient are options for tests: quick to look and to try again.
func patient(sender mail.Sender, log *slog.Logger) notify.Options {
	return notify.Options{
		Mail: sender, Composer: composer, Logger: log, Look: 10 * time.Millisecond, FirstPause: 10 * time.Millisecond, LongestPause: 50 * time.Millisecond,
	}
}

// run runs a sender until the test ends, or the returned function is called.
func run(t testing.TB, s *identitymanager.Store, o notify.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { notify.New(s, o).Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// awaitEmpty waits until nothing is left to be sent.
func awaitEmpty(t testing.TB, s *identitymanager.Store) {
	t.Helper()
	require.Eventually(t, func() bool {
		left, err := s.OpenNotices(t.Context(), 1)
		return err == nil && len(left) == 0
	}, limit, 10*time.Millisecond)
}

// requireEachOnce expects n mails, no two of which have the same Message-ID.
func requireEachOnce(t testing.TB, mails []taken, n int) {
	t.Helper()
	require.Len(t, mails, n)
	ids := map[string]bool{}
	for _, m := range mails {
		require.NotEmpty(t, m.messageID)
		ids[m.messageID] = true
	}
	require.Len(t, ids, n)
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// requireNobody sees that a log names no person and no address.
func (l *logged) requireNobody(t testing.TB) {
	t.Helper()
	text := strings.ToLower(l.String())
	require.NotContains(t, text, "@")
	require.NotContains(t, text, "the anna")
	require.NotContains(t, text, "the otto")
}

// A lock is told at each address, and its end as well, once.
func TestLockIsTold(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		server, log := startServer(t), &logged{}
		run(t, s, patient(server.sender(t), log.logger()))
		lock(t, s, "mid-1", "anna")
		require.Eventually(t, func() bool { return len(server.mails()) == 2 }, limit, 10*time.Millisecond)
		_, err := s.RecordRevocations(t.Context(), mobileid.RevocationOrder{
			MobileID: "mid-1", CA: "ca", Process: mobileid.Process{Name: "x", WorkflowID: "x", RunID: "run-1"},
			Certificates: []mobileid.CertificateResult{{
				CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: serial("mid-1")}, StatusAtCA: mobileid.StatusRevoked,
				Outcome: mobileid.OutcomeRevoked, RevokedAt: time.Now(), VisibleAt: time.Now(), Proof: []mobileid.Proof{{Source: mobileid.ProofFromCA, SHA256: "00"}},
			}},
		})
		require.NoError(t, err)
		awaitEmpty(t, s)
		mails := server.mails()
		requireEachOnce(t, mails, 4)
		found := map[string]int{}
		for _, m := range mails {
			found[m.to+": "+m.subject]++
		}
		require.Equal(t, map[string]int{
			"anna@example.com: Your mobile ID is being locked: MobileID anna": 1,
			"a@example.org: Your mobile ID is being locked: MobileID anna":    1,
			"anna@example.com: Your mobile ID is locked: MobileID anna":       1,
			"a@example.org: Your mobile ID is locked: MobileID anna":          1,
		}, found)
		require.Contains(t, string(mails[0].content), "You, or somebody who was signed in as you, asked to lock")
		log.requireNobody(t)
		require.Equal(t, 4, strings.Count(log.String(), "Mail is sent"))
	})
}

// The mail server is down for a while: mails are late, and there once.
func TestServerIsDownForAWhile(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		server, log := reserve(t), &logged{}
		run(t, s, patient(server.sender(t), log.logger()))
		lock(t, s, "mid-1", "anna")
		require.Eventually(t, func() bool {
			left, err := s.OpenNotices(t.Context(), 10)
			return err == nil && len(left) == 2 && left[0].Attempts > 2 && left[1].Attempts > 2 && strings.Contains(left[0].Problem, "MailUnavailable")
		}, limit, 10*time.Millisecond)
		server.start(t)
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), 2)
		require.Contains(t, log.String(), "Mail is not sent yet")
		log.requireNobody(t)
	})
}

// An address that does not exist is given up, for an operator to see, and keeps no
// other one from its mail.
func TestRefusedAddress(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		server, log := startServer(t), &logged{}
		var mu sync.Mutex
		exists := false
		server.rcpt = func(to string) error {
			mu.Lock()
			defer mu.Unlock()
			if to == "a@example.org" && !exists {
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<a@example.org>: no such user"}
			}
			return nil
		}
		run(t, s, patient(server.sender(t), log.logger()))
		lock(t, s, "mid-1", "anna")
		var left []identitymanager.OpenNotice
		require.Eventually(t, func() bool {
			var err error
			left, err = s.OpenNotices(t.Context(), 10)
			return err == nil && len(left) == 1 && left[0].State == identitymanager.NoticeFailed
		}, limit, 10*time.Millisecond)
		require.Equal(t, 1, left[0].Attempts)
		require.Contains(t, left[0].Problem, "MailUndeliverable")
		require.NotContains(t, left[0].Problem, "@")
		require.Contains(t, log.String(), "Mail is given up")
		log.requireNobody(t)
		requireEachOnce(t, server.mails(), 1)

		mu.Lock()
		exists = true
		mu.Unlock()
		again, err := s.RequeueNotice(t.Context(), left[0].ID)
		require.NoError(t, err)
		require.True(t, again)
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), 2)
	})
}

// Several workers, as processes with stores of their own, side by side.
func TestSendersSideBySide(t *testing.T) {
	const locks = 40
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, o identitymanager.Options) {
		server := startServer(t)
		for range 2 {
			run(t, open(t, o), patient(server.sender(t), nil))
		}
		for i := range locks {
			lock(t, s, fmt.Sprintf("mid-%d", i), []string{"anna", "otto"}[i%2])
		}
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), locks/2*3)
	})
}

// senderFunc is a sender that a test makes up.
type senderFunc func(ctx context.Context, m mail.Message) error

func (f senderFunc) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

// A mail that is being sent when the worker is told to stop is ended, and noted.
func TestStopLetsAMailEnd(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		begun, end := make(chan struct{}), make(chan struct{})
		o := patient(senderFunc(func(ctx context.Context, _ mail.Message) error {
			close(begun)
			select {
			case <-end:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), nil)
		o.Grace = limit
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { notify.New(s, o).Run(ctx) })
		lock(t, s, "mid-1", "otto")
		<-begun
		cancel()
		close(end)
		running.Wait()
		left, err := s.OpenNotices(t.Context(), 1)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// One that does not end is given back at once, for another worker.
func TestStopGivesBackAMail(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		begun := make(chan struct{})
		o := patient(senderFunc(func(ctx context.Context, _ mail.Message) error {
			close(begun)
			<-ctx.Done()
			return &mail.Error{Failure: mail.Unavailable, Op: "send", Err: ctx.Err()}
		}), nil)
		o.Grace = time.Millisecond
		stop := run(t, s, o)
		lock(t, s, "mid-1", "otto")
		<-begun
		stop()
		server := startServer(t)
		run(t, s, patient(server.sender(t), nil))
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), 1)
	})
}

// A faulty sender is not asked without a pause, nor more often than it likes.
func TestPauses(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		o := patient(senderFunc(func(context.Context, mail.Message) error {
			return &mail.Error{Failure: mail.Denied, Op: "send", Words: "no", RetryAfter: time.Hour}
		}), nil)
		run(t, s, o)
		lock(t, s, "mid-1", "otto")
		var left []identitymanager.OpenNotice
		require.Eventually(t, func() bool {
			var err error
			left, err = s.OpenNotices(t.Context(), 1)
			return err == nil && len(left) == 1 && left[0].Problem != ""
		}, limit, 10*time.Millisecond)
		require.Equal(t, identitymanager.NoticePending, left[0].State)
		require.Equal(t, 1, left[0].Attempts)
		require.Greater(t, time.Until(left[0].DueAt), 50*time.Minute)
	})
}

// What somebody else's sender answers is worth another try.
func TestUnknownFaultIsTriedAgain(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		server, tries := startServer(t), 0
		real := server.sender(t)
		o := patient(senderFunc(func(ctx context.Context, m mail.Message) error {
			if tries++; tries < 3 {
				return errors.New("strange")
			}
			return real.Send(ctx, m)
		}), nil)
		o.AtOnce = 1
		run(t, s, o)
		lock(t, s, "mid-1", "otto")
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), 1)
	})
}

// While a new version is rolled out, what only that one knows is left to it.
func TestKindOfALaterVersion(t *testing.T) {
	o := options(identitymanager.SQLite, filepath.Join(t.TempDir(), "im.db"))
	s := open(t, o)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "otto", Name: "The otto"}, "otto@example.com"))
	lock(t, s, "mid-1", "otto")
	db, err := sql.Open("sqlite", o.DSN)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `PRAGMA ignore_check_constraints = 1; UPDATE outbox SET kind = 'moonPhase'`)
	require.NoError(t, err)
	server := startServer(t)
	run(t, s, patient(server.sender(t), nil))
	require.Eventually(t, func() bool {
		left, err := s.OpenNotices(t.Context(), 1)
		return err == nil && len(left) == 1 && left[0].State == identitymanager.NoticePending && left[0].Attempts > 1
	}, limit, 10*time.Millisecond)
	require.Empty(t, server.mails())
}

// Nobody is told of a lock of last week.
func TestGivenUpInTheEnd(t *testing.T) {
	o := options(identitymanager.SQLite, filepath.Join(t.TempDir(), "im.db"))
	s := open(t, o)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "otto", Name: "The otto"}, "otto@example.com"))
	lock(t, s, "mid-1", "otto")
	db, err := sql.Open("sqlite", o.DSN)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `UPDATE outbox SET created_at = '2020-01-01T00:00:00.000000Z'`)
	require.NoError(t, err)
	log := &logged{}
	run(t, s, patient(reserve(t).sender(t), log.logger()))
	require.Eventually(t, func() bool {
		left, err := s.OpenNotices(t.Context(), 1)
		return err == nil && len(left) == 1 && left[0].State == identitymanager.NoticeFailed
	}, limit, 10*time.Millisecond)
	require.Contains(t, log.String(), "Mail is given up")
	log.requireNobody(t)
}
