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
	defer g.insist(g.joined...)()
	for _, m := range g.locks {
		if m.State == mobileid.Registered {
			// Left behind by a Get that was terminated: one that runs would be this one.
			g.must(func() error {
				return g.abandon(m.ID, &mobileid.Failure{Type: mobileid.FailureConflict, Message: "its process was ended"})
			})
		}
		if m.State == mobileid.Active {
			continue
		}
		joined := false
		g.must(func() (err error) {
			joined, err = g.resumeLock(g.ctx, m.ID)
			return err
		})
		if joined {
			defer g.insist(func(ctx workflow.Context) (bool, error) { return g.resumeLock(ctx, m.ID) })()
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
		unless: func() bool { return g.given() != nil || g.notLocked != "" },
	}, nil)
	switch {
	case !errors.Is(err, errAborted):
		return err
	case g.given() != nil:
		return g.given()
	}
	return &mobileid.Failure{Type: mobileid.FailureMobileIDActive, Message: "the old mobile ID could not be locked: " + g.notLocked}
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
		joined, err := g.startLock(g.ctx, m.ID)
		if err != nil {
			return err
		}
		if joined {
			g.joined = append(g.joined, func(ctx workflow.Context) (bool, error) { return g.startLock(ctx, m.ID) })
		}
	}
	g.locking = true
	return nil
}

// insist has locks started again that ran already when they were wanted, until stop:
// one of them may have been about to close with nothing done, because it was refused
// or cancelled. It is enough for one to be this process's own, which is watched.
func (g *get) insist(starts ...func(workflow.Context) (joined bool, err error)) (stop func()) {
	ctx, stop := workflow.WithCancel(g.ctx)
	for _, start := range starts {
		workflow.Go(ctx, func(ctx workflow.Context) {
			// A lock goes on whatever becomes of this one's waiting.
			starting, _ := workflow.NewDisconnectedContext(ctx)
			for pause := joinPause; workflow.Sleep(ctx, pause) == nil; pause = min(2*pause, insistPause) {
				if joined, err := start(starting); err == nil && !joined {
					return
				}
			}
		})
	}
	return stop
}

const (
	// joinTries is how often a lock is joined that runs already: it may end between
	// the two steps of joining it.
	joinTries = 5
	joinPause = time.Second
	// insistPause is the longest pause between two tries of insist: they cost history.
	insistPause = time.Hour
)

// startLock starts a lock as a confirmed, abandoned child, and waits until it is
// started. If one runs already, it is sent Next, and joined.
func (g *get) startLock(ctx workflow.Context, mobileID string) (joined bool, err error) {
	id := LockWorkflowID(mobileID)
	for range joinTries {
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, abandonedChild(id, LockSummary(mobileID))), Lock, LockRequest{
			MobileID: mobileID, UserID: g.request.UserID, By: g.lockedBy.By, Confirmed: true,
		})
		var started workflow.Execution
		err = child.GetChildWorkflowExecution().Get(ctx, &started)
		if err == nil {
			g.lock = &Execution{WorkflowID: started.ID, RunID: started.RunID}
			g.watchLock(ctx, child)
			return false, nil
		}
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return false, err
		}
		g.lock = &Execution{WorkflowID: id}
		message := Message{UserID: g.request.UserID, By: g.lockedBy.By, Note: "asked for with a new mobile ID"}
		if err = workflow.SignalExternalWorkflow(ctx, id, "", Next, message).Get(ctx, nil); err == nil {
			return true, nil
		}
		if err := workflow.Sleep(ctx, joinPause); err != nil {
			return false, err
		}
	}
	return false, err
}

// watchLock notes why a lock has ended with nothing locked: waiting for its end would be
// for nothing. One that found the mobile ID locked already is as good as any.
func (g *get) watchLock(ctx workflow.Context, child workflow.ChildWorkflowFuture) {
	workflow.Go(ctx, func(ctx workflow.Context) {
		var result LockResult
		err := child.Get(ctx, &result)
		refusal := asRefusal(err)
		switch {
		case refusal != nil && refusal.Type != mobileid.TypeMobileIDNotActive:
			g.notLocked = refusal.Message
		case refusal == nil && (temporal.IsCanceledError(err) || err == nil && result.Outcome != OutcomeLocked):
			// Somebody cancelled it before its Next counted. Gets that did not look at that
			// go on waiting.
			if workflow.GetVersion(ctx, "a lock can be cancelled", workflow.DefaultVersion, 1) != workflow.DefaultVersion {
				g.notLocked = "its lock was cancelled"
			}
		}
	})
}

// resumeLock starts the lock that finishes what an earlier one, or this process, has
// begun. One that runs already does so by itself, if it comes to it, and is joined.
func (g *get) resumeLock(ctx workflow.Context, mobileID string) (joined bool, err error) {
	started, err := startConfirmedLock(ctx, LockRequest{MobileID: mobileID, UserID: g.request.UserID, By: Get, Resume: true})
	return !started && err == nil, err
}
