package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"mobileid"
)

// WarnOverdueName is the name of the activity that tells operators of overdue locks.
const WarnOverdueName = "WarnOverdue"

// OverdueTeller tells operators of locks that take too long, once per lock and
// threshold.
type OverdueTeller interface {
	// UntoldOverdue returns those of some locks of which nobody was told yet that they
	// have passed a threshold.
	UntoldOverdue(ctx context.Context, threshold time.Duration, locks []mobileid.OverdueLock) ([]mobileid.OverdueLock, error)
	// WarnOverdue has operators told, and returns of how many locks they were not told
	// before.
	WarnOverdue(ctx context.Context, order mobileid.OverdueOrder) (told int, err error)
}

// WarnOverdueInput is what WarnOverdue needs to know of the processes.
type WarnOverdueInput struct {
	Query       string `json:"query"` // for the locks under way that can be overdue
	RequestedAt string `json:"requestedAt"`
	Phase       string `json:"phase"` // search attributes
	LockPrefix  string `json:"lockPrefix"`
	StatusQuery string `json:"statusQuery"`
	// NeedsOperator is the phase of a lock that goes on when an operator says so.
	NeedsOperator string `json:"needsOperator"`
}

// WarnOverdueResult is how many locks are overdue, and how many of them are news, by
// the text of the threshold. A lock counts as news at the last threshold that it has
// passed.
type WarnOverdueResult struct {
	Overdue map[string]int `json:"overdue,omitempty"`
	Told    map[string]int `json:"told,omitempty"`
	// Unsearchable reports that nothing could be looked for, because no search
	// attributes are set.
	Unsearchable bool `json:"unsearchable,omitempty"`
}

const (
	// overdueAtMost bounds how many locks one look takes in. The oldest come first when
	// they are told of; the next look goes on.
	overdueAtMost = 5_000
	// overdueAsked is how many locks of a threshold are asked why they wait: as many as a
	// mail lists.
	overdueAsked = 20
	// overdueAskTime bounds one question to a lock.
	overdueAskTime = 2 * time.Second
)

// WarnOverdue looks for locks that are longer under way than the configured steps, and
// has operators told once of each step that a lock has passed. A lock that has passed
// several since the last look is told of once, at the last of them.
func (a *Activities) WarnOverdue(ctx context.Context, in WarnOverdueInput) (*WarnOverdueResult, error) {
	defer heartbeat(ctx, nothing)()
	result := &WarnOverdueResult{Overdue: map[string]int{}, Told: map[string]int{}}
	steps := a.Settings.Overdue
	if len(steps) == 0 {
		return result, nil
	}
	if !a.Settings.Attributes.Enabled {
		return &WarnOverdueResult{Unsearchable: true}, nil
	}
	now := time.Now()
	locks, err := listOverdue(ctx, in, now.Add(-steps[0]))
	if err != nil {
		return nil, err
	}
	for i := len(steps) - 1; i >= 0; i-- {
		var passed []mobileid.OverdueLock // this step, and not the next
		locks = slices.DeleteFunc(locks, func(l mobileid.OverdueLock) bool {
			late := now.Sub(l.RequestedAt) > steps[i]
			if late {
				passed = append(passed, l)
			}
			return late
		})
		text := steps[i].String()
		result.Overdue[text] = len(passed)
		told, err := a.tellOverdue(ctx, in, steps[:i+1], passed)
		if err != nil {
			return nil, translate(err)
		}
		result.Told[text] = told
	}
	return result, nil
}

// tellOverdue has operators told of locks that have passed the last of the steps.
func (a *Activities) tellOverdue(ctx context.Context, in WarnOverdueInput, steps []time.Duration, passed []mobileid.OverdueLock) (int, error) {
	untold, err := a.Overdue.UntoldOverdue(ctx, steps[len(steps)-1], passed)
	if err != nil || len(untold) == 0 {
		return 0, err
	}
	slices.SortFunc(untold, func(a, b mobileid.OverdueLock) int { return a.RequestedAt.Compare(b.RequestedAt) })
	for i := range untold[:min(len(untold), overdueAsked)] {
		untold[i].NeedsOperator = untold[i].Phase == in.NeedsOperator
		untold[i].Why = whyWaiting(ctx, in, in.LockPrefix+untold[i].MobileID)
	}
	return a.Overdue.WarnOverdue(ctx, mobileid.OverdueOrder{Thresholds: steps, Locks: untold})
}

// listOverdue lists the locks whose Next is before a time.
func listOverdue(ctx context.Context, in WarnOverdueInput, before time.Time) ([]mobileid.OverdueLock, error) {
	temporal := activity.GetClient(ctx)
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("%s AND %s < '%s'", in.Query, in.RequestedAt, before.UTC().Format(time.RFC3339Nano)),
	}
	var locks []mobileid.OverdueLock
	for {
		page, err := temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list overdue locks: %w", err)
		}
		for _, e := range page.GetExecutions() {
			if lock, ok := overdueLock(in, e); ok && len(locks) < overdueAtMost {
				locks = append(locks, lock)
			}
		}
		if len(page.GetNextPageToken()) == 0 || len(locks) == overdueAtMost {
			return locks, nil
		}
		request.NextPageToken = page.GetNextPageToken()
	}
}

// overdueLock reads what Temporal shows of a lock. Search attributes are never
// encrypted.
func overdueLock(in WarnOverdueInput, e *workflowpb.WorkflowExecutionInfo) (lock mobileid.OverdueLock, ok bool) {
	id, isLock := strings.CutPrefix(e.GetExecution().GetWorkflowId(), in.LockPrefix)
	read := func(payload *commonpb.Payload, into any) error {
		return converter.GetDefaultDataConverter().FromPayload(payload, into)
	}
	fields := e.GetSearchAttributes().GetIndexedFields()
	lock.MobileID = id
	_ = read(fields[in.Phase], &lock.Phase) // not set: empty
	if !isLock || fields[in.RequestedAt] == nil || read(fields[in.RequestedAt], &lock.RequestedAt) != nil {
		return lock, false
	}
	return lock, true
}

// whyWaiting says what a lock waits for, as far as it can be learned in short time: what
// an operator should do, or what the step under way last failed with. It is no reason
// not to tell of the lock that it cannot.
func whyWaiting(ctx context.Context, in WarnOverdueInput, workflowID string) string {
	ctx, cancel := context.WithTimeout(ctx, overdueAskTime)
	defer cancel()
	temporal := activity.GetClient(ctx)
	var status struct {
		Needs string `json:"needs"`
	}
	if answer, err := temporal.QueryWorkflow(ctx, workflowID, "", in.StatusQuery); err == nil {
		_ = answer.Get(&status) // the other words do
	}
	if status.Needs != "" {
		return status.Needs
	}
	return lastFailure(ctx, temporal, workflowID)
}

// lastFailure is what the steps of a process last failed with. Words that are encrypted
// stay so: a mail is not.
func lastFailure(ctx context.Context, temporal client.Client, workflowID string) string {
	description, err := temporal.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return ""
	}
	var words []string
	for _, step := range description.GetPendingActivities() {
		failure := step.GetLastFailure()
		if failure == nil {
			continue
		}
		said := failure.GetMessage()
		if failure.GetEncodedAttributes() != nil {
			said = "its words are encrypted"
		}
		words = append(words, fmt.Sprintf("%s, try %d: %s", step.GetActivityId(), step.GetAttempt(), said))
	}
	return strings.Join(words, "; ")
}
