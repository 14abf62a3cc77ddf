package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// ScheduleReconciliation writes the schedule by which reconciliations run, or brings
// it up to date: what an operator has paused stays paused. With every zero it deletes
// it. It returns what it came to, in words.
func ScheduleReconciliation(ctx context.Context, c client.Client, taskQueue string, every time.Duration, request ReconcileRequest) (string, error) {
	handle := c.ScheduleClient().GetHandle(ctx, Reconciliation)
	if every == 0 {
		err := handle.Delete(ctx)
		var notFound *serviceerror.NotFound
		if err != nil && !errors.As(err, &notFound) {
			return "", fmt.Errorf("delete schedule %s: %w", Reconciliation, err)
		}
		return "reconciliation: by no schedule", nil
	}
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}}
	action := &client.ScheduleWorkflowAction{
		ID: Reconciliation, Workflow: Reconciliation, TaskQueue: taskQueue, Args: []any{request},
		StaticSummary: "Find and finish what was left unfinished",
	}
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: Reconciliation, Spec: spec, Action: action,
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		// What was missed while the server was down is made up for by the next one.
		CatchupWindow: time.Minute,
	})
	if err == nil {
		return fmt.Sprintf("reconciliation: scheduled every %s", every), nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return "", fmt.Errorf("create schedule %s: %w", Reconciliation, err)
	}
	err = handle.Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := in.Description.Schedule
			schedule.Spec, schedule.Action = &spec, action
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
	if err != nil {
		return "", fmt.Errorf("update schedule %s: %w", Reconciliation, err)
	}
	return fmt.Sprintf("reconciliation: scheduled every %s", every), nil
}
