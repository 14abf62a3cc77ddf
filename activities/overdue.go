package activities

import (
	"context"
	"fmt"
	"iter"
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
	// overdueAtMost bounds of how many locks one look tells at each step. The next look
	// goes on with those that nobody was told of.
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
	if len(a.Settings.Overdue) == 0 {
		return &WarnOverdueResult{}, nil
	}
	if !a.Settings.Attributes.Enabled {
		return &WarnOverdueResult{Unsearchable: true}, nil
	}
	look := overdueLook{WarnOverdueInput: in, temporal: activity.GetClient(ctx), teller: a.Overdue}
	result, err := look.all(ctx, time.Now(), a.Settings.Overdue)
	if err != nil {
		return nil, translate(err)
	}
	return result, nil
}

// overdueLook is a look at the locks that have passed one step, and not the next.
type overdueLook struct {
	WarnOverdueInput
	temporal client.Client
	teller   OverdueTeller
	// Next was before the one, and not before the other unless that is zero.
	before, after time.Time
}

// all looks at each step, from the longest.
func (l overdueLook) all(ctx context.Context, now time.Time, steps []time.Duration) (*WarnOverdueResult, error) {
	result := &WarnOverdueResult{Overdue: map[string]int{}, Told: map[string]int{}}
	for i, step := range slices.Backward(steps) {
		l.before = now.Add(-step)
		overdue, told, err := l.tell(ctx, steps[:i+1])
		if err != nil {
			return nil, err
		}
		result.Overdue[step.String()], result.Told[step.String()] = overdue, told
		l.after = l.before
	}
	return result, nil
}

// tell has operators told of locks that have passed the last of the steps. It returns how
// many have, and of how many of them they were told now.
func (l overdueLook) tell(ctx context.Context, steps []time.Duration) (overdue, told int, err error) {
	var untold []mobileid.OverdueLock
	for page, err := range l.pages(ctx) {
		if err != nil {
			return 0, 0, err
		}
		overdue += len(page)
		if len(untold) >= overdueAtMost {
			continue
		}
		news, err := l.teller.UntoldOverdue(ctx, steps[len(steps)-1], page)
		if err != nil {
			return 0, 0, err
		}
		untold = append(untold, news...)
	}
	if len(untold) == 0 {
		return overdue, 0, nil
	}
	slices.SortFunc(untold, func(a, b mobileid.OverdueLock) int { return a.RequestedAt.Compare(b.RequestedAt) })
	for i := range untold[:min(len(untold), overdueAsked)] {
		untold[i].NeedsOperator = untold[i].Phase == l.NeedsOperator
		untold[i].Why = l.whyWaiting(ctx, l.LockPrefix+untold[i].MobileID)
	}
	told, err = l.teller.WarnOverdue(ctx, mobileid.OverdueOrder{Thresholds: steps, Locks: untold})
	return overdue, told, err
}

// pages lists the locks. Temporal lists them in an order of its own.
func (l overdueLook) pages(ctx context.Context) iter.Seq2[[]mobileid.OverdueLock, error] {
	query := fmt.Sprintf("%s AND %s < '%s'", l.Query, l.RequestedAt, l.before.UTC().Format(time.RFC3339Nano))
	if !l.after.IsZero() {
		query += fmt.Sprintf(" AND %s >= '%s'", l.RequestedAt, l.after.UTC().Format(time.RFC3339Nano))
	}
	return func(yield func([]mobileid.OverdueLock, error) bool) {
		request := &workflowservice.ListWorkflowExecutionsRequest{Query: query}
		for {
			answer, err := l.temporal.ListWorkflow(ctx, request)
			if err != nil {
				yield(nil, fmt.Errorf("list overdue locks: %w", err))
				return
			}
			var page []mobileid.OverdueLock
			for _, e := range answer.GetExecutions() {
				if lock, ok := overdueLock(l.WarnOverdueInput, e); ok {
					page = append(page, lock)
				}
			}
			if !yield(page, nil) || len(answer.GetNextPageToken()) == 0 {
				return
			}
			request.NextPageToken = answer.GetNextPageToken()
		}
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
func (l overdueLook) whyWaiting(ctx context.Context, workflowID string) string {
	ctx, cancel := context.WithTimeout(ctx, overdueAskTime)
	defer cancel()
	var status struct {
		Needs string `json:"needs"`
	}
	if answer, err := l.temporal.QueryWorkflow(ctx, workflowID, "", l.StatusQuery); err == nil {
		_ = answer.Get(&status) // the other words do
	}
	if status.Needs != "" {
		return status.Needs
	}
	return lastFailure(ctx, l.temporal, workflowID)
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
