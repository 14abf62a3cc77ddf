package identitymanager

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
)

// NotificationSent reports whether a notification was sent. The key names it: one
// process has several.
func (s *Store) NotificationSent(ctx context.Context, key string) (bool, error) {
	if err := checkText("key", key); err != nil {
		return false, err
	}
	var sent bool
	const query = `SELECT EXISTS (SELECT 1 FROM notifications WHERE key = $1)`
	if err := s.read.QueryRowContext(ctx, query, key).Scan(&sent); err != nil {
		return false, fmt.Errorf("look for notification %s: %w", key, err)
	}
	return sent, nil
}

// MarkNotificationSent keeps that a notification was sent, and where to. Between
// the sending and this call a worker can die: then it is sent twice, which is
// better than not at all. To mark it again changes nothing.
func (s *Store) MarkNotificationSent(ctx context.Context, key, address string) error {
	if err := cmp.Or(checkText("key", key), checkText("address", address)); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const insert = `INSERT INTO notifications (key, address, sent_at) VALUES ($1, $2, $3)` + keepKnown
		_, err := tx.ExecContext(ctx, insert, key, address, stored(s.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("mark notification %s: %w", key, err)
	}
	return nil
}
