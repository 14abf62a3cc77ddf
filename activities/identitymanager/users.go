package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"mobileid"
)

// ErrUserNotFound reports a user who does not exist.
var ErrUserNotFound = errors.New("no such user")

// PutUser creates a user, or replaces what is known of them, roles and addresses
// included. The first of the email addresses is the main one, and must be given;
// empty, it says that the user has none.
func (s *Store) PutUser(ctx context.Context, user mobileid.User, emails ...string) error {
	if len(emails) == 0 {
		return mobileid.InvalidRequest("emails", "is missing")
	}
	if slices.Contains(emails[1:], "") {
		return mobileid.InvalidRequest("emails", "holds an empty address behind the main one")
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const put = `INSERT INTO users (id, name, email, active, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, active = excluded.active`
		if _, err := tx.ExecContext(ctx, put, user.ID, user.Name, emails[0], user.Active, stored(s.now())); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM user_roles WHERE user_id = $1`, user.ID); err != nil {
			return err
		}
		for _, role := range user.Roles {
			const add = `INSERT INTO user_roles (user_id, role) VALUES ($1, $2) ON CONFLICT DO NOTHING`
			if _, err := tx.ExecContext(ctx, add, user.ID, role); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM user_emails WHERE user_id = $1`, user.ID); err != nil {
			return err
		}
		for _, email := range emails[1:] {
			const add = `INSERT INTO user_emails (user_id, email) VALUES ($1, $2) ON CONFLICT DO NOTHING`
			if _, err := tx.ExecContext(ctx, add, user.ID, email); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put user %s: %w", user.ID, err)
	}
	return nil
}

// readUser reads a user with their roles, sorted. An unknown one is
// ErrUserNotFound.
func readUser(ctx context.Context, tx *sql.Tx, id string) (mobileid.User, error) {
	user := mobileid.User{ID: id}
	err := tx.QueryRowContext(ctx, `SELECT name, active FROM users WHERE id = $1`, id).Scan(&user.Name, &user.Active)
	if errors.Is(err, sql.ErrNoRows) {
		return mobileid.User{}, ErrUserNotFound
	}
	if err != nil {
		return mobileid.User{}, err
	}
	user.Roles, err = collect(ctx, tx, scanText, `SELECT role FROM user_roles WHERE user_id = $1 ORDER BY role`, id)
	return user, err
}

// readEmails reads the addresses of a user, the main one first, the others sorted.
func readEmails(ctx context.Context, tx *sql.Tx, id string) ([]string, error) {
	emails, err := collect(ctx, tx, scanText, `SELECT email FROM users WHERE id = $1 AND email <> ''`, id)
	if err != nil {
		return nil, err
	}
	others, err := collect(ctx, tx, scanText, `SELECT email FROM user_emails WHERE user_id = $1 ORDER BY email`, id)
	for _, email := range others {
		// The main one may be among the others, too: a program from before there
		// were others changes it alone.
		if !slices.Contains(emails, email) {
			emails = append(emails, email)
		}
	}
	return emails, err
}

// takeUser makes the transaction the only one that decides about the mobile IDs of
// a user, until it ends. It must be what the transaction does first: see the
// package comment. An unknown user is ErrUserNotFound.
func (s *Store) takeUser(ctx context.Context, tx *sql.Tx, id string) error {
	err := tx.QueryRowContext(ctx, `SELECT id FROM users WHERE id = $1`+s.dialect.forTurn, id).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrUserNotFound
	}
	return err
}

// scanText scans a column of text.
func scanText(rows *sql.Rows) (string, error) {
	var text string
	err := rows.Scan(&text)
	return text, err
}
