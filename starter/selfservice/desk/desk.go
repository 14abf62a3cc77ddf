// Package desk is what a signed-in user can do at Self-Service and see there, whatever
// it is shown with: the pages are made of it, and an API can be.
//
// Every method takes the user, whom the caller has from the sign-in and never from the
// request. A mobile ID that is unknown or somebody else's is
// mobileid.ErrMobileIDNotFound, and looks the same from outside.
//
// What has happened is read from Identity Manager and its audit. Temporal is asked only
// for what is still under way, and when it does not answer, the answer says what is
// known without it.
package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
	"mobileid/workflows"
)

const (
	// askWait is how long a page waits for what Temporal may tell.
	askWait = 4 * time.Second
	// actWait is how long it waits for Temporal to take what the user decided. It is
	// longer than the client library needs to leave it there without a worker.
	actWait = 15 * time.Second
	// patience is how long it waits for more than that it was taken.
	patience = 4 * time.Second

	// grantWait is how long Identity Manager may take to write a grant, while a lock waits
	// for it.
	grantWait = 3 * time.Second

	// grantRest is how long an open grant must still be good for to be left as it is: a
	// new one would make it void under the feet of a Get that was started with it.
	grantRest = 5 * time.Minute

	// grantedBy is who writes grants here, for the audit.
	grantedBy = "self-service"
)

// ErrUnreachable reports that Temporal did not take what the user decided, or that
// nobody can tell whether it did. To send the same again does no harm.
var ErrUnreachable = errors.New("the processes cannot be reached now")

// Desk serves users.
type Desk struct {
	Store    *identitymanager.Store
	Locks    *client.Client
	Gets     *client.Gets // nil: Get mobile ID is not offered
	GrantFor time.Duration

	// CodeByMail reports that QR codes go to the user's address, and stand on no page.
	CodeByMail bool
}

// MobileIDs lists the user's mobile IDs.
func (d *Desk) MobileIDs(ctx context.Context, userID string) ([]mobileid.MobileID, error) {
	return d.Store.MobileIDsOf(ctx, userID)
}

// MobileID reads one of the user's mobile IDs with its past.
func (d *Desk) MobileID(ctx context.Context, userID, id string) (identitymanager.Owned, error) {
	return d.Store.Owned(ctx, userID, id)
}

// UsableAt lists the ids of the user's mobile IDs that could be signed in with at a time.
// One that is inactive now may have been active then.
func (d *Desk) UsableAt(ctx context.Context, userID string, at time.Time) ([]string, error) {
	all, err := d.Store.MobileIDsOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range all {
		owned, err := d.Store.Owned(ctx, userID, m.ID)
		if err != nil {
			return nil, err
		}
		if usableAt(owned, at) {
			ids = append(ids, m.ID)
		}
	}
	return ids, nil
}

// usableAt reports whether a mobile ID could be signed in with at a time. Whatever Get did
// not make here was there before.
func usableAt(o identitymanager.Owned, at time.Time) bool {
	made, active := false, false
	for _, entry := range o.Trail {
		switch entry.Record.Event {
		case mobileid.EventRegistered:
			made = true
		case mobileid.EventActivated:
			made, active = true, !entry.Record.At.After(at)
		}
	}
	return o.State != mobileid.Registered && (active || !made) && (o.State != mobileid.Locked || o.LockedAt.After(at))
}

// LockOrder is a lock whose Next the user has pressed. That the mobile ID is the
// user's was seen when the form was shown, and is seen again by the process.
type LockOrder struct {
	MobileID  string
	RequestID string // of the form, so that a second press is the same press
	Reason    mobileid.Reason
	ThenGet   bool
	Resume    bool // operators: check every certificate of a locked one at its CA again
}

func (o LockOrder) options(owner string, thenGet bool) client.LockOptions {
	return client.LockOptions{
		Owner: owner, Reason: o.Reason, ThenGet: thenGet, Resume: o.Resume, RequestID: o.RequestID, Patience: patience,
	}
}

// Locked is the answer to a LockOrder that was taken.
type Locked struct {
	// ThenGet reports that the lock goes on to Get mobile ID. It does not where that
	// was asked for but could not be granted: to lock comes first.
	ThenGet bool
	// LockedAt is zero while the mobile ID is not known to be locked.
	LockedAt time.Time
}

// Lock hands a lock over to Temporal, which needs neither Identity Manager nor a
// worker for it. ErrUnreachable means that it may not have been taken; the other
// errors are refusals.
func (d *Desk) Lock(ctx context.Context, userID string, order LockOrder) (Locked, error) {
	return d.lock(ctx, d.Locks.User(userID), userID, order)
}

func (d *Desk) lock(ctx context.Context, as *client.Caller, owner string, order LockOrder) (Locked, error) {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	locked := Locked{ThenGet: order.ThenGet && d.Gets != nil && d.grant(ctx, owner) == nil}
	status, err := as.Lock(ctx, order.MobileID, order.options(owner, locked.ThenGet))
	if err != nil {
		return Locked{}, asUnreachable(err)
	}
	locked.LockedAt = status.LockedAt
	return locked, nil
}

// Kept says what Cancel came to.
type Kept int

// What Cancel can come to.
const (
	// Unchanged: nothing runs, and nothing was changed.
	Unchanged Kept = iota
	// TooLate: Next was pressed before, on another page, say. The lock goes on.
	TooLate
	// Unknown: no process can be asked. This Cancel has changed nothing.
	Unknown
)

// CancelLock presses Cancel: a process that waits for Next is closed.
func (d *Desk) CancelLock(ctx context.Context, userID, mobileID, requestID string) Kept {
	return d.cancelLock(ctx, d.Locks.User(userID), userID, mobileID, requestID)
}

func (d *Desk) cancelLock(ctx context.Context, as *client.Caller, owner, mobileID, requestID string) Kept {
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	_, err := as.Cancel(ctx, mobileID, client.LockOptions{RequestID: requestID})
	var refusal *mobileid.Refusal
	switch {
	case err == nil:
		return Unchanged
	case errors.Is(err, mobileid.ErrAlreadyConfirmed):
		return TooLate
	case errors.As(err, &refusal), errors.Is(err, client.ErrStopped):
		// Nothing runs. Whether it was locked before, the store says.
		if m, err := d.Store.Owned(ctx, owner, mobileID); err == nil && m.State == mobileid.Locked {
			return TooLate
		}
		return Unchanged
	}
	return Unknown
}

// grant lets the user get a mobile ID, if nothing does yet.
func (d *Desk) grant(ctx context.Context, userID string) error {
	ctx, cancel := context.WithTimeout(ctx, grantWait)
	defer cancel()
	_, err := d.Store.EnsureGrant(ctx, userID, grantedBy, d.GrantFor, min(grantRest, d.GrantFor/2))
	return err
}

// asUnreachable keeps refusals, and makes everything else ErrUnreachable.
func asUnreachable(err error) error {
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// ended reports that a process has ended before Next.
func ended(outcome workflows.Outcome) bool {
	return outcome == workflows.OutcomeCancelled || outcome == workflows.OutcomeExpired
}
