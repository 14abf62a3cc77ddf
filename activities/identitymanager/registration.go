package identitymanager

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// registerOnce and the like are what a process of Get mobile ID does once.
const (
	registerOnce = string(mobileid.EventRegistered)
	activateOnce = string(mobileid.EventActivated)
	abandonOnce  = string(mobileid.EventAbandoned)
)

// Register uses up a grant and creates its mobile ID as registered, in one
// transaction with the audit record, and once per process: a repeat writes nothing
// and answers the same.
//
// What was validated is checked again, while no other process can decide about
// mobile IDs of the user. A user who is not active, lacks the role or is gone, and
// a grant that is used, expired or not the user's, is mobileid.ErrNotEntitled; a
// live mobile ID of the user is mobileid.ErrMobileIDActive.
func (s *Store) Register(ctx context.Context, order mobileid.RegistrationOrder) (mobileid.Receipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := cmp.Or(checkText("userId", order.UserID), checkName(order.Name)); err != nil {
		return mobileid.Receipt{}, err
	}
	order.RequestedAt = microseconds(order.RequestedAt)
	var receipt mobileid.Receipt
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.register(ctx, tx, order)
		return err
	})
	if err != nil {
		return mobileid.Receipt{}, fmt.Errorf("register mobile ID %s: %w", order.MobileID, err)
	}
	return receipt, nil
}

func (s *Store) register(ctx context.Context, tx *sql.Tx, order mobileid.RegistrationOrder) (mobileid.Receipt, error) {
	if err := s.takeApplicant(ctx, tx, order.UserID); err != nil {
		return mobileid.Receipt{}, err
	}
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	once := idempotencyKey(registerOnce, order.Process)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	if repeated {
		return receiptOf(ctx, tx, written)
	}
	if err := s.registrable(ctx, tx, order); err != nil {
		return mobileid.Receipt{}, err
	}
	now := s.now()
	if err := useGrant(ctx, tx, order.MobileID, order.Process, now); err != nil {
		return mobileid.Receipt{}, err
	}
	const insert = `INSERT INTO mobile_ids (id, owner, name, state, created_at) VALUES ($1, $2, $3, $4, $5)` + keepKnown
	rows, err := affected(tx.ExecContext(ctx, insert, order.MobileID, order.UserID, order.Name, string(mobileid.Registered), stored(now)))
	if err != nil {
		return mobileid.Receipt{}, fmt.Errorf("write mobile ID: %w", err)
	}
	if rows == 0 {
		return mobileid.Receipt{}, &mobileid.ConflictError{MobileID: order.MobileID, Problem: "exists already"}
	}
	return conclude(ctx, chain, once, mobileid.Record{
		MobileID:    order.MobileID,
		Event:       mobileid.EventRegistered,
		At:          now,
		Process:     order.Process,
		Decision:    order.Decision,
		RequestedAt: order.RequestedAt,
		Owner:       order.UserID,
	})
}

// takeApplicant takes the row of a user who wants a mobile ID. One who is gone by
// now is not entitled to it.
func (s *Store) takeApplicant(ctx context.Context, tx *sql.Tx, userID string) error {
	err := s.takeUser(ctx, tx, userID)
	if errors.Is(err, ErrUserNotFound) {
		return mobileid.NotEntitled("the user does not exist")
	}
	return err
}

// registrable checks again, under the user's row, what was validated before Next.
func (s *Store) registrable(ctx context.Context, tx *sql.Tx, order mobileid.RegistrationOrder) error {
	a, err := s.readApplicant(ctx, tx, order.UserID)
	if err != nil {
		return err
	}
	if err := mobileid.AdmitGet(a); err != nil {
		return err
	}
	// A user has one open grant, so that any other one is used, void or expired.
	if a.Grant.MobileID != order.MobileID {
		return mobileid.NotEntitled("the grant is used up, expired, replaced by a newer one, or another user's")
	}
	if len(a.Live()) > 0 {
		return mobileid.AlreadyActive()
	}
	return nil
}

// conclude appends the record of what the transaction did, and answers with the
// mobile ID's certificates as they are then.
func conclude(ctx context.Context, chain *chain, once string, record mobileid.Record) (mobileid.Receipt, error) {
	mark, err := chain.append(ctx, once, record)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	return receiptOf(ctx, chain.tx, AuditRecord{AuditMark: mark, Record: record})
}

// receiptOf is the answer to an order that stands in the audit.
func receiptOf(ctx context.Context, tx *sql.Tx, written AuditRecord) (mobileid.Receipt, error) {
	certificates, err := certificatesOf(ctx, tx, written.Record.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	for i := range certificates {
		certificates[i].DER = nil
	}
	return mobileid.Receipt{At: written.Record.At, Certificates: certificates, Audit: written.AuditMark}, nil
}
