package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// ForgetSecrets deletes the provisioning of a mobile ID, and the answers that came
// to its commands. That there were commands, and answers, stays known. To forget
// again, or what never was, is no error.
func (s *Store) ForgetSecrets(ctx context.Context, mobileID string) error {
	if err := mobileid.CheckID("mobileId", mobileID); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		_, err := s.takeMobileID(ctx, tx, mobileID)
		var conflict *mobileid.ConflictError
		if errors.As(err, &conflict) {
			return nil // they went with the mobile ID
		}
		if err != nil {
			return err
		}
		return forgetSecrets(ctx, tx, mobileID)
	})
	if err != nil {
		return fmt.Errorf("forget secrets of mobile ID %s: %w", mobileID, err)
	}
	return nil
}

// forgetSecrets deletes them. The transaction has the mobile ID's row.
func forgetSecrets(ctx context.Context, tx *sql.Tx, mobileID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM provisionings WHERE mobile_id = $1`, mobileID); err != nil {
		return fmt.Errorf("delete provisioning: %w", err)
	}
	const answers = `UPDATE messages SET body = NULL WHERE mobile_id = $1 AND body IS NOT NULL`
	if _, err := tx.ExecContext(ctx, answers, mobileID); err != nil {
		return fmt.Errorf("delete answers: %w", err)
	}
	return nil
}

// ForgetExpiredSecrets deletes what has expired, for all mobile IDs, and returns of
// how many. Provisionings go when they expire; answers, and the provisionings that
// they belong to, an hour later. The processes forget what they have used
// themselves: this is for what they could not, and is to be called now and then.
func (s *Store) ForgetExpiredSecrets(ctx context.Context) (int, error) {
	now := s.now()
	const query = `SELECT mobile_id FROM provisionings WHERE expires_at <= $1
		UNION ALL SELECT mobile_id FROM messages WHERE body IS NOT NULL AND expires_at <= $2`
	found, err := collect(ctx, s.read, scanText, query, stored(now), stored(now.Add(-answerGrace)))
	if err != nil {
		return 0, fmt.Errorf("look for expired secrets: %w", err)
	}
	forgotten := 0
	// One by one, so that no transaction waits for a mobile ID while it has another.
	for _, mobileID := range found {
		deleted, err := s.forgetExpired(ctx, mobileID)
		if err != nil {
			return forgotten, fmt.Errorf("forget expired secrets of mobile ID %s: %w", mobileID, err)
		}
		if deleted {
			forgotten++
		}
	}
	return forgotten, nil
}

// forgetExpired deletes what has expired of one mobile ID, and says whether there
// was anything.
func (s *Store) forgetExpired(ctx context.Context, mobileID string) (bool, error) {
	deleted := false
	err := s.transact(ctx, func(tx *sql.Tx) error {
		deleted = false
		_, err := s.takeMobileID(ctx, tx, mobileID)
		var conflict *mobileid.ConflictError
		if errors.As(err, &conflict) {
			return nil
		}
		if err != nil {
			return err
		}
		now := s.now()
		const provisioning = `DELETE FROM provisionings WHERE mobile_id = $1 AND (expires_at <= $3 OR expires_at <= $2 AND NOT EXISTS (
			SELECT 1 FROM messages WHERE messages.command_id = provisionings.command_id AND received_at IS NOT NULL))`
		provisionings, err := affected(tx.ExecContext(ctx, provisioning, mobileID, stored(now), stored(now.Add(-answerGrace))))
		if err != nil {
			return fmt.Errorf("delete provisioning: %w", err)
		}
		const answer = `UPDATE messages SET body = NULL WHERE mobile_id = $1 AND body IS NOT NULL AND expires_at <= $2`
		answers, err := affected(tx.ExecContext(ctx, answer, mobileID, stored(now.Add(-answerGrace))))
		if err != nil {
			return fmt.Errorf("delete answers: %w", err)
		}
		deleted = provisionings+answers > 0
		return nil
	})
	return deleted, err
}

// affected is the number of rows that a statement changed.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
