package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
)

const schema = `
CREATE TABLE IF NOT EXISTS commands (
	number      INTEGER PRIMARY KEY,
	id          TEXT NOT NULL UNIQUE,
	kind        TEXT NOT NULL,
	external_id TEXT NOT NULL,
	bid         TEXT NOT NULL,
	body        BLOB NOT NULL,
	deadline    INTEGER NOT NULL,            -- Unix milliseconds, as all times here
	outcome     TEXT NOT NULL DEFAULT '',    -- empty while it waits
	answers     INTEGER NOT NULL DEFAULT 0,
	profile_id  TEXT UNIQUE                  -- of an answered provision command
);
CREATE INDEX IF NOT EXISTS commands_bid ON commands (bid);
CREATE INDEX IF NOT EXISTS commands_deadline ON commands (deadline);
CREATE TABLE IF NOT EXISTS callbacks (        -- those that nobody has taken yet
	number     INTEGER PRIMARY KEY,
	command_id TEXT NOT NULL,
	kind       TEXT NOT NULL,
	body       BLOB NOT NULL,
	attempts   INTEGER NOT NULL DEFAULT 0,
	due        INTEGER NOT NULL,
	give_up    INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS callbacks_due ON callbacks (due);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);`

const (
	// maxWaiting is how many commands wait at once; more are refused.
	maxWaiting = 10_000
	// maxAnswers is how many answers to one command go on to the callback URL.
	maxAnswers = 3
)

// What the store refuses.
var (
	errUnknown  = errors.New("unknown")
	errFull     = errors.New("too many commands wait")
	errNoMore   = errors.New("the command takes no more answers")
	errConflict = errors.New("another profile has this id")
)

// store keeps commands and callbacks. A change is on disk when its method returns.
type store struct {
	db *sql.DB
	// callbackLifetime is how long a callback is tried.
	callbackLifetime time.Duration
}

func openStore(ctx context.Context, f folder, callbackLifetime time.Duration) (*store, error) {
	path := f.path(storeFile)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a fixed name in the server's folder; SQLite itself would let everybody read it
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)",
		"secure_delete(ON)", // what is forgotten was secret
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // one writer is what SQLite has
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return &store{db: db, callbackLifetime: callbackLifetime}, nil
}

func (s *store) close() error { return s.db.Close() }

// within runs a change in one transaction.
func (s *store) within(ctx context.Context, change func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := change(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// command is a command that a client has sent.
type command struct {
	id, externalID, bid string
	kind                messaging.CommandKind
	body                []byte
	deadline            time.Time
}

func (s *store) add(ctx context.Context, c command) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		var waiting int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM commands WHERE outcome = ''`).Scan(&waiting); err != nil {
			return err
		}
		if waiting >= maxWaiting {
			return errFull
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO commands (id, kind, external_id, bid, body, deadline) VALUES (?, ?, ?, ?, ?, ?)`,
			c.id, c.kind, c.externalID, c.bid, c.body, c.deadline.UnixMilli())
		return err
	})
}

// bidOf returns where the phone with a profile asks for commands.
func (s *store) bidOf(ctx context.Context, profileID string) (bid string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT bid FROM commands WHERE profile_id = ?`, profileID).Scan(&bid)
	if errors.Is(err, sql.ErrNoRows) {
		err = errUnknown
	}
	return bid, err
}

// next returns the oldest command that waits for a phone, nil if none does.
func (s *store) next(ctx context.Context, bid string, now time.Time) (*device.Command, error) {
	var c device.Command
	err := s.db.QueryRowContext(ctx, `SELECT id, kind, body FROM commands WHERE bid = ? AND outcome = '' AND deadline > ? ORDER BY number LIMIT 1`,
		bid, now.UnixMilli()).Scan(&c.CommandID, &c.Kind, &c.Body)
	if err == nil {
		return &c, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	// Only a profile that was made can get another command.
	var known int
	if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM commands WHERE bid = ? AND profile_id IS NOT NULL`, bid).Scan(&known); err != nil {
		return nil, err
	}
	if known == 0 {
		return nil, errUnknown
	}
	return nil, nil
}

// answer takes a phone's answer, which becomes a callback. The errors that are the
// phone's fault are errUnknown, errNoMore, errConflict and *messaging.CallbackError.
func (s *store) answer(ctx context.Context, bid string, a device.Answer, now time.Time) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		var c command
		var outcome messaging.Outcome
		var deadline int64
		var answers int
		err := tx.QueryRowContext(ctx, `SELECT id, kind, external_id, deadline, outcome, answers FROM commands WHERE bid = ? AND id = ?`, bid, a.CommandID).
			Scan(&c.id, &c.kind, &c.externalID, &deadline, &outcome, &answers)
		if errors.Is(err, sql.ErrNoRows) {
			return errUnknown
		}
		if err != nil {
			return err
		}
		if outcome == messaging.TimedOut || now.UnixMilli() >= deadline || answers >= maxAnswers {
			return errNoMore
		}
		callback := messaging.Callback{
			Kind: c.kind, CommandID: c.id, ExternalID: c.externalID, Outcome: a.Outcome,
			Reason: a.Reason, ProfileID: a.ProfileID, JWS: a.JWS, Installed: a.Installed,
		}
		if err := s.call(ctx, tx, callback, now); err != nil {
			return err
		}
		if outcome != "" {
			a.Outcome = outcome // the first answer is the one that counts here
		}
		if _, err := tx.ExecContext(ctx, `UPDATE commands SET outcome = ?, answers = answers + 1 WHERE id = ?`, a.Outcome, c.id); err != nil {
			return err
		}
		if c.kind != messaging.KindProvision || a.Outcome != messaging.Answered {
			return nil
		}
		return claimProfile(ctx, tx, c.id, a.ProfileID)
	})
}

// claimProfile notes whose command made a profile, unless it has one already.
func claimProfile(ctx context.Context, tx *sql.Tx, id, profileID string) error {
	var taken int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM commands WHERE profile_id = ? AND id <> ?`, profileID, id).Scan(&taken); err != nil {
		return err
	}
	if taken > 0 {
		return errConflict
	}
	_, err := tx.ExecContext(ctx, `UPDATE commands SET profile_id = ? WHERE id = ? AND profile_id IS NULL`, profileID, id)
	return err
}

// call notes a callback that has to be made.
func (s *store) call(ctx context.Context, tx *sql.Tx, c messaging.Callback, now time.Time) error {
	body, err := c.Encode()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO callbacks (command_id, kind, body, due, give_up) VALUES (?, ?, ?, ?, ?)`,
		c.CommandID, c.Kind, body, now.UnixMilli(), now.Add(s.callbackLifetime).UnixMilli())
	return err
}

// expire ends the commands whose time is over, and forgets those that ended before
// the given time. It returns the ids of those that it ended.
func (s *store) expire(ctx context.Context, now, forget time.Time) (ended []string, err error) {
	err = s.within(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, kind, external_id FROM commands WHERE outcome = '' AND deadline <= ?`, now.UnixMilli())
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // Err tells
		var over []messaging.Callback
		for rows.Next() {
			c := messaging.Callback{Outcome: messaging.TimedOut}
			if err := rows.Scan(&c.CommandID, &c.Kind, &c.ExternalID); err != nil {
				return err
			}
			over = append(over, c)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, c := range over {
			if err := s.call(ctx, tx, c, now); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE commands SET outcome = ? WHERE id = ?`, messaging.TimedOut, c.CommandID); err != nil {
				return err
			}
			ended = append(ended, c.CommandID)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM commands WHERE outcome <> '' AND deadline <= ?`, forget.UnixMilli())
		return err
	})
	return ended, err
}

// nextDeadline returns when a command ends next; zero if none waits.
func (s *store) nextDeadline(ctx context.Context) (time.Time, error) {
	return s.earliest(ctx, `SELECT MIN(deadline) FROM commands WHERE outcome = ''`)
}

func (s *store) earliest(ctx context.Context, query string) (time.Time, error) {
	var at sql.NullInt64
	if err := s.db.QueryRowContext(ctx, query).Scan(&at); err != nil || !at.Valid {
		return time.Time{}, err
	}
	return time.UnixMilli(at.Int64), nil
}

// call is a callback that has to be made.
type call struct {
	number    int64
	commandID string
	kind      messaging.CommandKind
	body      []byte
	attempts  int
	giveUp    time.Time
}

// due returns the callback that waits longest, nil if none is due, and then when
// the next is; zero if there is none.
func (s *store) due(ctx context.Context, now time.Time) (*call, time.Time, error) {
	var c call
	var giveUp int64
	err := s.db.QueryRowContext(ctx, `SELECT number, command_id, kind, body, attempts, give_up FROM callbacks WHERE due <= ? ORDER BY due, number LIMIT 1`, now.UnixMilli()).
		Scan(&c.number, &c.commandID, &c.kind, &c.body, &c.attempts, &giveUp)
	if errors.Is(err, sql.ErrNoRows) {
		next, err := s.earliest(ctx, `SELECT MIN(due) FROM callbacks`)
		return nil, next, err
	}
	c.giveUp = time.UnixMilli(giveUp)
	return &c, time.Time{}, err
}

// done forgets a callback that was taken, or given up.
func (s *store) done(ctx context.Context, number int64) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM callbacks WHERE number = ?`, number)
	return err
}

// postpone notes a failed attempt.
func (s *store) postpone(ctx context.Context, number int64, due time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE callbacks SET attempts = attempts + 1, due = ? WHERE number = ?`, due.UnixMilli(), number)
	return err
}

const callbackURLSetting = "callbackUrl"

func (s *store) callbackURL(ctx context.Context) (value string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = ?`, callbackURLSetting).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return value, err
}

// setCallbackURL also makes all callbacks due that wait: they failed elsewhere.
func (s *store) setCallbackURL(ctx context.Context, value string, now time.Time) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, callbackURLSetting, value); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE callbacks SET due = ? WHERE due > ?`, now.UnixMilli(), now.UnixMilli())
		return err
	})
}
