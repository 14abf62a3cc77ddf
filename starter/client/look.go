package client

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"mobileid"
	"mobileid/workflows"
)

// askAgain is how old an answer of the process may become although nothing has happened.
const askAgain = time.Minute

// Look looks at one lock again and again. To ask the process is a task of a worker, and
// what it answers follows from its history; so it is asked again only if that has grown,
// if something waits for a worker (there may be none any more), or if it was not asked
// for a minute. Steps are always those of now. It is for one goroutine.
type Look struct {
	caller   *Caller
	mobileID string

	asked  time.Time // zero: there is no answer
	runID  string    // of which the answer is
	events int64     // of its history, before it was asked
	answer Status
}

// Look makes a Look.
func (c *Caller) Look(mobileID string) *Look { return &Look{caller: c, mobileID: mobileID} }

// Status tells where the lock stands, as Caller.Status does.
func (l *Look) Status(ctx context.Context) (Status, error) {
	if err := mobileid.CheckID("mobileId", l.mobileID); err != nil {
		return Status{}, err
	}
	c := l.caller.client
	asking, cancel := context.WithTimeout(ctx, acceptWait)
	defer cancel()
	description, err := c.temporal.DescribeWorkflowExecution(asking, workflows.LockWorkflowID(l.mobileID), "")
	switch {
	case unanswered(ctx, err):
		return Status{}, ErrNoWorker
	case gone(err):
		return Status{}, mobileid.NotFound()
	case err != nil:
		return Status{}, asRefusal(err, c.failures)
	}
	steps := c.steps(description)
	runID, events := description.GetWorkflowExecutionInfo().GetExecution().GetRunId(), description.GetWorkflowExecutionInfo().GetHistoryLength()
	if l.runID != runID || l.events != events || time.Since(l.asked) > askAgain || waitForWorker(steps, time.Now()) {
		l.asked = time.Time{}
		if l.answer, err = l.caller.query(ctx, l.mobileID, runID); err != nil {
			return Status{}, err
		}
		l.asked, l.runID, l.events = time.Now(), runID, events
	}
	status := l.answer
	status.Steps = steps
	return status, nil
}

// steps are the activities under way.
func (c *Client) steps(description *workflowservice.DescribeWorkflowExecutionResponse) []Step {
	var steps []Step
	for _, a := range description.GetPendingActivities() {
		step := Step{
			ID:        a.GetActivityId(),
			State:     a.GetState().String(),
			Attempt:   a.GetAttempt(),
			LastError: c.lastError(a.GetLastFailure()),
		}
		if next := a.GetNextAttemptScheduleTime(); next != nil {
			step.NextTry = next.AsTime()
		}
		steps = append(steps, step)
	}
	return steps
}

// waitForWorker reports that one of the steps is due, and no worker has taken it.
func waitForWorker(steps []Step, now time.Time) bool {
	for _, s := range steps {
		if s.State == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED.String() && !s.NextTry.After(now) {
			return true
		}
	}
	return false
}
