package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// unfinishedWindow is how many mobile IDs one call of Unfinished looks at, so that
// none takes long, however many there are.
const unfinishedWindow = 10_000

// Unfinished looks at the next mobile IDs, by id, behind the id after, and returns
// those that a process has left between two states: locked ones with a certificate
// that is neither revoked nor expired, and those registered before the given time,
// which no Get takes that long for. A process may still be at them. WorkflowID is
// that of the Get that registered one, and empty for a locked one.
//
// Next is where to go on, empty at the end.
func (s *Store) Unfinished(ctx context.Context, after string, registeredBefore time.Time) (found []mobileid.Unfinished, next string, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		next, err = windowEnd(ctx, tx, after)
		if err != nil {
			return err
		}
		found, err = unfinishedBetween(ctx, tx, after, next, registeredBefore)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("look for unfinished mobile IDs: %w", err)
	}
	return found, next, nil
}

// windowEnd is the last id of a full window, empty if there are no more than that.
func windowEnd(ctx context.Context, tx *sql.Tx, after string) (end string, err error) {
	const query = `SELECT id FROM mobile_ids WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2`
	err = tx.QueryRowContext(ctx, query, after, unfinishedWindow-1).Scan(&end)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return end, err
}

func unfinishedBetween(ctx context.Context, tx *sql.Tx, after, end string, registeredBefore time.Time) ([]mobileid.Unfinished, error) {
	query := `SELECT m.id, m.owner, m.state, coalesce(g.used_workflow_id, '')
		FROM mobile_ids m LEFT JOIN grants g ON g.mobile_id = m.id
		WHERE m.id > $1 AND (m.state = 'registered' AND m.created_at < $2
			OR m.state = 'locked' AND EXISTS (SELECT 1 FROM certificates c
				WHERE c.mobile_id = m.id AND c.state NOT IN ('expired', 'revoked')))`
	args := []any{after, stored(registeredBefore)}
	if end != "" {
		query += ` AND m.id <= $3`
		args = append(args, end)
	}
	return collect(ctx, tx, func(rows *sql.Rows) (u mobileid.Unfinished, err error) {
		if err := rows.Scan(&u.MobileID, &u.UserID, &u.State, &u.WorkflowID); err != nil {
			return u, err
		}
		u.Problem = mobileid.ProblemNeverActive
		if u.State == mobileid.Locked {
			u.Problem, u.WorkflowID = mobileid.ProblemNotRevoked, ""
		}
		return u, nil
	}, query+` ORDER BY m.id`, args...)
}
