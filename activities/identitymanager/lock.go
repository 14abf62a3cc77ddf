package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"mobileid"
)

// Lock makes an active or inactive mobile ID locked, or takes over one that is
// locked already, which is recorded as resumed. It does so in one transaction
// with the audit record, and once per process: a repeat writes nothing and
// answers the same, with the certificates as they are by then.
//
// A lock that is taken over goes on with its own reason, which a CA may have been
// sent already, whatever the order says, and the receipt has it. Only a lock for
// keyCompromise turns every other into its own, which stands from then on: others act
// on it, so it must not be lost.
//
// If the store writes notices, the owner is told that this process has locked it. The
// owner's sessions ByMobileID end, but for the one that order.RequestID is of.
//
// A mobile ID that is gone, belongs to another user or is registered is a
// *mobileid.ConflictError. The certificates of the receipt are those that are
// neither revoked nor expired, or all with order.Resume, sorted by identity.
func (s *Store) Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.LockReceipt{}, err
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return mobileid.LockReceipt{}, err
	}
	order.RequestedAt = microseconds(order.RequestedAt)
	var receipt mobileid.LockReceipt
	var reached []Milestone
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.lock(ctx, tx, order, &reached)
		return err
	})
	if err != nil {
		return mobileid.LockReceipt{}, fmt.Errorf("lock mobile ID %s: %w", order.MobileID, err)
	}
	s.tell(reached)
	return receipt, nil
}

func (s *Store) lock(ctx context.Context, tx *sql.Tx, order mobileid.LockOrder, reached *[]Milestone) (mobileid.LockReceipt, error) {
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.LockReceipt{}, err
	}
	m, err := s.takeMobileID(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.LockReceipt{}, err
	}
	// One key for both events: a process that has locked does not resume as well.
	once := idempotencyKey(lockOnce, order.Process)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.LockReceipt{}, err
	}
	if m.State == mobileid.Locked {
		if order.Reason, err = standingReason(ctx, tx, order); err != nil {
			return mobileid.LockReceipt{}, err
		}
	}
	receipt := mobileid.LockReceipt{From: written.Record.From, Reason: order.Reason, Audit: written.AuditMark}
	if !repeated {
		receipt.From = m.State
		receipt.Audit, err = s.lockFirst(ctx, chain, once, order, &m)
	}
	if err != nil {
		return mobileid.LockReceipt{}, err
	}
	receipt.RequestedAt, receipt.LockedAt = m.RequestedAt, m.LockedAt
	m.Certificates, err = certificatesOf(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.LockReceipt{}, err
	}
	*reached = nil
	if !repeated && receipt.From != mobileid.Locked {
		*reached = lockedMilestones(m)
		if err := endSessionsByMobileID(ctx, tx, order); err != nil {
			return mobileid.LockReceipt{}, err
		}
		if err := s.noticeLocked(ctx, tx, m, order); err != nil {
			return mobileid.LockReceipt{}, err
		}
	}
	receipt.Certificates = m.Certificates
	if !order.Resume {
		receipt.Certificates = m.Open()
	}
	return receipt, nil
}

// lockFirst does what a process does once: it locks m, or takes its lock over,
// and records it.
func (s *Store) lockFirst(ctx context.Context, chain *chain, once string, order mobileid.LockOrder, m *mobileid.MobileID) (mobileid.AuditMark, error) {
	if err := lockable(*m, order.Owner); err != nil {
		return mobileid.AuditMark{}, err
	}
	now := s.now()
	record := lockRecord(order, m.State, now)
	if m.State != mobileid.Locked {
		m.State, m.RequestedAt, m.LockedAt = mobileid.Locked, order.RequestedAt, now
		if err := writeLock(ctx, chain.tx, order, now); err != nil {
			return mobileid.AuditMark{}, err
		}
	}
	return chain.append(ctx, once, record)
}

// standingReason is the reason with which a locked mobile ID's lock goes on. It is
// written if it is another one from now on.
func standingReason(ctx context.Context, tx *sql.Tx, order mobileid.LockOrder) (mobileid.Reason, error) {
	var before mobileid.Reason
	const query = `SELECT coalesce(lock_reason, '') FROM mobile_ids WHERE id = $1`
	if err := tx.QueryRowContext(ctx, query, order.MobileID).Scan(&before); err != nil {
		return "", fmt.Errorf("read reason: %w", err)
	}
	if before == order.Reason || before != "" && order.Reason != mobileid.KeyCompromise {
		return before, nil
	}
	const update = `UPDATE mobile_ids SET lock_reason = $2 WHERE id = $1`
	if _, err := tx.ExecContext(ctx, update, order.MobileID, string(order.Reason)); err != nil {
		return "", fmt.Errorf("write reason: %w", err)
	}
	return order.Reason, nil
}

// lockable checks again, under the row's lock, what was validated before Next.
// Inactive is no obstacle by now: who has pressed Next wants it locked all the
// more.
func lockable(m mobileid.MobileID, owner string) error {
	switch {
	case m.Owner.ID != owner:
		return &mobileid.ConflictError{MobileID: m.ID, Problem: "belongs to another user by now"}
	case m.State == mobileid.Locked:
		return nil
	case m.State == mobileid.Registered, !m.State.CanBecome(mobileid.Locked):
		return &mobileid.ConflictError{MobileID: m.ID, Problem: "is " + string(m.State) + " by now, which no lock takes over"}
	}
	return nil
}

func writeLock(ctx context.Context, tx *sql.Tx, order mobileid.LockOrder, now time.Time) error {
	const update = `UPDATE mobile_ids
		SET state = $2, requested_at = $3, locked_at = $4,
			lock_process = $5, lock_workflow_id = $6, lock_run_id = $7, lock_reason = $8
		WHERE id = $1`
	_, err := tx.ExecContext(ctx, update, order.MobileID, string(mobileid.Locked), stored(order.RequestedAt), stored(now),
		order.Process.Name, order.Process.WorkflowID, order.Process.RunID, string(order.Reason))
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// lockRecord says what this process did and when it was asked to. When another
// process's lock was asked for stands in that one's record.
func lockRecord(order mobileid.LockOrder, from mobileid.State, now time.Time) mobileid.Record {
	event := mobileid.EventLocked
	if from == mobileid.Locked {
		event = mobileid.EventResumed
	}
	return mobileid.Record{
		MobileID:    order.MobileID,
		Event:       event,
		At:          now,
		Process:     order.Process,
		Decision:    order.Decision,
		RequestedAt: order.RequestedAt,
		Reason:      order.Reason,
		From:        from,
	}
}
