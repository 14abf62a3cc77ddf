package activities

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/ca"
)

// What is final must stay final, and what passes must be tried again, however
// deep the error lies: the engine looks at the outermost one alone.
func TestTranslate(t *testing.T) {
	atCA := func(kind ca.Kind) error { return &ca.Error{Kind: kind, Op: "revoke serial 1", Words: "words"} }
	for _, test := range []struct {
		name  string
		err   error
		typ   string
		final bool
	}{
		{"invalid request", mobileid.InvalidRequest("reason", "is bad"), "InvalidRequest", true},
		{"not found", mobileid.NotFound(), "MobileIDNotFound", true},
		{"not active", mobileid.NotActive(mobileid.Locked), "MobileIDNotActive", true},
		{"not entitled", mobileid.NotEntitled("no role"), "NotEntitled", true},
		{"conflict", &mobileid.ConflictError{MobileID: "m", Problem: "is gone"}, TypeConflict, true},
		{"CA unavailable", atCA(ca.Unavailable), string(ca.Unavailable), false},
		{"CA ambiguous", atCA(ca.Ambiguous), string(ca.Ambiguous), false},
		{"CA denied", atCA(ca.Denied), string(ca.Denied), true},
		{"CA not found", atCA(ca.NotFound), string(ca.NotFound), true},
		{"CA bad reason", atCA(ca.BadReason), string(ca.BadReason), true},
		{"CA unsupported", atCA(ca.Unsupported), string(ca.Unsupported), true},
		{"CA contradiction", atCA(ca.Contradiction), string(ca.Contradiction), true},
		{"a fault nobody has classified", errors.New("disk full"), TypeIdentityManager, false},
		{"a time-out", context.DeadlineExceeded, TypeIdentityManager, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, err := range map[string]error{
				"bare":          test.err,
				"wrapped":       fmt.Errorf("lock mobile ID m: %w", test.err),
				"wrapped twice": fmt.Errorf("a: %w", fmt.Errorf("b: %w", test.err)),
				"joined":        errors.Join(test.err, errors.New("and the clean-up failed")),
			} {
				translated := translate(err)
				application, ok := translated.(*temporal.ApplicationError) //nolint:errorlint // the outermost error is what is tested
				require.True(t, ok, "%s: %T", name, translated)
				require.Equal(t, test.typ, application.Type(), name)
				require.Equal(t, test.final, application.NonRetryable(), name)
				require.Equal(t, translated, translate(translated), "%s: translated once", name)
			}
		})
	}
	require.NoError(t, translate(nil))
	require.Equal(t, context.Canceled, translate(fmt.Errorf("x: %w", context.Canceled)), "a cancelled step is seen as such")
}

func TestTranslateKeepsWhatTheCAAsksFor(t *testing.T) {
	err := translate(&ca.Error{Kind: ca.Unavailable, Op: "revoke", RetryAfter: 42 * time.Second})
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, 42*time.Second, application.NextRetryDelay())
}

func TestRefusalGoesThroughTheEngineUnchanged(t *testing.T) {
	for _, refusal := range []*mobileid.Refusal{
		mobileid.InvalidRequest("mobileId", "is missing"), mobileid.NotFound(), mobileid.NotActive(mobileid.Inactive),
		mobileid.NotEntitled("why"), mobileid.AlreadyConfirmed(), mobileid.AlreadyCancelled(),
	} {
		err := RefusalError(refusal)
		var application *temporal.ApplicationError
		require.ErrorAs(t, err, &application)
		require.Equal(t, temporal.ApplicationErrorCategoryBenign, application.Category())

		converter := temporal.GetDefaultFailureConverter()
		back := RefusalOf(converter.FailureToError(converter.ErrorToFailure(err)))
		require.Equal(t, refusal, back)
	}
	require.Nil(t, RefusalOf(errors.New("x")))
	require.Nil(t, RefusalOf(temporal.NewApplicationError("x", "Other")))
	other := errors.New("no refusal")
	require.Equal(t, other, RefusalError(other))
}
