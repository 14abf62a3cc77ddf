package workflows

import (
	"errors"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// maxWaiting is how many next updates may wait for the lock. The server
// takes ten open updates per process; the rest stays free for cancel and
// retry, so that nothing that waits blocks others.
const maxWaiting = 4

// handleMessages registers the query, and next, cancel and retry as updates. All
// ways, signals too, lead to decide and retry.
func (l *lock) handleMessages() error {
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(l.root, StatusQuery, l.query,
			workflow.QueryHandlerOptions{Description: "Where the lock stands. Optional argument: {\"userId\": \"...\"}"}),
		workflow.SetUpdateHandlerWithOptions(l.root, Next, l.updateNext, workflow.UpdateHandlerOptions{
			Description: "Go on with the lock. Answers when the mobile ID is locked.",
			Validator:   func(_ workflow.Context, raw converter.RawValue) error { return l.admit(next, raw) },
		}),
		workflow.SetUpdateHandlerWithOptions(l.root, Cancel, l.updateCancel, workflow.UpdateHandlerOptions{
			Description: "Close the lock before Next. Nothing is changed.",
			Validator:   func(_ workflow.Context, raw converter.RawValue) error { return l.admit(cancelled, raw) },
		}),
		workflow.SetUpdateHandlerWithOptions(l.root, Retry, l.updateRetry, workflow.UpdateHandlerOptions{
			Description: "Try the waiting step again now.",
			Validator: func(_ workflow.Context, raw converter.RawValue) error {
				message, err := parseMessage(raw)
				if err != nil {
					return activities.RefusalError(err)
				}
				return refusalOrNil(l.foreign(message))
			},
		}),
	)
}

// receiveSignals takes in the same messages as signals.
func (l *lock) receiveSignals() {
	l.receiveMessage(Next, func(message Message) bool { return l.decide(next, message) == nil })
	l.receiveMessage(Cancel, func(message Message) bool { return l.decide(cancelled, message) == nil })
	l.receiveMessage(Retry, func(message Message) bool { return l.foreign(message) == nil && l.retry() == "" })
}

// receiveMessage takes in the signals of one name. Of a next and a cancel that arrive
// in the same workflow task, next counts: a lock too many is the smaller harm.
func (l *lock) receiveMessage(name string, take func(Message) bool) {
	l.receive(name, func(raw converter.RawValue) {
		message := readMessage(raw)
		if !take(message) {
			l.Ignored++
			l.log.Warn("Signal did not count", "signal", name, "requestId", message.RequestID)
		}
		l.describe()
	})
}

// admit is the validator of next and cancel: it turns down what decide would
// turn down, before anything reaches the history.
func (l *lock) admit(what decision, raw converter.RawValue) error {
	message, err := parseMessage(raw)
	if err != nil {
		return activities.RefusalError(err)
	}
	return refusalOrNil(l.objection(what, message))
}

// decide takes a decision, from whichever way it came. The first one wins; a
// repeat of it changes nothing and is no objection.
func (l *lock) decide(what decision, message Message) *mobileid.Refusal {
	if objection := l.objection(what, message); objection != nil {
		return objection
	}
	if l.Decision == undecided {
		l.settle(what, message)
	}
	if what == next && message.ThenGet {
		l.ThenGet = true // also with a later one, until the process closes
	}
	return nil
}

// settle makes a decision the one that counts.
func (l *lock) settle(what decision, message Message) {
	l.Decision = what
	l.DecidedBy = mobileid.Decision{UserID: message.UserID, By: message.By, Note: message.Note}
	l.RequestID = message.RequestID
	switch what {
	case next:
		l.RequestedAt = workflow.Now(l.ctx).UTC()
		l.Reason = firstReason(message.Reason, l.request.Reason)
	case cancelled:
		l.outcome = OutcomeCancelled
	case expired:
		l.outcome = OutcomeExpired
	}
}

// objection says why a message cannot be decided on, or nil.
func (l *lock) objection(what decision, message Message) *mobileid.Refusal {
	if refusal := l.foreign(message); refusal != nil {
		return refusal
	}
	switch {
	case l.refusal != nil:
		return l.refusal
	case what == next && l.Decision == cancelled:
		return mobileid.AlreadyCancelled()
	case what == next && message.ThenGet && l.validated && l.Policy.GetWorkflowID == "":
		return thenGetUnsupported()
	case what == cancelled && l.Decision == next:
		return mobileid.AlreadyConfirmed()
	}
	return nil
}

// foreign refuses a message on behalf of anybody but the user of this process,
// in the words for an unknown mobile ID. Until the validation has passed, the
// user is the one of the request; it passes for the owner alone.
func (l *lock) foreign(message Message) *mobileid.Refusal {
	if message.UserID != "" && message.UserID != l.request.UserID {
		return mobileid.NotFound()
	}
	return nil
}

// updateNext answers when the mobile ID is locked, or when the process takes
// another end. Beyond maxWaiting it answers at once, with the status so far.
func (l *lock) updateNext(ctx workflow.Context, raw converter.RawValue) (LockStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return LockStatus{}, activities.RefusalError(err)
	}
	if refusal := l.decide(next, message); refusal != nil {
		return LockStatus{}, activities.RefusalError(refusal)
	}
	if l.waiters < maxWaiting {
		l.waiters++
		// A cancellation request must not end the wait of a caller whose Next was
		// accepted.
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		await(ctx, func() bool { return !l.LockedAt.IsZero() || l.outcome != "" || l.refusal != nil || l.resting })
		cancel()
		l.waiters--
	}
	if l.refusal != nil {
		return LockStatus{}, activities.RefusalError(l.refusal)
	}
	return l.status(), nil
}

func (l *lock) updateCancel(_ workflow.Context, raw converter.RawValue) (LockStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return LockStatus{}, activities.RefusalError(err)
	}
	if refusal := l.decide(cancelled, message); refusal != nil {
		return LockStatus{}, activities.RefusalError(refusal)
	}
	return l.status(), nil
}

func (l *lock) updateRetry(workflow.Context, converter.RawValue) (RetryAnswer, error) {
	why := l.retry()
	return RetryAnswer{Retried: why == "", Why: why, Status: l.status()}, nil
}

// query answers the status query. With a user id it answers for that user
// alone, so that a backend never shows somebody else's process.
func (l *lock) query(raw converter.RawValue) (LockStatus, error) {
	message, err := parseMessage(raw)
	if err != nil {
		return LockStatus{}, activities.RefusalError(err)
	}
	if refusal := l.foreign(message); refusal != nil {
		return LockStatus{}, activities.RefusalError(refusal)
	}
	return l.status(), nil
}

// refusalOrNil keeps a nil refusal a nil error.
func refusalOrNil(refusal *mobileid.Refusal) error {
	if refusal == nil {
		return nil
	}
	return activities.RefusalError(refusal)
}

func firstReason(reasons ...mobileid.Reason) mobileid.Reason {
	for _, reason := range reasons {
		if reason != "" {
			return reason
		}
	}
	return ""
}
