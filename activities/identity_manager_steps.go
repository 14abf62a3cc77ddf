package activities

import (
	"context"
	"errors"
	"time"

	"mobileid"
)

// ValidateLock decides whether a lock may be asked for, and returns the policy
// that it runs under. A refusal is recorded in the audit.
func (a *Activities) ValidateLock(ctx context.Context, in ValidateLockInput) (*ValidateLockResult, error) {
	defer heartbeat(ctx, nothing)()
	m, err := a.IM.MobileID(ctx, in.MobileID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		err = mobileid.NotFound()
	}
	if err == nil {
		err = mobileid.AdmitLock(m, in.UserID, in.Operator, in.Resume)
	}
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) {
		return nil, translate(a.recordRefusal(ctx, in, refusal))
	}
	if err != nil {
		return nil, translate(err)
	}
	open := m.Open()
	if in.Resume {
		open = m.Certificates
	}
	certificates, cas := a.route(open)
	return &ValidateLockResult{
		State:        m.State,
		Certificates: certificates,
		CAs:          cas,
		Policy:       a.policy(in.MobileID, in.UserID),
	}, nil
}

// recordRefusal records a refusal and returns it, or the error that kept it from
// being recorded.
func (a *Activities) recordRefusal(ctx context.Context, in ValidateLockInput, refusal *mobileid.Refusal) error {
	decision := mobileid.Decision{UserID: in.UserID, By: in.By}
	if in.Operator {
		decision.UserID = ""
	}
	_, err := a.IM.Record(ctx, mobileid.Record{
		MobileID: in.MobileID,
		Event:    mobileid.EventRefused,
		At:       time.Now().UTC(),
		Process:  in.Process,
		Decision: decision,
		Refusal:  refusal,
	})
	if err != nil {
		return err
	}
	return refusal
}

// LockInIdentityManager runs the lock's transaction and says where each
// certificate goes.
func (a *Activities) LockInIdentityManager(ctx context.Context, order mobileid.LockOrder) (*LockInIMResult, error) {
	defer heartbeat(ctx, nothing)()
	receipt, err := a.IM.Lock(ctx, order)
	if err != nil {
		return nil, translate(err)
	}
	certificates, cas := a.route(receipt.Certificates)
	return &LockInIMResult{
		From:         receipt.From,
		RequestedAt:  receipt.RequestedAt,
		LockedAt:     receipt.LockedAt,
		Reason:       receipt.Reason,
		Certificates: certificates,
		CAs:          cas,
		Audit:        receipt.Audit,
	}, nil
}

// RevokeInIdentityManager takes over what one CA has revoked.
func (a *Activities) RevokeInIdentityManager(ctx context.Context, order mobileid.RevocationOrder) (*mobileid.RevocationReceipt, error) {
	defer heartbeat(ctx, nothing)()
	receipt, err := a.IM.RecordRevocations(ctx, order)
	if err != nil {
		return nil, translate(err)
	}
	return &receipt, nil
}

// RecordExit records a process that changed nothing.
func (a *Activities) RecordExit(ctx context.Context, record mobileid.Record) (*mobileid.AuditMark, error) {
	defer heartbeat(ctx, nothing)()
	mark, err := a.IM.Record(ctx, record)
	if err != nil {
		return nil, translate(err)
	}
	return &mark, nil
}
