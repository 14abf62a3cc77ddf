package desk

import (
	"context"
	"errors"

	"mobileid"
	"mobileid/starter/client"
)

// ErrNoGet reports that no Get of the user can be told anything.
var ErrNoGet = errors.New("no Get mobile ID of this user is under way")

// StartGet writes a grant for the user and starts a Get that waits for Next or Cancel, or
// joins the one that runs.
func (d *Desk) StartGet(ctx context.Context, userID string) error {
	if d.Gets == nil {
		return errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	_, err := d.startGet(ctx, userID, d.Gets.User(userID, "").Within(patience))
	return err
}

// NextGet presses Next of a Get that was started before. ErrNoGet means that there is
// none, mobileid.ErrMobileIDActive that a mobile ID of the user is to be locked first.
func (d *Desk) NextGet(ctx context.Context, userID, requestID string) error {
	return d.tellGet(ctx, userID, requestID, (*client.Applicant).Next)
}

// LockForGet has the user's active mobile ID locked before Get goes on.
func (d *Desk) LockForGet(ctx context.Context, userID, requestID string) error {
	return d.tellGet(ctx, userID, requestID, (*client.Applicant).LockFirst)
}

func (d *Desk) tellGet(ctx context.Context, userID, requestID string, tell func(*client.Applicant, context.Context) (client.GetStatus, error)) error {
	if d.Gets == nil {
		return errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	if _, err := tell(d.Gets.User(userID, "").Within(patience).Once(requestID), ctx); err != nil {
		return asNoGet(err)
	}
	return nil
}

// RetryGet makes the step that waits try again now, and reports whether one did.
func (d *Desk) RetryGet(ctx context.Context, userID string) (retried bool, err error) {
	if d.Gets == nil {
		return false, errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	answer, err := d.Gets.User(userID, "").Retry(ctx)
	if errors.Is(err, client.ErrNoWorker) {
		return false, nil
	}
	if err != nil {
		return false, asNoGet(err)
	}
	return answer.Retried, nil
}

// asNoGet is asUnreachable where there is a user, and no Get.
func asNoGet(err error) error {
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return ErrNoGet
	}
	return asUnreachable(err)
}
