package workflows_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	starter "mobileid/starter/client"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// laggingOCSP is a responder that goes on to say good until a condition holds.
type laggingOCSP struct {
	ca.Source
	until func() bool
	now   func() time.Time
}

func (s laggingOCSP) Check(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	if s.until() {
		return s.Source.Check(ctx, cert)
	}
	return ca.Evidence{Status: mobileid.StatusGood, Proof: mobileid.Proof{At: s.now(), SHA256: "5a"}}, nil
}

// A responder that says good long after the revocation does not end the wait: the
// operator sees its words meanwhile.
func TestPublishingOutlastsAContradiction(t *testing.T) {
	i := installStopped(t, withProofWait(time.Hour))
	caughtUp := make(chan struct{})
	authority := i.authority()
	authority.OCSP = laggingOCSP{authority.OCSP, func() bool {
		select {
		case <-caughtUp:
			return true
		default:
			return false
		}
	}, func() time.Time {
		if i.allRevoked() {
			return time.Now().Add(10 * time.Minute)
		}
		return time.Now()
	}}
	authorities, err := ca.NewAuthorities([]*ca.Authority{authority})
	require.NoError(t, err)
	i.startWorkerWith(authorities)
	id := i.mobileID(1)
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	status := i.waitFor(id, func(s starter.Status) bool {
		return s.Outcome == workflows.OutcomeLocked || len(s.Steps) == 1 && strings.Contains(s.Steps[0].LastError, string(ca.Contradiction))
	})
	require.Equal(t, workflows.Publishing, status.Phase)
	close(caughtUp)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.False(t, result.VisibleAt.IsZero())
	require.Empty(t, result.Warning)
}

// At the end of the wait the lock closes, and says what the last look came to.
func TestPublishingEndsWithTheLastWords(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(workflowtest.Quiet())
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.LockWorkflowID("mid-1"), TaskQueue: workflows.TaskQueue})
	registerLocks(env, "first", func(string) {})
	cas := []activities.CAPolicy{{Name: "ca", ProofWait: time.Hour, Concurrency: 1}}
	certificates := []mobileid.CertificateResult{{CA: "ca", StateInIM: mobileid.CertificateRevoked, Outcome: mobileid.OutcomeRevoked}}
	stub(env, activities.ValidateLockName, func(activities.ValidateLockInput) (activities.ValidateLockResult, error) {
		return activities.ValidateLockResult{State: mobileid.Active, Certificates: certificates, CAs: cas}, nil
	})
	stub(env, activities.LockInIMName, func(mobileid.LockOrder) (activities.LockInIMResult, error) {
		return activities.LockInIMResult{From: mobileid.Active, RequestedAt: env.Now(), LockedAt: env.Now(), Certificates: certificates, CAs: cas}, nil
	})
	looks := 0
	stub(env, activities.AwaitPublicationName, func(activities.AwaitPublicationInput) (activities.AwaitPublicationResult, error) {
		looks++
		return activities.AwaitPublicationResult{}, temporal.NewApplicationError("ocsp says good", string(ca.Contradiction))
	})
	env.ExecuteWorkflow(workflows.Lock, map[string]any{"mobileId": "mid-1", "userId": "anna", "confirmed": true})
	require.NoError(t, env.GetWorkflowError())
	var result workflows.LockResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.Zero(t, result.VisibleAt)
	require.Equal(t, "not everybody can see the revocation yet: ocsp says good", result.Warning)
	require.Greater(t, looks, 1)
}

func stub[I, O any](env *testsuite.TestWorkflowEnvironment, name string, answer func(I) (O, error)) {
	env.RegisterActivityWithOptions(func(_ context.Context, in I) (O, error) { return answer(in) }, activity.RegisterOptions{Name: name})
}
