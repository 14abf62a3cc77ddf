package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
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
