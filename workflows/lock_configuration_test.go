package workflows_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// A lock that is open in any phase is finished by a worker whose every setting
// is another one: what applies to it is in its history.
func TestConfigurationChangedUnderOpenLocks(t *testing.T) {
	i := installStopped(t)
	// No other CRL comes while the test runs, so that publishing lasts as long as
	// the history says: not as long as the configuration says by then.
	i.wait = 20 * time.Second
	i.ca = devcatest.Start(t, func(o *devca.Options) { o.CRLInterval = 24 * time.Hour })
	i.driver.Driver = i.ca.Driver(t)
	i.startWorker()

	broken := func(methods ...string) func(context.Context, string) error {
		return func(_ context.Context, method string) error {
			if slices.Contains(methods, method) {
				return errGated
			}
			return nil
		}
	}
	open := map[workflows.Phase]string{}
	begin := func(phase workflows.Phase, next bool) {
		id := i.mobileID(2)
		open[phase] = id
		i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": next})
		i.waitFor(id, inPhase(phase))
	}
	// No gate opens before the worker has stopped, so that each stays in its phase.
	begin(workflows.Publishing, true)
	begin(workflows.AwaitingConfirmation, false)
	i.driver.gate(denied)
	begin(workflows.NeedsOperator, true)
	i.driver.gate(unavailable)
	begin(workflows.Revoking, true)
	i.im.gate(broken("Lock"))
	begin(workflows.Locking, true)
	i.im.gate(broken("Lock", "MobileID"))
	begin(workflows.Validating, true)

	i.worker.Stop()
	i.driver.gate(nil)
	i.im.gate(nil)
	authority := i.authority()
	authority.RequestTimeout, authority.Concurrency = 7*time.Second, 1
	authority.ProofWait, authority.ApprovalWait = 0, 2*time.Hour
	i.settings = activities.Settings{
		Deadline:   time.Minute,
		Reason:     mobileid.Superseded,
		Attributes: activities.AttributeSettings{Enabled: true, User: activities.UserHashed, HashKey: auditKey},
	}
	authorities, err := ca.NewAuthorities([]*ca.Authority{authority})
	require.NoError(t, err)
	i.startWorkerWith(authorities)

	_, err = i.anna().Next(t.Context(), open[workflows.AwaitingConfirmation], starter.LockOptions{})
	require.NoError(t, err)
	for phase, id := range open {
		require.Eventually(t, func() bool {
			answer, err := i.locks.Operator("olof").Retry(t.Context(), id)
			return err == nil && (answer.Retried || answer.Why == "nothing waits" || answer.Why == "the process is closed")
		}, limit, 100*time.Millisecond, phase)
		result, err := i.execution(id)
		require.NoError(t, err, phase)
		require.Equal(t, workflows.OutcomeLocked, result.Outcome, phase)
		require.True(t, result.VisibleAt.IsZero())
		require.Contains(t, result.Warning, "not everybody can see")
		// Only the one that was not validated yet does not wait for others to see it.
		require.Equal(t, phase != workflows.Validating, i.scheduled(id, activities.AwaitPublicationName), phase)
		i.requireLocked(id)
		if phase != workflows.Validating {
			require.Equal(t, mobileid.Unspecified, result.Certificates[0].Reason, "%s: validated under the old default", phase)
		}
	}
}
