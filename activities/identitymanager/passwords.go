package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// PutPassword keeps the hash of a user's password, in the place of an earlier one,
// and ends the user's sessions: whoever had the old password is out. An unknown
// user is ErrUserNotFound.
func (s *Store) PutPassword(ctx context.Context, userID, hash string) error {
	if err := checkText("hash", hash); err != nil {
		return err
	}
	if checkText("userId", userID) != nil {
		return fmt.Errorf("put password: %w", ErrUserNotFound)
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := readUser(ctx, tx, userID); err != nil {
			return err
		}
		const put = `INSERT INTO passwords (user_id, hash, changed_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at`
		if _, err := tx.ExecContext(ctx, put, userID, hash, stored(s.now())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = $1`, userID)
		return err
	})
	if err != nil {
		return fmt.Errorf("put password of user %s: %w", userID, err)
	}
	return nil
}

// PasswordHash reads the hash of a user's password. It is empty for a user who has
// none, does not exist, or is not active: whoever signs people in treats them alike.
func (s *Store) PasswordHash(ctx context.Context, userID string) (string, error) {
	if checkText("userId", userID) != nil {
		return "", nil
	}
	const query = `SELECT passwords.hash FROM passwords JOIN users ON users.id = passwords.user_id
		WHERE passwords.user_id = $1 AND users.active = $2`
	var hash string
	err := s.read.QueryRowContext(ctx, query, userID, true).Scan(&hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read password: %w", err)
	}
	return hash, nil
}

// CountTry counts a try under a key and returns how many there were, this one
// included, since the first one that is not longer ago than window.
func (s *Store) CountTry(ctx context.Context, key string, window time.Duration) (int, error) {
	if err := checkText("key", key); err != nil {
		return 0, err
	}
	now := s.now()
	count := `INSERT INTO sign_in_tries (key, tries, since) VALUES ($1, 1, $2)
		ON CONFLICT (key) DO UPDATE SET
			tries = CASE WHEN sign_in_tries.since <= $3` + s.dialect.castTimestamp + ` THEN 1 ELSE sign_in_tries.tries + 1 END,
			since = CASE WHEN sign_in_tries.since <= $3` + s.dialect.castTimestamp + ` THEN excluded.since ELSE sign_in_tries.since END
		RETURNING tries`
	var tries int
	err := s.transact(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, count, key, stored(now), stored(now.Add(-window))).Scan(&tries)
	})
	if err != nil {
		return 0, fmt.Errorf("count try to sign in: %w", err)
	}
	return tries, nil
}

// TakeBackTry makes a try that was counted under a key as if it had not been.
func (s *Store) TakeBackTry(ctx context.Context, key string) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sign_in_tries WHERE key = $1 AND tries = 1`, key); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE sign_in_tries SET tries = tries - 1 WHERE key = $1`, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("take back try to sign in: %w", err)
	}
	return nil
}

// ForgetTries starts the count of a key anew.
func (s *Store) ForgetTries(ctx context.Context, key string) error {
	if _, err := s.write.ExecContext(ctx, `DELETE FROM sign_in_tries WHERE key = $1`, key); err != nil {
		return fmt.Errorf("forget tries to sign in: %w", err)
	}
	return nil
}

// User reads a user with their roles. An unknown one is ErrUserNotFound.
func (s *Store) User(ctx context.Context, id string) (mobileid.User, error) {
	if checkText("userId", id) != nil {
		return mobileid.User{}, fmt.Errorf("read user: %w", ErrUserNotFound)
	}
	var user mobileid.User
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		var err error
		user, err = readUser(ctx, tx, id)
		return err
	})
	if err != nil {
		return mobileid.User{}, fmt.Errorf("read user: %w", err)
	}
	return user, nil
}
