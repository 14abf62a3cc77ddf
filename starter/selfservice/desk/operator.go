package desk

import (
	"context"

	"mobileid/starter/client"
)

// Locker starts and steers the locks of an owner's mobile IDs: a Desk does for the owner,
// and Operator's for whoever helps.
type Locker interface {
	StartLock(ctx context.Context, owner string, order LockOrder) error
	Lock(ctx context.Context, owner string, order LockOrder) (Locked, error)
	NextLock(ctx context.Context, owner string, order LockOrder) (Locked, error)
	CancelLock(ctx context.Context, owner, mobileID, requestID string) Kept
	RetryLock(ctx context.Context, owner, mobileID string) (bool, error)
}

// Operator is the locks of others, in the name of an operator, who stands in their audit
// as by. The caller has seen that whoever asks is one, and that the mobile ID is the
// owner's. An operator gets nobody a mobile ID: ThenGet does not count.
func (d *Desk) Operator(by string) Locker { return operator{d, d.Locks.Operator(by)} }

// OwnerOf reads whose a mobile ID is, for operators.
func (d *Desk) OwnerOf(ctx context.Context, mobileID string) (string, error) {
	m, err := d.Store.MobileID(ctx, mobileID)
	return m.Owner.ID, err
}

type operator struct {
	desk *Desk
	as   *client.Caller
}

// StartLock implements Locker.
func (o operator) StartLock(ctx context.Context, owner string, order LockOrder) error {
	return o.desk.startLock(ctx, o.as, owner, order.withoutGet())
}

// Lock implements Locker.
func (o operator) Lock(ctx context.Context, owner string, order LockOrder) (Locked, error) {
	return o.desk.lock(ctx, o.as, owner, order.withoutGet())
}

// NextLock implements Locker.
func (o operator) NextLock(ctx context.Context, owner string, order LockOrder) (Locked, error) {
	return o.desk.nextLock(ctx, o.as, owner, order.withoutGet())
}

// CancelLock implements Locker.
func (o operator) CancelLock(ctx context.Context, owner, mobileID, requestID string) Kept {
	return o.desk.cancelLock(ctx, o.as, owner, mobileID, requestID)
}

// RetryLock implements Locker.
func (o operator) RetryLock(ctx context.Context, _, mobileID string) (bool, error) {
	return o.desk.retryLock(ctx, o.as, mobileID)
}

func (o LockOrder) withoutGet() LockOrder {
	o.ThenGet = false
	return o
}
