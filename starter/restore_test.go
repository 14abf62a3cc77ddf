package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/identitymanager/postgrestest"
)

// sqliteStore opens a new store in a file.
func sqliteStore(t *testing.T, path string) *identitymanager.Store {
	t.Helper()
	store, err := identitymanager.Open(t.Context(), identitymanager.Options{Driver: identitymanager.SQLite, DSN: path, AuditKey: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

// sqliteExec runs a statement on a file, as another program does.
func sqliteExec(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// A program that has the store open goes on with what was restored under it.
func TestRestoreSQLite(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "im.db"), filepath.Join(dir, "back up?.db")
	store := sqliteStore(t, path)
	require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "anna", Active: true}, "anna@example.com"))
	sqliteExec(t, path, "VACUUM INTO ?", backup)
	for _, id := range []string{"bert", "carl"} {
		require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: id, Active: true}, ""))
	}
	for range 2 { // the first one has not taken the file away
		require.NoError(t, restoreSQLite(t.Context(), path, backup))
		_, err := store.User(t.Context(), "anna")
		require.NoError(t, err)
		_, err = store.User(t.Context(), "bert")
		require.ErrorIs(t, err, identitymanager.ErrUserNotFound)
		require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "bert", Active: true}, ""))
	}
	again := sqliteStore(t, path)
	_, err := again.User(t.Context(), "bert")
	require.NoError(t, err, "what was written since is there")
}

// What is no whole store changes nothing.
func TestRestoreSQLiteRefuses(t *testing.T) {
	dir := t.TempDir()
	path, whole := filepath.Join(dir, "im.db"), filepath.Join(dir, "whole.db")
	store := sqliteStore(t, path)
	require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "anna", Active: true}, ""))
	sqliteExec(t, path, "VACUUM INTO ?", whole)
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	empty := filepath.Join(dir, "another.db")
	sqliteExec(t, empty, "CREATE TABLE audit (x)")
	another, err := os.ReadFile(empty)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		content []byte
		says    string
	}{
		"text":             {[]byte(strings.Repeat("users\n", 1000)), "not a database"},
		"cut off":          {content[:len(content)/2], "malformed"},
		"another database": {another, "no store of Identity Manager"},
		"empty":            {nil, "no store of Identity Manager"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "backup.db")
			require.NoError(t, os.WriteFile(file, test.content, 0o600))
			require.ErrorContains(t, restoreSQLite(t.Context(), path, file), test.says)
			_, err := store.User(t.Context(), "anna")
			require.NoError(t, err)
		})
	}
	require.Error(t, restoreSQLite(t.Context(), path, filepath.Join(dir, "nowhere.db")))
	require.NoFileExists(t, filepath.Join(dir, "nowhere.db"))
}

// A backup may be of any version before this one, as that from before a new build is.
func TestRestorePostgres(t *testing.T) {
	server := postgrestest.Start(t)
	files := os.DirFS(filepath.Join("..", "activities", "identitymanager", "migrations", "postgres"))
	versions, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	for version := 1; version <= len(versions); version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			old := server.NewDatabase(t)
			db := openPostgres(t, old)
			provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName("schema_version"))
			require.NoError(t, err)
			_, err = provider.UpTo(t.Context(), int64(version))
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), `INSERT INTO users (id, name, email, active, created_at) VALUES ('anna', 'Anna', '', true, now())`)
			require.NoError(t, err)
			backup := dumpPostgres(t, old)

			dsn := server.NewDatabase(t)
			store := postgresStore(t, dsn)
			require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "bert", Active: true}, ""))
			db = openPostgres(t, dsn)
			_, err = db.ExecContext(t.Context(), `CREATE TABLE of_others (x int)`)
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, restorePostgres(t.Context(), dsn, backup))
				store = postgresStore(t, dsn)
				_, err = store.User(t.Context(), "anna")
				require.NoError(t, err)
				_, err = store.User(t.Context(), "bert")
				require.ErrorIs(t, err, identitymanager.ErrUserNotFound)
			}
			_, err = db.ExecContext(t.Context(), `SELECT x FROM of_others`)
			require.NoError(t, err, "what is not ours stays")
		})
	}
	t.Run("what is no whole archive changes nothing", func(t *testing.T) {
		dsn := server.NewDatabase(t)
		store := postgresStore(t, dsn)
		require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "anna", Active: true}, ""))
		backup := dumpPostgres(t, dsn)
		whole, err := os.ReadFile(backup)
		require.NoError(t, err)
		another := dumpPostgres(t, server.NewDatabase(t))
		cut := filepath.Join(t.TempDir(), "cut.dump")
		for _, length := range []int{0, 10, len(whole) / 2, len(whole) - 10} {
			require.NoError(t, os.WriteFile(cut, whole[:length], 0o600))
			require.Error(t, restorePostgres(t.Context(), dsn, cut), length)
			_, err = store.User(t.Context(), "anna")
			require.NoError(t, err)
		}
		require.ErrorContains(t, restorePostgres(t.Context(), dsn, another), "no store of Identity Manager")
		_, err = store.User(t.Context(), "anna")
		require.NoError(t, err)
	})
}

func openPostgres(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func postgresStore(t *testing.T, dsn string) *identitymanager.Store {
	t.Helper()
	store, err := identitymanager.Open(t.Context(), identitymanager.Options{Driver: identitymanager.Postgres, DSN: dsn, AuditKey: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

func dumpPostgres(t *testing.T, dsn string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "im.dump")
	output, err := exec.CommandContext(t.Context(), "pg_dump", "--format=custom", "--file="+file, "--dbname="+dsn).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return file
}
