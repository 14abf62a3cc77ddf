package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mobileid"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// phoneOptions are how phones of the run work.
type phoneOptions = phone.Options

// The calls of a Get, as the checker reads them.
const (
	callGrant    = "grant"
	callGetStart = "get-start"
	callGetLock  = "get-lock" // of the old mobile ID, which is a Next for it
	callGetNext  = "get-next"
	callGetEnd   = "get-end"
)

const (
	mostGets = 6               // how often a person begins anew
	getTime  = 4 * time.Minute // for one of them
)

// errNoMobileID means that a Get came to nothing, and was taken back.
var errNoMobileID = errors.New("it came to no mobile ID")

// getAnother replaces the mobile ID of a person by one on a phone. What comes to
// nothing is begun anew.
func (c *crowd) getAnother(ctx context.Context, p person) error {
	var err error
	for range mostGets {
		if err = c.getOnce(ctx, p); err == nil || ctx.Err() != nil {
			return err
		}
		sleep(ctx, pauseBetween)
	}
	return fmt.Errorf("the Get of %s: %w", p.userID, err)
}

func (c *crowd) getOnce(ctx context.Context, p person) error {
	ctx, cancel := context.WithTimeout(ctx, getTime)
	defer cancel()
	me := c.gets.User(p.userID, "").Within(callPatience / 2)
	if status, err := me.Status(ctx); err != nil || status.Phase == workflows.Closed {
		if err := c.insist(ctx, p, callGrant, func(ctx context.Context) (any, error) {
			_, err := c.store.EnsureGrant(ctx, p.userID, "chaos", time.Hour, time.Hour/2)
			return nil, err
		}); err != nil {
			return err
		}
		if err := c.insist(ctx, p, callGetStart, got(me.Start)); err != nil {
			return err
		}
	}
	// What is answered with Stored is waited for.
	status, err := me.Wait(ctx, nil, func(s client.GetStatus) bool { return s.Phase != workflows.Validating })
	if err != nil {
		return err
	}
	if status.Phase == workflows.Closed {
		return errNoMobileID // it was an earlier one, and has ended meanwhile
	}
	if status.Live != "" {
		// It may be one of an earlier Get, whose end this client never heard of.
		old := p
		old.mobileID = status.Live
		if err := c.insist(ctx, old, callGetLock, got(me.LockFirst)); err != nil {
			return err
		}
	}
	if err := c.insist(ctx, p, callGetNext, got(me.Next)); err != nil {
		return err
	}
	issued, err := me.Wait(ctx, nil, func(s client.GetStatus) bool {
		return s.Phase == workflows.AwaitingPhone || s.Phase == workflows.Closed || s.Failure != nil
	})
	if err != nil {
		return err
	}
	scanning, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.scan(scanning, p, issued)
	}()
	end, err := me.WaitClosed(ctx, nil)
	stop()
	<-done
	if err != nil {
		return err
	}
	err = c.ask(ctx, p, callGetEnd, func(context.Context) (any, error) { return end, nil })
	if err == nil && end.Outcome != workflows.OutcomeActive {
		return errNoMobileID
	}
	return err
}

// scan shows the code to a phone, unless there is none any more. A phone that fails
// is one that does not answer.
func (c *crowd) scan(ctx context.Context, p person, status client.GetStatus) {
	if status.Phase != workflows.AwaitingPhone {
		return
	}
	for ctx.Err() == nil {
		provisioning, err := c.store.ProvisioningOf(ctx, p.userID)
		if errors.Is(err, mobileid.ErrNoProvisioning) {
			return
		}
		if err == nil {
			_, _ = phone.Scan(ctx, provisioning.URI, c.phone)
			return
		}
		sleep(ctx, pauseBetween)
	}
}

// got makes a call of a Get one that is kept.
func got(act func(context.Context) (client.GetStatus, error)) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		status, err := act(ctx)
		if err != nil {
			return nil, err
		}
		return status, nil
	}
}
