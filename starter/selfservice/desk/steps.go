package desk

import (
	"context"
	"errors"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
)

// ErrNoLock reports that no lock of the mobile ID, which is the user's, can be told
// anything.
var ErrNoLock = errors.New("no lock of this mobile ID is under way")

// Entitled refuses, as mobileid.ErrNotEntitled, who is not a user that may use
// Self-Service now, whatever was so at the sign-in.
func (d *Desk) Entitled(ctx context.Context, userID string) error {
	user, err := d.Store.User(ctx, userID)
	if err != nil && !errors.Is(err, identitymanager.ErrUserNotFound) {
		return err
	}
	if err != nil || !user.Active || !user.HasRole(mobileid.SelfServiceRole) {
		return mobileid.NotEntitled("this user may not use Self-Service")
	}
	return nil
}

// StartLock starts a lock that waits for Next or Cancel, or joins the one that runs.
// The caller has seen that the mobile ID is the user's.
func (d *Desk) StartLock(ctx context.Context, userID string, order LockOrder) error {
	return d.startLock(ctx, d.Locks.User(userID), userID, order)
}

func (d *Desk) startLock(ctx context.Context, as *client.Caller, owner string, order LockOrder) error {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	_, err := as.Start(ctx, order.MobileID, order.options(owner, false))
	if err != nil {
		return asUnreachable(err)
	}
	return nil
}

// NextLock presses Next of a lock that was started before, as Lock does of one that may
// not have been. ErrNoLock means that there is none.
func (d *Desk) NextLock(ctx context.Context, userID string, order LockOrder) (Locked, error) {
	return d.nextLock(ctx, d.Locks.User(userID), userID, order)
}

func (d *Desk) nextLock(ctx context.Context, as *client.Caller, owner string, order LockOrder) (Locked, error) {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	locked := Locked{ThenGet: order.ThenGet && d.Gets != nil && d.grant(ctx, owner) == nil}
	status, err := as.Next(ctx, order.MobileID, order.options(owner, locked.ThenGet))
	if err != nil {
		return Locked{}, asNoLock(err)
	}
	locked.LockedAt = status.LockedAt
	return locked, nil
}

// RetryLock makes the step that waits try again now, and reports whether one did. It
// does not where nothing waits, and cannot say so where no worker answers.
func (d *Desk) RetryLock(ctx context.Context, userID, mobileID string) (retried bool, err error) {
	return d.retryLock(ctx, d.Locks.User(userID), mobileID)
}

func (d *Desk) retryLock(ctx context.Context, as *client.Caller, mobileID string) (retried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	answer, err := as.Retry(ctx, mobileID)
	if errors.Is(err, client.ErrNoWorker) {
		return false, nil
	}
	if err != nil {
		return false, asNoLock(err)
	}
	return answer.Retried, nil
}

// asNoLock is asUnreachable where the mobile ID itself was found before.
func asNoLock(err error) error {
	if errors.Is(err, mobileid.ErrMobileIDNotFound) || errors.Is(err, client.ErrStopped) {
		return ErrNoLock
	}
	return asUnreachable(err)
}
