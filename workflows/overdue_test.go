package workflows_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"mobileid/activities"
	"mobileid/activities/identitymanager"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// warn looks for overdue locks once.
func (i *installation) warn() activities.WarnOverdueResult {
	i.t.Helper()
	run, err := i.temporal.ExecuteWorkflow(i.t.Context(), client.StartWorkflowOptions{
		ID: workflows.Overdue + "/" + uuid.NewString(), TaskQueue: i.queue,
	}, workflows.Overdue)
	require.NoError(i.t, err)
	var result activities.WarnOverdueResult
	require.NoError(i.t, run.Get(i.t.Context(), &result))
	return result
}

// warnings are the mails to operators that are due.
func (i *installation) warnings() []identitymanager.Notice {
	i.t.Helper()
	var list []identitymanager.Notice
	for {
		n, found, err := i.store.ClaimNotice(i.t.Context(), limit)
		require.NoError(i.t, err)
		if !found {
			return list
		}
		list = append(list, n)
	}
}

// Operators are told once of each step that a lock has passed, with what it waits for.
func TestOverdueLockIsToldOnce(t *testing.T) {
	// Other tests have locks under way on the same server, which no step may reach.
	begun := time.Now()
	i := install(t, func(i *installation) {
		var err error
		i.store, err = identitymanager.Open(t.Context(), identitymanager.Options{
			Driver: "sqlite", DSN: i.database, AuditKey: auditKey, Notices: identitymanager.Notices{Operators: []string{"night@example.com"}},
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, i.store.Close()) })
		i.settings.Overdue = []time.Duration{time.Millisecond, 24 * time.Hour}
	})
	stuck, waiting, done := i.mobileID(1), i.awaiting(1), i.mobileID(1)
	_, err := i.anna().Lock(t.Context(), done, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(done)
	require.NoError(t, err)
	i.driver.gate(unavailable)
	_, err = i.anna().Lock(t.Context(), stuck, starter.LockOptions{})
	require.NoError(t, err)
	i.waitFor(stuck, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 2 })

	told := map[string]identitymanager.Notice{}
	require.Eventually(t, func() bool { // what Temporal lists lags a moment behind
		result := i.warn()
		require.Zero(t, result.Overdue["24h0m0s"])
		for _, n := range i.warnings() {
			for _, l := range n.Facts.Overdue.Locks {
				require.NotContains(t, told, l.MobileID)
				told[l.MobileID] = n
			}
		}
		return told[stuck].ID != ""
	}, limit, 100*time.Millisecond)
	require.NotContains(t, told, waiting, "nobody has pressed Next")
	require.NotContains(t, told, done)
	for _, l := range told[stuck].Facts.Overdue.Locks {
		if l.MobileID == stuck {
			require.WithinRange(t, l.RequestedAt, begun.Add(-time.Second), time.Now())
			require.Equal(t, string(workflows.Revoking), l.Phase)
			require.Contains(t, l.Why, "connection refused")
			require.False(t, l.NeedsOperator)
		}
	}
	i.warn()
	for _, n := range i.warnings() {
		for _, l := range n.Facts.Overdue.Locks {
			require.NotEqual(t, stuck, l.MobileID, "a repeat tells nothing")
		}
	}
	i.driver.gate(nil)
	_, err = i.execution(stuck)
	require.NoError(t, err)
}

// Without search attributes nothing can be found, and the result says so.
func TestOverdueNeedsSearchAttributes(t *testing.T) {
	i := install(t, withoutAttributes, func(i *installation) { i.settings.Overdue = []time.Duration{time.Minute} })
	require.True(t, i.warn().Unsearchable)
}

func TestScheduleOverdue(t *testing.T) {
	i := install(t, func(i *installation) { i.settings.Overdue = []time.Duration{1000 * time.Hour} })
	said, err := workflows.ScheduleOverdue(t.Context(), i.temporal, i.queue, time.Hour)
	require.NoError(t, err)
	require.Contains(t, said, "every 1h")
	handle := i.temporal.ScheduleClient().GetHandle(t.Context(), workflows.Overdue)
	require.NoError(t, handle.Trigger(t.Context(), client.ScheduleTriggerOptions{}))
	require.Eventually(t, func() bool {
		description, err := handle.Describe(t.Context())
		return err == nil && len(description.Info.RecentActions) > 0 // a full hour may add one
	}, limit, 100*time.Millisecond)
	said, err = workflows.ScheduleOverdue(t.Context(), i.temporal, i.queue, 0)
	require.NoError(t, err)
	require.Contains(t, said, "no schedule")
	_, err = handle.Describe(t.Context())
	require.Error(t, err)
}
