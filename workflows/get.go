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

// GetMobileID is the process Get: a user who is entitled to it, and has no other
// that is live, ends with a mobile ID on a phone, or with nothing left behind.
//
// Its input is a GetRequest, taken raw so that anything else is refused by name.
func GetMobileID(ctx workflow.Context, input converter.RawValue) (*GetResult, error) {
	return newGet(ctx).run(input)
}

// get is one run of the process. It does not continue as new: all that can repeat in
// it costs no history, but for retries.
type get struct {
	processRun
	own     retries
	request GetRequest
	policy  activities.GetPolicy

	decision    decision
	decidedBy   mobileid.Decision
	requestedAt time.Time
	withdrawn   bool // Cancel after Next
	committed   bool // Cancel comes too late
	lockAsked   bool
	lockedBy    mobileid.Decision
	early       *earlyNext // nil: none

	live         string // the active mobile ID that stands in the way
	locks        []activities.LiveMobileID
	lock         *Execution
	locking      bool                                   // the locks were started
	joined       []func(workflow.Context) (bool, error) // those that ran already, to be started again
	notLocked    string                                 // why one of them has ended with nothing locked
	mobileID     string
	certificates []mobileid.CertificateResult
	made         activities.MadeKeys
	issued       activities.IssueResult
	askedCA      bool      // something may have been issued
	issuedBy     time.Time // by then the CA has carried out what it was asked
	activatedAt  time.Time
	audit        mobileid.AuditMark

	phase      Phase
	outcome    Outcome
	refusal    *mobileid.Refusal
	failure    *mobileid.Failure
	deadline   time.Time
	shown      bool            // the QR code can be shown
	answered   map[string]bool // commands that messaging has answered
	waiters    int
	ignored    int
	attributes getAttributes // as last upserted
}

func newGet(ctx workflow.Context) *get {
	g := &get{phase: Validating, answered: map[string]bool{}}
	g.processRun = newProcessRun(ctx, &g.own)
	g.changed = func() { g.show(g.phase) }
	g.mayRest = func() bool { return false }
	return g
}

// run reads like the rules of the process: accept, validate, have the old one
// locked, confirm; then, from Next on, obtain the new one, or take back what was
// begun.
func (g *get) run(input converter.RawValue) (*GetResult, error) {
	unacceptable := g.accept(input)
	if err := g.handleMessages(); err != nil {
		return nil, err
	}
	g.receiveSignals()
	if unacceptable != nil {
		return nil, g.refuse(unacceptable)
	}
	if err := g.validate(); err != nil {
		return nil, g.refuse(err)
	}
	if err := g.confirm(); err != nil {
		return nil, g.leaveCanceled()
	}
	if g.decision != next {
		return g.leaveUnchanged()
	}
	if err := g.obtain(); err != nil {
		return g.giveUp(err)
	}
	return g.finish()
}

// accept reads the request and refuses the options that could end a Get half-way.
func (g *get) accept(input converter.RawValue) error {
	request, err := parseGetRequest(input)
	g.request = request
	g.lockAsked = request.Lock
	if request.AfterLock != nil {
		g.lock = request.AfterLock
	}
	if err == nil {
		err = refuseOptions(workflow.GetInfo(g.root))
	}
	if err != nil {
		g.refusal = asRefusal(err)
	}
	return err
}

// validate asks whether this Get may be asked for at all, first inside the workflow
// task, because a person waits for the answer.
func (g *get) validate() error {
	in := activities.ValidateGetInput{
		UserID: g.request.UserID, By: g.request.By, Process: g.process(), Insist: g.request.Confirmed && !g.request.Lock,
	}
	var result activities.ValidateGetResult
	err := workflow.ExecuteLocalActivity(withinTask(g.ctx, "Validate"), activities.ValidateGetName, in).Get(g.ctx, &result)
	if err != nil && asRefusal(err) == nil {
		g.log.Warn("Validation did not succeed at once, going on as an activity", "error", err)
		g.show(Validating)
		err = g.perform(g.ctx, step{
			id: "validate", summary: "Validate the request for a mobile ID", options: withValidate,
			name: activities.ValidateGetName, input: in, unless: g.leaving,
		}, &result)
	}
	if errors.Is(err, errAborted) {
		return nil
	}
	if err != nil {
		return err
	}
	g.policy = result.Policy
	g.mobileID = result.Policy.MobileID
	g.locks = result.Live
	for _, m := range result.Live {
		if m.State == mobileid.Active {
			g.live = m.ID
		}
	}
	if g.decision == next && g.live != "" && !g.lockAsked {
		// It came before anybody knew of the old one.
		g.decision, g.requestedAt = undecided, time.Time{}
	}
	if g.request.Confirmed && g.decision == undecided {
		by := mobileid.Decision{UserID: g.request.UserID, By: g.request.By}
		if g.request.By != "" {
			by.UserID = ""
		}
		g.decision, g.decidedBy, g.requestedAt = next, by, workflow.Now(g.ctx).UTC()
	}
	return nil
}

// leaving reports that the process is to close before Next.
func (g *get) leaving() bool {
	return g.decision == cancelled || g.root.Err() != nil && g.decision != next
}

// confirm waits for Next or Cancel, and has an old mobile ID locked meanwhile if
// that is asked for, until the deadline. Its only error is a cancellation request
// that came before Next.
func (g *get) confirm() error {
	if g.decision == undecided {
		g.deadline = workflow.Now(g.ctx).Add(g.policy.Deadline)
		g.show(AwaitingConfirmation)
		timerCtx, stopTimer := workflow.WithCancel(g.ctx)
		defer stopTimer()
		timer := workflow.NewTimerWithOptions(timerCtx, g.policy.Deadline, workflow.TimerOptions{Summary: "Wait for Next or Cancel"})
		over := func() bool { return g.decision != undecided || g.root.Err() != nil || timer.IsReady() }
		await(g.ctx, func() bool { return over() || g.live != "" && g.lockAsked })
		if !over() {
			if err := g.startLocks(); err != nil {
				g.log.Warn("Lock of the old mobile ID is not started yet", "error", err)
			}
			g.show(AwaitingConfirmation)
			await(g.ctx, over)
		}
	}
	if g.decision == undecided && g.root.Err() != nil {
		return g.root.Err()
	}
	if g.decision == undecided {
		g.decision = expired
	}
	g.deadline = time.Time{}
	return nil
}

// given reports why a Get that has begun is to be given up, or nil.
func (g *get) given() *mobileid.Failure {
	if !g.committed && (g.withdrawn || g.root.Err() != nil) {
		return &mobileid.Failure{Type: mobileid.FailureCancelled, Message: "it was cancelled"}
	}
	return nil
}

// finish closes a Get whose mobile ID is active.
func (g *get) finish() (*GetResult, error) {
	g.outcome = OutcomeActive
	g.show(Closed)
	g.awaitHandlers()
	result := g.result()
	return &result, nil
}

// giveUp takes back what was begun, and closes: as refused if nothing was, as
// cancelled if that is why, and with the failure as error otherwise.
func (g *get) giveUp(err error) (*GetResult, error) {
	// Some types are those of refusals and of failures alike: once the mobile ID is
	// registered, there is something to take back, whatever ends the Get.
	refusal := asRefusal(err)
	if refusal != nil && !g.registered() {
		return nil, g.refuse(err)
	}
	g.failure = activities.FailureOf(err)
	if g.failure == nil && refusal != nil {
		g.failure = &mobileid.Failure{Type: mobileid.FailureConflict, Message: refusal.Message}
	}
	if g.failure == nil && !errors.As(err, &g.failure) {
		return nil, err
	}
	g.committed = true
	g.show(TakingBack)
	begun := g.registered()
	g.takeBack()
	g.outcome = OutcomeFailed
	if g.failure.Type == mobileid.FailureCancelled {
		g.outcome = OutcomeCancelled
	}
	g.show(Closed)
	g.awaitHandlers()
	switch {
	case begun: // the audit tells that it was abandoned
	case g.outcome == OutcomeCancelled:
		g.record(mobileid.EventCancelled, nil)
	default:
		g.record(mobileid.EventRefused, &mobileid.Refusal{Type: mobileid.RefusalType(g.failure.Type), Message: g.failure.Message})
	}
	result := g.result()
	switch {
	case g.outcome == OutcomeFailed:
		return nil, temporal.NewApplicationErrorWithOptions(g.failure.Message, string(g.failure.Type), temporal.ApplicationErrorOptions{
			NonRetryable: true,
			Category:     temporal.ApplicationErrorCategoryBenign,
			Details:      []any{result},
		})
	case g.root.Err() != nil:
		return nil, temporal.NewCanceledError(result)
	}
	return &result, nil
}

// leaveUnchanged closes a process that was cancelled or never answered.
func (g *get) leaveUnchanged() (*GetResult, error) {
	event := mobileid.EventCancelled
	g.outcome = OutcomeCancelled
	if g.decision == expired {
		event, g.outcome = mobileid.EventExpired, OutcomeExpired
	}
	g.show(Closed)
	g.awaitHandlers()
	g.record(event, nil)
	result := g.result()
	return &result, nil
}

// leaveCanceled closes a process whose cancellation was requested before Next.
func (g *get) leaveCanceled() error {
	g.decision, g.outcome = cancelled, OutcomeCancelled
	g.show(Closed)
	g.awaitHandlers()
	g.record(mobileid.EventCancelled, nil)
	return temporal.NewCanceledError()
}

// refuse closes a process that may not be.
func (g *get) refuse(err error) error {
	refusal := asRefusal(err)
	if refusal == nil {
		return err
	}
	g.refusal = refusal
	g.phase = Closed
	g.awaitHandlers()
	// What the validation refused it has recorded itself.
	if g.policy.MobileID != "" || refusal.Type == mobileid.TypeInvalidRequest && g.request.UserID != "" {
		g.record(mobileid.EventRefused, refusal)
	}
	return activities.RefusalError(refusal)
}

// record writes to the audit how a process left that changed nothing.
func (g *get) record(event mobileid.Event, refusal *mobileid.Refusal) {
	entry := mobileid.Record{
		MobileID: g.policy.MobileID,
		Event:    event,
		At:       workflow.Now(g.ctx).UTC(),
		Process:  g.process(),
		Decision: g.decidedBy,
		Refusal:  refusal,
	}
	if !g.requestedAt.IsZero() {
		// Next was pressed, so the user is told that nothing came of it.
		entry.RequestedAt, entry.Owner = g.requestedAt, g.request.UserID
	}
	if entry.MobileID == "" {
		entry.MobileID = mobileid.ApplicantChain(g.request.UserID)
	}
	if entry.Decision == (mobileid.Decision{}) {
		entry.Decision = mobileid.Decision{UserID: g.request.UserID, By: g.request.By}
	}
	g.recordExit(entry, &g.audit)
}
