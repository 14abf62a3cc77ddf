package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// Names that callers of Get mobile ID use, beside those of a lock.
const (
	// Get is the process "Get mobile ID (self-service user)" by its symbolic name.
	Get = "MobileIDSelfServiceProcGet"
	// LockFirst is the message, update and signal alike, that has the active mobile
	// ID locked before a new one is made.
	LockFirst = "lock"
	// Answered is the signal that messaging has answered a command. Its payload
	// names the command; the answer itself stays in Identity Manager's store.
	Answered = "answered"
)

// GetWorkflowID is the workflow id of the Get of a user: that there is one at a time
// follows from it. ref is the user id, or its keyed hash where that is configured.
func GetWorkflowID(ref string) string { return Get + "/" + ref }

// GetWorkflowIDs returns the workflow id of each user's Get: with the user id in it,
// or with its hash under a key, because an id is never encrypted.
func GetWorkflowIDs(hashKey []byte) func(userID string) string {
	return func(userID string) string {
		if hashKey != nil {
			return GetWorkflowID(activities.HashUser(hashKey, userID))
		}
		return GetWorkflowID(userID)
	}
}

// GetRequest is the input of a Get.
type GetRequest struct {
	UserID    string     `json:"userId"`
	By        string     `json:"by,omitempty"`       // an operator, on the user's behalf
	Confirmed bool       `json:"confirmed"`          // Next was pressed on the caller's page
	Lock      bool       `json:"lock,omitempty"`     // have an active mobile ID locked first
	AfterLock *Execution `json:"afterLock,omitzero"` // the lock that goes on to this Get
}

// AnsweredMessage is the payload of Answered.
type AnsweredMessage struct {
	CommandID string `json:"commandId"`
}

// The phases of a Get, beside Validating, AwaitingConfirmation, NeedsOperator and
// Closed, in their order.
const (
	LockingOld    Phase = "lockingOld"    // the old mobile ID is being locked, up to the revocation
	Provisioning  Phase = "provisioning"  // messaging is asked to reach a phone
	AwaitingPhone Phase = "awaitingPhone" // the QR code waits to be scanned
	Issuing       Phase = "issuing"       // the CA issues for the phone's keys
	Installing    Phase = "installing"    // the phone takes the certificates
	Activating    Phase = "activating"
	TakingBack    Phase = "takingBack" // it failed: what was issued is revoked
)

// The outcomes of a Get, beside OutcomeCancelled and OutcomeExpired. A refused one
// has none.
const (
	OutcomeActive Outcome = "active"
	// OutcomeFailed: after Next it came to nothing, and nothing is left behind. The
	// process ends with the failure as its error.
	OutcomeFailed Outcome = "failed"
)

// GetResult is the result of a Get.
type GetResult struct {
	Outcome     Outcome           `json:"outcome,omitempty"`
	MobileID    string            `json:"mobileId,omitempty"`
	RequestedAt time.Time         `json:"requestedAt,omitzero"` // Next
	ActivatedAt time.Time         `json:"activatedAt,omitzero"`
	DecidedBy   mobileid.Decision `json:"decidedBy,omitzero"`
	// Failure is why it came to nothing.
	Failure *mobileid.Failure `json:"failure,omitempty"`
	// Lock is the process that locked the old mobile ID.
	Lock         *Execution                   `json:"lock,omitempty"`
	Audit        mobileid.AuditMark           `json:"audit,omitzero"` // the last record
	Certificates []mobileid.CertificateResult `json:"certificates"`
}

// GetStatus is the answer to the query, and to next, lock and cancel.
type GetStatus struct {
	GetResult
	Phase    Phase             `json:"phase"`
	Live     string            `json:"live,omitempty"` // the mobile ID that stands in the way: lock it, or keep it
	Refusal  *mobileid.Refusal `json:"refusal,omitempty"`
	Needs    string            `json:"needs,omitempty"`
	Deadline time.Time         `json:"deadline,omitzero"` // for what is waited for: Next, or the phone
	Retries  int               `json:"retries,omitempty"`
	Ignored  int               `json:"ignored,omitempty"`
}

// GetRetryAnswer is the answer to retry.
type GetRetryAnswer struct {
	Retried bool      `json:"retried"`
	Why     string    `json:"why,omitempty"`
	Status  GetStatus `json:"status"`
}

// parseGetRequest reads the input and refuses, by name, what is missing or malformed.
func parseGetRequest(raw converter.RawValue) (GetRequest, error) {
	var request GetRequest
	if err := unmarshalObject(raw, "input", &request); err != nil {
		return request, err
	}
	if request.UserID == "" {
		return request, mobileid.InvalidRequest("userId", "is missing")
	}
	if err := checkText("userId", request.UserID, maxUserID); err != nil {
		return request, err
	}
	return request, checkText("by", request.By, maxUserID)
}

// handleMessages registers the query, and next, lock, cancel and retry as updates.
func (g *get) handleMessages() error {
	validate := func(objection func(Message) *mobileid.Refusal) func(workflow.Context, converter.RawValue) error {
		return func(_ workflow.Context, raw converter.RawValue) error {
			message, err := parseMessage(raw)
			if err != nil {
				return activities.RefusalError(err)
			}
			return refusalOrNil(objection(message))
		}
	}
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(g.root, StatusQuery, g.query,
			workflow.QueryHandlerOptions{Description: "Where the Get stands. Optional argument: {\"userId\": \"...\"}"}),
		workflow.SetUpdateHandlerWithOptions(g.root, Next, g.updateNext, workflow.UpdateHandlerOptions{
			Description: "Go on with the Get. Answers when the QR code can be shown.",
			Validator:   validate(func(m Message) *mobileid.Refusal { return g.objection(next, m) }),
		}),
		workflow.SetUpdateHandlerWithOptions(g.root, LockFirst, g.updateLock, workflow.UpdateHandlerOptions{
			Description: "Have the active mobile ID locked first.",
			Validator:   validate(g.objectionToLock),
		}),
		workflow.SetUpdateHandlerWithOptions(g.root, Cancel, g.updateCancel, workflow.UpdateHandlerOptions{
			Description: "Keep what is there, and close. What was begun is taken back.",
			Validator:   validate(func(m Message) *mobileid.Refusal { return g.objection(cancelled, m) }),
		}),
		workflow.SetUpdateHandlerWithOptions(g.root, Retry, g.updateRetry, workflow.UpdateHandlerOptions{
			Description: "Try the waiting step again now.",
			Validator:   validate(g.foreign),
		}),
	)
}

// receiveSignals takes in the same messages as signals, and word of the phone.
func (g *get) receiveSignals() {
	for _, signal := range []struct {
		name string
		take func(Message) bool
	}{
		{Next, g.nextBySignal},
		{LockFirst, func(m Message) bool { return g.askLock(m) == nil }},
		{Cancel, func(m Message) bool { return g.decide(cancelled, m) == nil }},
		{Retry, func(m Message) bool { return g.foreign(m) == nil && g.retry() == "" }},
	} {
		g.receive(signal.name, func(raw converter.RawValue) {
			if !signal.take(readMessage(raw)) {
				g.ignored++
				g.log.Warn("Signal did not count", "signal", signal.name)
			}
			g.describe()
		})
	}
	g.receive(Answered, func(raw converter.RawValue) {
		var message AnsweredMessage
		if unmarshalObject(raw, "payload", &message) != nil || message.CommandID == "" {
			g.ignored++
			return
		}
		// Word of a command that nobody waits for any more does no harm.
		g.answered[message.CommandID] = true
	})
}

// earlyNext is a Next by signal that did not count, because an active mobile ID stood in
// the way and nobody had asked for its lock.
type earlyNext struct {
	message Message
	at      time.Time // of the workflow task
}

func (g *get) nextBySignal(message Message) bool {
	refusal := g.decide(next, message)
	if refusal != nil && refusal.Type == mobileid.TypeMobileIDActive {
		g.early = &earlyNext{message: message, at: workflow.Now(g.ctx)}
	}
	return refusal == nil
}

// takeEarlyNext has a Next count after all that arrived in the same workflow task as the
// wish to lock. Signals are handed over by name, and not in the order in which they came:
// a user who pressed both while no worker was up would have pressed Next for nothing.
func (g *get) takeEarlyNext() {
	early := g.early
	g.early = nil
	if early == nil || !early.at.Equal(workflow.Now(g.ctx)) {
		return
	}
	// Processes that ignored it, before this was so, go on ignoring it.
	const change, counts = "next-with-lock", 1
	if workflow.GetVersion(g.ctx, change, workflow.DefaultVersion, counts) < counts {
		return
	}
	if g.decide(next, early.message) == nil {
		g.ignored--
	}
}

// decide takes Next or Cancel, from whichever way it came. The first one wins,
// except that Cancel still counts until the mobile ID is about to be active.
func (g *get) decide(what decision, message Message) *mobileid.Refusal {
	if objection := g.objection(what, message); objection != nil {
		return objection
	}
	by := mobileid.Decision{UserID: message.UserID, By: message.By, Note: message.Note}
	switch {
	case what == next && g.decision == undecided:
		g.decision, g.decidedBy, g.requestedAt = next, by, workflow.Now(g.ctx).UTC()
	case what == cancelled && g.decision == undecided:
		g.decision, g.decidedBy, g.outcome = cancelled, by, OutcomeCancelled
	case what == cancelled && g.decision == next:
		g.withdrawn = true
	}
	return nil
}

// objection says why a message cannot be decided on, or nil.
func (g *get) objection(what decision, message Message) *mobileid.Refusal {
	if refusal := g.foreign(message); refusal != nil {
		return refusal
	}
	switch {
	case g.refusal != nil:
		return g.refusal
	case what == next && (g.decision == cancelled || g.withdrawn):
		return mobileid.AlreadyCancelled()
	case what == next && g.live != "" && !g.lockAsked:
		return mobileid.AlreadyActive()
	case what == cancelled && (g.decision == cancelled || g.withdrawn):
		return nil // a repeat
	case what == cancelled && g.failure != nil:
		return &mobileid.Refusal{Type: mobileid.TypeAlreadyCancelled, Message: "it has failed already, and what was begun is taken back"}
	case what == cancelled && (g.committed || g.outcome != ""):
		return &mobileid.Refusal{Type: mobileid.TypeAlreadyConfirmed, Message: "the mobile ID is on the phone already: lock it to be rid of it"}
	}
	return nil
}

// askLock has the active mobile ID locked first.
func (g *get) askLock(message Message) *mobileid.Refusal {
	if refusal := g.objectionToLock(message); refusal != nil {
		return refusal
	}
	if !g.lockAsked {
		g.lockAsked = true
		g.lockedBy = mobileid.Decision{UserID: message.UserID, By: message.By, Note: message.Note}
		g.takeEarlyNext()
	}
	return nil
}

func (g *get) objectionToLock(message Message) *mobileid.Refusal {
	if refusal := g.foreign(message); refusal != nil {
		return refusal
	}
	switch {
	case g.refusal != nil:
		return g.refusal
	case g.decision == cancelled:
		return mobileid.AlreadyCancelled()
	}
	return nil
}

// foreign refuses a message on behalf of anybody but the user of this process.
func (g *get) foreign(message Message) *mobileid.Refusal {
	if message.UserID != "" && message.UserID != g.request.UserID {
		return mobileid.NotFound()
	}
	return nil
}

// updateNext answers when the QR code can be shown, or when the process takes
// another end. Beyond maxWaiting it answers at once, with the status so far.
func (g *get) updateNext(ctx workflow.Context, raw converter.RawValue) (GetStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return GetStatus{}, activities.RefusalError(err)
	}
	if refusal := g.decide(next, message); refusal != nil {
		return GetStatus{}, activities.RefusalError(refusal)
	}
	if g.waiters < maxWaiting {
		g.waiters++
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		await(ctx, func() bool {
			return g.shown || g.decision != next || g.failure != nil || g.outcome != "" || g.refusal != nil
		})
		cancel()
		g.waiters--
	}
	switch {
	case g.refusal != nil:
		return GetStatus{}, activities.RefusalError(g.refusal)
	case g.decision == undecided:
		// It came before anybody knew of the old one.
		return GetStatus{}, activities.RefusalError(mobileid.AlreadyActive())
	}
	return g.status(), nil
}

func (g *get) updateLock(_ workflow.Context, raw converter.RawValue) (GetStatus, error) {
	return g.updateWith(raw, g.askLock)
}

func (g *get) updateCancel(_ workflow.Context, raw converter.RawValue) (GetStatus, error) {
	return g.updateWith(raw, func(m Message) *mobileid.Refusal { return g.decide(cancelled, m) })
}

func (g *get) updateWith(raw converter.RawValue, take func(Message) *mobileid.Refusal) (GetStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return GetStatus{}, activities.RefusalError(err)
	}
	if refusal := take(message); refusal != nil {
		return GetStatus{}, activities.RefusalError(refusal)
	}
	return g.status(), nil
}

func (g *get) updateRetry(workflow.Context, converter.RawValue) (GetRetryAnswer, error) {
	why := g.retry()
	return GetRetryAnswer{Retried: why == "", Why: why, Status: g.status()}, nil
}

func (g *get) query(raw converter.RawValue) (GetStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return GetStatus{}, activities.RefusalError(err)
	}
	if refusal := g.foreign(message); refusal != nil {
		return GetStatus{}, activities.RefusalError(refusal)
	}
	return g.status(), nil
}
