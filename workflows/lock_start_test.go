package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// object is JSON as a script would write it.
type object = map[string]any

// Contract section 2: starting a lock.

func TestConfirmedStartLocks(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	i.keep("confirmed", id, "")

	require.Equal(t, id, result.MobileID)
	require.Equal(t, "anna", result.DecidedBy.UserID)
	require.False(t, result.RequestedAt.IsZero())
	require.False(t, result.LockedAt.Before(result.RequestedAt))
	require.False(t, result.RevokedAt.IsZero())
	require.Len(t, result.Certificates, 2)
	for _, c := range result.Certificates {
		require.Equal(t, mobileid.OutcomeRevoked, c.Outcome)
		require.Equal(t, mobileid.CertificateRevoked, c.StateInIM)
		require.Equal(t, mobileid.StatusRevoked, c.StatusAtCA)
		require.Equal(t, mobileid.Unspecified, c.Reason)
		require.Equal(t, "devca", c.CA)
		require.NotEmpty(t, c.Proof)
		require.Equal(t, 1, i.driver.requests[c.Serial])
	}
	trail, err := i.store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	last := trail[len(trail)-1]
	require.Equal(t, mobileid.AuditMark{Number: last.Number, MAC: last.MAC}, result.Audit, "the result carries the last record")
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id))
}

func TestUnconfirmedStartWaitsAndChangesNothing(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	status, err := i.anna().Start(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
	require.Equal(t, mobileid.Active, status.MobileIDState)
	require.Len(t, status.Certificates, 1, "the form says what Next would revoke")
	require.WithinDuration(t, time.Now().Add(2*time.Hour), status.Deadline, time.Minute)
	require.True(t, status.RequestedAt.IsZero())
	i.requireUnchanged(id)
	require.Empty(t, i.events(id))
}

func TestStartWithoutCertificatesLocks(t *testing.T) {
	i := install(t)
	id := i.mobileID(0)
	i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.Empty(t, result.Certificates)
	i.requireLocked(id)
}

func TestStartIgnoresUnknownFields(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true, "colour": "blue", "nested": object{"a": 1}})
	_, err := i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestStartSendsTheReason(t *testing.T) {
	for _, reason := range []mobileid.Reason{mobileid.KeyCompromise, mobileid.Superseded, mobileid.CessationOfOperation, mobileid.AffiliationChanged} {
		t.Run(string(reason), func(t *testing.T) {
			i := install(t)
			id := i.mobileID(1)
			i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true, "reason": reason})
			result, err := i.execution(id)
			require.NoError(t, err)
			require.Equal(t, reason, result.Certificates[0].Reason, "as sent")
			require.Equal(t, reason, result.Certificates[0].ReasonAtCA, "as read back")
		})
	}
}

func TestStartRefusesBadInputByName(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	for _, test := range []struct {
		name  string
		input any
		field string
	}{
		{"no mobileId", object{"userId": "anna"}, "mobileId"},
		{"no userId", object{"mobileId": id}, "userId"},
		{"empty mobileId", object{"mobileId": "", "userId": "anna"}, "mobileId"},
		{"huge userId", object{"mobileId": id, "userId": strings.Repeat("x", 100_000)}, "userId"},
		{"huge mobileId", object{"mobileId": strings.Repeat("x", 129), "userId": "anna"}, "mobileId"},
		{"mobileId of the wrong type", object{"mobileId": 1001, "userId": "anna"}, "mobileId"},
		{"confirmed of the wrong type", object{"mobileId": id, "userId": "anna", "confirmed": "yes"}, "confirmed"},
		{"path tricks", object{"mobileId": "../../etc/passwd", "userId": "anna"}, "mobileId"},
		{"control characters", object{"mobileId": id, "userId": "anna\n"}, "userId"},
		{"certificateHold", object{"mobileId": id, "userId": "anna", "reason": "certificateHold"}, "reason"},
		{"a reason that is none", object{"mobileId": id, "userId": "anna", "reason": "lost"}, "reason"},
		{"an issuer's reason by a user", object{"mobileId": id, "userId": "anna", "reason": "privilegeWithdrawn"}, "reason"},
		{"thenGet", object{"mobileId": id, "userId": "anna", "confirmed": true, "thenGet": true}, "thenGet"},
		{"forged state", object{"mobileId": id, "userId": "anna", "continued": object{"decision": "next"}}, "continued"},
		{"resume of an active one", object{"mobileId": id, "userId": "anna", "resume": true}, "resume"},
		{"a string", "lock it", "input"},
		{"an array", []string{id, "anna"}, "input"},
		{"null", nil, "input"},
		{"bytes", []byte("mid-1001"), "input"},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := i.start(id, test.input)
			requireRefusal(t, run.Get(t.Context(), nil), mobileid.TypeInvalidRequest, test.field)
		})
	}
	i.requireUnchanged(id)
}

func TestStartRefusesWhatIsNotJSON(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	for name, payloads := range map[string]*commonpb.Payloads{
		"nothing at all":       nil,
		"broken JSON":          {Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`{"mobileId":`)}}},
		"unknown encoding":     {Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("text/klingon")}, Data: []byte{0xff, 0x00}}}},
		"no encoding":          {Payloads: []*commonpb.Payload{{Data: []byte("hello")}}},
		"JSON with a tail":     {Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`{} {}`)}}},
		"invalid UTF-8 inside": {Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte("{\"mobileId\": \"\xff\"}")}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := i.temporal.WorkflowService().StartWorkflowExecution(t.Context(), &workflowservice.StartWorkflowExecutionRequest{
				Namespace:    client.DefaultNamespace,
				WorkflowId:   workflows.LockWorkflowID(id),
				WorkflowType: &commonpb.WorkflowType{Name: workflows.Lock},
				TaskQueue:    &taskqueuepb.TaskQueue{Name: i.queue},
				Input:        payloads,
				RequestId:    uuid.NewString(),
			})
			require.NoError(t, err)
			_, err = i.execution(id)
			requireRefusal(t, err, mobileid.TypeInvalidRequest, "")
		})
	}
	i.requireUnchanged(id)
}

func TestStartRefusesOptionsThatBreakThePromise(t *testing.T) {
	i := install(t)
	for _, test := range []struct {
		option string
		change func(*client.StartWorkflowOptions)
	}{
		{"workflowId", func(o *client.StartWorkflowOptions) { o.ID = "lock-" + uuid.NewString() }},
		{"workflowExecutionTimeout", func(o *client.StartWorkflowOptions) { o.WorkflowExecutionTimeout = time.Hour }},
		{"workflowRunTimeout", func(o *client.StartWorkflowOptions) { o.WorkflowRunTimeout = time.Hour }},
		{"cronSchedule", func(o *client.StartWorkflowOptions) { o.CronSchedule = "* * * * *" }},
		{"retryPolicy", func(o *client.StartWorkflowOptions) { o.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1} }},
	} {
		t.Run(test.option, func(t *testing.T) {
			id := i.mobileID(1)
			run := i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true}, test.change)
			if test.option == "cronSchedule" {
				// A cron starts again after each refusal; ended here.
				defer func() { require.NoError(t, i.temporal.TerminateWorkflow(t.Context(), run.GetID(), "", "test")) }()
				err := run.GetWithOptions(t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
				require.ErrorContains(t, err, "continue")
				i.requireUnchanged(id)
				return
			}
			requireRefusal(t, run.Get(t.Context(), nil), mobileid.TypeInvalidRequest, test.option)
			i.requireUnchanged(id)
			require.Equal(t, []mobileid.Event{mobileid.EventRefused}, i.events(id))
		})
	}
}

// A start that joins a running process delivers nothing of its request.
func TestJoiningStartDeliversNothing(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	first := i.start(id, object{"mobileId": id, "userId": "anna"})
	i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
	second := i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true, "reason": "keyCompromise"})
	require.Equal(t, first.GetRunID(), second.GetRunID(), "one running lock per mobile ID")
	status := i.waitFor(id, func(starter.Status) bool { return true })
	require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
	i.requireUnchanged(id)
}

// Therefore whoever holds the user's Next sends it, too.
func TestConfirmedStartThatJoinsLocksBecauseNextIsSentToo(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	i.start(id, object{"mobileId": id, "userId": "anna"})
	i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
	status, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.False(t, status.LockedAt.IsZero())
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestCancelledLockMayBeAskedForAgain(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	_, err := i.anna().Start(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.anna().Cancel(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestOperatorLocksForTheOwner(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	status, err := i.locks.Operator("olof").Lock(t.Context(), id, starter.LockOptions{Owner: "anna", Reason: mobileid.PrivilegeWithdrawn})
	require.NoError(t, err)
	require.Equal(t, "olof", status.DecidedBy.By)
	require.Empty(t, status.DecidedBy.UserID)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.PrivilegeWithdrawn, result.Certificates[0].ReasonAtCA)
	i.requireLocked(id)
	trail, err := i.store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, workflows.LockForOperator, trail[0].Record.Process.Name)
}

func TestOperatorJoinsTheUsersLock(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	_, err := i.anna().Start(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.locks.Operator("olof").Lock(t.Context(), id, starter.LockOptions{Owner: "anna"})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, "olof", result.DecidedBy.By)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventRevoked}, i.events(id))
}

func TestUserJoinsTheOperatorsLock(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	olof := i.locks.Operator("olof")
	_, err := olof.Start(t.Context(), id, starter.LockOptions{Owner: "anna", Reason: mobileid.PrivilegeWithdrawn})
	require.NoError(t, err)
	_, err = i.locks.User("bert").Next(t.Context(), id, starter.LockOptions{})
	requireRefusal(t, err, mobileid.TypeMobileIDNotFound, "")
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, "anna", result.DecidedBy.UserID, "the user pressed Next")
	require.Equal(t, mobileid.PrivilegeWithdrawn, result.Certificates[0].Reason, "the operator's, as nobody gave another")
	i.requireLocked(id)
	trail, err := i.store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, workflows.LockForOperator, trail[0].Record.Process.Name)
	require.Equal(t, workflows.LockWorkflowID(id), trail[0].Record.Process.WorkflowID)
	require.Equal(t, "anna", trail[0].Record.Decision.UserID)
}

// A start that joins delivers nothing of its request, the owner neither.
func TestOperatorJoinsOnlyTheOwnersLock(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	olof := i.locks.Operator("olof")
	for name, act := range map[string]func() error{
		"start": func() error {
			_, err := olof.Start(t.Context(), id, starter.LockOptions{Owner: "bert"})
			return err
		},
		"lock": func() error {
			_, err := olof.Lock(t.Context(), id, starter.LockOptions{Owner: "bert"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := act()
			requireRefusal(t, err, mobileid.TypeMobileIDNotFound, "")
			require.EqualError(t, err, mobileid.NotFound().Error(), "the words for an unknown one")
			status, err := i.anna().Status(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
		})
	}
	i.requireUnchanged(id)
	_, err := olof.Lock(t.Context(), id, starter.LockOptions{Owner: "anna"})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.Decision{By: "olof"}, result.DecidedBy)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.False(t, result.RequestedAt.IsZero() || result.LockedAt.IsZero() || result.RevokedAt.IsZero())
	i.requireLocked(id)
	trail, err := i.store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, mobileid.Decision{By: "olof"}, trail[0].Record.Decision, "decided by the operator, and by no user")
}

func TestOperatorMustBeNamedAndTheOwnerRight(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	_, err := i.locks.Operator("").Lock(t.Context(), id, starter.LockOptions{Owner: "anna"})
	requireRefusal(t, err, mobileid.TypeInvalidRequest, "by")
	_, err = i.locks.Operator("olof").Lock(t.Context(), id, starter.LockOptions{Owner: "bert"})
	requireRefusal(t, err, mobileid.TypeMobileIDNotFound, "")
	i.requireUnchanged(id)
}

// resume checks every certificate at its CA again, also those that Identity
// Manager already says are revoked.
func TestResumeChecksEveryCertificateAgain(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	first, err := i.execution(id)
	require.NoError(t, err)

	// Identity Manager says revoked of one that the CA has forgotten to revoke, as
	// after the CA was restored from a backup.
	lost := i.certificate(mobileid.CertificateIssued)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, lost))
	_, err = i.store.RecordRevocations(t.Context(), mobileid.RevocationOrder{
		MobileID: id, CA: "devca", Process: mobileid.Process{Name: "test", WorkflowID: "test", RunID: "test"},
		Certificates: []mobileid.CertificateResult{{
			CertificateID: lost.CertificateID, NotAfter: lost.NotAfter, Outcome: mobileid.OutcomeRevoked, StatusAtCA: mobileid.StatusRevoked,
			RevokedAt: time.Now(), Proof: []mobileid.Proof{{Source: mobileid.ProofFromCA, At: time.Now(), SHA256: strings.Repeat("0", 64)}},
		}},
	})
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, i.statusAtCA(lost))

	_, err = i.locks.Operator("olof").Lock(t.Context(), id, starter.LockOptions{Owner: "anna", Resume: true})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Len(t, result.Certificates, 3)
	i.keep("resume", id, "")
	require.Equal(t, mobileid.StatusRevoked, i.statusAtCA(lost))
	require.Equal(t, first.LockedAt, result.LockedAt, "the lock that stands keeps its time")
	require.Equal(t, first.RequestedAt, result.RequestedAt)
	for _, c := range result.Certificates {
		require.Equal(t, 1, i.driver.requests[c.Serial], "what is revoked is not asked for again")
		require.Equal(t, mobileid.OutcomeRevoked, c.Outcome, "the lock that stands did it")
	}
}

func TestTerminatedLockIsResumedByANewStart(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	i.driver.gate(unavailable)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{Reason: mobileid.KeyCompromise})
	require.NoError(t, err)
	require.NoError(t, i.temporal.TerminateWorkflow(t.Context(), workflows.LockWorkflowID(id), "", "test"))
	i.driver.gate(nil)

	status, err := i.anna().Start(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.NotEqual(t, workflows.AwaitingConfirmation, status.Phase, "it resumes without asking")
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	for _, c := range result.Certificates {
		require.Equal(t, mobileid.KeyCompromise, c.ReasonAtCA, "the reason of the lock that stands")
	}
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed, mobileid.EventRevoked}, i.events(id))
}
