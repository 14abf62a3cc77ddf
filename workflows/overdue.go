package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"mobileid/activities"
)

// Overdue is the process that tells operators of locks that are longer under way than
// they should be. It runs by a schedule of the same name, often enough for the first
// step of the clock.
const Overdue = "MobileIDOverdue"

// OverdueSummary is what Temporal's lists show of it.
const OverdueSummary = "Tell operators of locks that take too long"

// WarnOfOverdue is the process Overdue. Its result is how many locks are overdue, and
// of how many operators were told.
func WarnOfOverdue(ctx workflow.Context) (*activities.WarnOverdueResult, error) {
	in := activities.WarnOverdueInput{
		Query:         OverdueQuery(),
		RequestedAt:   AttributeRequestedAt.GetName(),
		Phase:         AttributePhase.GetName(),
		LockPrefix:    LockWorkflowID(""),
		StatusQuery:   StatusQuery,
		NeedsOperator: string(NeedsOperator),
	}
	var result activities.WarnOverdueResult
	err := workflow.ExecuteActivity(withReconciliation(ctx, "warn", OverdueSummary), activities.WarnOverdueName, in).Get(ctx, &result)
	if err != nil {
		return nil, err
	}
	return &result, nil
}

// OverdueQuery finds the locks under way that can be overdue. One in publishing has
// reached its three end states and only waits until others see it, which with a CRL
// takes hours by nature: nothing is stuck.
func OverdueQuery() string {
	return fmt.Sprintf("WorkflowType IN ('%s', '%s') AND ExecutionStatus = 'Running' AND %s != '%s'",
		Lock, LockForOperator, AttributePhase.GetName(), Publishing)
}
