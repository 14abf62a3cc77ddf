package activities

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/ca"
)

// Types of the errors that leave activities, beside the refusals and the kinds
// of ca.Error, which keep their own names.
const (
	// TypeConflict: the mobile ID is no longer what was validated. Final.
	TypeConflict = "MobileIDConflict"
	// TypeIdentityManager: a fault of Identity Manager. Retried.
	TypeIdentityManager = "IdentityManagerUnavailable"
	// TypeUnproven: the CA answered, but nobody else confirms it yet. Retried.
	TypeNotVisible = "NotVisibleYet"
)

// RefusalError is how a refusal leaves an activity and a workflow: its own type,
// words and details; never retried; benign, so that it counts as no failure of
// the worker.
func RefusalError(err error) error {
	var refusal *mobileid.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	return temporal.NewApplicationErrorWithOptions(refusal.Message, string(refusal.Type), temporal.ApplicationErrorOptions{
		NonRetryable: true,
		Category:     temporal.ApplicationErrorCategoryBenign,
		Details:      []any{*refusal}, // by value: the engine hands it on as it is where it has not been encoded
	})
}

// RefusalOf finds the refusal that RefusalError put into an error, however the
// engine has wrapped it since. It returns nil for any other error.
func RefusalOf(err error) *mobileid.Refusal {
	var application *temporal.ApplicationError
	if !errors.As(err, &application) {
		return nil
	}
	switch mobileid.RefusalType(application.Type()) {
	case mobileid.TypeInvalidRequest, mobileid.TypeMobileIDNotFound, mobileid.TypeMobileIDNotActive,
		mobileid.TypeNotEntitled, mobileid.TypeMobileIDActive, mobileid.TypeAlreadyConfirmed, mobileid.TypeAlreadyCancelled:
	default:
		return nil
	}
	refusal := &mobileid.Refusal{Type: mobileid.RefusalType(application.Type()), Message: application.Message()}
	if application.HasDetails() {
		// Details of another shape leave type and words, which is all that a
		// caller needs to go on.
		_ = application.Details(refusal)
	}
	return refusal
}

// translate turns an error into what it means to the engine. It is the only
// place that decides whether something is tried again. Every activity returns
// its result as it is, without wrapping: the engine looks at the outermost error
// alone, and a wrapped final error would be retried.
func translate(err error) error {
	var (
		refusal  *mobileid.Refusal
		conflict *mobileid.ConflictError
		failed   *mobileid.Failure
		atCA     *ca.Error
		engine   *temporal.ApplicationError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &engine):
		return engine
	case errors.As(err, &refusal):
		return RefusalError(refusal)
	case errors.As(err, &failed):
		return failureError(failed)
	case errors.As(err, &conflict):
		return temporal.NewNonRetryableApplicationError(conflict.Error(), TypeConflict, nil)
	case errors.As(err, &atCA):
		return temporal.NewApplicationErrorWithOptions(atCA.Error(), string(atCA.Kind), temporal.ApplicationErrorOptions{
			NonRetryable:   !ca.Curable(err),
			NextRetryDelay: atCA.RetryAfter,
		})
	case errors.Is(err, context.Canceled):
		// The engine must see that the step was cancelled, and not that it failed.
		return context.Canceled
	}
	return temporal.NewApplicationError(err.Error(), TypeIdentityManager)
}
