package workflows_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// reconcile runs a reconciliation to its end.
func (i *installation) reconcile(request workflows.ReconcileRequest) workflows.ReconcileResult {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), limit)
	defer cancel()
	run, err := i.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.Reconciliation + "/" + uuid.NewString(), TaskQueue: i.queue,
	}, workflows.Reconciliation, request)
	require.NoError(i.t, err)
	var result workflows.ReconcileResult
	require.NoError(i.t, run.Get(ctx, &result))
	return result
}

// findings are those of a reconciliation, once it has some: what Temporal lists lags
// a moment behind.
func (i *installation) findings(request workflows.ReconcileRequest) []workflows.Finding {
	i.t.Helper()
	var found []workflows.Finding
	require.Eventually(i.t, func() bool {
		found = i.reconcile(request).Findings
		return len(found) > 0
	}, limit, 100*time.Millisecond)
	return found
}

func finding(id string, state mobileid.State, problem mobileid.Problem, action workflows.Action) workflows.Finding {
	return workflows.Finding{
		Unfinished: mobileid.Unfinished{MobileID: id, UserID: "anna", State: state, Problem: problem, WorkflowID: workflows.LockWorkflowID(id)},
		Action:     action,
	}
}

func (i *installation) terminate(id string) {
	i.t.Helper()
	require.NoError(i.t, i.temporal.TerminateWorkflow(i.t.Context(), workflows.LockWorkflowID(id), "", "test"))
}

func TestReconciliationFindsNothing(t *testing.T) {
	i := install(t)
	i.mobileID(1)
	done := i.mobileID(1)
	_, err := i.anna().Lock(t.Context(), done, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(done)
	require.NoError(t, err)
	result := i.reconcile(workflows.ReconcileRequest{})
	require.Empty(t, result.Findings)
	require.False(t, result.More)
	require.False(t, result.EndedUnknown)
}

// A lock that is terminated between its end states is finished by another one.
func TestReconciliationFinishesATerminatedLock(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	i.driver.gate(unavailable)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemNotRevoked, workflows.ActionRunning)},
		i.reconcile(workflows.ReconcileRequest{}).Findings, "one that runs is left alone")

	i.terminate(id)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemNotRevoked, workflows.ActionNone)},
		i.reconcile(workflows.ReconcileRequest{DryRun: true}).Findings)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemNotRevoked, workflows.ActionStarted)},
		i.reconcile(workflows.ReconcileRequest{}).Findings)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemNotRevoked, workflows.ActionRunning)},
		i.reconcile(workflows.ReconcileRequest{}).Findings, "it was started once")

	i.driver.gate(nil)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.Equal(t, workflows.Reconciliation, result.DecidedBy.By)
	i.requireLocked(id)
	require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings)
}

// Next was accepted, and the process terminated before it could lock: the promise
// stands.
func TestReconciliationLocksWhatWasEndedAfterNext(t *testing.T) {
	i := install(t)
	id, cancelled := i.awaiting(1), i.awaiting(1)
	i.im.gate(func(_ context.Context, method string) error {
		if method == "Lock" {
			return errors.New("the store is down")
		}
		return nil
	})
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
	i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 2 })
	i.terminate(id)
	i.terminate(cancelled) // before Next: there is nothing to finish
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Active, mobileid.ProblemNotLocked, workflows.ActionNone)},
		i.findings(workflows.ReconcileRequest{DryRun: true}))
	i.im.gate(nil)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Active, mobileid.ProblemNotLocked, workflows.ActionStarted)},
		i.findings(workflows.ReconcileRequest{}))
	_, err := i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	i.requireUnchanged(cancelled)
	require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings)
}

// The store was restored to a time before a lock that is closed by now: the mobile ID
// is usable again, and Temporal alone knows that it must not be.
func TestReconciliationLocksWhatARestoredStoreHasForgotten(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.forget(id)
	require.Equal(t, []workflows.Finding{finding(id, mobileid.Active, mobileid.ProblemNotLocked, workflows.ActionStarted)},
		i.findings(workflows.ReconcileRequest{}))
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	for _, c := range result.Certificates {
		require.Equal(t, mobileid.OutcomeAlreadyRevoked, c.Outcome, "the CA has not forgotten")
	}
	i.requireLocked(id)
	require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings)
}

// The store is set back to before the lock while the CAs are still at work, and one has
// been taken over: the mobile ID is locked again before the process ends.
func TestLockLocksAgainInAStoreThatIsSetBack(t *testing.T) {
	i := installStopped(t)
	second, authority, down := i.secondCA()
	down.gate(unavailable)
	i.startWorker(authority)
	id := i.mobileID(2)
	i.addCertificateOf(second, id)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(i.read(id).Open()) == 1 }, limit, 20*time.Millisecond, "one CA's are taken over")
	i.forget(id)
	require.Len(t, i.read(id).Open(), 3)
	down.gate(nil)
	_, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	require.Contains(t, i.events(id), mobileid.EventLocked, "the audit has it, too")
	i.keep("set-back-while-revoking", id, "")
}

// A lock that waits for the publication has nothing left to record: it looks.
func TestLockLocksAgainInAStoreThatIsSetBackWhilePublishing(t *testing.T) {
	i := install(t, withProofWait(time.Hour))
	published := make(chan struct{})
	i.ca.PublishWhen(func() bool {
		select {
		case <-published:
			return true
		default:
			return false
		}
	})
	id := i.mobileID(2)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	i.waitFor(id, func(s starter.Status) bool {
		return s.Phase == workflows.Publishing && len(s.Steps) == 1 && s.Steps[0].Attempt > 1
	})
	i.forget(id)
	require.Len(t, i.read(id).Open(), 2)
	i.waitFor(id, func(starter.Status) bool {
		m := i.read(id)
		return m.State == mobileid.Locked && len(m.Open()) == 0
	})
	close(published)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.False(t, result.RevokedAt.IsZero())
	require.False(t, result.VisibleAt.IsZero())
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked, mobileid.EventVisible}, i.events(id))
	i.keep("set-back-while-publishing", id, "")
}

// The store still has the lock, and of one CA's revocations, which the process has seen
// taken over, nothing.
func TestLockRevokesAgainInAStoreThatHasForgottenOneCA(t *testing.T) {
	i := installStopped(t)
	second, authority, down := i.secondCA()
	down.gate(unavailable)
	i.startWorker(authority)
	id := i.mobileID(2)
	i.addCertificateOf(second, id)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	i.waitFor(id, func(s starter.Status) bool {
		done := 0
		for _, c := range s.Certificates {
			if c.StateInIM == mobileid.CertificateRevoked {
				done++
			}
		}
		return done == 2
	})
	i.forgetRevocations(id)
	require.Len(t, i.read(id).Open(), 3)
	down.gate(nil)
	_, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked, mobileid.EventRevoked}, i.events(id))
	i.keep("set-back-to-the-lock", id, "")
}

// forgetRevocations leaves the store as it was right after the lock of a mobile ID.
func (i *installation) forgetRevocations(id string) {
	i.t.Helper()
	db, err := sql.Open("sqlite", i.database)
	require.NoError(i.t, err)
	defer db.Close()
	_, err = db.ExecContext(i.t.Context(), `
		DROP TRIGGER expired_and_revoked_are_final; DROP TRIGGER audit_is_not_removed;
		UPDATE certificates SET state = 'valid', revoked_at = NULL, reason = NULL WHERE mobile_id = $1;
		DELETE FROM audit WHERE mobile_id = $1 AND number > 1;
		UPDATE audit_heads SET number = 1, mac = (SELECT mac FROM audit WHERE mobile_id = $1) WHERE mobile_id = $1`, id)
	require.NoError(i.t, err)
}

// forget leaves the store as it was before the lock of a mobile ID.
func (i *installation) forget(id string) {
	i.t.Helper()
	db, err := sql.Open("sqlite", i.database)
	require.NoError(i.t, err)
	defer db.Close()
	_, err = db.ExecContext(i.t.Context(), `
		DROP TRIGGER locked_is_final; DROP TRIGGER expired_and_revoked_are_final; DROP TRIGGER audit_is_not_removed;
		UPDATE mobile_ids SET state = 'active', requested_at = NULL, locked_at = NULL, lock_process = NULL, lock_workflow_id = NULL, lock_run_id = NULL, lock_reason = NULL WHERE id = $1;
		UPDATE certificates SET state = 'valid', revoked_at = NULL, reason = NULL WHERE mobile_id = $1;
		DELETE FROM audit WHERE mobile_id = $1; DELETE FROM audit_heads WHERE mobile_id = $1`, id)
	require.NoError(i.t, err)
}

// One that became inactive meanwhile cannot be locked any more: a person decides.
func TestReconciliationAsksAnOperatorAboutAnInactiveOne(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.im.gate(func(_ context.Context, method string) error {
		if method == "Lock" {
			return errors.New("the store is down")
		}
		return nil
	})
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
	i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 2 })
	i.terminate(id)
	require.NoError(t, i.store.Deactivate(t.Context(), id))
	found := i.findings(workflows.ReconcileRequest{})
	require.Len(t, found, 1)
	require.Equal(t, workflows.ActionOperator, found[0].Action)
	require.Contains(t, found[0].Why, "inactive")
}

// What a Get registered and left, with a certificate, is taken back.
func TestReconciliationTakesBackWhatAGetLeft(t *testing.T) {
	i := install(t, func(i *installation) {
		i.get = &activities.Get{Applicants: i.store}
		i.get.Settings.WorkflowID = func(userID string) string { return workflows.Get + "/" + userID }
	})
	grant, err := i.store.PutGrant(t.Context(), "anna", "test", time.Hour)
	require.NoError(t, err)
	id := grant.MobileID
	workflowID := workflows.Get + "/" + uuid.NewString()
	_, err = i.store.Register(t.Context(), mobileid.RegistrationOrder{
		MobileID: id, UserID: "anna", Name: "phone",
		Process:     mobileid.Process{Name: workflows.Get, WorkflowID: workflowID, RunID: uuid.NewString()},
		Decision:    mobileid.Decision{UserID: "anna"},
		RequestedAt: time.Now(),
	})
	require.NoError(t, err)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, i.certificate(mobileid.CertificateIssued)))

	require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings, "a Get may be at it still")
	expected := finding(id, mobileid.Registered, mobileid.ProblemNeverActive, workflows.ActionStarted)
	expected.WorkflowID = workflowID
	require.Equal(t, []workflows.Finding{expected}, i.reconcile(workflows.ReconcileRequest{MinAge: time.Nanosecond}).Findings)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	require.Empty(t, i.reconcile(workflows.ReconcileRequest{MinAge: time.Nanosecond}).Findings)
}

// serials are those of the certificates of a mobile ID.
func (i *installation) serials(id string) []string {
	i.t.Helper()
	var serials []string
	for _, c := range i.read(id).Certificates {
		serials = append(serials, c.Serial)
	}
	return serials
}

// hourAgo is the clock of a CA before it is restored: what it revokes then is older than
// what it says now by more than clocks differ.
func hourAgo(o *devca.Options) { o.Clock = func() time.Time { return time.Now().Add(-time.Hour) } }

func systemClock(o *devca.Options) { o.Clock = time.Now }

// A CA that is restored from a backup has forgotten what it revoked since. A worker that
// starts now finds it in the CRL. One that has seen a later CRL does not believe the one
// of before, and asks.
func TestReconciliationFindsWhatARestoredCAForgot(t *testing.T) {
	for name, seen := range map[string]bool{"by the CRL": false, "one by one": true} {
		t.Run(name, func(t *testing.T) {
			i := installStopped(t, func(i *installation) { i.ca = devcatest.Start(t, hourAgo); i.driver.Driver = i.ca.Driver(t) })
			i.startWorker()
			kept, id := i.mobileID(1), i.mobileID(2)
			lock := func(id string) {
				_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
				require.NoError(t, err)
				_, err = i.execution(id)
				require.NoError(t, err)
			}
			lock(kept)
			i.ca.AwaitListed(t, i.serials(kept)...)
			backup := i.ca.Backup(t)
			lock(id)
			// The restored CA publishes a number that is higher by one, so that of before must be
			// higher by two: a CRL for what was locked, and another one.
			i.ca.AwaitListed(t, i.serials(id)...)
			held, _ := i.ca.Issue(t, "bert")
			i.ca.Hold(t, held)
			i.ca.AwaitListed(t, devcatest.Name(t, held).Serial)
			require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings)

			i.ca.Restore(t, backup, systemClock)
			if !seen {
				i.worker.Stop()
				i.startWorker()
			}
			result := i.reconcile(workflows.ReconcileRequest{DryRun: true})
			require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemForgotten, workflows.ActionNone)}, result.Findings)
			require.Len(t, result.Compared, 1)
			require.Equal(t, 3, result.Compared[0].Checked)
			require.Equal(t, 2, result.Compared[0].Forgotten)
			require.Equal(t, seen, result.Compared[0].Sample)
			require.Equal(t, seen, result.Compared[0].Problem != "", result.Compared[0].Problem)

			require.Equal(t, []workflows.Finding{finding(id, mobileid.Locked, mobileid.ProblemForgotten, workflows.ActionStarted)},
				i.reconcile(workflows.ReconcileRequest{}).Findings)
			if seen {
				// Two signed words differ: the CRL of before lists it, the CA says good. A person
				// decides, and the worker forgets the CRL when it is restarted.
				i.waitFor(id, inPhase(workflows.NeedsOperator))
				i.worker.Stop()
				i.startWorker()
				require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Retry, nil))
			}
			_, err := i.execution(id)
			require.NoError(t, err)
			i.requireLocked(id)
			i.requireLocked(kept)
			require.Empty(t, i.reconcile(workflows.ReconcileRequest{}).Findings)
		})
	}
}

// Nobody locks what is not locked because a CA has forgotten something: a person decides.
func TestReconciliationAsksAboutWhatIsNotLocked(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	c := i.read(id).Certificates[0]
	_, err := i.store.RecordRevocations(t.Context(), mobileid.RevocationOrder{
		MobileID: id, CA: "devca", Process: mobileid.Process{Name: "test", WorkflowID: "test", RunID: "test"},
		Certificates: []mobileid.CertificateResult{{
			CertificateID: c.CertificateID, Outcome: mobileid.OutcomeRevoked, StatusAtCA: mobileid.StatusRevoked, RevokedAt: time.Now().Add(-time.Hour),
			Proof: []mobileid.Proof{{Source: mobileid.ProofFromCA, At: time.Now(), SHA256: "00"}},
		}},
	})
	require.NoError(t, err)
	found := i.reconcile(workflows.ReconcileRequest{}).Findings
	require.Len(t, found, 1)
	require.Equal(t, mobileid.ProblemForgotten, found[0].Problem)
	require.Equal(t, workflows.ActionOperator, found[0].Action)
	require.Equal(t, mobileid.Active, i.read(id).State)
}

// The schedule is written once, follows the configuration, and goes with it.
func TestScheduleReconciliation(t *testing.T) {
	i := install(t)
	schedule := func(every time.Duration) string {
		said, err := workflows.ScheduleReconciliation(t.Context(), i.temporal, i.queue, every, workflows.ReconcileRequest{})
		require.NoError(t, err)
		return said
	}
	handle := i.temporal.ScheduleClient().GetHandle(t.Context(), workflows.Reconciliation)
	for _, every := range []time.Duration{time.Hour, 2 * time.Hour} {
		require.Contains(t, schedule(every), every.String())
		description, err := handle.Describe(t.Context())
		require.NoError(t, err)
		require.Equal(t, every, description.Schedule.Spec.Intervals[0].Every)
	}
	require.NoError(t, handle.Trigger(t.Context(), client.ScheduleTriggerOptions{}))
	require.Eventually(t, func() bool {
		description, err := handle.Describe(t.Context())
		return err == nil && len(description.Info.RecentActions) > 0 // a full hour may add one
	}, limit, 100*time.Millisecond)
	schedule(0)
	_, err := handle.Describe(t.Context())
	require.Error(t, err)
	schedule(0)
}
