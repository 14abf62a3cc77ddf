package activities

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"mobileid"
	"mobileid/activities/ca"
)

// approvalDriver is a CA that wants an approval of every request and, as EJBCA does,
// says "good" while it waits. A certificate that is denied is not even asked for.
type approvalDriver struct {
	asked  map[string]int // by serial number
	denied string         // a serial number
	status error          // instead of the status
	during func()         // while a request is under way
}

func (*approvalDriver) Capabilities() ca.Capabilities { return ca.Capabilities{HasStatus: true} }

func (d *approvalDriver) Revoke(_ context.Context, cert ca.Certificate, _ mobileid.Reason) (ca.Answer, error) {
	d.asked[cert.Serial]++
	if d.during != nil {
		d.during()
	}
	if cert.Serial == d.denied {
		return ca.Answer{}, &ca.Error{Kind: ca.Denied, Op: "revoke " + cert.String(), Words: "no right"}
	}
	return ca.Answer{Outcome: ca.Pending}, nil
}

func (d *approvalDriver) Status(context.Context, ca.Certificate) (ca.Evidence, error) {
	return ca.Evidence{Status: mobileid.StatusGood, Proof: mobileid.Proof{At: time.Now(), SHA256: "5a"}}, d.status
}

// approvals is a CA with approvals and what a step for two of its certificates is told.
type approvals struct {
	t      *testing.T
	driver *approvalDriver
	cas    *ca.Authorities
	in     RevokeAtCAInput
	ctx    context.Context
	ledger any // of the attempt before
}

func newApprovals(t *testing.T) *approvals {
	issuer := newIssuer(t)
	a := &approvals{t: t, driver: &approvalDriver{asked: map[string]int{}}, ctx: t.Context()}
	var err error
	a.cas, err = ca.NewAuthorities([]*ca.Authority{{Name: "ca", Issuer: issuer, Driver: a.driver}})
	require.NoError(t, err)
	a.in = RevokeAtCAInput{CA: CAPolicy{Name: "ca", ApprovalWait: time.Hour}, Reason: mobileid.Superseded, Pending: []PendingRequest{}}
	for _, serial := range []string{"a", "b"} {
		a.in.Certificates = append(a.in.Certificates, mobileid.CertificateResult{
			CertificateID: mobileid.CertificateID{Issuer: mobileid.HashName(issuer.RawSubject), Serial: serial}, CA: "ca",
		})
	}
	return a
}

// step runs one step, as it is scheduled anew after a retry or in another run.
func (a *approvals) step() (RevokeAtCAResult, error) {
	a.t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: a.ctx})
	if a.ledger != nil {
		env.SetHeartbeatDetails(a.ledger)
	}
	(&Activities{CAs: a.cas}).RegisterCA(env)
	value, err := env.ExecuteActivity(RevokeAtCAName, a.in)
	var result RevokeAtCAResult
	if err == nil {
		require.NoError(a.t, value.Get(&result))
	}
	return result, err
}

// then is what the process schedules after a result.
func (a *approvals) then(result RevokeAtCAResult) {
	a.in.Asked, a.in.Certificates, a.in.Pending = true, nil, result.Pending
	for _, c := range result.Certificates {
		c.CannotRevoke = "" // the operator has sent retry
		a.in.Certificates = append(a.in.Certificates, c)
	}
}

func (a *approvals) requirePending(err error) {
	a.t.Helper()
	var application *temporal.ApplicationError
	require.ErrorAs(a.t, err, &application)
	require.Equal(a.t, string(ca.PendingApproval), application.Type())
	require.False(a.t, application.NonRetryable())
}

// Contract rule 7: that a request waits is known beyond the step that has sent it, with
// the time from which approval.wait counts.
func TestRevokeAtCASendsNoSecondRequestWhileOneWaitsForAnApproval(t *testing.T) {
	a := newApprovals(t)
	result, err := a.step()
	require.NoError(t, err, "the process is told before anything can interrupt the step")
	require.Len(t, result.Pending, 2)
	a.then(result)
	for range 2 {
		_, err = a.step()
		a.requirePending(err)
	}
	require.Equal(t, map[string]int{"a": 1, "b": 1}, a.driver.asked)
	a.in.Pending[1].Since = time.Now().Add(-2 * time.Hour)
	over, err := a.step()
	require.NoError(t, err)
	require.Contains(t, over.Certificates[1].CannotRevoke, "not approved at the CA within 1h0m0s")
	require.Equal(t, result.Pending[:1], over.Pending)
	require.Equal(t, map[string]int{"a": 1, "b": 1}, a.driver.asked)
}

// After the wait is over, or the CA has said no, an operator's retry asks anew.
func TestRevokeAtCAAsksAgainAfterAnApprovalThatNeverCame(t *testing.T) {
	for name, never := range map[string]func(a *approvals){
		"not in time": func(a *approvals) {
			for i := range a.in.Pending {
				a.in.Pending[i].Since = time.Now().Add(-2 * time.Hour)
			}
		},
		"rejected": func(a *approvals) {
			a.driver.status = &ca.Error{Kind: ca.Unsupported, Op: "read status", Words: "rejected"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApprovals(t)
			result, err := a.step()
			require.NoError(t, err)
			a.then(result)
			never(a)
			result, err = a.step()
			require.NoError(t, err)
			require.NotEmpty(t, result.Certificates[0].CannotRevoke)
			require.Empty(t, result.Pending)
			require.Equal(t, map[string]int{"a": 1, "b": 1}, a.driver.asked)
			a.then(result)
			a.in.Pending, a.driver.status = []PendingRequest{}, nil
			result, err = a.step()
			require.NoError(t, err)
			require.Len(t, result.Pending, 2)
			require.WithinDuration(t, time.Now(), result.Pending[0].Since, time.Minute, "it has its own wait")
			require.Equal(t, map[string]int{"a": 2, "b": 2}, a.driver.asked)
		})
	}
}

func TestRevokeAtCAKnowsWhatWaits(t *testing.T) {
	t.Run("beside one that only an operator can cure", func(t *testing.T) {
		a := newApprovals(t)
		a.driver.denied = "a"
		result, err := a.step()
		require.NoError(t, err)
		require.NotEmpty(t, result.Certificates[0].CannotRevoke)
		require.Len(t, result.Pending, 1)
		a.then(result)
		_, err = a.step()
		require.NoError(t, err)
		require.Equal(t, map[string]int{"a": 2, "b": 1}, a.driver.asked)
	})
	t.Run("after the step was cancelled while it asked", func(t *testing.T) {
		a := newApprovals(t)
		var cancel func()
		a.ctx, cancel = context.WithCancel(t.Context())
		a.driver.during = cancel
		result, err := a.step()
		require.NoError(t, err)
		require.NotEmpty(t, result.Pending)
		require.Len(t, result.Pending, len(a.driver.asked))
	})
	t.Run("after its worker died before it could tell", func(t *testing.T) {
		a := newApprovals(t)
		since := time.Now().Add(-time.Minute).UTC()
		a.ledger = ledger{PendingSince: map[string]time.Time{key(a.in.Certificates[0].CertificateID): since, key(a.in.Certificates[1].CertificateID): since}}
		result, err := a.step()
		require.NoError(t, err)
		require.Len(t, result.Pending, 2)
		require.Equal(t, since, result.Pending[0].Since)
		require.Empty(t, a.driver.asked)
	})
	t.Run("while the worker may not read the status", func(t *testing.T) {
		a := newApprovals(t)
		result, err := a.step()
		require.NoError(t, err)
		a.then(result)
		a.driver.status = &ca.Error{Kind: ca.Denied, Op: "read status", Words: "no right"}
		unread, err := a.step()
		require.NoError(t, err)
		require.NotEmpty(t, unread.Certificates[0].CannotRevoke)
		require.Equal(t, result.Pending, unread.Pending)
	})
	t.Run("but a process of a build that keeps nothing is not told again and again", func(t *testing.T) {
		a := newApprovals(t)
		a.in.Pending = nil
		_, err := a.step()
		a.requirePending(err)
	})
}

// A worker that dies after its request was taken has told the engine of it.
func TestRevokeAtCATellsTheEngineAtOnceWhatWaits(t *testing.T) {
	a := newApprovals(t)
	a.in.Certificates = a.in.Certificates[:1]
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	var told ledger
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) { require.NoError(t, details.Get(&told)) })
	(&Activities{CAs: a.cas}).RegisterCA(env)
	_, err := env.ExecuteActivity(RevokeAtCAName, a.in)
	require.NoError(t, err)
	require.Contains(t, told.PendingSince, key(a.in.Certificates[0].CertificateID))
}
