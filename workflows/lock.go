package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// LockMobileID is the process Lock: it asks for Next or Cancel, and after Next
// brings the world to three end states: the mobile ID locked, its certificates
// revoked in Identity Manager, its certificates revoked at their CAs. After
// Next, nothing short of all three ends it.
//
// Its input is a LockRequest. It is taken raw so that anything else is refused
// by name instead of blocking the workflow task.
func LockMobileID(ctx workflow.Context, input converter.RawValue) (*LockResult, error) {
	return newLock(ctx, false).run(input)
}

// LockMobileIDForOperator is LockForOperator: the same process, under the same
// workflow id, asked for by an operator.
func LockMobileIDForOperator(ctx workflow.Context, input converter.RawValue) (*LockResult, error) {
	return newLock(ctx, true).run(input)
}

// lockState is what a lock knows. It is all that a run hands to the next one
// when it continues as new.
type lockState struct {
	Policy       activities.Policy            `json:"policy"`
	State        mobileid.State               `json:"state"` // of the mobile ID
	Decision     decision                     `json:"decision"`
	DecidedBy    mobileid.Decision            `json:"decidedBy,omitzero"`
	RequestID    string                       `json:"requestId,omitempty"` // of the message that decided
	Reason       mobileid.Reason              `json:"reason"`
	RequestedAt  time.Time                    `json:"requestedAt,omitzero"`
	LockedAt     time.Time                    `json:"lockedAt,omitzero"`
	TakenOver    bool                         `json:"takenOver,omitempty"` // the mobile ID was locked already
	SetBack      bool                         `json:"setBack,omitempty"`   // Identity Manager was set back
	RevokedAt    time.Time                    `json:"revokedAt,omitzero"`
	Cancellation bool                         `json:"cancellation,omitempty"` // requested after Next
	Certificates []mobileid.CertificateResult `json:"certificates"`
	CAs          []activities.CAPolicy        `json:"cas,omitempty"`
	NextCRL      map[string]time.Time         `json:"nextCrl,omitempty"` // by CA: when its next CRL is due
	Pending      []activities.PendingRequest  `json:"pending,omitempty"` // that wait for an approval at their CA
	Audit        mobileid.AuditMark           `json:"audit,omitzero"`
	retries
	ThenGet    bool            `json:"thenGet,omitempty"` // go on to Get mobile ID
	Get        *Execution      `json:"get,omitempty"`     // gone on to
	Ignored    int             `json:"ignored,omitempty"` // messages that did not count
	Attributes attributeValues `json:"attributes"`        // as last upserted
}

// decision is the answer to the form. The first one wins.
type decision string

const (
	undecided decision = ""
	next      decision = "next"
	cancelled decision = "cancelled"
	expired   decision = "expired"
)

// lock is one run of the process.
type lock struct {
	processRun
	operator bool
	request  LockRequest
	lockState

	validated bool
	refusal   *mobileid.Refusal
	deadline  time.Time
	phase     Phase
	outcome   Outcome
	warning   string
	endStates bool // all three stand
	visibleAt time.Time
	unseen    string // why others cannot see it, as the last try says

	receipts int  // of Identity Manager, in this round of revocations
	noneOpen bool // one of them says that no certificate is open

	waiters int // next updates that wait for the lock
}

// errRest stops a step because the run continues as new; errAborted because what
// it was for is no longer wanted.
var (
	errRest    = errors.New("the run rests to continue as new")
	errAborted = errors.New("the step is no longer wanted")
)

func newLock(ctx workflow.Context, operator bool) *lock {
	l := &lock{operator: operator, phase: Validating}
	l.processRun = newProcessRun(ctx, &l.lockState.retries)
	l.changed = func() { l.show(l.phase) }
	// From Next on: before it nothing can make a lock long.
	l.mayRest = func() bool { return l.Decision == next && l.validated }
	return l
}

// run reads like the rules of the process: accept, validate, confirm; then, from
// Next on, lock, revoke, publish, whatever it takes.
//
// The request is read before the handlers are there, and without a pause in
// between: a message that came with the start is handled at once, and whose
// process it is must be known by then.
func (l *lock) run(input converter.RawValue) (*LockResult, error) {
	unacceptable := l.accept(input)
	if err := l.handleMessages(); err != nil {
		return nil, err
	}
	l.receiveSignals()
	if unacceptable != nil {
		return nil, l.refuse(unacceptable)
	}
	if l.Decision != next || l.LockedAt.IsZero() && !l.validated {
		if err := l.validate(); err != nil {
			return nil, l.refuse(err)
		}
		if l.root.Err() != nil && l.Decision != next {
			return nil, l.leaveCanceled()
		}
		if err := l.confirm(); err != nil {
			return nil, l.leaveCanceled()
		}
		if l.Decision != next {
			return l.leaveUnlocked()
		}
	}
	for _, step := range []func() error{l.lockMobileID, l.revokeCertificates, l.goOn, l.publish, l.goOn} {
		if err := step(); err != nil {
			return nil, l.continueAsNew()
		}
	}
	return l.finish()
}

// accept reads the request and refuses the options that would break the promise
// that nothing but the end states ends a lock.
func (l *lock) accept(input converter.RawValue) error {
	request, err := parseLockRequest(input, l.operator)
	l.request = request
	if err != nil {
		l.refusal = asRefusal(err)
		return err
	}
	info := workflow.GetInfo(l.root)
	if request.Continued != nil {
		if info.ContinuedExecutionRunID == "" {
			return mobileid.InvalidRequest("continued", "is set by the process itself alone")
		}
		l.lockState = *request.Continued
		l.request.Continued = nil
		l.validated = true
		return nil
	}
	if info.WorkflowExecution.ID != LockWorkflowID(request.MobileID) {
		return mobileid.InvalidRequest("workflowId", "must be "+LockWorkflowID(request.MobileID))
	}
	return refuseOptions(info)
}

// validate asks whether this lock may be asked for at all, first inside the
// workflow task, because a person waits for the answer, and for as long as it
// takes if Identity Manager does not answer at once.
func (l *lock) validate() error {
	in := activities.ValidateLockInput{
		MobileID: l.request.MobileID,
		UserID:   l.request.UserID,
		Operator: l.operator,
		Resume:   l.request.Resume,
		By:       l.request.By,
		Process:  l.process(),
	}
	var result activities.ValidateLockResult
	err := workflow.ExecuteLocalActivity(withinTask(l.ctx, "Validate"), activities.ValidateLockName, in).Get(l.ctx, &result)
	if err != nil && asRefusal(err) == nil {
		l.log.Warn("Validation did not succeed at once, going on as an activity", "error", err)
		l.show(Validating)
		err = l.perform(l.ctx, step{
			id:      "validate",
			summary: "Validate mobile ID " + l.request.MobileID,
			options: withValidate,
			name:    activities.ValidateLockName,
			input:   in,
			unless:  l.leaving,
		}, &result)
	}
	if errors.Is(err, errAborted) {
		return nil
	}
	if err != nil {
		return err
	}
	l.validated = true
	l.State = result.State
	l.Policy = result.Policy
	l.ThenGet = l.ThenGet || l.request.ThenGet
	if l.ThenGet && l.Policy.GetWorkflowID == "" {
		return thenGetUnsupported()
	}
	l.Certificates = result.Certificates
	l.learn(result.CAs)
	if l.Decision == undecided && (l.request.Confirmed || result.State == mobileid.Locked) {
		// A locked mobile ID was asked about before: an earlier lock is finished.
		l.settle(next, Message{UserID: l.requester(), By: l.request.By, Reason: l.request.Reason})
	}
	return nil
}

// leaving reports that the process is to close before Next.
func (l *lock) leaving() bool {
	return l.Decision == cancelled || l.root.Err() != nil && l.Decision != next
}

// confirm waits for Next or Cancel, until the deadline. Its only error is a
// cancellation request that came before Next.
func (l *lock) confirm() error {
	if l.Decision != undecided {
		return nil
	}
	l.deadline = workflow.Now(l.ctx).Add(l.Policy.Deadline)
	l.show(AwaitingConfirmation)

	timerCtx, stopTimer := workflow.WithCancel(l.ctx)
	defer stopTimer()
	timer := workflow.NewTimerWithOptions(timerCtx, l.Policy.Deadline, workflow.TimerOptions{Summary: "Wait for Next or Cancel"})
	await(l.ctx, func() bool { return l.Decision != undecided || l.root.Err() != nil || timer.IsReady() })

	if l.Decision == undecided && l.root.Err() != nil {
		return l.root.Err()
	}
	if l.Decision == undecided {
		l.settle(expired, Message{})
	}
	return nil
}

// lockMobileID makes the mobile ID locked in Identity Manager.
func (l *lock) lockMobileID() error {
	if !l.LockedAt.IsZero() {
		return nil
	}
	l.Reason = firstReason(l.Reason, l.Policy.Reason)
	l.show(Locking)
	result, err := l.lockInIM(l.ctx)
	if err != nil {
		return err
	}
	l.State = mobileid.Locked
	l.TakenOver = result.From == mobileid.Locked
	l.RequestedAt = result.RequestedAt
	l.LockedAt = result.LockedAt
	l.Reason = firstReason(result.Reason, l.Reason)
	l.Certificates = result.Certificates
	l.learn(result.CAs)
	l.Audit = result.Audit
	return nil
}

// lockInIM runs the lock's transaction, which is idempotent: it also tells anew
// to which CA each certificate goes.
func (l *lock) lockInIM(ctx workflow.Context) (result activities.LockInIMResult, err error) {
	err = l.perform(ctx, step{
		id:      "lock-im",
		summary: "Lock " + l.request.MobileID + " in Identity Manager",
		options: withIdentityManager,
		name:    activities.LockInIMName,
		input: mobileid.LockOrder{
			MobileID:    l.request.MobileID,
			Owner:       l.request.UserID,
			Process:     l.process(),
			Decision:    l.DecidedBy,
			RequestID:   l.RequestID,
			RequestedAt: l.RequestedAt,
			Reason:      l.Reason,
			Resume:      l.request.Resume,
		},
	}, &result)
	return result, err
}

// goOn starts Get mobile ID for the same user, if that is asked for, once the three
// end states stand. One that runs already is as good. What keeps it from starting is
// no reason to leave the lock open.
func (l *lock) goOn() error {
	if !l.ThenGet || l.Get != nil || l.Policy.GetWorkflowID == "" {
		return nil
	}
	own := workflow.GetInfo(l.root).WorkflowExecution
	request := GetRequest{UserID: l.request.UserID, AfterLock: &Execution{WorkflowID: own.ID, RunID: own.RunID}}
	if l.operator {
		request.By = l.request.By
	}
	ctx := workflow.WithChildOptions(l.ctx, abandonedChild(l.Policy.GetWorkflowID, GetSummary))
	var started workflow.Execution
	err := workflow.ExecuteChildWorkflow(ctx, Get, request).GetChildWorkflowExecution().Get(l.ctx, &started)
	switch {
	case err == nil:
		l.Get = &Execution{WorkflowID: started.ID, RunID: started.RunID}
	case temporal.IsWorkflowExecutionAlreadyStartedError(err):
		l.Get = &Execution{WorkflowID: l.Policy.GetWorkflowID}
	default:
		l.log.Error("Get mobile ID could not be started", "error", err)
		l.warning = "Get mobile ID could not be started: " + words(err)
	}
	l.describe()
	return nil
}

// finish closes a lock whose end states stand.
func (l *lock) finish() (*LockResult, error) {
	l.outcome = OutcomeLocked
	l.show(Closed)
	l.awaitHandlers()
	result := l.result()
	return &result, nil
}

// leaveUnlocked closes a process that was cancelled or never answered: nothing
// was changed.
func (l *lock) leaveUnlocked() (*LockResult, error) {
	event := mobileid.EventCancelled
	if l.Decision == expired {
		event = mobileid.EventExpired
	}
	l.show(Closed)
	l.awaitHandlers()
	l.record(event)
	result := l.result()
	return &result, nil
}

// leaveCanceled closes a process whose cancellation was requested before Next.
func (l *lock) leaveCanceled() error {
	l.settle(cancelled, Message{Note: "cancellation requested"})
	l.show(Closed)
	l.awaitHandlers()
	l.record(mobileid.EventCancelled)
	return temporal.NewCanceledError()
}

// refuse closes a process that may not be. The handlers end first, so that
// whoever waits for Next gets the refusal itself and not word of a closed
// process. The validation has recorded its own refusals.
func (l *lock) refuse(err error) error {
	refusal := asRefusal(err)
	if refusal == nil {
		return err
	}
	l.refusal = refusal
	l.phase = Closed
	l.awaitHandlers()
	if refusal.Type == mobileid.TypeInvalidRequest && mobileid.CheckID("mobileId", l.request.MobileID) == nil {
		l.record(mobileid.EventRefused)
	}
	return activities.RefusalError(refusal)
}

// continueAsNew hands the state to a fresh run, after every message of this one
// was taken in and answered.
func (l *lock) continueAsNew() error {
	l.awaitHandlers()
	request := l.request
	state := l.lockState
	state.Cancellation = l.cancellationRequested()
	request.Continued = &state
	return workflow.NewContinueAsNewError(l.root, workflow.GetInfo(l.root).WorkflowType.Name, request)
}

// record writes to the audit how a process left that changed nothing.
func (l *lock) record(event mobileid.Event) {
	entry := mobileid.Record{
		MobileID: l.request.MobileID,
		Event:    event,
		At:       workflow.Now(l.ctx).UTC(),
		Process:  l.process(),
		Decision: l.DecidedBy,
		Reason:   l.request.Reason,
		Refusal:  l.refusal,
	}
	if entry.Decision == (mobileid.Decision{}) {
		entry.Decision = mobileid.Decision{UserID: l.requester(), By: l.request.By}
	}
	l.recordExit(entry, &l.Audit)
}

// requester is the self-service user who asked, empty if an operator did.
func (l *lock) requester() string {
	if l.operator {
		return ""
	}
	return l.request.UserID
}

// cancellationRequested reports a cancellation request that came after Next.
func (l *lock) cancellationRequested() bool {
	return l.Decision == next && (l.Cancellation || l.root.Err() != nil)
}

// asRefusal finds a refusal in an error of ours or of an activity.
func asRefusal(err error) *mobileid.Refusal {
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return activities.RefusalOf(err)
}
