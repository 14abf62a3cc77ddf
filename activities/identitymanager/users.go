package identitymanager

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"mobileid"
)

// ErrUserNotFound reports a user who does not exist, and ErrUserExists one who does.
var (
	ErrUserNotFound = errors.New("no such user")
	ErrUserExists   = errors.New("there is a user with this id already")
)

// PutUser creates a user, or replaces what is known of them, roles and addresses
// included. The first of the email addresses is the main one, and must be given;
// empty, it says that the user has none.
func (s *Store) PutUser(ctx context.Context, user mobileid.User, emails ...string) error {
	if err := checkEmails(emails); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error { return s.writeUser(ctx, tx, user, emails) })
	if err != nil {
		return fmt.Errorf("put user %s: %w", user.ID, err)
	}
	return nil
}

// CreateUser is PutUser for a user who must not exist yet: else it is ErrUserExists,
// and nothing is changed. A missing id is a mobileid.ErrInvalidRequest.
func (s *Store) CreateUser(ctx context.Context, user mobileid.User, emails ...string) error {
	if err := cmp.Or(checkText("userId", user.ID), checkName(user.Name), checkEmails(emails)); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const create = `INSERT INTO users (id, name, email, active, created_at) VALUES ($1, $2, $3, $4, $5)` + keepKnown
		rows, err := affected(tx.ExecContext(ctx, create, user.ID, user.Name, emails[0], user.Active, stored(s.now())))
		if err == nil && rows == 0 {
			err = ErrUserExists
		}
		if err != nil {
			return err
		}
		return s.writeUser(ctx, tx, user, emails)
	})
	if err != nil {
		return fmt.Errorf("create user %s: %w", user.ID, err)
	}
	return nil
}

// SetUserActive says whether a user may do anything. One who may not has no session
// from then on. An unknown user is ErrUserNotFound.
func (s *Store) SetUserActive(ctx context.Context, id string, active bool) error {
	if checkText("userId", id) != nil {
		return fmt.Errorf("change user: %w", ErrUserNotFound)
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		rows, err := affected(tx.ExecContext(ctx, `UPDATE users SET active = $2 WHERE id = $1`, id, active))
		if err == nil && rows == 0 {
			err = ErrUserNotFound
		}
		if err != nil || active {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("change user %s: %w", id, err)
	}
	return nil
}

// Users reads at most limit users with their roles, sorted by id, starting behind the
// id after.
func (s *Store) Users(ctx context.Context, after string, limit int) ([]mobileid.User, error) {
	var users []mobileid.User
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		ids, err := collect(ctx, tx, scanText, `SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
		users = make([]mobileid.User, 0, len(ids))
		for _, id := range ids {
			user, err := readUser(ctx, tx, id)
			if err != nil {
				return err
			}
			users = append(users, user)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

func checkEmails(emails []string) error {
	if len(emails) == 0 {
		return mobileid.InvalidRequest("emails", "is missing")
	}
	if slices.Contains(emails[1:], "") {
		return mobileid.InvalidRequest("emails", "holds an empty address behind the main one")
	}
	return nil
}

func (s *Store) writeUser(ctx context.Context, tx *sql.Tx, user mobileid.User, emails []string) error {
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
// a user, until it ends. It must be what the transaction takes first: see the
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
