package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"modernc.org/sqlite"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/workflows"
)

func (p *program) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Set Identity Manager's store back to a backup, and lock again what was locked since",
		Long: `Restore puts a backup in the place of Identity Manager's store, whole or not at all:

  PostgreSQL  an archive that 'pg_dump --format=custom' has made; needs pg_restore and psql
  SQLite      a copy that 'sqlite3 im.db ".backup FILE"' has made

Then it brings the schema to the version of this program, verifies the audit, and has
a worker reconcile: what a lock has finished since the backup, and the store does not
know of, is locked again; the CA has its certificates as revoked already. Only for that
a worker is needed: while none runs, the command says so and waits. Checkpoints
that are younger than the backup show as records that were cut off: those are lost.

Lost without a trace here are users, grants and mobile IDs that came into being since
the backup: revoke the certificates of such at the CA. The audit key is no part of a
backup, and must be the one from then.

` + exitCodesHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.restore(cmd.Context(), args[0]) },
	}
}

func (p *program) restore(ctx context.Context, file string) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	dsn, err := c.Store.StoreDSN()
	if err != nil {
		return err
	}
	put := restoreSQLite
	if c.Store.Driver == identitymanager.Postgres {
		put = restorePostgres
	}
	if err := put(ctx, dsn, file); err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	if !p.json {
		fmt.Fprintln(p.out, "store: as it was in "+file)
	}
	whole, err := p.verifyRestored(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(p.reconcile(ctx, workflows.ReconcileRequest{}), whole)
}

// verifyRestored brings the schema up to date and verifies the audit. That the audit is
// not what was written is no reason to stop: what is locked must be so all the more.
func (p *program) verifyRestored(ctx context.Context, c config.Config) (whole, err error) {
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	err = p.verifyAudit(ctx, store, c.Audit, "")
	if errors.Is(err, errAudit) {
		return err, nil
	}
	return nil, err
}

// restorePostgres puts an archive in the place of the store, in one transaction: programs
// that use the database see it as it was before, or as it is after. What is there goes
// first, since the backup may be older than some of its tables.
func restorePostgres(ctx context.Context, dsn, file string) error {
	programs := map[string]string{"pg_restore": "", "psql": ""}
	for name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("it needs PostgreSQL's client programs: %w", err)
		}
		programs[name] = path
	}
	address, err := url.Parse(dsn)
	if err != nil {
		return errors.New("the dsn is no URL (not shown: it may hold a password)")
	}
	env := os.Environ()
	// Others see a command line.
	if password, has := address.User.Password(); has {
		address.User = url.User(address.User.Username())
		env = append(env, "PGPASSWORD="+password)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	psql := exec.CommandContext(ctx, programs["psql"], "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname="+address.String()) //nolint:gosec // the path is that of psql
	psql.Env = env
	var said bytes.Buffer
	psql.Stderr = &said
	script, err := psql.StdinPipe()
	if err != nil {
		return err
	}
	if err := psql.Start(); err != nil {
		return err
	}
	readErr := writeRestore(ctx, script, programs["pg_restore"], file)
	_ = script.Close() // without COMMIT nothing has happened
	err = psql.Wait()
	// What psql says is why it no longer reads.
	if err != nil {
		return fmt.Errorf("psql: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return readErr
}

// oursOrNothing ends the transaction if the archive was that of something else.
const oursOrNothing = `
DO $$ BEGIN
  IF EXISTS (SELECT FROM unnest(ARRAY['users', 'mobile_ids', 'certificates', 'audit', 'audit_heads']) ours
             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE tablename = ours)) THEN
    RAISE 'it is no store of Identity Manager';
  END IF;
END $$;
`

// writeRestore writes the transaction that restores an archive. It ends with COMMIT if the
// archive could be read to its end, and only then.
func writeRestore(ctx context.Context, script io.Writer, pgRestore, file string) error {
	if _, err := io.WriteString(script, "BEGIN;\n"+identitymanager.DropOnPostgres()); err != nil {
		return err
	}
	read := exec.CommandContext(ctx, pgRestore, "--clean", "--if-exists", "--no-owner", "--no-privileges", "--exit-on-error", "--file=-", "--", file) //nolint:gosec // the operator's own file
	var said bytes.Buffer
	read.Stdout, read.Stderr = script, &said
	if err := read.Run(); err != nil {
		return fmt.Errorf("pg_restore: %w: %s", err, strings.TrimSpace(said.String()))
	}
	_, err := io.WriteString(script, oursOrNothing+"COMMIT;\n")
	return err
}

// restoreSQLite copies the pages of a backup over those of the store, by SQLite's own
// means and under its locks, so that programs that have it open see it change at once.
func restoreSQLite(ctx context.Context, path, file string) (err error) {
	if err := checkSQLiteBackup(ctx, file); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path+"?_busy_timeout=10000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	connection, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	return connection.Raw(func(driver any) error {
		restorer, ok := driver.(interface {
			NewRestore(source string) (*sqlite.Backup, error)
		})
		if !ok {
			return fmt.Errorf("%T cannot restore", driver)
		}
		backup, err := restorer.NewRestore(sqliteReadOnly(file))
		if err != nil {
			return err
		}
		_, err = backup.Step(-1)
		return errors.Join(err, backup.Finish())
	})
}

// checkSQLiteBackup refuses a file that is no whole database of ours.
func checkSQLiteBackup(ctx context.Context, file string) (err error) {
	db, err := sql.Open("sqlite", sqliteReadOnly(file))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&answer); err != nil {
		return err
	}
	if answer != "ok" {
		return fmt.Errorf("it is damaged: %s", answer)
	}
	var tables int
	const ours = `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('users', 'mobile_ids', 'certificates', 'audit', 'audit_heads')`
	if err := db.QueryRowContext(ctx, ours).Scan(&tables); err != nil {
		return err
	}
	if tables != 5 {
		return errors.New("it is no store of Identity Manager")
	}
	return nil
}

func sqliteReadOnly(file string) string {
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?mode=ro"
}
