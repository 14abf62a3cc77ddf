package identitymanager

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// schemaTable holds the versions that have been applied.
const schemaTable = "schema_version"

// Migrations take an advisory lock on PostgreSQL: the key is any number that
// nothing else in the database uses, and who waits looks again every second.
const (
	migrationLock      = 0x6d6f62696c656964 // "mobileid"
	migrationLockTries = 300
)

// made is what a migration makes on PostgreSQL; all else goes with the tables.
var made = regexp.MustCompile(`(?m)^CREATE (TABLE|FUNCTION) (\w+)`)

// DropOnPostgres is SQL that takes away the schema of every version up to that of this
// program, whichever is there, with all data: for a backup that takes its place. Nothing
// else in the database is touched.
func DropOnPostgres() string {
	drop := "DROP TABLE IF EXISTS " + schemaTable + " CASCADE;\n"
	_ = fs.WalkDir(migrations, "migrations/"+Postgres, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := migrations.ReadFile(path)
		for _, object := range made.FindAllSubmatch(text, -1) {
			drop += fmt.Sprintf("DROP %s IF EXISTS %s CASCADE;\n", object[1], object[2])
		}
		return err
	}) // embedded files can be read
	return drop
}

// SchemaError reports a schema that is missing or too old for this program.
type SchemaError struct {
	Have int64 // 0: missing
	Want int64
}

func (e *SchemaError) Error() string {
	if e.Have == 0 {
		return "the schema of Identity Manager is missing; run: starter setup"
	}
	return fmt.Sprintf("the schema of Identity Manager is version %d and this program needs %d; run: starter setup", e.Have, e.Want)
}

// Migrate brings the schema to the version of this program. It changes nothing
// if that stands already, and any number of processes may run it at once.
func (s *Store) Migrate(ctx context.Context) error {
	for try := 1; ; try++ {
		before, err := s.schemaVersion(ctx)
		if err == nil {
			err = s.migrateOnce(ctx)
		}
		if err == nil {
			return nil
		}
		// SQLite has no lock that outlives a transaction, so two processes may
		// start on the same migration. Each migration is one transaction, so one of
		// them wins, and the other one fails and finds a newer version.
		after, versionErr := s.schemaVersion(ctx)
		lostRace := versionErr == nil && after > before
		if try == maxTries || !lostRace && !s.dialect.transient(err) {
			return fmt.Errorf("migrate %s: %w", s, err)
		}
		if !pause(ctx, try) {
			return fmt.Errorf("migrate %s: %w", s, ctx.Err())
		}
	}
}

func (s *Store) migrateOnce(ctx context.Context) error {
	provider, err := s.migrationProvider()
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func (s *Store) migrationProvider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+s.dialect.name)
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{
		goose.WithTableName(schemaTable),
		goose.WithDisableGlobalRegistry(true),
	}
	gooseDialect := goose.DialectSQLite3
	if s.dialect.name == Postgres {
		gooseDialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(
			lock.WithLockID(migrationLock),
			lock.WithLockTimeout(1, migrationLockTries),
		)
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(gooseDialect, s.write, files, options...)
}

// CheckSchema returns a *SchemaError if the schema is missing or too old. A newer
// one is accepted, because programs of two versions run side by side while a new
// one is rolled out: a migration must leave the schema usable for the version
// before.
func (s *Store) CheckSchema(ctx context.Context) error {
	have, err := s.schemaVersion(ctx)
	if err != nil {
		return fmt.Errorf("check schema of %s: %w", s, err)
	}
	provider, err := s.migrationProvider()
	if err != nil {
		return fmt.Errorf("check schema of %s: %w", s, err)
	}
	sources := provider.ListSources()
	if want := sources[len(sources)-1].Version; have < want {
		return &SchemaError{Have: have, Want: want}
	}
	return nil
}

// schemaVersion is the newest migration that was applied, 0 if none was. It
// changes nothing, whereas goose would create its table.
func (s *Store) schemaVersion(ctx context.Context) (int64, error) {
	var version sql.NullInt64
	err := s.read.QueryRowContext(ctx, "SELECT max(version_id) FROM "+schemaTable+" WHERE is_applied").Scan(&version)
	if err != nil && s.dialect.noTable(err) {
		return 0, nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version.Int64, nil
}
