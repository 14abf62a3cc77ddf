package workflows_test

import (
	"context"
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

	broken := func(method string) func(context.Context, string) error {
		return func(_ context.Context, m string) error {
			if m == method {
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
	begin(workflows.AwaitingConfirmation, false)
	i.im.gate(broken("MobileID"))
	begin(workflows.Validating, true)
	i.im.gate(broken("Lock"))
	begin(workflows.Locking, true)
	i.im.gate(nil)
	i.driver.gate(unavailable)
	begin(workflows.Revoking, true)
	i.driver.gate(denied)
	begin(workflows.NeedsOperator, true)
	i.driver.gate(nil)
	begin(workflows.Publishing, true)

	i.worker.Stop()
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
		// The one that was validating runs under the policy of whichever worker got
		// to validate it; all others under the one that they were validated with.
		if phase != workflows.Validating {
			require.True(t, i.scheduled(id, activities.AwaitPublicationName), phase)
		}
		i.requireLocked(id)
		if phase != workflows.Validating {
			require.Equal(t, mobileid.Unspecified, result.Certificates[0].Reason, "%s: validated under the old default", phase)
		}
	}
}
