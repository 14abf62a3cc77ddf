package ca

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a failure at a CA means for the next try.
type Kind string

// The kinds of failures. The first three are retried; the others are for an
// operator, because asking again changes nothing.
const (
	// Unavailable: the request surely had no effect (refused connection, 503,
	// rate limit). Try again later.
	Unavailable Kind = "CAUnavailable"
	// Ambiguous: the request may have had its effect (time-out or cut after it
	// was written, 5xx, an answer that cannot be read). Read the status first.
	Ambiguous Kind = "CAAmbiguous"
	// PendingApproval: the request waits for an approval at the CA. Only the
	// status is read from then on, because another request would be a second one
	// to approve; see [IsPending].
	PendingApproval Kind = "CAPending"
	// Denied: the CA does not let this worker revoke.
	Denied Kind = "CADenied"
	// NotFound: the CA does not know the certificate.
	NotFound Kind = "CANotFound"
	// BadReason: the CA does not take the reason.
	BadReason Kind = "CABadReason"
	// Unsupported: the CA cannot do what was asked, or refuses it for good.
	Unsupported Kind = "CAUnsupported"
	// Contradiction: answers of the CA contradict each other, for example
	// success without a revocation, or "good" long after it.
	Contradiction Kind = "CAContradiction"
)

// Error is a failure at a CA.
type Error struct {
	Kind       Kind
	Op         string        // what was being done, for example "revoke serial 1f of issuer 9e107d9d"
	Words      string        // the CA's own words, already free of secrets
	RetryAfter time.Duration // how long the CA asks to wait; zero if it does not
	Err        error         // the cause, if any
}

func (e *Error) Error() string {
	text := e.Words
	if text == "" && e.Err != nil {
		text = e.Err.Error()
	}
	return fmt.Sprintf("%s: %s: %s", e.Op, e.Kind, text)
}

func (e *Error) Unwrap() error { return e.Err }

// Curable reports whether trying again can help. An error that is not an
// *Error counts as curable: giving up on a fault nobody has classified would
// leave a live certificate behind.
func Curable(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	return e.Kind == Unavailable || e.Kind == Ambiguous || e.Kind == PendingApproval
}

// IsPending reports whether err says that a request waits for an approval at the
// CA. It is then polled with [Authority.Poll].
func IsPending(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == PendingApproval
}
