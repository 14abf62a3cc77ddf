package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"google.golang.org/protobuf/types/known/timestamppb"

	"mobileid/workflows"
)

// pending is an activity of which a try has failed; the next one is due at a time.
func pending(state enumspb.PendingActivityState, next time.Time) *workflowpb.PendingActivityInfo {
	a := &workflowpb.PendingActivityInfo{ActivityId: "revoke-ca/1", State: state, Attempt: 2, LastFailure: &failurepb.Failure{Message: "503"}}
	if !next.IsZero() {
		a.NextAttemptScheduleTime = timestamppb.New(next)
	}
	return a
}

func described(runID string, events int64, activities ...*workflowpb.PendingActivityInfo) *workflowservice.DescribeWorkflowExecutionResponse {
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: workflows.LockWorkflowID("mid-1"), RunId: runID}, HistoryLength: events,
		},
		PendingActivities: activities,
	}
}

func TestLookAsksTheProcessIfThereMayBeSomethingNew(t *testing.T) {
	const scheduled, started = enumspb.PENDING_ACTIVITY_STATE_SCHEDULED, enumspb.PENDING_ACTIVITY_STATE_STARTED
	for name, row := range map[string]struct {
		later  time.Duration
		second func() *workflowservice.DescribeWorkflowExecutionResponse // after later
		asked  bool
	}{
		"nothing has happened":      {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse { return described("run-1", 12) }, false},
		"the history has grown":     {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse { return described("run-1", 13) }, true},
		"another process has begun": {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse { return described("run-2", 12) }, true},
		"a minute has gone by":      {time.Minute + time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse { return described("run-1", 12) }, true},
		"a step is tried again, later": {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse {
			return described("run-1", 12, pending(scheduled, time.Now().Add(time.Second)))
		}, false},
		"a step is under way": {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse {
			return described("run-1", 12, pending(started, time.Time{}))
		}, false},
		"a step waits for a worker": {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse {
			return described("run-1", 12, pending(scheduled, time.Time{}))
		}, true},
		"a step's next try is overdue": {time.Second, func() *workflowservice.DescribeWorkflowExecutionResponse {
			return described("run-1", 12, pending(scheduled, time.Now().Add(-time.Second)))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				temporal := &mocks.Client{}
				looks, asked := 0, []string{}
				temporal.On("DescribeWorkflowExecution", mock.Anything, workflows.LockWorkflowID("mid-1"), "").Return(
					func(context.Context, string, string) *workflowservice.DescribeWorkflowExecutionResponse {
						if looks++; looks == 1 {
							return described("run-1", 12)
						}
						return row.second()
					}, nil)
				temporal.On("QueryWorkflow", mock.Anything, workflows.LockWorkflowID("mid-1"), mock.Anything, workflows.StatusQuery, mock.Anything).Return(
					func(_ context.Context, _, runID, _ string, _ ...any) converter.EncodedValue {
						asked = append(asked, runID)
						return answer(t, workflows.LockStatus{Phase: workflows.Locking})
					}, nil)
				look := New(temporal, "queue").User("anna").Look("mid-1")
				_, err := look.Status(t.Context())
				require.NoError(t, err)
				require.Equal(t, []string{"run-1"}, asked)

				time.Sleep(row.later)
				status, err := look.Status(t.Context())
				require.NoError(t, err)
				require.Equal(t, workflows.Locking, status.Phase)
				require.Len(t, asked, map[bool]int{false: 1, true: 2}[row.asked])
				require.Len(t, status.Steps, len(row.second().GetPendingActivities()), "steps are those of now")
				for _, step := range status.Steps {
					require.Equal(t, "503", step.LastError)
				}
			})
		})
	}
}

// What could not be asked is asked the next time, although nothing has happened since.
func TestLookAsksAgainWhatWasNotAnswered(t *testing.T) {
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(described("run-1", 12), nil)
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil, serviceerror.NewWorkflowNotReady("no worker")).Once()
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(answer(t, workflows.LockStatus{Phase: workflows.Locking}), nil).Once()
	look := New(temporal, "queue").User("anna").Look("mid-1")
	_, err := look.Status(t.Context())
	require.ErrorIs(t, err, ErrNoWorker)
	for range 3 {
		status, err := look.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, workflows.Locking, status.Phase)
	}
	temporal.AssertExpectations(t)
}

func answer(t *testing.T, status any) converter.EncodedValue {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(status)
	require.NoError(t, err)
	return encoded{payloads}
}

// encoded is what a query answers.
type encoded struct{ payloads *commonpb.Payloads }

func (e encoded) HasValue() bool { return true }

func (e encoded) Get(to any) error {
	return converter.GetDefaultDataConverter().FromPayloads(e.payloads, to)
}

// A Get is looked at in the same way, and asked again sooner.
func TestGetLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &mocks.Client{}
		events, asked := int64(12), 0
		temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(
			func(context.Context, string, string) *workflowservice.DescribeWorkflowExecutionResponse {
				return described("run-1", events)
			}, nil)
		temporal.On("QueryWorkflow", mock.Anything, workflows.GetWorkflowID("anna"), "run-1", workflows.StatusQuery, mock.Anything).Return(
			func(context.Context, string, string, string, ...any) converter.EncodedValue {
				asked++
				return answer(t, workflows.GetStatus{Phase: workflows.AwaitingPhone})
			}, nil)
		look := NewGets(temporal, "queue", workflows.GetWorkflowID).User("anna", "").Look()
		for _, step := range []struct {
			later  time.Duration
			events int64
			asked  int
		}{{0, 12, 1}, {time.Second, 12, 1}, {time.Second, 15, 2}, {9 * time.Second, 15, 2}, {2 * time.Second, 15, 3}} {
			time.Sleep(step.later)
			events = step.events
			status, err := look.Status(t.Context())
			require.NoError(t, err)
			require.Equal(t, workflows.AwaitingPhone, status.Phase)
			require.Equal(t, step.asked, asked)
		}
	})
}
