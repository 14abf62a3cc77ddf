package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/identitymanager/postgrestest"
)

var _ activities.IdentityManager = (*Store)(nil)

// auditKey is the key of every store under test.
var auditKey = []byte("0123456789abcdef0123456789abcdef")

// start is where the clock of every test begins. Its nanoseconds cannot be
// stored.
var start = time.Date(2031, time.March, 4, 5, 6, 7, 123456789, time.UTC)

// clock moves only when a test says so.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// database is an empty database that several stores can open.
type database struct {
	Options
	clock *clock
}

// open opens the database once more, as another process would.
func (d database) open(t testing.TB) *Store {
	t.Helper()
	store, err := Open(t.Context(), d.Options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func sqliteDatabase(t testing.TB) database {
	// A path that means something else if it is put into a URI as it is.
	return newDatabase(SQLite, filepath.Join(t.TempDir(), "100% im?.db"))
}

func postgresDatabase(t testing.TB) database {
	return newDatabase(Postgres, postgrestest.Start(t).NewDatabase(t))
}

func newDatabase(driver, dsn string) database {
	c := &clock{now: start}
	return database{Options: Options{Driver: driver, DSN: dsn, AuditKey: auditKey, Clock: c.Now}, clock: c}
}

// eachDatabase runs a test on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, test func(t *testing.T, db database)) {
	t.Run(SQLite, func(t *testing.T) { test(t, sqliteDatabase(t)) })
	t.Run(Postgres, func(t *testing.T) { test(t, postgresDatabase(t)) })
}

// eachStore runs a test on a store whose schema stands, with the users anna and
// otto.
func eachStore(t *testing.T, test func(t *testing.T, s *Store, db database)) {
	eachDatabase(t, func(t *testing.T, db database) {
		s := db.open(t)
		require.NoError(t, s.Migrate(t.Context()))
		putUsers(t, s)
		test(t, s, db)
	})
}

func putUsers(t testing.TB, s *Store, more ...string) {
	t.Helper()
	for _, id := range append([]string{"anna", "otto"}, more...) {
		user := mobileid.User{ID: id, Name: "The " + id, Active: true, Roles: []string{mobileid.SelfServiceRole}}
		require.NoError(t, s.PutUser(t.Context(), user, id+"@example.com"))
	}
}

// create puts a mobile ID of anna into the store, in any state that a lock can
// meet, with one certificate for each certificate state.
func create(t testing.TB, s *Store, id string, state mobileid.State, certificates ...mobileid.Certificate) {
	t.Helper()
	m := mobileid.MobileID{ID: id, Name: "Phone", Owner: mobileid.User{ID: "anna"}, State: mobileid.Active, Certificates: certificates}
	if state == mobileid.Registered {
		m.State = state
	}
	require.NoError(t, s.CreateMobileID(t.Context(), m))
	switch state {
	case mobileid.Inactive:
		require.NoError(t, s.Deactivate(t.Context(), id))
	case mobileid.Locked:
		_, err := s.Lock(t.Context(), order(id, "earlier"))
		require.NoError(t, err)
	}
}

// certificate makes a certificate that is told from others by its serial.
func certificate(serial string, state mobileid.CertificateState) mobileid.Certificate {
	return mobileid.Certificate{
		CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), AKI: "0102", Serial: serial},
		IssuerDN:      "CN=Issuing CA,O=Test",
		NotBefore:     time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:      time.Date(2033, time.January, 1, 0, 0, 0, 0, time.UTC),
		State:         state,
		DER:           []byte{0x30, 0x00, 0xff, byte(len(serial))},
	}
}

// oneOfEach has a certificate for each state; the digit of the serial is the
// state's place in the list.
func oneOfEach(prefix string) []mobileid.Certificate {
	return []mobileid.Certificate{
		certificate(prefix+"1", mobileid.CertificateIssued),
		certificate(prefix+"2", mobileid.CertificateValid),
		certificate(prefix+"3", mobileid.CertificateOnHold),
		certificate(prefix+"4", mobileid.CertificateExpired),
		certificate(prefix+"5", mobileid.CertificateRevoked),
	}
}

func process(run string) mobileid.Process {
	return mobileid.Process{Name: "MobileIDSelfServiceProcLock", WorkflowID: "MobileIDSelfServiceProcLock/mid", RunID: run}
}

func order(id, run string) mobileid.LockOrder {
	return mobileid.LockOrder{
		MobileID:    id,
		Owner:       "anna",
		Process:     process(run),
		Decision:    mobileid.Decision{UserID: "anna", By: "anna", Note: "lost <it>"},
		RequestedAt: start.Add(-time.Minute),
		Reason:      mobileid.Superseded,
	}
}

// dump is everything in the database, to see that nothing was written.
func dump(t testing.TB, s *Store) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, table := range []string{"users", "user_roles", "user_emails", "mobile_ids", "certificates", "audit", "audit_heads",
		"grants", "provisionings", "messages", "outbox", "sessions", "passwords", "sign_in_tries", "overdue_warnings", "crls", "comparisons"} {
		order := " ORDER BY 1, 2"
		if table == "certificates" || table == "overdue_warnings" || table == "crls" {
			order += ", 3"
		}
		rows, err := s.read.QueryContext(t.Context(), "SELECT * FROM "+table+order)
		require.NoError(t, err)
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			values := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			require.NoError(t, rows.Scan(into...))
			all[table] = append(all[table], fmt.Sprint(values...))
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	return all
}

func TestOpenRefusesOptions(t *testing.T) {
	secret := "hunter2"
	tests := map[string]struct {
		change func(*Options)
		names  string
	}{
		"no key":                  {func(o *Options) { o.AuditKey = nil }, "AuditKey"},
		"key one byte too short":  {func(o *Options) { o.AuditKey = make([]byte, 31) }, "AuditKey"},
		"no driver":               {func(o *Options) { o.Driver = "" }, "Driver"},
		"unknown driver":          {func(o *Options) { o.Driver = "mysql" }, "Driver"},
		"no DSN":                  {func(o *Options) { o.DSN = "" }, "DSN"},
		"memory":                  {func(o *Options) { o.DSN = ":memory:" }, "DSN"},
		"SQLite URI":              {func(o *Options) { o.DSN = "file:im.db?mode=memory" }, "DSN"},
		"no such folder":          {func(o *Options) { o.DSN = filepath.Join(o.DSN, "none", "im.db") }, "DSN"},
		"a folder":                {func(o *Options) { o.DSN = filepath.Dir(o.DSN) }, "DSN"},
		"URL with a broken port":  {postgresAt("postgres://im:" + secret + "/x@db.invalid/im"), "DSN"},
		"URL that is none":        {postgresAt("postgres://im:" + secret + "@[db/im"), "DSN"},
		"settings that are none":  {postgresAt("host=db password='" + secret), "DSN"},
		"PostgreSQL that is away": {postgresAt("postgres://im:" + secret + "@127.0.0.1:1/im?sslmode=disable"), "DSN"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			options := Options{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "im.db"), AuditKey: auditKey}
			test.change(&options)
			_, err := Open(t.Context(), options)
			require.ErrorContains(t, err, test.names)
			require.NotContains(t, err.Error(), secret)
			for wrapped := errors.Unwrap(err); wrapped != nil; wrapped = errors.Unwrap(wrapped) {
				require.NotContains(t, wrapped.Error(), secret)
			}
		})
	}
}

func postgresAt(dsn string) func(*Options) {
	return func(o *Options) { o.Driver, o.DSN = Postgres, dsn }
}

func TestOpenRefusesAFileThatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "im.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o600))
	_, err := Open(t.Context(), Options{Driver: SQLite, DSN: path, AuditKey: auditKey})
	require.ErrorContains(t, err, "DSN")
}

func TestNoSecretIsPrinted(t *testing.T) {
	db := postgresDatabase(t)
	// The server trusts everybody, so any password will do.
	db.DSN = strings.Replace(db.DSN, "postgres@", "postgres:hunter2@", 1)
	s := db.open(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{s, db.Options} {
			text := fmt.Sprintf(verb, value)
			require.NotContains(t, text, "hunter2")
			require.NotContains(t, text, string(auditKey))
			require.NotContains(t, text, "48 49 50 51")
		}
	}
	_, err := s.MobileID(t.Context(), "mid-1") // there is no table
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	require.NoError(t, s.Close())
	require.Error(t, s.Ping(t.Context()))
	require.NotContains(t, s.Ping(t.Context()).Error(), "hunter2")
}

func TestPing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		s, err := Open(t.Context(), db.Options)
		require.NoError(t, err)
		require.NoError(t, s.Ping(t.Context()))
		require.NoError(t, s.Close())
		require.Error(t, s.Ping(t.Context()))
	})
}

func TestSQLiteSettings(t *testing.T) {
	db := sqliteDatabase(t)
	s := db.open(t)
	info, err := os.Stat(db.DSN)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		for name, pool := range map[string]*sql.DB{"write": s.write, "read": s.read} {
			var have string
			require.NoError(t, pool.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&have))
			require.Equal(t, want, have, "%s of pool %s", pragma, name)
		}
	}
}

func TestManyProcessesOpenANewFileAtOnce(t *testing.T) {
	db := sqliteDatabase(t)
	together(t, 20, func(int) error {
		s, err := Open(t.Context(), db.Options)
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// together runs fn n times at once and expects no error.
func together(t testing.TB, n int, fn func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			errs[i] = fn(i)
		})
	}
	done.Wait()
	require.NoError(t, errors.Join(errs...))
}

func TestTransactionIsTriedAgain(t *testing.T) {
	conflict := &pgconn.PgError{Code: serializationFailure}
	tests := map[string]struct {
		fails   error
		times   int
		tries   int
		succeed bool
	}{
		"at once":                     {nil, 0, 1, true},
		"after serialization failure": {conflict, 1, 2, true},
		"after a deadlock":            {&pgconn.PgError{Code: deadlockDetected}, 2, 3, true},
		"with the last try":           {conflict, maxTries - 1, maxTries, true},
		"not without end":             {conflict, maxTries, maxTries, false},
		"wrapped":                     {fmt.Errorf("write state: %w", conflict), 1, 2, true},
		"not after another fault":     {&pgconn.PgError{Code: "23505"}, 1, 1, false},
		"not after a conflict":        {gone("mid-1"), 1, 1, false},
	}
	s := postgresDatabase(t).open(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tries := 0
			err := s.transact(t.Context(), func(*sql.Tx) error {
				tries++
				if tries <= test.times {
					return test.fails
				}
				return nil
			})
			require.Equal(t, test.tries, tries)
			if test.succeed {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, test.fails)
		})
	}
	t.Run("not after the caller is gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.transact(ctx, func(*sql.Tx) error {
			cancel()
			return conflict
		})
		require.ErrorIs(t, err, conflict)
	})
}

// The write lock of the file is held by another process until the caller gives
// up: the caller learns that, and nothing is written.
func TestSQLiteWriterHeedsTheContext(t *testing.T) {
	db := sqliteDatabase(t)
	s, other := db.open(t), db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	tx, err := other.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var waits sync.WaitGroup
	waits.Go(func() { err = s.PutUser(ctx, mobileid.User{ID: "anna"}, "") })
	cancel()
	waits.Wait()
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, tx.Rollback())
	require.Empty(t, dump(t, s)["users"])
}

// What was committed outlives a server that dies, and a pool of dead connections
// recovers by itself.
func TestPostgresDiesAndComesBack(t *testing.T) {
	server := postgrestest.Start(t)
	s := newDatabase(Postgres, server.NewDatabase(t)).open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
	first, err := s.Lock(t.Context(), order("mid-1", "run-1"))
	require.NoError(t, err)

	server.Kill(t)
	// A session of the server outlives it for as long as it does not notice.
	require.Eventually(t, func() bool {
		_, err = s.Lock(t.Context(), order("mid-1", "run-1"))
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	require.NotErrorIs(t, err, mobileid.ErrMobileIDNotFound)
	var conflict *mobileid.ConflictError
	require.NotErrorAs(t, err, &conflict, "an outage is no conflict")

	server.Restart(t)
	var again mobileid.LockReceipt
	for range postgresConns + 1 {
		if again, err = s.Lock(t.Context(), order("mid-1", "run-1")); err == nil {
			break
		}
	}
	require.NoError(t, err)
	require.Equal(t, first, again)
	verify(t, s, "mid-1", mobileid.EventLocked)
}
