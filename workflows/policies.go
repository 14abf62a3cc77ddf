package workflows

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid/activities"
)

// heartbeatTimeout is how soon the engine notices that the worker of a step died.
// Activities heartbeat every two seconds once they take longer than that.
const heartbeatTimeout = 10 * time.Second

// untilItSucceeds retries tightly in the first minute (1, 1.5, 2.3, ... seconds)
// and then backs off to five minutes. There is no end: giving up would leave a
// live certificate that nobody remembers.
func untilItSucceeds() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{
		InitialInterval:    time.Second,
		BackoffCoefficient: 1.5,
		MaximumInterval:    5 * time.Minute,
	}
}

// withinTask is for what can be done inside the workflow task: two tries within
// five seconds, because longer ones would grow the history.
func withinTask(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    2 * time.Second,
		ScheduleToCloseTimeout: 5 * time.Second,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumAttempts: 2},
		Summary:                summary,
	})
}

// withValidate is for the validation as a step of its own.
func withValidate(ctx workflow.Context, id, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:          id,
		Summary:             summary,
		StartToCloseTimeout: 30 * time.Second,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		RetryPolicy:         untilItSucceeds(),
	})
}

// withIdentityManager is for a transaction in Identity Manager.
func withIdentityManager(ctx workflow.Context, id, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:          id,
		Summary:             summary,
		StartToCloseTimeout: time.Minute,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		RetryPolicy:         untilItSucceeds(),
	})
}

// callsPerCertificate is how many calls to the CA one certificate can take:
// status, request, status again, OCSP, CRL.
const callsPerCertificate = 5

// withCA is for revoking certificates at one CA. An attempt may take as long as
// its calls may, so that a slow CA is waited for and not asked twice.
func withCA(ctx workflow.Context, id, summary string, ca activities.CAPolicy, certificates int) workflow.Context {
	rounds := (certificates + ca.Concurrency - 1) / max(ca.Concurrency, 1)
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:          id,
		Summary:             summary,
		TaskQueue:           ca.TaskQueue,
		StartToCloseTimeout: time.Minute + time.Duration(max(rounds, 1)*callsPerCertificate)*ca.CallTimeout,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		RetryPolicy:         untilItSucceeds(),
	})
}

// withPublication is for waiting until others see a revocation: each try looks
// for a moment, and the retries cost no history.
func withPublication(ctx workflow.Context, id, summary string, wait time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:             id,
		Summary:                summary,
		ScheduleToCloseTimeout: wait,
		StartToCloseTimeout:    2 * time.Minute,
		HeartbeatTimeout:       heartbeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 1.5,
			MaximumInterval:    time.Minute,
		},
	})
}

const (
	// boundedAttempt is how long one try may take of a step of which a person waits for
	// the end.
	boundedAttempt = 2 * time.Minute
	// turnWait is how long a try may wait for its turn at a CA with a rate limit.
	turnWait = 30 * time.Second
)

// withinTime is for a step of which a person waits for the end.
func withinTime(ctx workflow.Context, id, summary, queue string, wait, attempt time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:             id,
		Summary:                summary,
		TaskQueue:              queue,
		ScheduleToCloseTimeout: max(wait, time.Second),
		StartToCloseTimeout:    attempt,
		HeartbeatTimeout:       heartbeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 1.5,
			MaximumInterval:    15 * time.Second,
		},
	})
}

// abandonedChild is for a process that goes on by itself, whatever becomes of the one
// that starts it.
func abandonedChild(id, summary string) workflow.ChildWorkflowOptions {
	return workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         summary,
	}
}

// withReconciliation is for a step of a reconciliation. One that cannot be done now is
// left to the next reconciliation.
func withReconciliation(ctx workflow.Context, id, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:             id,
		Summary:                summary,
		ScheduleToCloseTimeout: 30 * time.Minute,
		StartToCloseTimeout:    10 * time.Minute,
		HeartbeatTimeout:       heartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    time.Minute,
		},
	})
}
