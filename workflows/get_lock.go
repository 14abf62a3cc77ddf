package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// clearTheWay sees that no mobile ID of the user is live before a new one is made:
// active, or with a certificate that is not revoked at its CA.
func (g *get) clearTheWay() error {
	if len(g.locks) == 0 {
		return nil
	}
	g.show(LockingOld)
	if err := g.startLocks(); err != nil {
		return &mobileid.Failure{Type: mobileid.FailureMobileIDActive, Message: "the old mobile ID could not be locked: " + words(err)}
	}
	for _, m := range g.locks {
		if m.State == mobileid.Registered {
			// Left behind by a Get that was terminated: one that runs would be this one.
			g.must(func() error {
				return g.abandon(m.ID, &mobileid.Failure{Type: mobileid.FailureConflict, Message: "its process was ended"})
			})
		}
		if m.State != mobileid.Active {
			g.must(func() error { return g.resumeLock(m.ID) })
		}
	}
	return g.awaitNoneLive()
}

// awaitNoneLive waits until Identity Manager says that nothing is live, which it
// never does before the CAs do. That may take as long as a CA is down.
func (g *get) awaitNoneLive() error {
	err := g.perform(g.ctx, step{
		id: "await-none-live", summary: "Wait until the old mobile ID is locked and revoked", options: withIdentityManager,
		name: activities.AwaitNoneLiveName, input: activities.AwaitNoneLiveInput{UserID: g.request.UserID},
		unless: func() bool { return g.given() != nil || g.lockRefusal != nil },
	}, nil)
	switch {
	case !errors.Is(err, errAborted):
		return err
	case g.given() != nil:
		return g.given()
	}
	return &mobileid.Failure{Type: mobileid.FailureMobileIDActive, Message: "the old mobile ID could not be locked: " + g.lockRefusal.Message}
}

// startLocks starts the locks of the active mobile IDs that stand in the way, or
// joins those that run. Each goes on by itself, whatever becomes of this Get.
func (g *get) startLocks() error {
	if g.locking {
		return nil
	}
	for _, m := range g.locks {
		if m.State != mobileid.Active {
			continue
		}
		if err := g.startLock(m.ID); err != nil {
			return err
		}
	}
	g.locking = true
	return nil
}

const (
	// joinTries is how often a lock is joined that runs already: it may end between
	// the two steps of joining it.
	joinTries = 5
	joinPause = time.Second
)

// startLock starts a lock as a confirmed, abandoned child, and waits until it is
// started. If one runs already, it is sent Next.
func (g *get) startLock(mobileID string) error {
	id := LockWorkflowID(mobileID)
	var err error
	for range joinTries {
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(g.ctx, abandonedChild(id, LockSummary(mobileID))), Lock, LockRequest{
			MobileID: mobileID, UserID: g.request.UserID, By: g.lockedBy.By, Confirmed: true,
		})
		var started workflow.Execution
		err = child.GetChildWorkflowExecution().Get(g.ctx, &started)
		if err == nil {
			g.lock = &Execution{WorkflowID: started.ID, RunID: started.RunID}
			g.watchLock(child)
			return nil
		}
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return err
		}
		g.lock = &Execution{WorkflowID: id}
		message := Message{UserID: g.request.UserID, By: g.lockedBy.By, Note: "asked for with a new mobile ID"}
		if err = workflow.SignalExternalWorkflow(g.ctx, id, "", Next, message).Get(g.ctx, nil); err == nil {
			return nil
		}
		if err := workflow.Sleep(g.ctx, joinPause); err != nil {
			return err
		}
	}
	return err
}

// watchLock notes that a lock was refused: waiting for its end would be for nothing.
// One that found the mobile ID locked already is as good as any.
func (g *get) watchLock(child workflow.ChildWorkflowFuture) {
	workflow.Go(g.ctx, func(ctx workflow.Context) {
		refusal := asRefusal(child.Get(ctx, nil))
		if refusal != nil && refusal.Type != mobileid.TypeMobileIDNotActive {
			g.lockRefusal = refusal
		}
	})
}

// resumeLock starts the lock that finishes what an earlier one, or this process, has
// begun. One that runs already does so by itself.
func (g *get) resumeLock(mobileID string) error {
	_, err := startConfirmedLock(g.ctx, LockRequest{MobileID: mobileID, UserID: g.request.UserID, By: Get, Resume: true})
	return err
}
