package desk

import (
	"context"
	"errors"
	"time"

	"mobileid"
	"mobileid/activities/messaging"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// errNotOffered is Get mobile ID where it is not configured.
var errNotOffered = mobileid.NotEntitled("Get mobile ID is not offered here")

// Getting is where the user's Get mobile ID stands.
type Getting struct {
	client.GetStatus
	Running bool
	// Unknown reports that nobody can tell where it stands: Temporal, or every worker,
	// is away.
	Unknown bool
	// Ended reports that it is known to be over although Unknown: the process has ended,
	// and a worker would have to tell how.
	Ended bool
	// Refusal is why the last one was refused; nil if it was not.
	Refusal *mobileid.Refusal
	// Code reports that there is a QR code to be scanned now, until CodeUntil; ByMail that
	// it was sent to the user's address, and is not to be shown.
	Code      bool
	CodeUntil time.Time
	ByMail    bool
}

// CanCancel reports whether Cancel would still count.
func (g Getting) CanCancel() bool {
	switch g.Phase {
	case workflows.TakingBack, workflows.Activating, workflows.Closed:
		return false
	}
	return g.Running && g.Failure == nil
}

// CanGet reports whether Get mobile ID is offered here.
func (d *Desk) CanGet() bool { return d.Gets != nil }

// Live returns the user's mobile ID that stands in the way of a new one, or nil.
func (d *Desk) Live(ctx context.Context, userID string) (*mobileid.MobileID, error) {
	a, err := d.Store.Applicant(ctx, userID)
	if err != nil {
		return nil, err
	}
	for _, m := range a.Live() {
		if m.State == mobileid.Active {
			return &m, nil
		}
	}
	return nil, nil
}

// Get tells where the user's Get mobile ID stands.
func (d *Desk) Get(ctx context.Context, userID string) (Getting, error) {
	return d.LookAtGet(userID)(ctx)
}

// LookAtGet returns what tells Get again and again, to one goroutine, and asks the process
// only if there may be something new (client.GetLook).
func (d *Desk) LookAtGet(userID string) func(context.Context) (Getting, error) {
	if d.Gets == nil {
		return func(context.Context) (Getting, error) { return Getting{}, errNotOffered }
	}
	applicant := d.Gets.User(userID, "")
	look := applicant.Look()
	return func(ctx context.Context) (Getting, error) { return d.getting(ctx, userID, applicant, look) }
}

func (d *Desk) getting(ctx context.Context, userID string, applicant *client.Applicant, look *client.GetLook) (Getting, error) {
	asking, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var g Getting
	var refusal *mobileid.Refusal
	status, err := look.Status(asking)
	switch {
	case errors.Is(err, client.ErrNoWorker):
		// Without a worker it is known whether it runs, and no more.
		describing, stop := context.WithTimeout(ctx, askWait/2)
		defer stop()
		if running, describeErr := applicant.Running(describing); describeErr == nil && !running {
			g.Ended = true
		}
		g.Unknown = true
	case errors.Is(err, mobileid.ErrMobileIDNotFound):
		return g, nil
	case errors.As(err, &refusal):
		g.Refusal = refusal
		return g, nil
	case err != nil:
		g.Unknown = true
	default:
		g.GetStatus = status
		g.Running = status.Phase != workflows.Closed && !status.Stopped
	}
	if g.Ended || !g.Running && !g.Unknown {
		return g, nil
	}
	provisioning, err := d.Store.ProvisioningOf(ctx, userID)
	switch {
	case errors.Is(err, mobileid.ErrNoProvisioning):
	case err != nil:
		return g, err
	default:
		g.Code, g.CodeUntil, g.ByMail = true, provisioning.ExpiresAt, d.CodeByMail
	}
	return g, nil
}

// GetNext writes a grant for the user, starts Get mobile ID or joins the one that runs,
// and presses Next. mobileid.ErrMobileIDActive means that a mobile ID of the user is to
// be locked first.
func (d *Desk) GetNext(ctx context.Context, userID string) error {
	return d.ConfirmGet(ctx, userID, "")
}

// ConfirmGet is GetNext with an id of the request, which makes a repeat the same Next.
func (d *Desk) ConfirmGet(ctx context.Context, userID, requestID string) error {
	if d.Gets == nil {
		return errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	applicant := d.Gets.User(userID, "").Within(patience).Once(requestID)
	status, err := d.startGet(ctx, userID, applicant)
	if err != nil {
		return err
	}
	if status.Live != "" {
		return mobileid.AlreadyActive()
	}
	if _, err := applicant.Next(ctx); err != nil {
		return asUnreachable(err)
	}
	return nil
}

// startGet starts a Get with a new grant, or joins the one that runs.
func (d *Desk) startGet(ctx context.Context, userID string, applicant *client.Applicant) (client.GetStatus, error) {
	status, err := applicant.Status(ctx)
	running := err == nil && status.Phase != workflows.Closed && !status.Stopped
	if errors.Is(err, client.ErrNoWorker) {
		if running, err = applicant.Running(ctx); err != nil {
			return status, asUnreachable(err)
		}
	}
	if running {
		return status, nil // a new grant would take the ground from it
	}
	if err := d.grant(ctx, userID); err != nil {
		return client.GetStatus{}, err
	}
	if status, err = applicant.Start(ctx); err != nil {
		return client.GetStatus{}, asUnreachable(err)
	}
	return status, nil
}

// GetCancel presses Cancel. A Get that runs is closed, and what it has begun is taken
// back; mobileid.ErrAlreadyConfirmed means that it came too late. A lock that came
// before goes on, whatever becomes of this. stored means that no worker has answered:
// Cancel counts when one does, and nobody can tell now what it comes to.
func (d *Desk) GetCancel(ctx context.Context, userID string) (stored bool, err error) {
	return d.CancelGet(ctx, userID, "")
}

// CancelGet is GetCancel with an id of the request.
func (d *Desk) CancelGet(ctx context.Context, userID, requestID string) (stored bool, err error) {
	if d.Gets == nil {
		return false, errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	status, err := d.Gets.User(userID, "").Once(requestID).Cancel(ctx)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return false, nil // none runs
	}
	if err != nil {
		return false, asUnreachable(err)
	}
	return status.Stored, nil
}

// Code draws the QR code that the user can scan now, as a PNG. It is a secret of this
// user: who scans it gets the mobile ID. mobileid.ErrNoProvisioning means that there is
// none, or that it goes by mail.
func (d *Desk) Code(ctx context.Context, userID string) ([]byte, error) {
	provisioning, err := d.Provisioning(ctx, userID)
	if err != nil {
		return nil, err
	}
	return messaging.QR(provisioning.URI)
}

// Provisioning is what Code draws: its URI is the same secret.
func (d *Desk) Provisioning(ctx context.Context, userID string) (mobileid.Provisioning, error) {
	if d.CodeByMail || d.Gets == nil {
		return mobileid.Provisioning{}, mobileid.ErrNoProvisioning
	}
	return d.Store.ProvisioningOf(ctx, userID)
}
