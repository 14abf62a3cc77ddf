package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"

	"mobileid"
)

// Names of the activities of reconciliation.
const (
	FindUnfinishedName = "FindUnfinished"
	FindEndedName      = "FindEnded"
)

// UnfinishedFinder looks for what a process has left between two states.
type UnfinishedFinder interface {
	// Unfinished looks at some mobile IDs behind the id after, and says where to go
	// on: empty at the end.
	Unfinished(ctx context.Context, after string, registeredBefore time.Time) (found []mobileid.Unfinished, next string, err error)
}

// FindUnfinishedInput is what FindUnfinished needs.
type FindUnfinishedInput struct {
	After            string    `json:"after"` // where to begin
	RegisteredBefore time.Time `json:"registeredBefore"`
	// LockPrefix before the id of a mobile ID is the workflow id of its lock.
	LockPrefix string `json:"lockPrefix"`
	Limit      int    `json:"limit"` // ends once so many are found
}

// FoundUnfinished is an unfinished mobile ID, and whether a process is at it.
type FoundUnfinished struct {
	mobileid.Unfinished
	Running bool `json:"running,omitempty"`
}

// FindUnfinishedResult is what was found, and where to go on: empty at the end.
type FindUnfinishedResult struct {
	Found []FoundUnfinished `json:"found"`
	Next  string            `json:"next,omitempty"`
}

// FindUnfinished looks in Identity Manager for mobile IDs that a process has left
// between two states, and asks Temporal whether one is at them still.
func (a *Activities) FindUnfinished(ctx context.Context, in FindUnfinishedInput) (*FindUnfinishedResult, error) {
	result := FindUnfinishedResult{Next: in.After}
	defer heartbeat(ctx, nothing)()
	for len(result.Found) < in.Limit {
		found, next, err := a.Unfinished.Unfinished(ctx, result.Next, in.RegisteredBefore)
		if err != nil {
			return nil, translate(err)
		}
		for _, u := range found {
			if u.WorkflowID == "" {
				u.WorkflowID = in.LockPrefix + u.MobileID
			}
			running, err := isRunning(ctx, u.WorkflowID)
			if err != nil {
				return nil, err
			}
			result.Found = append(result.Found, FoundUnfinished{Unfinished: u, Running: running})
		}
		result.Next = next
		if next == "" {
			break
		}
	}
	return &result, nil
}

// isRunning asks Temporal whether a process runs.
func isRunning(ctx context.Context, workflowID string) (bool, error) {
	temporal := activity.GetClient(ctx)
	description, err := temporal.DescribeWorkflowExecution(ctx, workflowID, "")
	var notFound *serviceerror.NotFound
	switch {
	case errors.As(err, &notFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask for process %s: %w", workflowID, err)
	}
	return description.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// FindEndedInput is what FindEnded needs.
type FindEndedInput struct {
	Query      string `json:"query"`      // for the locks that have ended after Next
	LockPrefix string `json:"lockPrefix"` // of their workflow ids
	Limit      int    `json:"limit"`
}

// FindEndedResult is what was found.
type FindEndedResult struct {
	Found []FoundUnfinished `json:"found"`
	// More reports that there are more than the limit.
	More bool `json:"more,omitempty"`
	// Unsearchable reports that nothing could be looked for, because the search
	// attributes are not registered.
	Unsearchable bool `json:"unsearchable,omitempty"`
}

// FindEnded asks Temporal for locks that have ended after Next, and returns those whose
// mobile ID is not locked: locked is final, so somebody with power over the namespace
// has ended the process before, or the store was restored to a time before.
func (a *Activities) FindEnded(ctx context.Context, in FindEndedInput) (*FindEndedResult, error) {
	defer heartbeat(ctx, nothing)()
	temporal := activity.GetClient(ctx)
	var result FindEndedResult
	seen := map[string]bool{}
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: in.Query}
	for {
		page, err := temporal.ListWorkflow(ctx, request)
		var invalid *serviceerror.InvalidArgument
		if errors.As(err, &invalid) {
			return &FindEndedResult{Unsearchable: true}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list ended locks: %w", err)
		}
		for _, e := range page.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			if seen[id] {
				continue
			}
			seen[id] = true
			found, err := a.endedUnlocked(ctx, id, strings.TrimPrefix(id, in.LockPrefix))
			if err != nil {
				return nil, err
			}
			if len(found) > 0 && len(result.Found) == in.Limit {
				result.More = true
				return &result, nil
			}
			result.Found = append(result.Found, found...)
		}
		if len(page.GetNextPageToken()) == 0 {
			return &result, nil
		}
		request.NextPageToken = page.GetNextPageToken()
	}
}

// endedUnlocked is the mobile ID of an ended lock, if that is not locked.
func (a *Activities) endedUnlocked(ctx context.Context, workflowID, mobileID string) ([]FoundUnfinished, error) {
	m, err := a.IM.MobileID(ctx, mobileID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, translate(err)
	}
	if m.State != mobileid.Active && m.State != mobileid.Inactive {
		return nil, nil
	}
	running, err := isRunning(ctx, workflowID)
	if err != nil {
		return nil, err
	}
	return []FoundUnfinished{{
		Unfinished: mobileid.Unfinished{
			MobileID: m.ID, UserID: m.Owner.ID, State: m.State, Problem: mobileid.ProblemNotLocked, WorkflowID: workflowID,
		},
		Running: running,
	}}, nil
}
