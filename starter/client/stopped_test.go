package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"mobileid"
	"mobileid/workflows"
)

// ended describes a process that is closed in a way.
func ended(how enumspb.WorkflowExecutionStatus) *workflowservice.DescribeWorkflowExecutionResponse {
	description := described("run-1", 12)
	description.WorkflowExecutionInfo.Status = how
	return description
}

// waitedFor is what a call came to that may wait, or that it has not returned after an hour.
func waitedFor[S any](t *testing.T, call func(context.Context) (S, error)) (S, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return call(ctx)
}

// A process that somebody terminated, say, answers queries as it did before. Nobody waits
// for it.
func TestStoppedLock(t *testing.T) {
	for name, row := range map[string]struct {
		how    enumspb.WorkflowExecutionStatus
		status workflows.LockStatus
		err    error // of waiting
	}{
		"terminated":              {enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, workflows.LockStatus{Phase: workflows.Locking}, ErrStopped},
		"timed out":               {enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, workflows.LockStatus{Phase: workflows.Locking}, ErrStopped},
		"failed":                  {enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, workflows.LockStatus{Phase: workflows.Validating}, ErrStopped},
		"refused":                 {enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, workflows.LockStatus{Phase: workflows.Closed, Refusal: mobileid.NotFound()}, mobileid.ErrMobileIDNotFound},
		"closed, however":         {enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, workflows.LockStatus{Phase: workflows.Closed}, nil},
		"done":                    {enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, workflows.LockStatus{Phase: workflows.Closed}, nil},
		"cancelled from Temporal": {enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, workflows.LockStatus{Phase: workflows.Closed, LockResult: workflows.LockResult{Outcome: workflows.OutcomeCancelled}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				temporal := &mocks.Client{}
				temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(ended(row.how), nil)
				temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(answer(t, row.status), nil)
				anna := New(temporal, "queue").User("anna")
				for name, wait := range map[string]func(context.Context) (Status, error){
					"Wait":       func(ctx context.Context) (Status, error) { return anna.Wait(ctx, "mid-1", nil) },
					"WaitClosed": func(ctx context.Context) (Status, error) { return anna.WaitClosed(ctx, "mid-1", nil) },
					"poll":       func(ctx context.Context) (Status, error) { return anna.poll(ctx, "mid-1", "run-1", false, settled) },
				} {
					status, err := waitedFor(t, wait)
					if row.err != nil {
						require.ErrorIs(t, err, row.err, name)
						continue
					}
					require.NoError(t, err, name)
					require.Equal(t, workflows.Closed, status.Phase, name)
				}
				status, err := anna.Status(t.Context(), "mid-1")
				if row.status.Refusal == nil {
					require.NoError(t, err)
					require.Equal(t, row.err != nil, status.Stopped)
				}
			})
		})
	}
}

// The error says what to do.
func TestStoppedLockSaysWhatToDo(t *testing.T) {
	require.EqualError(t, lockStopped("mid-1"),
		"lock of mid-1: the process was ended from outside before it was done; start it again, it goes on from where it was (after Next, reconciliation does so, too)")
}

// What comes after a process was terminated is not told that it was cancelled.
func TestMessageToStoppedLock(t *testing.T) {
	temporal := &mocks.Client{}
	temporal.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil, serviceerror.NewNotFound("workflow execution already completed"))
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(ended(enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED), nil)
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(answer(t, workflows.LockStatus{Phase: workflows.Locking}), nil)
	anna := New(temporal, "queue").User("anna")
	_, err := anna.Next(t.Context(), "mid-1", LockOptions{})
	require.ErrorIs(t, err, ErrStopped)
	_, err = anna.Cancel(t.Context(), "mid-1", LockOptions{})
	require.ErrorIs(t, err, ErrStopped)
}

// A run that was reset is terminated, and another one goes on.
func TestPollGoesOnWithTheRunAfterAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &mocks.Client{}
		temporal.On("DescribeWorkflowExecution", mock.Anything, workflows.LockWorkflowID("mid-1"), "").Return(described("run-2", 12), nil)
		for run, phase := range map[string]workflows.Phase{"run-1": workflows.Locking, "run-2": workflows.Closed} {
			temporal.On("QueryWorkflow", mock.Anything, mock.Anything, run, mock.Anything, mock.Anything).Return(answer(t, workflows.LockStatus{Phase: phase}), nil)
		}
		status, err := waitedFor(t, func(ctx context.Context) (Status, error) {
			return New(temporal, "queue").User("anna").poll(ctx, "mid-1", "run-1", false, settled)
		})
		require.NoError(t, err)
		require.Equal(t, "run-2", status.RunID)
	})
}

func TestStoppedGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &mocks.Client{}
		run := &mocks.WorkflowRun{}
		run.On("GetRunID").Return("run-1")
		temporal.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(client.WorkflowRun(run), nil)
		temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(ended(enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED), nil)
		temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(answer(t, workflows.GetStatus{Phase: workflows.Validating}), nil)
		anna := NewGets(temporal, "queue", workflows.GetWorkflowIDs(nil)).User("anna", "")
		_, err := waitedFor(t, anna.Start)
		require.ErrorIs(t, err, ErrStopped)
		_, err = waitedFor(t, func(ctx context.Context) (GetStatus, error) { return anna.WaitClosed(ctx, nil) })
		require.ErrorIs(t, err, ErrStopped)
		status, err := anna.Status(t.Context())
		require.NoError(t, err)
		require.True(t, status.Stopped)
	})
}
