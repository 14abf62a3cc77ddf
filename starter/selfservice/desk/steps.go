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
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	_, err := d.Locks.User(userID).Start(ctx, order.MobileID, client.LockOptions{Reason: order.Reason, RequestID: order.RequestID})
	if err != nil {
		return asUnreachable(err)
	}
	return nil
}

// NextLock presses Next of a lock that was started before, as Lock does of one that may
// not have been. ErrNoLock means that there is none.
func (d *Desk) NextLock(ctx context.Context, userID string, order LockOrder) (Locked, error) {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	locked := Locked{ThenGet: order.ThenGet && d.Gets != nil && d.grant(ctx, userID) == nil}
	status, err := d.Locks.User(userID).Next(ctx, order.MobileID, client.LockOptions{
		Reason: order.Reason, ThenGet: locked.ThenGet, RequestID: order.RequestID, Patience: patience,
	})
	if err != nil {
		return Locked{}, asNoLock(err)
	}
	locked.LockedAt = status.LockedAt
	return locked, nil
}

// RetryLock makes the step that waits try again now, and reports whether one did. It
// does not where nothing waits, and cannot say so where no worker answers.
func (d *Desk) RetryLock(ctx context.Context, userID, mobileID string) (retried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	answer, err := d.Locks.User(userID).Retry(ctx, mobileID)
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
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return ErrNoLock
	}
	return asUnreachable(err)
}
