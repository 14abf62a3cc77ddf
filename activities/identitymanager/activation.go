package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"mobileid"
)

// Activate makes a registered mobile ID active and its issued certificates valid,
// and deletes its secrets, in one transaction with the audit record. It does so
// once per process: a repeat writes nothing and answers the same, with the
// certificates as they are by then.
//
// The user is checked again: one who is no longer active, or lacks the role, is
// mobileid.ErrNotEntitled; another live mobile ID is mobileid.ErrMobileIDActive. A
// mobile ID that is gone, belongs to another user, is not registered, or has no
// issued certificate is a *mobileid.ConflictError.
func (s *Store) Activate(ctx context.Context, order mobileid.ActivationOrder) (mobileid.Receipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := checkText("userId", order.UserID); err != nil {
		return mobileid.Receipt{}, err
	}
	var receipt mobileid.Receipt
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.activate(ctx, tx, order)
		return err
	})
	if err != nil {
		return mobileid.Receipt{}, fmt.Errorf("activate mobile ID %s: %w", order.MobileID, err)
	}
	return receipt, nil
}

func (s *Store) activate(ctx context.Context, tx *sql.Tx, order mobileid.ActivationOrder) (mobileid.Receipt, error) {
	if err := s.takeApplicant(ctx, tx, order.UserID); err != nil {
		return mobileid.Receipt{}, err
	}
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	m, err := s.takeMobileID(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	once := idempotencyKey(activateOnce, order.Process)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	if repeated {
		return receiptOf(ctx, tx, written)
	}
	if err := s.activatable(ctx, tx, m, order.UserID); err != nil {
		return mobileid.Receipt{}, err
	}
	results, err := chain.certificates(ctx)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	activated := 0
	for i := range results {
		if results[i].StateInIM == mobileid.CertificateIssued {
			results[i].StateInIM = mobileid.CertificateValid
			activated++
		}
	}
	if activated == 0 {
		return mobileid.Receipt{}, &mobileid.ConflictError{MobileID: m.ID, Problem: "has no issued certificate, and would be of no use"}
	}
	if err := move(ctx, tx, m, mobileid.Active, mobileid.CertificateIssued, mobileid.CertificateValid); err != nil {
		return mobileid.Receipt{}, fmt.Errorf("write state: %w", err)
	}
	if err := forgetSecrets(ctx, tx, m.ID); err != nil {
		return mobileid.Receipt{}, err
	}
	now := s.now()
	if err := s.noticeActivated(ctx, chain, m, order, results, now); err != nil {
		return mobileid.Receipt{}, err
	}
	return conclude(ctx, chain, once, mobileid.Record{
		MobileID:     order.MobileID,
		Event:        mobileid.EventActivated,
		At:           now,
		Process:      order.Process,
		Decision:     order.Decision,
		Certificates: results,
	})
}

// activatable checks again, under the rows of the user and of the mobile ID, that
// this user may have this mobile ID, and no other one.
func (s *Store) activatable(ctx context.Context, tx *sql.Tx, m mobileid.MobileID, userID string) error {
	switch {
	case m.Owner.ID != userID:
		return &mobileid.ConflictError{MobileID: m.ID, Problem: "belongs to another user by now"}
	case m.State != mobileid.Registered:
		return &mobileid.ConflictError{MobileID: m.ID, Problem: "is " + string(m.State) + " by now, and cannot be activated"}
	}
	a, err := s.readApplicant(ctx, tx, userID)
	if err != nil {
		return err
	}
	// The grant was used up to register this very mobile ID. What else admits the
	// user must hold still.
	a.Grant = &mobileid.Grant{MobileID: m.ID, UserID: userID}
	if err := mobileid.AdmitGet(a); err != nil {
		return err
	}
	return aloneLive(a, m.ID)
}

// Abandon makes a registered mobile ID locked, because it will not come into
// being, and deletes its secrets, in one transaction with the audit record. Its
// certificates stay as they are: they are to be revoked. One that is locked already
// stays so, which is recorded as well. It happens once per process: a repeat writes
// nothing and answers the same, with the certificates as they are by then.
//
// A mobile ID that is gone, or has become usable, is a *mobileid.ConflictError, and
// an order that does not say why an *OrderError.
func (s *Store) Abandon(ctx context.Context, order mobileid.AbandonOrder) (mobileid.Receipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return mobileid.Receipt{}, err
	}
	if order.Failure == nil || order.Failure.Type == "" {
		return mobileid.Receipt{}, &OrderError{MobileID: order.MobileID, Problem: "does not say why it is abandoned"}
	}
	var receipt mobileid.Receipt
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.abandon(ctx, tx, order)
		return err
	})
	if err != nil {
		return mobileid.Receipt{}, fmt.Errorf("abandon mobile ID %s: %w", order.MobileID, err)
	}
	return receipt, nil
}

func (s *Store) abandon(ctx context.Context, tx *sql.Tx, order mobileid.AbandonOrder) (mobileid.Receipt, error) {
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	m, err := s.takeMobileID(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	once := idempotencyKey(abandonOnce, order.Process)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	if repeated {
		return receiptOf(ctx, tx, written)
	}
	now := s.now()
	switch m.State {
	case mobileid.Registered:
		if err := writeAbandonment(ctx, tx, order, now); err != nil {
			return mobileid.Receipt{}, err
		}
	case mobileid.Locked:
	default:
		return mobileid.Receipt{}, &mobileid.ConflictError{MobileID: m.ID, Problem: "is " + string(m.State) + " by now, and cannot be abandoned"}
	}
	if err := forgetSecrets(ctx, tx, m.ID); err != nil {
		return mobileid.Receipt{}, err
	}
	results, err := chain.certificates(ctx)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	if m.State == mobileid.Registered {
		if err := s.noticeAbandoned(ctx, chain, m, order, results, now); err != nil {
			return mobileid.Receipt{}, err
		}
	}
	return conclude(ctx, chain, once, mobileid.Record{
		MobileID:     order.MobileID,
		Event:        mobileid.EventAbandoned,
		At:           now,
		Process:      order.Process,
		Decision:     order.Decision,
		From:         m.State,
		Failure:      order.Failure,
		Certificates: results,
	})
}

// writeAbandonment locks a mobile ID. The lock was asked for by the process, now.
func writeAbandonment(ctx context.Context, tx *sql.Tx, order mobileid.AbandonOrder, now time.Time) error {
	return writeLock(ctx, tx, mobileid.LockOrder{MobileID: order.MobileID, Process: order.Process, RequestedAt: now, Reason: mobileid.Unspecified}, now)
}
