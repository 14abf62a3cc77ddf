package checker

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// The processes, and what their ids begin with.
const (
	lockPrefix = "MobileIDSelfServiceProcLock/"
	getPrefix  = "MobileIDSelfServiceProcGet/"
)

// run is one of a process, by its history.
type run struct {
	id, runID string
	mobileID  string // of a lock
	open      bool
	started   time.Time
	closed    time.Time
	refusal   string // the type of the failure with which it ended
	result    *status
	next      time.Time // of the first Next
	cancel    time.Time // of the first Cancel, or Request Cancellation
	tasks     int       // workflow tasks that had ended when the event under way came
	nextTask  int       // the task that took the first Next
	cancelled int       // the task that took the first Cancel
	locked    time.Time // when the first activity after Next had ended
	events    int
}

// accepts reports that the run took a Next: it has one, none to cancel came in an
// earlier workflow task, and the request was not refused. Of those that come in one task
// Next is to count, but as updates and signals mixed either may come first.
func (r *run) accepts() bool {
	switch {
	case r.next.IsZero() || r.refusal != "":
		return false
	case r.cancel.IsZero() || r.nextTask < r.cancelled:
		return true
	case r.nextTask == r.cancelled:
		return !r.outcome(outcomeCancelled)
	}
	return false
}

func (r *run) outcome(outcome string) bool { return r.result != nil && r.result.Outcome == outcome }

// during reports that the run was under way all the time between two moments.
func (r *run) during(from, to time.Time) bool {
	return r.started.Before(from) && (r.open || r.closed.After(to))
}

func (c *check) readHistories(ctx context.Context) error {
	c.locks = map[string][]*run{}
	var page []byte
	for {
		answer, err := c.History.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: c.Namespace, PageSize: 500, NextPageToken: page})
		if err != nil {
			return err
		}
		for _, e := range answer.GetExecutions() {
			r := &run{
				id: e.GetExecution().GetWorkflowId(), runID: e.GetExecution().GetRunId(),
				open: e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
			}
			if id, is := strings.CutPrefix(r.id, lockPrefix); is {
				r.mobileID = id
				c.locks[id] = append(c.locks[id], r)
				c.runs = append(c.runs, r)
			} else if strings.HasPrefix(r.id, getPrefix) {
				c.gets = append(c.gets, r)
				c.runs = append(c.runs, r)
			}
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			break
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	var mu sync.Mutex
	for _, r := range c.runs {
		group.Go(func() error {
			err := c.readHistory(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			c.report.Histories++
			c.report.Events += r.events
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var toLocked, toRevoked []time.Duration
	for _, r := range c.runs {
		if r.mobileID == "" || !r.accepts() || !r.outcome(stateLocked) {
			continue
		}
		if !r.locked.IsZero() {
			toLocked = append(toLocked, r.locked.Sub(r.next))
		}
		toRevoked = append(toRevoked, r.closed.Sub(r.next))
	}
	c.report.ToLocked, c.report.ToRevoked = distribution(toLocked), distribution(toRevoked)
	return nil
}

func (c *check) readHistory(ctx context.Context, r *run) error {
	var page []byte
	for {
		answer, err := c.History.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace: c.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.runID}, NextPageToken: page,
		})
		if err != nil {
			return err
		}
		for _, event := range answer.GetHistory().GetEvents() {
			r.events++
			if err := r.read(event); err != nil {
				return err
			}
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}

// read takes what counts from an event.
func (r *run) read(event *historypb.HistoryEvent) error {
	at := event.GetEventTime().AsTime()
	messageIn := func(name string, task int) {
		switch {
		case name == "next" && r.next.IsZero():
			r.next, r.nextTask = at, task
		case name == "cancel" && r.cancel.IsZero():
			r.cancel, r.cancelled = at, task
		}
	}
	message := func(name string) { messageIn(name, r.tasks) }
	switch event.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		r.started = at
		var input struct {
			Confirmed bool `json:"confirmed"`
		}
		if err := decode(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), &input); err != nil {
			return err
		}
		if input.Confirmed {
			message("next")
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		message(event.GetWorkflowExecutionSignaledEventAttributes().GetSignalName())
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		// It is written when the task that took it has ended.
		messageIn(event.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput().GetName(), r.tasks-1)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		message("cancel")
	case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		r.tasks++
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		if !r.next.IsZero() && r.locked.IsZero() {
			r.locked = at
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		r.closed, r.result = at, &status{}
		return decode(event.GetWorkflowExecutionCompletedEventAttributes().GetResult(), r.result)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		r.closed = at
		r.refusal = event.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetApplicationFailureInfo().GetType()
		if r.refusal == "" {
			r.refusal = "failed"
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		r.closed, r.result = at, &status{Outcome: outcomeCancelled}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		r.closed, r.refusal = at, event.GetEventType().String()
	}
	return nil
}

// decode reads the first payload, which is JSON and not encrypted here.
func decode(payloads *commonpb.Payloads, into any) error {
	if len(payloads.GetPayloads()) == 0 {
		return nil
	}
	return json.Unmarshal(payloads.GetPayloads()[0].GetData(), into)
}
