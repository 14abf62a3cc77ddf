package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/messaging/phone"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// getPath is one way that a Get can take. Its history is kept under its name.
type getPath struct {
	name    string
	options []getOption
	play    func(g *getInstallation)
	end     func(g *getInstallation, result workflows.GetResult, err error)
	keeps   bool // the old mobile ID stays as it is
}

// The ends of a Get.

func endsActive(g *getInstallation, result workflows.GetResult, err error) {
	require.NoError(g.t, err)
	require.Equal(g.t, workflows.OutcomeActive, result.Outcome)
	m := g.read(result.MobileID)
	require.Equal(g.t, mobileid.Active, m.State)
	require.Len(g.t, m.Certificates, 2)
	for _, c := range m.Certificates {
		require.Equal(g.t, mobileid.CertificateValid, c.State)
		require.Equal(g.t, mobileid.StatusGood, g.statusAtCA(c))
	}
}

func endsAs(outcome workflows.Outcome) func(*getInstallation, workflows.GetResult, error) {
	return func(g *getInstallation, result workflows.GetResult, err error) {
		require.NoError(g.t, err)
		require.Equal(g.t, outcome, result.Outcome)
	}
}

func endsFailed(want mobileid.FailureType) func(*getInstallation, workflows.GetResult, error) {
	return func(g *getInstallation, _ workflows.GetResult, err error) {
		var application *temporal.ApplicationError
		require.ErrorAs(g.t, err, &application)
		require.Equal(g.t, string(want), application.Type(), application.Message())
	}
}

func endsRefused(want mobileid.RefusalType) func(*getInstallation, workflows.GetResult, error) {
	return func(g *getInstallation, _ workflows.GetResult, err error) { _ = requireBare(g.t, err, want) }
}

func endsCanceled(g *getInstallation, _ workflows.GetResult, err error) {
	var canceled *temporal.CanceledError
	require.ErrorAs(g.t, err, &canceled)
}

// recorded is an end that the audit of the granted mobile ID tells of, because there is
// nothing else that could.
func recorded(event mobileid.Event, end func(*getInstallation, workflows.GetResult, error)) func(*getInstallation, workflows.GetResult, error) {
	return func(g *getInstallation, result workflows.GetResult, err error) {
		end(g, result, err)
		applicant, err := g.store.Applicant(g.t.Context(), g.userID)
		require.NoError(g.t, err)
		require.NotNil(g.t, applicant.Grant, "the grant can still be used")
		require.Equal(g.t, []mobileid.Event{mobileid.EventGranted, event}, g.events(applicant.Grant.MobileID))
	}
}

// givenUp is recorded, after Next: the record says whom to tell.
func givenUp(event mobileid.Event, end func(*getInstallation, workflows.GetResult, error)) func(*getInstallation, workflows.GetResult, error) {
	return func(g *getInstallation, result workflows.GetResult, err error) {
		recorded(event, end)(g, result, err)
		applicant, err := g.store.Applicant(g.t.Context(), g.userID)
		require.NoError(g.t, err)
		trail, err := g.store.AuditTrail(g.t.Context(), applicant.Grant.MobileID)
		require.NoError(g.t, err)
		last := trail[len(trail)-1].Record
		require.Equal(g.t, g.userID, last.Owner)
		require.False(g.t, last.RequestedAt.IsZero())
	}
}

// scannedBy plays a Get whose phone does something wrong.
func scannedBy(wrong phone.Misbehaviour) func(*getInstallation) {
	return func(g *getInstallation) {
		g.begin()
		g.next()
		g.scan(wrong)
	}
}

func withStepWait(d time.Duration) getOption {
	return func(g *getInstallation) { g.get.StepWait = d }
}

// wellBehaved is the usual way, from the form to the end.
var wellBehaved = scannedBy(phone.WellBehaved)

// caDown is a CA that nobody reaches, and caDenies one that lets nobody in.
var (
	caDown   = &ca.Error{Kind: ca.Unavailable, Op: "issue a certificate", Words: "connection refused"}
	caDenies = &ca.Error{Kind: ca.Denied, Op: "issue a certificate", Words: "officer has no role Issue certificate"}
)

// getPaths are all ways that a Get can take.
func getPaths() []getPath {
	return []getPath{
		{name: "get-direct", play: wellBehaved, end: endsActive},
		{name: "get-without-attributes", options: []getOption{func(g *getInstallation) { withoutAttributes(g.installation) }}, play: wellBehaved, end: endsActive},
		{name: "get-confirmed", end: endsActive, play: func(g *getInstallation) {
			g.grant()
			g.beginWith(object{"userId": g.userID, "confirmed": true})
			g.scan(phone.WellBehaved)
		}},
		{name: "get-by-operator", end: endsActive, play: func(g *getInstallation) {
			g.grant()
			g.beginWith(object{"userId": g.userID, "by": "olof", "confirmed": true})
			g.scan(phone.WellBehaved)
		}},
		{name: "get-next-by-signal", end: endsActive, play: func(g *getInstallation) {
			g.begin()
			g.signal(workflows.Next)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-answered-twice", end: endsActive, play: scannedBy(phone.AnswerTwice)},

		// With an old mobile ID.
		{name: "get-lock-by-update", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			g.begin()
			_, err := g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			g.next()
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-lock-by-signal", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			g.begin()
			g.signal(workflows.LockFirst)
			g.until(func(s starter.GetStatus) bool { return s.Lock != nil })
			g.next()
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-lock-and-next-stored", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			g.begin()
			g.worker.Stop()
			g.signal(workflows.LockFirst)
			g.signal(workflows.Next)
			g.startGetWorker()
			require.Zero(g.t, g.at(workflows.AwaitingPhone).Ignored)
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-lock-with-the-start", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			g.grant()
			g.beginWith(object{"userId": g.userID, "confirmed": true, "lock": true})
			g.at(workflows.AwaitingPhone)
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-joins-a-lock", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			_, err := g.locks.User(g.userID).Start(g.t.Context(), old, starter.LockOptions{})
			require.NoError(g.t, err)
			g.begin()
			_, err = g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			g.next()
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-after-lock", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			g.grant()
			locks := g.locks.User(g.userID)
			_, err := locks.Lock(g.t.Context(), old, starter.LockOptions{ThenGet: true})
			require.NoError(g.t, err)
			lock, err := locks.WaitClosed(g.t.Context(), old, nil)
			require.NoError(g.t, err)
			require.Equal(g.t, g.workflowID(), lock.Get.WorkflowID)
			g.keep("then-get", old, "")
			require.Equal(g.t, workflows.LockWorkflowID(old), g.at(workflows.AwaitingConfirmation).Lock.WorkflowID)
			g.next()
			g.scan(phone.WellBehaved)
		}},
		{name: "get-old-one-half-locked", end: endsActive, play: func(g *getInstallation) {
			old := g.old()
			_, err := g.store.Lock(g.t.Context(), mobileid.LockOrder{
				MobileID: old, Owner: g.userID, RequestedAt: time.Now(), Reason: mobileid.Unspecified,
				Process: mobileid.Process{Name: workflows.Lock, WorkflowID: workflows.LockWorkflowID(old), RunID: "terminated"},
			})
			require.NoError(g.t, err)
			g.begin()
			g.next()
			g.requireLocked(old)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-left-behind", end: endsActive, play: func(g *getInstallation) {
			g.begin()
			left := g.next().MobileID
			require.NoError(g.t, g.temporal.TerminateWorkflow(g.t.Context(), g.workflowID(), "", "test"))
			g.begin()
			g.next()
			g.requireLocked(left)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-next-too-early", keeps: true, end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.old()
			g.grant()
			_, err := g.temporal.SignalWithStartWorkflow(g.t.Context(), g.workflowID(), workflows.Next, nil,
				client.StartWorkflowOptions{TaskQueue: g.queue}, workflows.Get, object{"userId": g.userID})
			require.NoError(g.t, err)
			require.NotEmpty(g.t, g.at(workflows.AwaitingConfirmation).Live)
			_, err = g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
		}},
		{name: "get-next-with-the-start", keeps: true, end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.old()
			g.grant()
			start := g.temporal.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
				ID: g.workflowID(), TaskQueue: g.queue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
			}, workflows.Get, object{"userId": g.userID})
			answer, err := g.temporal.UpdateWithStartWorkflow(g.t.Context(), client.UpdateWithStartWorkflowOptions{
				StartWorkflowOperation: start,
				UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: workflows.Next, WaitForStage: client.WorkflowUpdateStageCompleted},
			})
			require.NoError(g.t, err)
			var application *temporal.ApplicationError
			require.ErrorAs(g.t, answer.Get(g.t.Context(), nil), &application)
			require.Equal(g.t, string(mobileid.TypeMobileIDActive), application.Type())
			_, err = g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
		}},
		{name: "get-lock-refused", keeps: true, end: givenUp(mobileid.EventRefused, endsFailed(mobileid.FailureMobileIDActive)), play: func(g *getInstallation) {
			g.old()
			g.begin()
			require.NoError(g.t, g.store.PutUser(g.t.Context(), mobileid.User{ID: g.userID, Name: g.userID, Active: true}, "a@example.com"))
			_, err := g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			g.signal(workflows.Next)
		}},

		{name: "get-lock-cancelled", keeps: true, end: givenUp(mobileid.EventRefused, endsFailed(mobileid.FailureMobileIDActive)), play: func(g *getInstallation) {
			old := g.old()
			g.begin()
			_, err := g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			// Until its validation is through, the Next of a lock does not count.
			g.im.gate(func(_ context.Context, method string) error {
				if method == "MobileID" {
					return errGated
				}
				return nil
			})
			g.signal(workflows.Next)
			g.pending(activities.AwaitNoneLiveName, 1)
			require.NoError(g.t, g.temporal.SignalWorkflow(g.t.Context(), workflows.LockWorkflowID(old), "", workflows.Cancel, nil))
		}},

		{name: "get-cancelled-while-locking", play: func(g *getInstallation) {
			old := g.old()
			g.driver.gate(unavailable)
			g.begin()
			_, err := g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			g.signal(workflows.Next)
			g.pending(activities.AwaitNoneLiveName, 1)
			_, err = g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
			g.driver.gate(nil)
			_, err = g.execution(old) // the lock goes on
			require.NoError(g.t, err)
			g.requireLocked(old)
		}, end: givenUp(mobileid.EventCancelled, endsAs(workflows.OutcomeCancelled))},

		// Nothing is changed.
		{name: "get-kept", keeps: true, end: recorded(mobileid.EventCancelled, endsAs(workflows.OutcomeCancelled)), play: func(g *getInstallation) {
			g.old()
			g.begin()
			_, err := g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
		}},
		{name: "get-cancelled-by-signal", end: recorded(mobileid.EventCancelled, endsAs(workflows.OutcomeCancelled)), play: func(g *getInstallation) {
			g.begin()
			g.signal(workflows.Cancel)
		}},
		{name: "get-cancelled-while-validating", end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.gate.set(gateFailing(errGated, "Applicant"))
			g.grant()
			g.beginWith(object{"userId": g.userID})
			g.pending(activities.ValidateGetName, 2)
			g.signal(workflows.Cancel)
			_, err := g.end()
			require.NoError(g.t, err)
			g.gate.set(nil)
		}},
		{name: "get-signals-that-do-not-count", end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.begin()
			for _, name := range []string{workflows.Next, workflows.LockFirst, workflows.Cancel} {
				require.NoError(g.t, g.temporal.SignalWorkflow(g.t.Context(), g.workflowID(), "", name, object{"userId": "bert"}))
			}
			g.signal(workflows.Retry)
			g.signal(workflows.Answered)
			g.until(func(s starter.GetStatus) bool { return s.Ignored >= 4 })
			g.signal(workflows.Cancel)
		}},
		{name: "get-expired", end: recorded(mobileid.EventExpired, endsAs(workflows.OutcomeExpired)), options: []getOption{func(g *getInstallation) { g.get.Deadline = time.Second }},
			play: func(g *getInstallation) {
				g.grant()
				g.beginWith(object{"userId": g.userID})
			}},
		{name: "get-cancellation-before-next", end: recorded(mobileid.EventCancelled, endsCanceled), play: func(g *getInstallation) {
			g.begin()
			require.NoError(g.t, g.temporal.CancelWorkflow(g.t.Context(), g.workflowID(), ""))
		}},

		// Refused.
		{name: "get-refused-without-grant", end: endsRefused(mobileid.TypeNotEntitled), play: func(g *getInstallation) {
			g.beginWith(object{"userId": g.userID})
		}},
		{name: "get-refused-inactive-user", end: recorded(mobileid.EventRefused, endsRefused(mobileid.TypeNotEntitled)), play: func(g *getInstallation) {
			g.grant()
			require.NoError(g.t, g.store.PutUser(g.t.Context(), mobileid.User{ID: g.userID, Roles: []string{mobileid.SelfServiceRole}}, "a@example.com"))
			g.beginWith(object{"userId": g.userID})
		}},
		{name: "get-refused-active-mobile-id", keeps: true, end: recorded(mobileid.EventRefused, endsRefused(mobileid.TypeMobileIDActive)), play: func(g *getInstallation) {
			g.old()
			g.grant()
			g.beginWith(object{"userId": g.userID, "confirmed": true})
		}},
		{name: "get-refused-inactive-mobile-id", keeps: true, end: endsRefused(mobileid.TypeMobileIDActive), play: func(g *getInstallation) {
			require.NoError(g.t, g.store.Deactivate(g.t.Context(), g.old()))
			g.grant()
			g.beginWith(object{"userId": g.userID})
		}},
		{name: "get-refused-input", end: endsRefused(mobileid.TypeInvalidRequest), play: func(g *getInstallation) {
			g.beginWith(object{"userId": g.userID, "confirmed": "yes"})
		}},
		{name: "get-refused-options", end: endsRefused(mobileid.TypeInvalidRequest), play: func(g *getInstallation) {
			g.grant()
			_, err := g.temporal.ExecuteWorkflow(g.t.Context(), client.StartWorkflowOptions{
				ID: g.workflowID(), TaskQueue: g.queue, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
			}, workflows.Get, object{"userId": g.userID})
			require.NoError(g.t, err)
		}},
		{name: "get-refused-another-grant-by-now", end: endsRefused(mobileid.TypeNotEntitled), play: func(g *getInstallation) {
			g.begin()
			g.grant()
			g.signal(workflows.Next)
		}},

		// What phones do.
		{name: "get-phone-refuses", play: scannedBy(phone.RefuseKeys), end: endsFailed(mobileid.FailurePhoneRefused)},
		{name: "get-phone-refuses-to-install", play: scannedBy(phone.RefuseInstalling), end: endsFailed(mobileid.FailurePhoneRefused)},
		{name: "get-phone-wrong-nonce", play: scannedBy(phone.WrongNonce), end: endsFailed(mobileid.FailureWrongNonce)},
		{name: "get-phone-bad-signature", play: scannedBy(phone.ForeignKey), end: endsFailed(mobileid.FailureBadSignature)},
		{name: "get-phone-foreign-csr", play: scannedBy(phone.ForeignSubject), end: endsFailed(mobileid.FailureBadRequest)},
		{name: "get-phone-silent", end: endsFailed(mobileid.FailurePhoneSilent),
			options: []getOption{func(g *getInstallation) { g.get.ScanWait = 2 * time.Second }},
			play: func(g *getInstallation) {
				g.begin()
				g.signal(workflows.Next)
			}},
		{name: "get-phone-silent-when-installing", end: endsFailed(mobileid.FailurePhoneSilent),
			options: []getOption{func(g *getInstallation) { g.get.InstallWait = 2 * time.Second }},
			play: func(g *getInstallation) {
				gone := make(chan struct{})
				g.gate.set(gateHeld("IssueOnce/before", gone))
				g.begin()
				g.next()
				away := g.scan(phone.WellBehaved)
				g.at(workflows.Issuing)
				away()
				close(gone)
			}},

		// What the CA and messaging do.
		{name: "get-ca-refuses", end: endsFailed(mobileid.FailureCARefused), play: wellBehaved,
			options: []getOption{func(g *getInstallation) { g.get.Keys[1].Procedure = "no such procedure" }}},
		{name: "get-ca-answer-lost", end: endsFailed(mobileid.FailureCARefused), options: []getOption{withStepWait(15 * time.Second)}, play: func(g *getInstallation) {
			g.gate.set(gateFailing(caDown, "IssueOnce/after"))
			wellBehaved(g)
		}},
		{name: "get-messaging-down", end: endsFailed(mobileid.FailureMessagingRefused), options: []getOption{withStepWait(2 * time.Second)}, play: func(g *getInstallation) {
			g.silence()
			g.begin()
			g.signal(workflows.Next)
		}},
		{name: "get-messaging-denies", end: endsFailed(mobileid.FailureMessagingRefused),
			options: []getOption{func(g *getInstallation) { g.client.ClientID = "nobody" }},
			play: func(g *getInstallation) {
				g.begin()
				g.signal(workflows.Next)
			}},

		// Retries, and what only an operator can cure.
		{name: "get-retry-while-it-is-tried", end: endsActive, play: func(g *getInstallation) {
			g.silence()
			g.begin()
			g.signal(workflows.Next)
			g.pending(activities.ProvisionName, 3)
			g.retry() // or it is tried again by itself before
			g.startMessaging()
			g.scan(phone.WellBehaved)
		}},
		{name: "get-retry-by-signal", end: endsActive, play: func(g *getInstallation) {
			g.silence()
			g.begin()
			g.signal(workflows.Next)
			g.pending(activities.ProvisionName, 3)
			g.startMessaging()
			g.signal(workflows.Retry)
			g.scan(phone.WellBehaved)
		}},
		{name: "get-needs-operator-and-retry", end: endsFailed(mobileid.FailureCARefused), play: func(g *getInstallation) {
			g.gate.set(gateFailing(caDenies, "IssueOnce/after", "Issued"))
			wellBehaved(g)
			require.Contains(g.t, g.at(workflows.NeedsOperator).Needs, caDenies.Words)
			g.gate.set(nil)
			g.retry()
		}},
		{name: "get-validated-late", end: endsActive, play: func(g *getInstallation) {
			g.gate.set(gateFailing(errGated, "Applicant"))
			g.grant()
			g.beginWith(object{"userId": g.userID})
			g.pending(activities.ValidateGetName, 2)
			g.gate.set(nil)
			g.at(workflows.AwaitingConfirmation)
			g.next()
			g.scan(phone.WellBehaved)
		}},

		// Given up after Next.
		{name: "get-cancelled-at-the-phone", end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.begin()
			g.next()
			_, err := g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
		}},
		{name: "get-cancelled-too-late", end: endsFailed(mobileid.FailurePhoneRefused), play: func(g *getInstallation) {
			g.driver.gate(unavailable)
			g.begin()
			g.next()
			g.scan(phone.RefuseInstalling)
			g.at(workflows.TakingBack)
			_, err := g.applicant().Cancel(g.t.Context())
			require.ErrorIs(g.t, err, mobileid.ErrAlreadyCancelled)
			require.ErrorContains(g.t, err, "failed already")
			g.driver.gate(nil)
		}},
		{name: "get-cancelled-twice", end: endsAs(workflows.OutcomeCancelled), play: func(g *getInstallation) {
			g.driver.gate(unavailable)
			g.gate.set(gateHeld("IssueOnce/after", nil))
			wellBehaved(g)
			g.pending(activities.IssueAtCAName, 1)
			for range 2 {
				_, err := g.applicant().Cancel(g.t.Context())
				require.NoError(g.t, err)
			}
			g.at(workflows.TakingBack)
			_, err := g.applicant().Cancel(g.t.Context())
			require.NoError(g.t, err)
			g.driver.gate(nil)
		}},
		{name: "get-cancellation-at-the-phone", end: endsCanceled, play: func(g *getInstallation) {
			g.begin()
			g.next()
			require.NoError(g.t, g.temporal.CancelWorkflow(g.t.Context(), g.workflowID(), ""))
		}},
		{name: "get-cancellation-while-issuing", end: endsCanceled, play: func(g *getInstallation) {
			g.gate.set(gateHeld("IssueOnce/after", nil))
			wellBehaved(g)
			g.pending(activities.IssueAtCAName, 1)
			require.NoError(g.t, g.temporal.CancelWorkflow(g.t.Context(), g.workflowID(), ""))
		}},
		{name: "get-cancellation-too-late", end: endsActive, play: func(g *getInstallation) {
			asked := make(chan struct{})
			g.gate.set(gateHeld("Activate", asked))
			wellBehaved(g)
			g.at(workflows.Activating)
			require.NoError(g.t, g.temporal.CancelWorkflow(g.t.Context(), g.workflowID(), ""))
			close(asked)
		}},
		{name: "get-right-lost", end: endsFailed(mobileid.FailureNotEntitled), play: func(g *getInstallation) {
			lost := make(chan struct{})
			g.gate.set(gateHeld("Activate", lost))
			wellBehaved(g)
			g.at(workflows.Activating)
			require.NoError(g.t, g.store.PutUser(g.t.Context(), mobileid.User{ID: g.userID, Name: g.userID, Active: true}, "a@example.com"))
			close(lost)
		}},
	}
}

// Every path of a Get ends as it must, and leaves nothing live behind that it did
// not begin with. Its history is kept for [TestReplay].
func TestGetPaths(t *testing.T) {
	for _, path := range getPaths() {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			g := installGet(t, path.options...)
			path.play(g)
			result, err := g.end()
			path.end(g, result, err)
			applicant, readErr := g.store.Applicant(t.Context(), g.userID)
			require.NoError(t, readErr)
			live := applicant.Live()
			switch {
			case path.keeps:
				require.Len(t, live, 1)
				require.NotEqual(t, mobileid.Locked, live[0].State)
			case err == nil && result.Outcome == workflows.OutcomeActive:
				require.Len(t, live, 1)
				require.Equal(t, result.MobileID, live[0].ID)
			default:
				require.Empty(t, live)
			}
			report, verifyErr := g.store.VerifyAudit(t.Context(), "", nil, nil)
			require.NoError(t, verifyErr)
			require.Empty(t, report.Faults)
			g.keepHistory(path.name, g.workflowID(), "")
		})
	}
}

// pending waits until an activity is at least at its nth try.
func (g *getInstallation) pending(name string, attempt int32) {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		described, err := g.temporal.DescribeWorkflowExecution(g.t.Context(), g.workflowID(), "")
		if err != nil {
			return false
		}
		for _, a := range described.GetPendingActivities() {
			if a.GetActivityType().GetName() == name && a.GetAttempt() >= attempt &&
				(attempt > 1 || a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED) {
				return true
			}
		}
		return false
	}, limit, 50*time.Millisecond, "%s is at try %d", name, attempt)
}

// retry has the waiting step tried now, once there is one.
func (g *getInstallation) retry() {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		ctx, cancel := context.WithTimeout(g.t.Context(), limit)
		defer cancel()
		answer, err := g.applicant().Retry(ctx)
		return err == nil && answer.Retried || errors.Is(err, starter.ErrNoWorker)
	}, limit, 50*time.Millisecond)
}
