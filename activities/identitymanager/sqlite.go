package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteReaders is how many connections read at once.
const sqliteReaders = 4

var sqliteDialect = dialect{
	name: SQLite,
	transient: func(err error) bool {
		code := sqliteCode(err) & 0xff // without the extended part
		return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
	},
	noTable: func(err error) bool {
		// SQLite has no code of its own for it.
		return sqliteCode(err) == sqlite3.SQLITE_ERROR && strings.Contains(err.Error(), "no such table")
	},
}

func sqliteCode(err error) int {
	var fault *sqlite.Error
	if !errors.As(err, &fault) {
		return sqlite3.SQLITE_OK
	}
	return fault.Code()
}

// openSQLite opens the file at path, and creates it if it is missing.
func (s *Store) openSQLite(ctx context.Context, path string) error {
	if path == ":memory:" || strings.HasPrefix(path, "file:") {
		return fmt.Errorf("option DSN is %q, it must be the path of a file", path)
	}
	if err := makePrivate(path); err != nil {
		return fmt.Errorf("option DSN: %w", err)
	}
	connector, err := sqlite.NewConnector(sqliteURI(path))
	if err != nil {
		return fmt.Errorf("option DSN: %w", err)
	}
	s.dialect, s.place = sqliteDialect, "SQLite file "+path
	// SQLite has one writer at a time. Waiting in line for its connection is fair
	// and heeds the context; asking for the file's lock over and over is neither,
	// and is left for what other processes hold.
	s.write = sql.OpenDB(connector)
	s.write.SetMaxOpenConns(1)
	s.read = sql.OpenDB(connector)
	s.read.SetMaxOpenConns(sqliteReaders)
	s.read.SetMaxIdleConns(sqliteReaders)
	if err := s.writeAhead(ctx); err != nil {
		return errors.Join(fmt.Errorf("option DSN: open %s: %w", path, err), s.Close())
	}
	return nil
}

// makePrivate creates the file for its owner alone, if it is missing: SQLite
// itself would let everybody read it. The files beside it (-wal, -shm) get the
// same mode. An existing file is not opened, because closing it again would drop
// the locks that other connections of this process hold on it.
func makePrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// sqliteURI gives every connection its settings: full synchronisation, so that
// what is committed survives a power cut, and transactions that take the write
// lock at once, because one that reads first and then writes is refused when
// another one wrote in between.
func sqliteURI(path string) string {
	settings := url.Values{
		"_busy_timeout": {"10000"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"1"},
		"_txlock":       {"immediate"},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + settings.Encode()
}

// writeAhead switches the file to a write-ahead log, so that readers and the
// writer do not stop each other. The switch stays in the file. SQLite does not
// wait for the lock that it needs, so a process that opens the same new file at
// the same moment makes it fail.
func (s *Store) writeAhead(ctx context.Context) error {
	for try := 1; ; try++ {
		var mode string
		err := s.write.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("no write-ahead log is possible here, the journal mode stays %q", mode)
		case !s.dialect.transient(err), try == 2*maxTries, !pause(ctx, try):
			return err
		}
	}
}
