package identitymanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mobileid"
)

// overdueListed is how many locks one mail to operators lists. It tells how many more
// there are.
const overdueListed = 20

// warningsFor is how long it is remembered that operators were told of a lock.
const warningsFor = 400 * 24 * time.Hour

// OverdueFacts are what a lockOverdue notice tells.
type OverdueFacts struct {
	Threshold time.Duration          `json:"threshold"`
	Locks     []mobileid.OverdueLock `json:"locks"` // the longest under way first
	More      int                    `json:"more,omitempty"`
}

// overdueKey tells the lock of a mobile ID from another one of it.
type overdueKey struct {
	mobileID    string
	requestedAt int64 // microseconds
}

func keyOfOverdue(l mobileid.OverdueLock) overdueKey {
	return overdueKey{l.MobileID, microseconds(l.RequestedAt).UnixMicro()}
}

// UntoldOverdue returns those of some locks of which operators were not told yet that
// they have passed a threshold.
func (s *Store) UntoldOverdue(ctx context.Context, threshold time.Duration, locks []mobileid.OverdueLock) ([]mobileid.OverdueLock, error) {
	told := map[overdueKey]bool{}
	for batch := range slices.Chunk(locks, maxRowsPerStatement) {
		var rows values
		for _, l := range batch {
			rows.add(l.MobileID)
		}
		query := `SELECT mobile_id, requested_at FROM overdue_warnings WHERE threshold = ` + fmt.Sprintf("$%d", len(batch)+1) +
			` AND mobile_id IN (` + rows.String() + `)`
		known, err := collect(ctx, s.read, scanOverdueKey, query, append(rows.args, milliseconds(threshold))...)
		if err != nil {
			return nil, fmt.Errorf("look for warnings of overdue locks: %w", err)
		}
		for _, key := range known {
			told[key] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(locks), func(l mobileid.OverdueLock) bool { return told[keyOfOverdue(l)] }), nil
}

func scanOverdueKey(rows *sql.Rows) (overdueKey, error) {
	var key overdueKey
	var at time.Time
	err := rows.Scan(&key.mobileID, timestamp{&at})
	key.requestedAt = at.UnixMicro()
	return key, err
}

func milliseconds(d time.Duration) int64 { return max(d.Milliseconds(), 1) }

// WarnOverdue tells operators, at each address that the store was given, of locks that
// have passed a threshold: by one mail for those that they were not told of yet. That
// they are told is written in the transaction of the mail, so that it is sent once,
// however often and by how many this is called. It returns how many locks are new;
// without an address nobody is told, and nothing is remembered.
func (s *Store) WarnOverdue(ctx context.Context, order mobileid.OverdueOrder) (told int, err error) {
	if len(order.Locks) == 0 || len(order.Thresholds) == 0 || len(s.notices.Operators) == 0 {
		return 0, nil
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		now := s.now()
		fresh, err := s.rememberOverdue(ctx, tx, order, now)
		told = len(fresh)
		if err != nil || told == 0 {
			return err
		}
		return s.putOverdueNotice(ctx, tx, order.Thresholds[len(order.Thresholds)-1], fresh, now)
	})
	if err != nil {
		return 0, fmt.Errorf("warn of %d overdue locks: %w", len(order.Locks), err)
	}
	return told, nil
}

// rememberOverdue writes that operators are told of locks, and returns those that they
// were not told of yet, the longest under way first.
func (s *Store) rememberOverdue(ctx context.Context, tx *sql.Tx, order mobileid.OverdueOrder, now time.Time) ([]mobileid.OverdueLock, error) {
	last := order.Thresholds[len(order.Thresholds)-1]
	locks := slices.Clone(order.Locks)
	// In one order whoever writes, so that two of them cannot wait for each other.
	slices.SortFunc(locks, func(a, b mobileid.OverdueLock) int {
		if c := a.RequestedAt.Compare(b.RequestedAt); c != 0 {
			return c
		}
		if a.MobileID < b.MobileID {
			return -1
		}
		return 1
	})
	untold := map[overdueKey]bool{}
	for batch := range slices.Chunk(locks, max(1, maxRowsPerStatement/len(order.Thresholds))) {
		var rows values
		for _, l := range batch {
			for _, threshold := range order.Thresholds {
				rows.add(l.MobileID, stored(l.RequestedAt), milliseconds(threshold), stored(now))
			}
		}
		insert := `INSERT INTO overdue_warnings (mobile_id, requested_at, threshold, warned_at) ` + rows.String() + keepKnown + ` RETURNING mobile_id, requested_at, threshold`
		written, err := collect(ctx, tx, func(rows *sql.Rows) (overdueKey, error) {
			var key overdueKey
			var at time.Time
			var threshold int64
			err := rows.Scan(&key.mobileID, timestamp{&at}, &threshold)
			key.requestedAt = at.UnixMicro()
			if threshold != milliseconds(last) {
				return overdueKey{}, err
			}
			return key, err
		}, insert, rows.args...)
		if err != nil {
			return nil, fmt.Errorf("write warnings: %w", err)
		}
		for _, key := range written {
			untold[key] = true
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM overdue_warnings WHERE warned_at < $1`, stored(now.Add(-warningsFor))); err != nil {
		return nil, fmt.Errorf("forget old warnings: %w", err)
	}
	return slices.DeleteFunc(locks, func(l mobileid.OverdueLock) bool { return !untold[keyOfOverdue(l)] }), nil
}

// putOverdueNotice writes a mail for each address of the operators. It is about no one
// mobile ID, so the row names none.
func (s *Store) putOverdueNotice(ctx context.Context, tx *sql.Tx, threshold time.Duration, locks []mobileid.OverdueLock, now time.Time) error {
	about := []string{fmt.Sprint(milliseconds(threshold))}
	for _, l := range locks {
		about = append(about, l.MobileID, l.RequestedAt.UTC().Format(timestampLayout))
	}
	listed := locks[:min(len(locks), overdueListed)]
	facts, err := json.Marshal(NoticeFacts{Overdue: &OverdueFacts{Threshold: threshold, Locks: listed, More: len(locks) - len(listed)}})
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	var rows values
	for _, address := range s.notices.Operators {
		id := idempotencyKey("notice "+string(NoticeLockOverdue), mobileid.Process{}, append(about, address)...)
		rows.add(id, string(NoticeLockOverdue), "", address, string(facts), string(NoticePending), stored(now), stored(now), 0, "")
	}
	insert := `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem) ` + rows.String() + keepKnown //nolint:gosec // placeholders
	if _, err := tx.ExecContext(ctx, insert, rows.args...); err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	return nil
}
