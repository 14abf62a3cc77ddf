package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"mobileid/workflows"
)

// Listed is a lock in a list, from what Temporal shows without asking it.
type Listed struct {
	MobileID    string    `json:"mobileId"`
	Process     string    `json:"process"`
	Execution   string    `json:"execution"` // Running, Completed, Failed (refused), Canceled, Terminated
	Phase       string    `json:"phase,omitempty"`
	Outcome     string    `json:"outcome,omitempty"`
	RequestedAt time.Time `json:"requestedAt,omitzero"`
	StartedAt   time.Time `json:"startedAt"`
	ClosedAt    time.Time `json:"closedAt,omitzero"`
	RunID       string    `json:"runId"`
}

// ListFilter narrows a list down.
type ListFilter struct {
	Closed        bool          // also those that have ended
	NeedsOperator bool          // only those that wait for an operator; needs search attributes
	OverdueAfter  time.Duration // only those whose Next is longer ago; needs search attributes
	User          string        // only those of this owner, as search attribute MobileIdUser has it: plain or hashed
	Limit         int           // at most; 0: 1000
}

// Query is the filter in Temporal's list filter language, as temporal workflow list
// and tctl workflow list take it, too.
func (f ListFilter) Query(now time.Time) string {
	parts := []string{fmt.Sprintf("WorkflowType IN ('%s', '%s')", workflows.Lock, workflows.LockForOperator)}
	if !f.Closed {
		parts = append(parts, "ExecutionStatus = 'Running'")
	}
	if f.NeedsOperator {
		parts = append(parts, fmt.Sprintf("%s = '%s'", workflows.AttributePhase.GetName(), workflows.NeedsOperator))
	}
	if f.OverdueAfter > 0 {
		parts = append(parts, fmt.Sprintf("%s < '%s'", workflows.AttributeRequestedAt.GetName(), now.Add(-f.OverdueAfter).UTC().Format(time.RFC3339)))
	}
	if f.User != "" {
		parts = append(parts, fmt.Sprintf("%s = '%s'", workflows.AttributeUser.GetName(), quoted.Replace(f.User)))
	}
	return strings.Join(parts, " AND ")
}

// quoted keeps a value inside its quotes.
var quoted = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// List lists locks, for operators. Temporal's list lags a moment behind.
func (c *Client) List(ctx context.Context, filter ListFilter) ([]Listed, error) {
	limit := filter.Limit
	if limit <= 0 {
		limit = 1000
	}
	var list []Listed
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: filter.Query(time.Now())}
	for {
		page, err := c.temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list locks: %w", err)
		}
		for _, e := range page.GetExecutions() {
			if len(list) == limit {
				return list, nil
			}
			fields := e.GetSearchAttributes().GetIndexedFields()
			text := func(name string) (value string) {
				_ = converter.GetDefaultDataConverter().FromPayload(fields[name], &value) // not set: empty
				return value
			}
			listed := Listed{
				MobileID:  strings.TrimPrefix(e.GetExecution().GetWorkflowId(), workflows.LockWorkflowID("")),
				Process:   e.GetType().GetName(),
				Execution: e.GetStatus().String(),
				Phase:     text(workflows.AttributePhase.GetName()),
				Outcome:   text(workflows.AttributeOutcome.GetName()),
				StartedAt: e.GetStartTime().AsTime(),
				RunID:     e.GetExecution().GetRunId(),
			}
			if payload := fields[workflows.AttributeRequestedAt.GetName()]; payload != nil {
				_ = converter.GetDefaultDataConverter().FromPayload(payload, &listed.RequestedAt) // not set: zero
			}
			if e.GetCloseTime() != nil {
				listed.ClosedAt = e.GetCloseTime().AsTime()
			}
			list = append(list, listed)
		}
		if len(page.GetNextPageToken()) == 0 {
			return list, nil
		}
		request.NextPageToken = page.GetNextPageToken()
	}
}
