package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// ErrUserNotFound reports a user who does not exist.
var ErrUserNotFound = errors.New("no such user")

// PutUser creates a user, or replaces what is known of them, roles included.
func (s *Store) PutUser(ctx context.Context, user mobileid.User, email string) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const put = `INSERT INTO users (id, name, email, active, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, active = excluded.active`
		if _, err := tx.ExecContext(ctx, put, user.ID, user.Name, email, user.Active, stored(s.now())); err != nil {
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
	user.Roles, err = collect(ctx, tx, scanRole, `SELECT role FROM user_roles WHERE user_id = $1 ORDER BY role`, id)
	return user, err
}

func scanRole(rows *sql.Rows) (string, error) {
	var role string
	err := rows.Scan(&role)
	return role, err
}
