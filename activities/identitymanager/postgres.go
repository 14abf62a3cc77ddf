package identitymanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Limits of the pool of one process.
const (
	postgresConns    = 10
	postgresConnIdle = 5 * time.Minute
)

// SQLSTATE codes (PostgreSQL documentation, appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	undefinedTable       = "42P01"
)

var postgresDialect = dialect{
	name:      Postgres,
	forUpdate: " FOR UPDATE",
	// Weaker than FOR UPDATE: whoever merely refers to the row, by a foreign key, is
	// not kept waiting, and so cannot close a circle of waiting transactions.
	forTurn:       " FOR NO KEY UPDATE",
	skipTaken:     " FOR UPDATE SKIP LOCKED",
	castTimestamp: "::timestamptz",
	transient: func(err error) bool {
		switch postgresCode(err) {
		case serializationFailure, deadlockDetected, lockNotAvailable:
			return true
		}
		return pgconn.SafeToRetry(err)
	},
	noTable: func(err error) bool { return postgresCode(err) == undefinedTable },
}

func postgresCode(err error) string {
	var fault *pgconn.PgError
	if !errors.As(err, &fault) {
		return ""
	}
	return fault.Code
}

// openPostgres opens the database that a URL names.
func (s *Store) openPostgres(ctx context.Context, dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The parser's words quote the URL, and what it takes for host or port may
		// be a part of the password.
		return errors.New("option DSN is not a valid PostgreSQL URL (not shown: it may hold a password)")
	}
	// A process whose machine vanished in the middle of a transaction must not
	// keep the rows of a lock until TCP notices, and a statement that waits for
	// them must not wait without end.
	setDefault(config.RuntimeParams, "idle_in_transaction_session_timeout", "30s")
	setDefault(config.RuntimeParams, "lock_timeout", "10s")
	setDefault(config.RuntimeParams, "application_name", "mobileid")

	s.dialect = postgresDialect
	s.place = fmt.Sprintf("PostgreSQL database %s on %s", config.Database, config.Host)
	s.write = stdlib.OpenDB(*config)
	s.write.SetMaxOpenConns(postgresConns)
	s.write.SetMaxIdleConns(postgresConns)
	s.write.SetConnMaxIdleTime(postgresConnIdle)
	s.read = s.write
	if err := s.Ping(ctx); err != nil {
		return errors.Join(fmt.Errorf("option DSN: %w", err), s.Close())
	}
	return nil
}

func setDefault(params map[string]string, name, value string) {
	if _, set := params[name]; !set {
		params[name] = value
	}
}
