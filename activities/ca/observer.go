package ca

import (
	"context"
	"errors"
)

// Call is a kind of call that is made about a certificate.
type Call string

// The calls: the first four to the CA, the others to what it publishes. A CRL that
// was read already answers from memory, which counts too.
const (
	CallRevoke Call = "revoke"
	CallStatus Call = "status"
	CallIssue  Call = "issue"
	CallFind   Call = "find"
	CallOCSP   Call = "ocsp"
	CallCRL    Call = "crl"
)

// Observer is told of the calls of a worker, for its metrics and traces. It is safe
// for concurrent use.
type Observer interface {
	// Calling is told that a call is about to be made on behalf of a CA. The call is
	// made with the context that it returns, and done is called once at its end with
	// the class of the answer: an Outcome, a mobileid.Status, ClassDone, ClassCanceled,
	// or the Kind of the error. There is a fixed number of classes.
	Calling(ctx context.Context, ca string, call Call) (_ context.Context, done func(class string))
}

// Classes of answers beside outcomes, states and kinds of errors.
const (
	ClassDone     = "Done"     // what has no outcome of its own
	ClassCanceled = "Canceled" // nobody waited for the answer any longer
)

// Kinds are all kinds of errors, in the order in which they are declared.
func Kinds() []Kind {
	return []Kind{Unavailable, Ambiguous, PendingApproval, Denied, NotFound, BadReason, Unsupported, Contradiction}
}

// observed makes a call under the eyes of the observer, if the CA has one.
func observed[T any](ctx context.Context, a *Authority, call Call, do func(context.Context) (T, error), class func(T) string) (T, error) {
	if a.Observer == nil {
		return do(ctx)
	}
	ctx, done := a.Observer.Calling(ctx, a.Name, call)
	answer, err := do(ctx)
	if err != nil {
		done(errorClass(err))
		return answer, err
	}
	done(class(answer))
	return answer, nil
}

// errorClass is the kind of an error. One that nobody has classified may have had any
// effect.
func errorClass(err error) string {
	var e *Error
	switch {
	case errors.Is(err, context.Canceled):
		return ClassCanceled
	case errors.As(err, &e):
		return string(e.Kind)
	}
	return string(Ambiguous)
}

func outcomeClass(a Answer) string { return string(a.Outcome) }

func statusClass(e Evidence) string { return string(e.Status) }

func doneClass[T any](T) string { return ClassDone }
