package client

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/workflows"
)

// How old an answer of a process may become although nothing has happened. Who gets a
// mobile ID sits before the page with a phone.
const (
	askLockAgain = time.Minute
	askGetAgain  = 10 * time.Second
)

// look looks at one process again and again. To ask it is a task of a worker, and what it
// answers follows from its history; so it is asked again only if that has grown, if an
// activity waits for a worker (there may be none any more), or if the answer is old.
type look[S any] struct {
	temporal client.Client
	choices
	workflowID string
	again      time.Duration
	ask        func(ctx context.Context, runID string) (S, error)

	asked  time.Time // zero: there is no answer
	runID  string    // of which the answer is
	events int64     // of its history, before it was asked
	answer S
}

// status returns what the process has answered, and its description of now.
func (l *look[S]) status(ctx context.Context) (status S, description *workflowservice.DescribeWorkflowExecutionResponse, err error) {
	asking, cancel := context.WithTimeout(ctx, l.acceptWait)
	defer cancel()
	description, err = l.temporal.DescribeWorkflowExecution(asking, l.workflowID, "")
	switch {
	case unanswered(ctx, err):
		return status, nil, ErrNoWorker
	case gone(err):
		return status, nil, mobileid.NotFound()
	case err != nil:
		return status, nil, asRefusal(err, l.failures)
	}
	info, now := description.GetWorkflowExecutionInfo(), time.Now()
	runID, events := latest(description), info.GetHistoryLength()
	if l.runID == runID && l.events == events && now.Sub(l.asked) <= l.again && !waitsForWorker(description, now) {
		return l.answer, description, nil
	}
	l.asked = time.Time{}
	if l.answer, err = l.ask(ctx, runID); err != nil {
		return status, nil, err
	}
	l.asked, l.runID, l.events = time.Now(), runID, events
	return l.answer, description, nil
}

// endedOutside reports that a process has ended in a way in which none ends by itself: by
// somebody's hand, or by a limit of the server. One that was refused has failed, too; what
// it answers tells the two apart.
func endedOutside(description *workflowservice.DescribeWorkflowExecutionResponse) bool {
	switch description.GetWorkflowExecutionInfo().GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return true
	}
	return false
}

// latest is the run that a description is of.
func latest(description *workflowservice.DescribeWorkflowExecutionResponse) string {
	return description.GetWorkflowExecutionInfo().GetExecution().GetRunId()
}

// waitsForWorker reports that an activity is due, and no worker has taken it.
func waitsForWorker(description *workflowservice.DescribeWorkflowExecutionResponse, now time.Time) bool {
	for _, a := range description.GetPendingActivities() {
		next := a.GetNextAttemptScheduleTime()
		if a.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED && (next == nil || !next.AsTime().After(now)) {
			return true
		}
	}
	return false
}

// Look looks at one lock again and again, at less cost than Caller.Status: the process is
// asked only if there may be something new. It is for one goroutine.
type Look struct {
	caller   *Caller
	mobileID string
	look     look[Status]
}

// Look makes a Look.
func (c *Caller) Look(mobileID string) *Look {
	return &Look{caller: c, mobileID: mobileID, look: look[Status]{
		temporal: c.client.temporal, choices: c.client.choices, workflowID: workflows.LockWorkflowID(mobileID), again: askLockAgain,
		ask: func(ctx context.Context, runID string) (Status, error) { return c.query(ctx, mobileID, runID) },
	}}
}

// Status tells where the lock stands, as Caller.Status does. Steps are those of now.
func (l *Look) Status(ctx context.Context) (Status, error) {
	if err := mobileid.CheckID("mobileId", l.mobileID); err != nil {
		return Status{}, err
	}
	status, description, err := l.look.status(ctx)
	if err != nil {
		return Status{}, err
	}
	status.Steps = l.caller.client.steps(description)
	status.Stopped = status.Phase != workflows.Closed && endedOutside(description)
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

// GetLook looks at the Get of one user again and again, at less cost than
// Applicant.Status: the process is asked only if there may be something new. It is for
// one goroutine.
type GetLook struct{ look look[GetStatus] }

// Look makes a GetLook.
func (a *Applicant) Look() *GetLook {
	return &GetLook{look[GetStatus]{temporal: a.gets.temporal, choices: a.gets.choices, workflowID: a.id, again: askGetAgain, ask: a.query}}
}

// Status tells where the Get stands, as Applicant.Status does.
func (l *GetLook) Status(ctx context.Context) (GetStatus, error) {
	status, description, err := l.look.status(ctx)
	if err != nil {
		return GetStatus{}, err
	}
	status.Stopped = status.Phase != workflows.Closed && endedOutside(description)
	return status, nil
}
