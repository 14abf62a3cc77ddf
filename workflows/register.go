package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Register registers every process under its symbolic name.
func Register(registry worker.WorkflowRegistry) {
	registry.RegisterWorkflowWithOptions(LockMobileID, workflow.RegisterOptions{Name: Lock})
	registry.RegisterWorkflowWithOptions(GetMobileID, workflow.RegisterOptions{Name: Get})
	registry.RegisterWorkflowWithOptions(LockMobileIDForOperator, workflow.RegisterOptions{Name: LockForOperator})
	registry.RegisterWorkflowWithOptions(Reconcile, workflow.RegisterOptions{Name: Reconciliation})
	registry.RegisterWorkflowWithOptions(WarnOfOverdue, workflow.RegisterOptions{Name: Overdue})
}
