package identitymanager

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"mobileid"
)

// statement is one that was sent to the database, with its arguments.
type statement struct {
	query string
	args  []any
}

// statements notes what is sent over connections.
type statements struct {
	driver.Connector
	mu  sync.Mutex
	all []statement
}

func (s *statements) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(fullConn)
	if !ok {
		return nil, fmt.Errorf("%T cannot be watched", conn)
	}
	return notedConn{full, s}, nil
}

func (s *statements) note(query string, args []driver.NamedValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	noted := statement{query: query}
	for _, arg := range args {
		noted.args = append(noted.args, arg.Value)
	}
	s.all = append(s.all, noted)
}

// fullConn has the ways in which package database/sql sends statements and
// begins transactions.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type notedConn struct {
	fullConn
	statements *statements
}

func (c notedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.statements.note(query, args)
	return c.fullConn.ExecContext(ctx, query, args)
}

func (c notedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.statements.note(query, args)
	return c.fullConn.QueryContext(ctx, query, args)
}

var (
	// fullScan is a plan that reads a whole table, by an index or not.
	fullScan = regexp.MustCompile(`^SCAN (users|user_roles|user_emails|mobile_ids|certificates|audit|audit_heads|grants|provisionings|messages|outbox|sessions|passwords|sign_in_tries)\b`)
	// byIssuerAlone is a plan that reads all certificates of one issuer.
	byIssuerAlone = regexp.MustCompile(`^SEARCH certificates .*\(issuer=\?( AND aki=\?)?\)`)
)

// Whatever a lock asks of the database costs the same however many mobile IDs
// there are.
func TestLockScansNoTable(t *testing.T) {
	db := sqliteDatabase(t)
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)

	watched, noted := watch(t, s, db)
	steps := map[string]func() error{
		"MobileID": func() error {
			_, err := watched.MobileID(t.Context(), "mid-1")
			return err
		},
		"MobileIDsOf": func() error {
			_, err := watched.MobileIDsOf(t.Context(), "anna")
			return err
		},
		"Lock": func() error {
			_, err := watched.Lock(t.Context(), order("mid-1", "run-1"))
			return err
		},
		"RecordRevocations": func() error {
			_, err := watched.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a1"), revoked("a2")))
			return err
		},
		"Record": func() error {
			_, err := watched.Record(t.Context(), refusal("mid-1", "run-1"))
			return err
		},
		"AuditTrail": func() error {
			_, err := watched.AuditTrail(t.Context(), "mid-1")
			return err
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			noted.all = nil
			require.NoError(t, step())
			expectNoScan(t, s, noted)
		})
	}
	t.Run("a scan would be noticed", func(t *testing.T) {
		require.Regexp(t, fullScan, plan(t, s, statement{query: `SELECT * FROM certificates WHERE serial = 'a1'`})[0])
		require.Regexp(t, fullScan, plan(t, s, statement{query: `SELECT mobile_id FROM audit ORDER BY mobile_id`})[0])
		require.Regexp(t, byIssuerAlone, plan(t, s, statement{query: `SELECT der FROM certificates WHERE issuer = 'x'`})[0])
	})
}

// Whatever Get asks of the database costs the same however many mobile IDs and
// users there are.
func TestGetScansNoTable(t *testing.T) {
	db := sqliteDatabase(t)
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	watched, noted := watch(t, s, db)
	var id string
	steps := []struct {
		name string
		do   func() error
	}{
		{"PutUser", func() error {
			return watched.PutUser(t.Context(), mobileid.User{ID: "anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}, "a@example.com", "b@example.com")
		}},
		{"PutGrant", func() error {
			granted, err := watched.PutGrant(t.Context(), "anna", "portal", time.Hour)
			id = granted.MobileID
			return err
		}},
		{"Applicant", func() error {
			_, err := watched.Applicant(t.Context(), "anna")
			return err
		}},
		{"Register", func() error {
			_, err := watched.Register(t.Context(), registration(id, "anna", "run-1"))
			return err
		}},
		{"PutProvisioning", func() error { return watched.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")) }},
		{"Provisioning", func() error {
			_, err := watched.Provisioning(t.Context(), id)
			return err
		}},
		{"ProvisioningOf", func() error {
			_, err := watched.ProvisioningOf(t.Context(), "anna")
			return err
		}},
		{"Deliver", func() error {
			_, err := watched.Deliver(t.Context(), "c-1", KindProvision, nil)
			return err
		}},
		{"Answer", func() error {
			_, err := watched.Answer(t.Context(), "c-1")
			return err
		}},
		{"RecordIssued", func() error {
			_, err := watched.RecordIssued(t.Context(), issue(id, "run-1", "a1", "a2"))
			return err
		}},
		{"PutCommand", func() error { return watched.PutCommand(t.Context(), certificateCommand(id, "c-2")) }},
		{"Installation", func() error {
			_, err := watched.Installation(t.Context(), id)
			return err
		}},
		{"ForgetSecrets", func() error { return watched.ForgetSecrets(t.Context(), id) }},
		{"ForgetExpiredSecrets", func() error {
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-3")))
			db.clock.advance(24 * time.Hour)
			_, err := watched.ForgetExpiredSecrets(t.Context())
			return err
		}},
		{"Activate", func() error {
			_, err := watched.Activate(t.Context(), activation(id, "anna", "run-1"))
			return err
		}},
		{"Abandon", func() error {
			_, err := watched.Abandon(t.Context(), abandonment(register(t, s, "otto"), "run-1"))
			return err
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			noted.all = nil
			require.NoError(t, step.do())
			expectNoScan(t, s, noted)
		})
	}
}

// Whatever notices ask of the database costs the same however many were sent.
func TestNoticesScanNoTable(t *testing.T) {
	db := sqliteDatabase(t)
	db.Notices = everyNotice
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	create(t, s, "mid-1", mobileid.Active, certificate("b1", mobileid.CertificateValid))
	watched, noted := watch(t, s, db)
	var n Notice
	claim := func() error {
		var found bool
		var err error
		n, found, err = watched.ClaimNotice(t.Context(), time.Minute)
		require.True(t, found)
		return err
	}
	id := register(t, s, "otto")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"Lock", func() error {
			_, err := watched.Lock(t.Context(), order("mid-1", "run-1"))
			return err
		}},
		{"RecordRevocations", func() error {
			_, err := watched.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("b1")))
			return err
		}},
		{"Record", func() error {
			visible := revoked("b1")
			visible.VisibleAt = visible.RevokedAt
			_, err := watched.Record(t.Context(), mobileid.Record{
				MobileID: "mid-1", Event: mobileid.EventVisible, Process: process("run-1"), Certificates: []mobileid.CertificateResult{visible},
			})
			return err
		}},
		{"PutProvisioning", func() error { return watched.PutProvisioning(t.Context(), provisioning(id, "otto", "c-1")) }},
		{"Scannable", func() error {
			_, err := watched.Scannable(t.Context(), id, "c-1")
			return err
		}},
		{"RecordIssued", func() error {
			_, err := watched.RecordIssued(t.Context(), issue(id, "run-1", "a1"))
			return err
		}},
		{"Abandon", func() error {
			_, err := watched.Abandon(t.Context(), abandonment(id, "run-1"))
			return err
		}},
		{"RecordRevocations, after Abandon", func() error {
			_, err := watched.RecordRevocations(t.Context(), revocation(id, "run-2", revoked("a1")))
			return err
		}},
		{"ClaimNotice", claim},
		{"RetryNotice", func() error {
			_, err := watched.RetryNotice(t.Context(), n, s.now(), "why")
			return err
		}},
		{"ClaimNotice, again", claim},
		{"NoticeIsSent", func() error {
			_, err := watched.NoticeIsSent(t.Context(), n)
			return err
		}},
		{"ClaimNotice, another one", claim},
		{"FailNotice", func() error {
			_, err := watched.FailNotice(t.Context(), n, "why")
			return err
		}},
		{"RequeueNotice", func() error {
			_, err := watched.RequeueNotice(t.Context(), n.ID)
			return err
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			noted.all = nil
			require.NoError(t, step.do())
			expectNoScan(t, s, noted)
		})
	}
	t.Run("OpenNotices", func(t *testing.T) {
		noted.all = nil
		_, err := watched.OpenNotices(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []string{"SCAN outbox USING INDEX outbox_open"}, plan(t, s, noted.all[0]), "what is sent is not in this index")
	})
	t.Run("a scan would be noticed", func(t *testing.T) {
		require.Regexp(t, fullScan, plan(t, s, statement{query: `SELECT id FROM outbox WHERE due_at < 'x'`})[0])
	})
}

// The same on PostgreSQL, of the one statement that every worker sends all the time.
func TestPostgresClaimsByIndex(t *testing.T) {
	db := postgresDatabase(t)
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	change(t, s, `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem, ended_at)
		SELECT 'id-' || n, 'lockRequested', 'mid-' || n, '', '', 'sent', now(), now(), 1, '', now() FROM generate_series(1, 20000) AS n`)
	for _, statistics := range []string{"none", "fresh"} {
		t.Run(statistics, func(t *testing.T) {
			if statistics == "fresh" {
				change(t, s, `ANALYZE outbox`)
			}
			lines, err := collect(t.Context(), s.read, scanText, `EXPLAIN `+claimNotice(s.dialect), stored(start), "claim", stored(start))
			require.NoError(t, err)
			text := strings.Join(lines, "\n")
			require.Contains(t, text, "outbox_due", text)
			require.NotContains(t, text, "Seq Scan", text)
		})
	}
}

// watch opens the database of s once more, and notes what is sent to it.
func watch(t *testing.T, s *Store, db database) (*Store, *statements) {
	t.Helper()
	connector, err := sqlite.NewConnector(sqliteURI(db.DSN))
	require.NoError(t, err)
	noted := &statements{Connector: connector}
	watched := *s
	watched.write = sql.OpenDB(noted)
	watched.read = watched.write
	t.Cleanup(func() { require.NoError(t, watched.Close()) })
	return &watched, noted
}

func expectNoScan(t *testing.T, s *Store, noted *statements) {
	t.Helper()
	require.NotEmpty(t, noted.all)
	for _, sent := range noted.all {
		for _, line := range plan(t, s, sent) {
			require.NotRegexp(t, fullScan, line, sent.query)
			require.NotRegexp(t, byIssuerAlone, line, sent.query)
		}
	}
}

// plan is how SQLite carries out a statement.
func plan(t testing.TB, s *Store, of statement) []string {
	t.Helper()
	steps, err := collect(t.Context(), s.read, func(rows *sql.Rows) (string, error) {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		return detail, err
	}, "EXPLAIN QUERY PLAN "+of.query, of.args...)
	require.NoError(t, err, of.query)
	return steps
}

// Whatever Self-Service asks for a page costs the same however many users there are.
func TestSelfServiceScansNoTable(t *testing.T) {
	db := sqliteDatabase(t)
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
	watched, noted := watch(t, s, db)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"PutPassword", func() error { return watched.PutPassword(t.Context(), "anna", "hash") }},
		{"CountTry", func() error {
			_, err := watched.CountTry(t.Context(), "user:a", time.Minute)
			return err
		}},
		{"PasswordHash", func() error {
			_, err := watched.PasswordHash(t.Context(), "anna")
			return err
		}},
		{"TakeBackTry", func() error { return watched.TakeBackTry(t.Context(), "user:a") }},
		{"ForgetTries", func() error { return watched.ForgetTries(t.Context(), "user:a") }},
		{"StartSession", func() error {
			return watched.StartSession(t.Context(), Session{
				ID: sessionID("a"), User: mobileid.User{ID: "anna"}, Method: "x", ExpiresAt: db.clock.Now().Add(time.Hour),
			}, sessionID("b"))
		}},
		{"Session", func() error {
			_, err := watched.Session(t.Context(), sessionID("a"), idle)
			return err
		}},
		{"UseSession", func() error {
			_, err := watched.UseSession(t.Context(), Session{ID: sessionID("a")})
			return err
		}},
		{"Owned", func() error {
			_, err := watched.Owned(t.Context(), "anna", "mid-1")
			return err
		}},
		{"EndSessionsOf", func() error { return watched.EndSessionsOf(t.Context(), sessionID("a")) }},
		{"EndSession", func() error { return watched.EndSession(t.Context(), sessionID("a")) }},
		{"ForgetOldSessions", func() error { return watched.ForgetOldSessions(t.Context(), time.Minute) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			noted.all = nil
			require.NoError(t, step.do())
			expectNoScan(t, s, noted)
		})
	}
}
