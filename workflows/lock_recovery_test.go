package workflows_test

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/activities/identitymanager"
	"mobileid/activities/identitymanager/postgrestest"
	starter "mobileid/starter/client"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// onPostgres is an installation whose store is on PostgreSQL.
func onPostgres(i *installation) {
	i.t.Helper()
	store, err := identitymanager.Open(i.t.Context(), identitymanager.Options{
		Driver: "postgres", DSN: postgrestest.Start(i.t).NewDatabase(i.t), AuditKey: make([]byte, 32),
	})
	require.NoError(i.t, err)
	i.t.Cleanup(func() { require.NoError(i.t, store.Close()) })
	require.NoError(i.t, store.Migrate(i.t.Context()))
	i.store = store
	i.im.IdentityManager = store
}

// The store dies in the middle: what it had committed stands, and the lock goes
// on when it is back.
func TestPostgresKilledInTheMiddle(t *testing.T) {
	server := postgrestest.Start(t)
	i := install(t, onPostgres)
	id := i.awaiting(2)
	server.Kill(t)
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
	i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 2 })
	server.Restart(t)
	require.Eventually(t, func() bool {
		_, err := i.anna().Retry(t.Context(), id)
		return err == nil
	}, limit, 100*time.Millisecond)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id))
}

func TestLockOnPostgres(t *testing.T) {
	i := install(t, onPostgres)
	id := i.awaiting(3)
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id))
}

// secondCA is another CA with a certificate of its own for a mobile ID.
func (i *installation) secondCA() (*devcatest.CA, *ca.Authority, *gatedDriver) {
	i.t.Helper()
	second := devcatest.Start(i.t)
	i.second = second
	driver := &gatedDriver{Driver: second.Driver(i.t)}
	return second, &ca.Authority{
		Name: "second", Issuer: second.Certificate(), Driver: driver, RequestTimeout: 5 * time.Second, Concurrency: 1, ApprovalWait: time.Hour,
	}, driver
}

// addCertificateOf gives a mobile ID a certificate of a CA.
func (i *installation) addCertificateOf(c *devcatest.CA, id string) *x509.Certificate {
	i.t.Helper()
	issued, _ := c.Issue(i.t, "anna")
	certificate, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
	require.NoError(i.t, err)
	require.NoError(i.t, i.store.AddCertificates(i.t.Context(), id, certificate))
	return issued
}

// Each certificate goes to the CA of its issuer, and a CA that is down delays
// its own certificates alone.
func TestTwoCAs(t *testing.T) {
	i := installStopped(t)
	second, authority, down := i.secondCA()
	down.gate(unavailable)
	i.startWorker(authority)
	id := i.mobileID(2)
	foreign := i.addCertificateOf(second, id)

	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	i.waitFor(id, func(s starter.Status) bool {
		done := map[string]int{}
		for _, c := range s.Certificates {
			if c.StateInIM == mobileid.CertificateRevoked {
				done[c.CA]++
			}
		}
		return done["devca"] == 2 && done["second"] == 0 && s.Phase == workflows.Revoking
	})
	down.gate(nil)
	_, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Len(t, result.Certificates, 3)
	require.Equal(t, mobileid.StatusRevoked, second.Status(t, foreign).Status)
	require.LessOrEqual(t, i.length(id), 28+2+12+11, "an update costs 2 events, a further CA at most 12, a retry at most 11")
	i.keep("two-cas", id, "")
}

// A hold is not a revocation: it is made final.
func TestOnHoldIsRevokedForGood(t *testing.T) {
	i := install(t)
	id := i.mobileID(0)
	issued, _ := i.issue()
	i.ca.Hold(t, issued)
	c, err := mobileid.NewCertificate(issued, mobileid.CertificateOnHold)
	require.NoError(t, err)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, c))
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{Reason: mobileid.KeyCompromise})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.OutcomeRevoked, result.Certificates[0].Outcome)
	require.Equal(t, mobileid.KeyCompromise, result.Certificates[0].ReasonAtCA)
	i.requireLocked(id)
	i.keep("on-hold", id, "")
}

func TestAlreadyRevokedElsewhereIsDone(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	c := i.read(id).Certificates[0]
	_, err := i.driver.Driver.Revoke(t.Context(), ca.Certificate{CertificateID: c.CertificateID}, mobileid.Superseded)
	require.NoError(t, err)
	_, err = i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.OutcomeAlreadyRevoked, result.Certificates[0].Outcome)
	require.Equal(t, mobileid.Superseded, result.Certificates[0].ReasonAtCA, "the first reason stays")
	i.requireLocked(id)
}

// Past notAfter one request is sent, and Identity Manager says expired or, if
// the CA does revoke it, revoked.
func TestExpiredCertificateEndsTheLock(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	expired, err := mobileid.NewCertificate(i.ca.IssueExpired(t, "anna"), mobileid.CertificateValid)
	require.NoError(t, err)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, expired))
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Len(t, result.Certificates, 2)
	for _, c := range result.Certificates {
		require.True(t, c.StateInIM.Final())
	}
	require.Equal(t, 1, i.driver.requests[expired.Serial], "one request is sent")
	i.keep("expired-certificate", id, "")
}

// The faults of a CA, each for many tries, then healthy: the lock ends, with one
// revocation at the CA, and Identity Manager never said revoked before it.
func TestCAFaultsThenHealthy(t *testing.T) {
	const manyTries = 5
	for name, fault := range map[string]devcatest.Fault{
		"503":                              devcatest.Refuse(503, 0),
		"500":                              devcatest.Refuse(500, 0),
		"429 with Retry-After":             devcatest.Refuse(429, time.Second),
		"cut before the request counted":   devcatest.CutBefore(),
		"cut after the request had effect": devcatest.CutAfter(),
		"500 after the effect":             devcatest.RefuseAfter(500),
		"garbage":                          devcatest.Garbage(),
		"success without revoking":         devcatest.Lie(),
		"an answer about another":          devcatest.LieAboutAnother(),
		"time-out before any effect":       devcatest.Hang(),
		"time-out after the effect":        devcatest.HangAfter(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			id := i.awaiting(2)
			i.ca.Break(fault)
			_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
			require.NoError(t, err, "the lock itself does not wait for the CA")
			status := i.waitFor(id, func(s starter.Status) bool {
				return s.Phase == workflows.NeedsOperator || s.Outcome == workflows.OutcomeLocked || len(s.Steps) == 1 && s.Steps[0].Attempt >= manyTries
			})
			if status.Outcome == workflows.OutcomeLocked {
				// The answer was lost, but reading the status told that it is done.
				i.ca.Heal()
				i.requireOneOfEach(id)
				return
			}
			for _, c := range i.read(id).Certificates {
				require.Equal(t, mobileid.CertificateValid, c.State, "Identity Manager is never ahead of the CA (%s)", status.Phase)
			}
			i.ca.Heal()
			i.finish(id)
		})
	}
}

// Nobody listens at the CA's address, for many tries.
func TestCARefusesConnections(t *testing.T) {
	t.Parallel()
	i := install(t)
	id := i.awaiting(2)
	free, err := workflowtest.FreeAddress()
	require.NoError(t, err)
	options := i.ca.DriverOptions()
	options.URL = "https://" + free
	nobody, err := devca.NewDriver(options)
	require.NoError(t, err)
	i.driver.gate(func(ctx context.Context, cert ca.Certificate) error {
		_, err := nobody.Revoke(ctx, cert, mobileid.Unspecified)
		return err
	})
	_, err = i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	status := i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 5 })
	require.Contains(t, status.Steps[0].LastError, "connection refused", "the operator sees why")
	for _, c := range i.read(id).Certificates {
		require.Equal(t, mobileid.CertificateValid, c.State)
	}
	i.driver.gate(nil)
	i.finish(id)
}

// finish has the waiting step tried now, and sees the lock to its end.
func (i *installation) finish(id string) {
	i.t.Helper()
	_, err := i.anna().Retry(i.t.Context(), id)
	require.NoError(i.t, err)
	result, err := i.execution(id)
	require.NoError(i.t, err)
	require.Equal(i.t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
}

// fillHistory lets the history of a lock grow to where the test server suggests to
// continue as new. Queries and refused messages cost nothing, so it is signals that do
// not count.
func (i *installation) fillHistory(id string) {
	i.t.Helper()
	for range 30 {
		require.NoError(i.t, i.temporal.SignalWorkflow(i.t.Context(), workflows.LockWorkflowID(id), "", workflows.Cancel, nil))
		i.waitFor(id, func(starter.Status) bool { return true })
	}
}

// A lock that needs many retries continues as new, and loses nothing.
func TestContinueAsNewAfterManyRetries(t *testing.T) {
	i := install(t)
	id := i.awaiting(2)
	stuck := i.read(id).Certificates[0].Serial
	i.driver.gate(func(ctx context.Context, cert ca.Certificate) error {
		if cert.Serial == stuck {
			return denied(ctx, cert)
		}
		return nil
	})
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{RequestID: "next-1"})
	require.NoError(t, err)
	first := i.waitFor(id, inPhase(workflows.NeedsOperator))
	i.fillHistory(id)
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	require.Eventually(t, func() bool {
		description, err := i.temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID(id), "")
		return err == nil && description.GetWorkflowExecutionInfo().GetExecution().GetRunId() != first.RunID
	}, limit, 50*time.Millisecond, "continued as new")
	next := i.waitFor(id, inPhase(workflows.NeedsOperator))
	require.Equal(t, first.LockedAt, next.LockedAt)
	require.Equal(t, first.RequestedAt, next.RequestedAt)
	require.Equal(t, "anna", next.DecidedBy.UserID)

	i.driver.gate(nil)
	require.Eventually(t, func() bool {
		answer, err := i.anna().Retry(t.Context(), id)
		return err == nil && (answer.Retried || answer.Why == "the process is closed")
	}, limit, 500*time.Millisecond, "a retry takes effect once per 10 s")
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	i.keep("continue-as-new-first", id, first.RunID)
	i.keep("continue-as-new-second", id, "")
	require.Equal(t, mobileid.EventLocked, i.events(id)[0])
	locked := 0
	for _, e := range i.events(id) {
		if e == mobileid.EventLocked || e == mobileid.EventResumed {
			locked++
		}
	}
	require.Equal(t, 1, locked, "one lock in the audit")
}

// Many starts at once, with the CA held back until all are in: one process, one
// lock, one answer.
func TestHundredStartsAtOnce(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	release := make(chan struct{})
	i.driver.gate(func(ctx context.Context, _ ca.Certificate) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	const starts = 100
	var group sync.WaitGroup
	errs := make([]error, starts)
	locked := make([]time.Time, starts)
	stored := make([]bool, starts)
	for n := range starts {
		group.Go(func() {
			status, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
			errs[n], locked[n], stored[n] = err, status.LockedAt, status.Stored
		})
	}
	group.Wait()
	close(release)
	for n := range starts {
		if stored[n] {
			// Too many at once for the server to take each as an update.
			status, err := i.anna().Wait(t.Context(), id, nil)
			errs[n], locked[n] = err, status.LockedAt
		}
	}
	result, err := i.execution(id)
	require.NoError(t, err)
	for n := range starts {
		require.NoError(t, errs[n])
		require.Equal(t, result.LockedAt, locked[n], "one answer")
	}
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id), "one lock")
	for serial, n := range i.driver.requests {
		require.Equal(t, 1, n, serial)
	}
	runs := 0
	iterator := i.temporal.GetWorkflowHistory(t.Context(), workflows.LockWorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(t, err)
		if event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED {
			runs++
		}
	}
	require.Equal(t, 1, runs)

	before := i.read(id)
	for range starts {
		_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
		requireRefusal(t, err, mobileid.TypeMobileIDNotActive, "")
	}
	require.Equal(t, before, i.read(id), "nothing changed")
	require.Len(t, i.events(id), 2+starts, "each refusal is recorded")
}
