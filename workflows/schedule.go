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
	return putSchedule(ctx, c, "reconciliation", every, client.ScheduleWorkflowAction{
		ID: Reconciliation, Workflow: Reconciliation, TaskQueue: taskQueue, Args: []any{request},
		StaticSummary: "Find and finish what was left unfinished",
	})
}

// ScheduleOverdue does the same for what tells operators of overdue locks.
func ScheduleOverdue(ctx context.Context, c client.Client, taskQueue string, every time.Duration) (string, error) {
	return putSchedule(ctx, c, "overdue locks", every, client.ScheduleWorkflowAction{
		ID: Overdue, Workflow: Overdue, TaskQueue: taskQueue, StaticSummary: OverdueSummary,
	})
}

// putSchedule writes the schedule of a process, under the id that its action has, brings
// it up to date, or deletes it if every is zero.
func putSchedule(ctx context.Context, c client.Client, what string, every time.Duration, action client.ScheduleWorkflowAction) (string, error) {
	handle := c.ScheduleClient().GetHandle(ctx, action.ID)
	if every == 0 {
		err := handle.Delete(ctx)
		var notFound *serviceerror.NotFound
		if err != nil && !errors.As(err, &notFound) {
			return "", fmt.Errorf("delete schedule %s: %w", action.ID, err)
		}
		return what + ": by no schedule", nil
	}
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}}
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: action.ID, Spec: spec, Action: &action,
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		// What was missed while the server was down is made up for by the next one.
		CatchupWindow: time.Minute,
	})
	if err == nil {
		return fmt.Sprintf("%s: scheduled every %s", what, every), nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return "", fmt.Errorf("create schedule %s: %w", action.ID, err)
	}
	err = handle.Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := in.Description.Schedule
			schedule.Spec, schedule.Action = &spec, &action
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
	if err != nil {
		return "", fmt.Errorf("update schedule %s: %w", action.ID, err)
	}
	return fmt.Sprintf("%s: scheduled every %s", what, every), nil
}
