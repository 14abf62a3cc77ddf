package identitymanager

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The drivers that Options.Driver names.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// minAuditKeyBytes is the length of the hash behind the MAC: a shorter key would
// be easier to guess than the MAC (RFC 2104 section 3).
const minAuditKeyBytes = 32

// Options say where the store is.
type Options struct {
	Driver   string           // SQLite or Postgres
	DSN      string           // SQLite: the path of the file; Postgres: a URL
	AuditKey []byte           // of the audit chain, at least 32 bytes
	Clock    func() time.Time // nil: time.Now
	Reached  func(Milestone)  // told at most once of each stage of a lock; nil: nobody is
	Notices  Notices          // zero: none
}

// String says which driver is meant, and nothing that is secret: a DSN may hold
// a password.
func (o Options) String() string { return "Identity Manager options for " + o.Driver }

// GoString is String, so that no verb of package fmt prints a secret.
func (o Options) GoString() string { return o.String() }

// Store is Identity Manager in a SQL database. It is safe for concurrent use.
type Store struct {
	write   *sql.DB // for what changes something
	read    *sql.DB // for the rest; the same as write on PostgreSQL
	dialect dialect
	key     []byte
	clock   func() time.Time
	notices Notices
	place   string // for messages; without secrets
	reached func(Milestone)
}

// dialect is what differs between the two databases. Everything else is one code
// path: both take $1 as a placeholder, and both know ON CONFLICT and RETURNING.
type dialect struct {
	name          string
	forUpdate     string // ends a SELECT whose rows the transaction is going to change
	forTurn       string // ends a SELECT of a row that stands for a queue: who has it goes first
	skipTaken     string // ends a SELECT of any row that nobody has taken
	castTimestamp string // makes a time of the text that stored returns, where the statement does not tell that it is one
	transient     func(error) bool
	noTable       func(error) bool
}

// Open connects to the database. An error in the options names the option. Open
// does not create or change the schema: see Migrate and CheckSchema.
func Open(ctx context.Context, options Options) (*Store, error) {
	if len(options.AuditKey) < minAuditKeyBytes {
		return nil, fmt.Errorf("identity manager: option AuditKey has %d bytes, it must have at least %d", len(options.AuditKey), minAuditKeyBytes)
	}
	if options.DSN == "" {
		return nil, errors.New("identity manager: option DSN is missing")
	}
	store := &Store{key: bytes.Clone(options.AuditKey), clock: options.Clock, notices: options.Notices, reached: options.Reached}
	if store.clock == nil {
		store.clock = time.Now
	}
	var err error
	switch options.Driver {
	case SQLite:
		err = store.openSQLite(ctx, options.DSN)
	case Postgres:
		err = store.openPostgres(ctx, options.DSN)
	default:
		return nil, fmt.Errorf("identity manager: option Driver is %q, it must be %q or %q", options.Driver, SQLite, Postgres)
	}
	if err != nil {
		return nil, fmt.Errorf("identity manager: %w", err)
	}
	return store, nil
}

// Close closes all connections. Calls that still run fail.
func (s *Store) Close() error {
	if s.read == s.write {
		return s.write.Close()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.read.PingContext(ctx); err != nil {
		return fmt.Errorf("reach %s: %w", s, err)
	}
	return nil
}

// String says where the store is, without secrets.
func (s *Store) String() string { return "Identity Manager at " + s.place }

// GoString is String, so that no verb of package fmt prints the audit key.
func (s *Store) GoString() string { return s.String() }

// now is the store's time as it can be stored.
func (s *Store) now() time.Time { return microseconds(s.clock()) }

// maxTries is how often a transaction is tried that the database gives up for
// the sake of another one. What is still refused then is left to the caller, who
// retries with more patience.
const maxTries = 5

// transact runs fn in a transaction that may change things. If the database
// gives the transaction up for the sake of another one, fn runs again: it must
// not keep anything from the try before.
func (s *Store) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	// With read committed and locked rows a statement sees what the transaction
	// that it had to wait for has written.
	return s.inTransaction(ctx, s.write, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, fn)
}

// snapshot runs fn in a transaction that only reads, and in which all statements
// see the same state of the database. It is tried again as in transact.
func (s *Store) snapshot(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return s.inTransaction(ctx, s.read, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, fn)
}

func (s *Store) inTransaction(ctx context.Context, db *sql.DB, options *sql.TxOptions, fn func(tx *sql.Tx) error) error {
	for try := 1; ; try++ {
		err := inTransactionOnce(ctx, db, options, fn)
		if err == nil || try == maxTries || !s.tryAgain(err) || !pause(ctx, try) {
			return err
		}
	}
}

// tryAgain reports whether a transaction failed for a reason that may have passed
// and has certainly changed nothing.
func (s *Store) tryAgain(err error) bool {
	var begin *beginError
	return s.dialect.transient(err) || errors.As(err, &begin)
}

// beginError is a transaction that did not begin, for instance on a connection
// from before the database was restarted.
type beginError struct{ err error }

func (e *beginError) Error() string { return "begin transaction: " + e.err.Error() }

func (e *beginError) Unwrap() error { return e.err }

func inTransactionOnce(ctx context.Context, db *sql.DB, options *sql.TxOptions, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return &beginError{err}
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// pause waits before the next try, longer each time and at random, so that two
// that collided do not collide again. It returns false if ctx ends first.
func pause(ctx context.Context, try int) bool {
	longest := 10 * time.Millisecond << try
	timer := time.NewTimer(rand.N(longest)) //nolint:gosec // spreads load, protects nothing
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
