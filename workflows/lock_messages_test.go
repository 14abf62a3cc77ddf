package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
	starter "mobileid/starter/client"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// Contract section 3: three ways into one decision.

// awaiting makes a mobile ID whose lock waits for Next or Cancel.
func (i *installation) awaiting(certificates int) string {
	i.t.Helper()
	id := i.mobileID(certificates)
	i.start(id, object{"mobileId": id, "userId": "anna"})
	i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
	return id
}

// update sends an update as a client in any language would.
func (i *installation) update(ctx context.Context, id, name string, payload any) (workflows.LockStatus, error) {
	i.t.Helper()
	var status workflows.LockStatus
	handle, err := i.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflows.LockWorkflowID(id), UpdateID: uuid.NewString(), UpdateName: name, Args: []any{payload},
		WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	if err != nil {
		return status, err
	}
	return status, handle.Get(ctx, &status)
}

func TestNextByUpdateAnswersWhenLocked(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	status, err := i.update(t.Context(), id, workflows.Next, object{"userId": "anna", "by": "backend", "requestId": "r-1", "note": "phone lost"})
	require.NoError(t, err)
	require.False(t, status.LockedAt.IsZero(), "the answer comes when the mobile ID is locked")
	require.Equal(t, mobileid.Locked, i.read(id).State)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.Decision{UserID: "anna", By: "backend", Note: "phone lost"}, result.DecidedBy)
	i.requireLocked(id)
	i.keep("next-by-update", id, "")
}

// The session where Next was pressed is known by the request. All others that began with a
// mobile ID end.
func TestNextKeepsTheSessionItWasPressedIn(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	begin := func(digit string) identitymanager.Session {
		session := identitymanager.Session{
			ID: strings.Repeat(digit, 64), User: mobileid.User{ID: "anna"}, Method: identitymanager.ByMobileID, ExpiresAt: time.Now().Add(time.Hour),
		}
		require.NoError(t, i.store.StartSession(t.Context(), session, ""))
		return session
	}
	owners, thiefs := begin("a"), begin("b")
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{RequestID: owners.RequestID()})
	require.NoError(t, err)
	require.Equal(t, mobileid.Locked, i.read(id).State)
	_, err = i.store.Session(t.Context(), owners.ID, time.Hour)
	require.NoError(t, err)
	_, err = i.store.Session(t.Context(), thiefs.ID, time.Hour)
	require.ErrorIs(t, err, identitymanager.ErrNoSession)
}

// Any signal payload counts, or none: tctl and old scripts have nothing else.
func TestNextBySignalWithAnyPayload(t *testing.T) {
	i := install(t)
	for name, payload := range map[string]any{
		"an object": object{"by": "script"}, "none": nil, "a string": "go", "an array": []string{"a"}, "a number": 7,
		"an object in a string, as a tctl batch sends it": `{"by": "script", "reason": "superseded"}`,
		"fields of the wrong type":                        object{"by": 7, "note": []int{1}},
		"unknown fields":                                  object{"colour": "blue"},
		"bytes":                                           []byte{0xff, 0xfe},
		"a reason that a lock may not send":               object{"reason": "certificateHold"},
	} {
		t.Run(name, func(t *testing.T) {
			id := i.awaiting(1)
			require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, payload))
			result, err := i.execution(id)
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeLocked, result.Outcome)
			require.Empty(t, result.DecidedBy.UserID, "an operator or script")
			i.requireLocked(id)
		})
	}
}

func TestSignalWithoutPayloadAtAll(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	_, err := i.temporal.WorkflowService().SignalWorkflowExecution(t.Context(), &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: client.DefaultNamespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflows.LockWorkflowID(id)}, SignalName: workflows.Next,
	})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	i.keep("next-by-signal", id, "")
}

// run runs one of the programs of operators against the test server.
func (i *installation) run(program string, args ...string) string {
	i.t.Helper()
	path, err := workflowtest.FindProgram(program)
	if err != nil {
		i.t.Skip(err)
	}
	cmd := exec.CommandContext(i.t.Context(), path, args...)
	output, err := cmd.CombinedOutput()
	require.NoError(i.t, err, "%s %v: %s", program, args, output)
	return string(output)
}

func TestTctlStartsSignalsAndQueries(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	at := []string{"--address", server.Address}
	input, err := json.Marshal(object{"mobileId": id, "userId": "anna"})
	require.NoError(t, err)
	i.run("tctl", append(at, "workflow", "start", "--taskqueue", i.queue, "--workflow_type", workflows.Lock,
		"--workflow_id", workflows.LockWorkflowID(id), "--input", string(input))...)
	i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
	require.Contains(t, i.run("tctl", append(at, "workflow", "query", "--workflow_id", workflows.LockWorkflowID(id), "--query_type", "status")...), "awaitingConfirmation")
	i.run("tctl", append(at, "workflow", "signal", "--workflow_id", workflows.LockWorkflowID(id), "--name", "next")...)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestTemporalProgramStartsSignalsUpdatesAndQueries(t *testing.T) {
	i := install(t)
	at := func(args ...string) []string { return append(args, "--address", server.Address) }
	for name, next := range map[string][]string{
		"signal": {"workflow", "signal", "--name", "next"},
		"update": {"workflow", "update", "execute", "--name", "next", "--input", `{"by": "olof"}`},
	} {
		t.Run(name, func(t *testing.T) {
			id := i.mobileID(1)
			input, err := json.Marshal(object{"mobileId": id, "userId": "anna"})
			require.NoError(t, err)
			i.run("temporal", at("workflow", "start", "--task-queue", i.queue, "--type", workflows.Lock,
				"--workflow-id", workflows.LockWorkflowID(id), "--input", string(input))...)
			i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
			require.Contains(t, i.run("temporal", at("workflow", "query", "--workflow-id", workflows.LockWorkflowID(id), "--name", "status")...), "awaitingConfirmation")
			i.run("temporal", at(append(next, "--workflow-id", workflows.LockWorkflowID(id))...)...)
			_, err = i.execution(id)
			require.NoError(t, err)
			i.requireLocked(id)
		})
	}
}

func TestNextByUpdateWithStart(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	status, err := i.anna().Lock(t.Context(), id, starter.LockOptions{Reason: mobileid.KeyCompromise})
	require.NoError(t, err)
	require.False(t, status.LockedAt.IsZero())
	queried, err := i.anna().Status(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, id, queried.MobileID)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	i.keep("update-with-start", id, "")
}

func TestNextWhileValidating(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	broken := func(context.Context, string) error { return errGated }
	i.im.gate(broken)
	i.start(id, object{"mobileId": id, "userId": "anna"})
	i.waitFor(id, inPhase(workflows.Validating))

	answers := make(chan error, 1)
	go func() {
		_, err := i.update(t.Context(), id, workflows.Next, object{"userId": "anna"})
		answers <- err
	}()
	require.Eventually(t, func() bool {
		status, err := i.anna().Status(t.Context(), id)
		return err == nil && !status.RequestedAt.IsZero()
	}, limit, 20*time.Millisecond, "accepted from the first task on")
	i.im.gate(nil)
	_, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, <-answers)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestRefusalReachesAWaitingNextAsItsType(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	require.NoError(t, i.store.Deactivate(t.Context(), id))
	i.im.gate(func(context.Context, string) error { return errGated })
	i.start(id, object{"mobileId": id, "userId": "anna"})
	i.waitFor(id, inPhase(workflows.Validating))
	answers := make(chan error, 1)
	go func() {
		_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
		answers <- err
	}()
	require.Eventually(t, func() bool {
		status, err := i.anna().Status(t.Context(), id)
		return err == nil && !status.RequestedAt.IsZero()
	}, limit, 20*time.Millisecond)
	_, err := i.anna().Retry(t.Context(), id) // while there is a process to take it
	require.NoError(t, err)
	i.im.gate(nil)
	err = <-answers
	requireRefusal(t, err, mobileid.TypeMobileIDNotActive, "")
	var refusal *mobileid.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, mobileid.Inactive, refusal.State)
	_, err = i.execution(id)
	requireRefusal(t, err, mobileid.TypeMobileIDNotActive, "")
}

// Somebody else's messages are refused in the words for an unknown mobile ID,
// and their queries show nothing.
func TestMessagesOfSomebodyElse(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	bert := i.locks.User("bert")
	unknown := mobileid.NotFound()

	_, err := bert.Next(t.Context(), id, starter.LockOptions{})
	require.Equal(t, unknown, err)
	_, err = bert.Lock(t.Context(), id, starter.LockOptions{})
	require.Equal(t, unknown, err, "also when it joins the running process")
	_, err = bert.Cancel(t.Context(), id, starter.LockOptions{})
	require.Equal(t, unknown, err)
	_, err = bert.Retry(t.Context(), id)
	require.Equal(t, unknown, err)
	_, err = bert.Status(t.Context(), id)
	require.Equal(t, unknown, err)
	_, err = bert.Start(t.Context(), id, starter.LockOptions{})
	require.Equal(t, unknown, err)
	for _, name := range []string{workflows.Next, workflows.Cancel} {
		require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", name, object{"userId": "bert"}))
	}
	status := i.waitFor(id, func(s starter.Status) bool { return s.Ignored == 2 })
	require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
	i.requireUnchanged(id)

	_, err = bert.Status(t.Context(), "mid-unknown")
	require.Equal(t, unknown, err, "the same for one that does not exist")
}

func TestBadUpdatePayloadIsRefusedByName(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	for _, test := range []struct {
		name    string
		payload any
		field   string
	}{
		{"a string", "go", "payload"},
		{"an array", []int{1}, "payload"},
		{"userId of the wrong type", object{"userId": 7}, "userId"},
		{"huge note", object{"note": string(make([]byte, 5000))}, "note"},
		{"certificateHold", object{"userId": "anna", "reason": "certificateHold"}, "reason"},
		{"thenGet", object{"userId": "anna", "thenGet": true}, "thenGet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := i.update(t.Context(), id, workflows.Next, test.payload)
			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, string(mobileid.TypeInvalidRequest), application.Type())
			require.Contains(t, application.Message(), test.field)
		})
	}
	i.requireUnchanged(id)
}

func TestUpdateWithoutPayloadCounts(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	_, err := i.update(t.Context(), id, workflows.Next, nil)
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

func TestReasonOfTheFirstNextCounts(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.driver.gate(unavailable)
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{Reason: mobileid.KeyCompromise})
	require.NoError(t, err)
	_, err = i.anna().Next(t.Context(), id, starter.LockOptions{Reason: mobileid.Superseded})
	require.NoError(t, err)
	i.driver.gate(nil)
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Retry, nil), "retry by signal")
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, mobileid.KeyCompromise, result.Certificates[0].ReasonAtCA)
}

func TestCancelBeforeNextChangesNothing(t *testing.T) {
	for _, way := range []string{"update", "signal"} {
		t.Run(way, func(t *testing.T) {
			i := install(t)
			id := i.awaiting(1)
			if way == "update" {
				status, err := i.anna().Cancel(t.Context(), id, starter.LockOptions{})
				require.NoError(t, err)
				require.Equal(t, workflows.OutcomeCancelled, status.Outcome)
			} else {
				require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Cancel, nil))
			}
			result, err := i.execution(id)
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeCancelled, result.Outcome)
			require.True(t, result.RequestedAt.IsZero())
			i.requireUnchanged(id)
			i.keep("cancel", id, "")
			require.Equal(t, []mobileid.Event{mobileid.EventCancelled}, i.events(id))
			require.EqualValues(t, 1, result.Audit.Number)

			_, err = i.anna().Next(t.Context(), id, starter.LockOptions{})
			requireRefusal(t, err, mobileid.TypeAlreadyCancelled, "")
		})
	}
}

func TestCancelAfterNextIsRefusedOrIgnored(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.driver.gate(unavailable)
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)

	_, err = i.anna().Cancel(t.Context(), id, starter.LockOptions{})
	requireRefusal(t, err, mobileid.TypeAlreadyConfirmed, "")
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Cancel, nil))
	i.waitFor(id, func(s starter.Status) bool { return s.Ignored == 1 })
	status, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err, "a repeat of the first decision has the same answer")
	require.False(t, status.LockedAt.IsZero())

	i.driver.gate(nil)
	_, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	_, err = i.anna().Cancel(t.Context(), id, starter.LockOptions{})
	requireRefusal(t, err, mobileid.TypeAlreadyConfirmed, "")
}

func TestSameRequestIDSameAnswer(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.driver.gate(unavailable)
	options := starter.LockOptions{RequestID: uuid.NewString()}
	first, err := i.anna().Next(t.Context(), id, options)
	require.NoError(t, err)
	again, err := i.anna().Next(t.Context(), id, options)
	require.NoError(t, err)
	require.Equal(t, first.LockStatus, again.LockStatus)
}

func TestRequestCancellationBeforeNext(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	require.NoError(t, i.temporal.CancelWorkflow(t.Context(), workflows.LockWorkflowID(id), ""))
	_, err := i.execution(id)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled, "the process is Canceled")
	i.requireUnchanged(id)
	i.keep("cancellation-before-next", id, "")
	require.Equal(t, []mobileid.Event{mobileid.EventCancelled}, i.events(id))
}

func TestRequestCancellationAfterNextIsNoted(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.driver.gate(unavailable)
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.NoError(t, i.temporal.CancelWorkflow(t.Context(), workflows.LockWorkflowID(id), ""))
	i.waitFor(id, func(s starter.Status) bool { return s.CancellationRequested })
	i.driver.gate(nil)
	_, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err, "the lock finishes")
	require.True(t, result.CancellationRequested)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
	i.keep("cancellation-after-next", id, "")
}

func TestUnansweredExpires(t *testing.T) {
	i := install(t, withDeadline(time.Second))
	id := i.mobileID(1)
	i.start(id, object{"mobileId": id, "userId": "anna"})
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeExpired, result.Outcome)
	i.requireUnchanged(id)
	i.keep("expired", id, "")
	require.Equal(t, []mobileid.Event{mobileid.EventExpired}, i.events(id))
	status, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeExpired, status.Outcome, "the other outcome is the answer")
}

func TestRetrySaysIfNothingWaits(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.False(t, answer.Retried)
	require.Equal(t, "nothing waits", answer.Why)
}

func TestRetryTriesTheWaitingStepNow(t *testing.T) {
	i := install(t)
	id := i.awaiting(2)
	i.driver.gate(unavailable)
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && s.Steps[0].Attempt >= 4 })
	// Put off so far that the end below comes from the retry.
	i.driver.gate(func(_ context.Context, cert ca.Certificate) error {
		return &ca.Error{Kind: ca.Unavailable, Op: "revoke " + cert.String(), Words: "connection refused", RetryAfter: time.Hour}
	})
	status := i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 && time.Until(s.Steps[0].NextTry) > 2*limit })
	require.Equal(t, "revoke-ca/devca", status.Steps[0].ID)
	require.Contains(t, status.Steps[0].LastError, "connection refused")
	require.Equal(t, workflows.Revoking, status.Phase)
	i.driver.gate(nil)
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	answer, err = i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.False(t, answer.Retried, "at most one per 10 s takes effect")
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	// Three updates: next, and two retries that are answered at once.
	require.LessOrEqual(t, i.length(id), 36+11+5, "a retry costs at most 11 events, an update at most 5, failed tries none")
	i.keep("ca-retries", id, "")
}

// At most four next updates wait; what else comes is answered at once.
func TestFiveWaitingNextAndARetry(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	i.im.gate(func(_ context.Context, method string) error {
		if method == "Lock" {
			return errGated
		}
		return nil
	})
	var group sync.WaitGroup
	var mu sync.Mutex
	var locked, early int
	for range 5 {
		group.Add(1)
		go func() {
			defer group.Done()
			status, err := i.update(t.Context(), id, workflows.Next, object{"userId": "anna"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
			case status.LockedAt.IsZero():
				early++
			default:
				locked++
			}
		}()
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return early == 1
	}, limit, 20*time.Millisecond, "the fifth is answered at once")

	library := make(chan error, 1)
	go func() {
		status, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
		if err == nil && status.LockedAt.IsZero() {
			err = errors.New("the library did not wait")
		}
		library <- err
	}()
	i.waitFor(id, func(s starter.Status) bool { return len(s.Steps) == 1 })
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	i.im.gate(nil) // not before, or the step is done by itself
	group.Wait()
	require.Equal(t, 4, locked)
	require.NoError(t, <-library)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

// No worker up: Next is stored at the server and counts when one starts.
func TestNextWithoutAnyWorkerIsStored(t *testing.T) {
	i := installStopped(t)
	id := i.mobileID(1)
	i.locks = starter.New(i.temporal, i.queue) // which does not wait for long
	status, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	require.True(t, status.Stored)
	i.requireUnchanged(id)
	i.startWorker()
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
}

func TestNextAndCancelAtOnce(t *testing.T) {
	i := install(t)
	for range 5 {
		id := i.awaiting(1)
		var group sync.WaitGroup
		var nextErr, cancelErr error
		group.Go(func() { _, nextErr = i.anna().Next(t.Context(), id, starter.LockOptions{}) })
		group.Go(func() { _, cancelErr = i.anna().Cancel(t.Context(), id, starter.LockOptions{}) })
		group.Wait()
		result, err := i.execution(id)
		require.NoError(t, err)
		if result.Outcome == workflows.OutcomeLocked {
			require.NoError(t, nextErr)
			requireRefusal(t, cancelErr, mobileid.TypeAlreadyConfirmed, "")
			i.requireLocked(id)
			continue
		}
		require.NoError(t, cancelErr)
		requireRefusal(t, nextErr, mobileid.TypeAlreadyCancelled, "")
		i.requireUnchanged(id)
	}
}

// What only an operator can cure waits for one, and the curable rest goes on.
func TestIncurableCertificateNeedsAnOperatorTheRestGoesOn(t *testing.T) {
	i := install(t)
	id := i.awaiting(3)
	stuck := i.read(id).Certificates[1].Serial
	i.driver.gate(func(ctx context.Context, cert ca.Certificate) error {
		if cert.Serial == stuck {
			return denied(ctx, cert)
		}
		return nil
	})
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	status := i.waitFor(id, func(s starter.Status) bool {
		done := 0
		for _, c := range s.Certificates {
			if c.StateInIM == mobileid.CertificateRevoked {
				done++
			}
		}
		return s.Phase == workflows.NeedsOperator && done == 2
	})
	require.Contains(t, status.Needs, "officer has no role", "the operator reads the CA's words")
	require.Contains(t, status.Needs, stuck)
	require.Contains(t, status.Needs, "retry")

	i.driver.gate(nil)
	answer, err := i.locks.Operator("olof").Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
	i.keep("needs-operator-and-retry", id, "")
}

// Gone or another owner by the time of the transaction: an operator decides.
func TestAnotherOwnerByNowNeedsAnOperator(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	require.NoError(t, i.store.ChangeOwner(t.Context(), id, "bert"))
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
	status := i.waitFor(id, inPhase(workflows.NeedsOperator))
	require.Contains(t, status.Needs, "another user")
	require.Equal(t, mobileid.Active, i.read(id).State)

	require.NoError(t, i.store.ChangeOwner(t.Context(), id, "anna"))
	_, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

// Locked by somebody else between validation and Next: the lock is taken over,
// and its times stand.
func TestLockedByAnotherBeforeNextIsTakenOver(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	receipt, err := i.store.Lock(t.Context(), mobileid.LockOrder{
		MobileID: id, Owner: "anna", RequestedAt: time.Now(),
		Process: mobileid.Process{Name: "other", WorkflowID: "other", RunID: "other"},
	})
	require.NoError(t, err)
	_, err = i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, receipt.LockedAt, result.LockedAt)
	i.requireLocked(id)
	require.Equal(t, []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed, mobileid.EventRevoked}, i.events(id))
}

// Gone between validation and Next: nothing can be locked, and an operator is told.
func TestGoneBeforeNextNeedsAnOperator(t *testing.T) {
	i := install(t)
	id := i.awaiting(0)
	require.NoError(t, i.store.DeleteMobileID(t.Context(), id))
	require.NoError(t, i.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
	status := i.waitFor(id, inPhase(workflows.NeedsOperator))
	require.Contains(t, status.Needs, "gone")
	require.True(t, status.LockedAt.IsZero())
}

func TestInactiveAfterNextIsLocked(t *testing.T) {
	i := install(t)
	id := i.awaiting(1)
	require.NoError(t, i.store.Deactivate(t.Context(), id))
	_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}

// A certificate of an issuer that nobody configured is never skipped.
func TestUnknownIssuerNeedsAnOperator(t *testing.T) {
	i := installStopped(t)
	id := i.mobileID(1)
	authorities, err := ca.NewAuthorities(nil)
	require.NoError(t, err)
	i.startWorkerWith(authorities)
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	status := i.waitFor(id, inPhase(workflows.NeedsOperator))
	require.Contains(t, status.Needs, "no CA is configured")
	require.Equal(t, mobileid.CertificateValid, i.read(id).Certificates[0].State)

	i.worker.Stop()
	i.startWorker()
	i.waitFor(id, inPhase(workflows.NeedsOperator)) // the new worker has taken the process over
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	_, err = i.execution(id)
	require.NoError(t, err)
	i.requireLocked(id)
}
