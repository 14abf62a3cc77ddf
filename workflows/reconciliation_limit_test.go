package workflows_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
	"mobileid/workflows"
)

// What a reconciliation can do nothing about is found by each one, and keeps none from
// what stands behind it: locks under way are many after a mass lock whose CA is down.
func TestReconciliationGoesBeyondWhatItCanDoNothingAbout(t *testing.T) {
	for name, test := range map[string]struct {
		found     []activities.FoundUnfinished
		endedMore bool // there are more ended locks than one step finds

		listed, unlisted, started int
		more                      bool
		compared                  bool
	}{
		"nothing":                              {compared: true},
		"as many under way as are listed":      {found: unfinished(500, underWay), listed: 500, compared: true},
		"more under way than are listed":       {found: unfinished(700, underWay), listed: 500, unlisted: 200, compared: true},
		"something to start behind them":       {found: append(unfinished(700, underWay), unfinished(100, left)...), listed: 600, unlisted: 200, started: 100, compared: true},
		"what only an operator can decide":     {found: append(unfinished(600, forOperator), unfinished(1, left)...), listed: 501, unlisted: 100, started: 1, compared: true},
		"as many to start as one takes on":     {found: unfinished(500, left), listed: 500, started: 500, compared: true},
		"more to start than one takes on":      {found: unfinished(501, left), listed: 500, started: 500, more: true},
		"more have ended than one step finds":  {endedMore: true, more: true, compared: true},
		"under way, and more to start than so": {found: append(unfinished(10, underWay), unfinished(501, left)...), listed: 510, started: 500, more: true},
	} {
		t.Run(name, func(t *testing.T) {
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestWorkflowEnvironment()
			env.RegisterWorkflowWithOptions(workflows.Reconcile, workflow.RegisterOptions{Name: workflows.Reconciliation})
			env.RegisterWorkflowWithOptions(func(workflow.Context, workflows.LockRequest) error { return nil }, workflow.RegisterOptions{Name: workflows.LockForOperator})
			compared := false
			for name, run := range map[string]any{
				activities.FindUnfinishedName: func(_ context.Context, in activities.FindUnfinishedInput) (*activities.FindUnfinishedResult, error) {
					return pageOf(test.found, in), nil
				},
				activities.FindEndedName: func(context.Context, activities.FindEndedInput) (*activities.FindEndedResult, error) {
					return &activities.FindEndedResult{More: test.endedMore}, nil
				},
				activities.CompareRevokedName: func(context.Context, activities.CompareRevokedInput) (*activities.CompareRevokedResult, error) {
					compared = true
					return &activities.CompareRevokedResult{}, nil
				},
			} {
				env.RegisterActivityWithOptions(run, activity.RegisterOptions{Name: name})
			}
			env.ExecuteWorkflow(workflows.Reconciliation, workflows.ReconcileRequest{})
			require.NoError(t, env.GetWorkflowError())
			var result workflows.ReconcileResult
			require.NoError(t, env.GetWorkflowResult(&result))
			started := 0
			for _, f := range result.Findings {
				if f.Action == workflows.ActionStarted {
					started++
				}
			}
			require.Len(t, result.Findings, test.listed)
			require.Equal(t, test.unlisted, result.Unlisted)
			require.Equal(t, test.started, started)
			require.Equal(t, test.more, result.More)
			require.Equal(t, test.compared, compared)
		})
	}
}

func underWay(f *activities.FoundUnfinished) { f.State, f.Running = mobileid.Locked, true }
func left(f *activities.FoundUnfinished)     { f.State = mobileid.Locked }
func forOperator(f *activities.FoundUnfinished) {
	f.State, f.Problem = mobileid.Inactive, mobileid.ProblemNotLocked
}

// unfinished makes so many of a kind.
func unfinished(n int, kind func(*activities.FoundUnfinished)) []activities.FoundUnfinished {
	found := make([]activities.FoundUnfinished, n)
	for i := range found {
		found[i].Problem = mobileid.ProblemNotRevoked
		kind(&found[i])
		found[i].MobileID = fmt.Sprintf("mid-%s-%t-%d", found[i].State, found[i].Running, i)
		found[i].WorkflowID = workflows.LockWorkflowID(found[i].MobileID)
	}
	return found
}

// pageOf is what one step finds of all that there is.
func pageOf(all []activities.FoundUnfinished, in activities.FindUnfinishedInput) *activities.FindUnfinishedResult {
	begin := 0
	for i, f := range all {
		if f.MobileID == in.After {
			begin = i + 1
		}
	}
	end := min(begin+in.Limit, len(all))
	page := &activities.FindUnfinishedResult{Found: all[begin:end]}
	if end < len(all) {
		page.Next = all[end-1].MobileID
	}
	return page
}
