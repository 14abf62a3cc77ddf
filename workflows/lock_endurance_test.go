package workflows_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"mobileid"
	"mobileid/activities/ca"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// The engine's limits of one run, as Temporal ships them: it ends a run at these.
const (
	limitEvents = 51_200
	limitBytes  = 50 << 20
)

// A CA that is down for hundreds of tries, and an operator who has no patience:
// the lock stays far from every limit of the engine, its status still reads well,
// and it ends like any other. A retry takes effect once per 10 s, so this takes
// eight minutes of waiting, beside other tests; twenty times as many are sent, each
// of which costs five events to be told so.
func TestFiveHundredFailedTriesAndFiftyRetries(t *testing.T) {
	t.Parallel()
	const tries, retries = 500, 50
	i := install(t)
	id := i.awaiting(3)
	var failed atomic.Int32
	i.driver.gate(func(_ context.Context, cert ca.Certificate) error {
		failed.Add(1)
		return &ca.Error{Kind: ca.Unavailable, Op: "revoke " + cert.String(), Words: "the CA's key store is offline", RetryAfter: time.Second}
	})
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)

	done, attempts := 0, int32(0)
	require.Eventually(t, func() bool {
		answer, err := i.anna().Retry(t.Context(), id)
		if err != nil {
			return false
		}
		if answer.Retried {
			done++
		}
		return done >= retries
	}, 15*time.Minute, 500*time.Millisecond)
	status := i.waitFor(id, func(s starter.Status) bool {
		return failed.Load() >= 3*tries && len(s.Steps) == 1 && s.Steps[0].Attempt >= 2 && s.Steps[0].LastError != ""
	})
	attempts = failed.Load()

	require.Equal(t, workflows.Revoking, status.Phase)
	require.Equal(t, mobileid.Locked, status.MobileIDState)
	// One whose answer was lost on a busy machine took effect all the same.
	require.GreaterOrEqual(t, status.Retries, done)
	require.False(t, status.LockedAt.IsZero())
	require.Len(t, status.Certificates, 3)
	require.Contains(t, status.Steps[0].LastError, "the CA's key store is offline")
	text, err := json.Marshal(status)
	require.NoError(t, err)
	require.Less(t, len(text), 8<<10, "what an operator reads does not grow with the tries: %s", text)

	i.driver.gate(nil)
	result, err := i.executionWithin(id, 2*time.Minute)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id))

	list, err := i.temporal.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: `WorkflowId = "` + workflows.LockWorkflowID(id) + `"`,
	})
	require.NoError(t, err)
	var events, bytes, longest int64
	for _, run := range list.GetExecutions() {
		description, err := i.temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID(id), run.GetExecution().GetRunId())
		require.NoError(t, err)
		info := description.GetWorkflowExecutionInfo()
		events += info.GetHistoryLength()
		bytes += info.GetHistorySizeBytes()
		longest = max(longest, info.GetHistoryLength())
	}
	t.Logf("%d failed requests in %d tries, %d retries: %d runs, %d events (longest run %d), %d bytes", attempts, attempts/3, done, len(list.GetExecutions()), events, longest, bytes)
	require.Less(t, longest, int64(limitEvents/50))
	require.Less(t, events, int64(limitEvents/5), "even all runs together are far from what one may have")
	require.Less(t, bytes, int64(limitBytes/10))
}
