package workflows_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// requireRefusal checks that an error is a refusal of a type, naming a field
// (empty: any), whether it comes from the library or from the engine.
func requireRefusal(t *testing.T, err error, want mobileid.RefusalType, field string) {
	t.Helper()
	require.Error(t, err)
	var refusal *mobileid.Refusal
	if !errors.As(err, &refusal) {
		application := requireBare(t, err, want)
		refusal = &mobileid.Refusal{}
		require.NoError(t, application.Details(refusal))
		require.Equal(t, application.Message(), refusal.Message)
	}
	require.Equal(t, want, refusal.Type, refusal.Message)
	if field != "" {
		require.Equal(t, field, refusal.Field, refusal.Message)
		require.Contains(t, refusal.Message, field)
	}
}

// requireBare checks that a workflow failed with the application error itself.
func requireBare(t *testing.T, err error, want mobileid.RefusalType) *temporal.ApplicationError {
	t.Helper()
	var inActivity *temporal.ActivityError
	require.False(t, errors.As(err, &inActivity), "a refusal leaves the workflow bare: %v", err)
	var failed *temporal.WorkflowExecutionError
	require.ErrorAs(t, err, &failed)
	application, ok := failed.Unwrap().(*temporal.ApplicationError) //nolint:errorlint // bare is what is tested
	require.True(t, ok, "%T", failed.Unwrap())
	require.Equal(t, string(want), application.Type())
	require.True(t, application.NonRetryable())
	require.Equal(t, temporal.ApplicationErrorCategoryBenign, application.Category())
	return application
}

// Contract section 5: refusals, before Next is accepted.
func TestRefusals(t *testing.T) {
	i := install(t)
	for _, test := range []struct {
		name  string
		user  string
		make  func(t *testing.T) string
		want  mobileid.RefusalType
		state mobileid.State
	}{
		{name: "unknown", user: "anna", want: mobileid.TypeMobileIDNotFound, make: func(*testing.T) string { return "mid-unknown" }},
		{name: "somebody else's", user: "bert", want: mobileid.TypeMobileIDNotFound, make: func(*testing.T) string { return i.mobileID(1) }},
		{name: "inactive", user: "anna", want: mobileid.TypeMobileIDNotActive, state: mobileid.Inactive, make: func(t *testing.T) string {
			id := i.mobileID(1)
			require.NoError(t, i.store.Deactivate(t.Context(), id))
			return id
		}},
		{name: "locked, nothing left", user: "anna", want: mobileid.TypeMobileIDNotActive, state: mobileid.Locked, make: func(t *testing.T) string {
			id := i.mobileID(1)
			_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
			require.NoError(t, err)
			_, err = i.execution(id)
			require.NoError(t, err)
			return id
		}},
		{name: "registered", user: "anna", want: mobileid.TypeMobileIDNotActive, state: mobileid.Registered, make: func(t *testing.T) string {
			id := "mid-registered"
			require.NoError(t, i.store.CreateMobileID(t.Context(), mobileid.MobileID{ID: id, Owner: mobileid.User{ID: "anna"}, State: mobileid.Registered}))
			return id
		}},
		{name: "user not active", user: "carl", want: mobileid.TypeNotEntitled, make: func(t *testing.T) string {
			require.NoError(t, i.store.PutUser(t.Context(), mobileid.User{ID: "carl", Roles: []string{mobileid.SelfServiceRole}}, ""))
			require.NoError(t, i.store.CreateMobileID(t.Context(), mobileid.MobileID{ID: "mid-carl", Owner: mobileid.User{ID: "carl"}, State: mobileid.Active}))
			return "mid-carl"
		}},
		{name: "user without the role", user: "dora", want: mobileid.TypeNotEntitled, make: func(t *testing.T) string {
			require.NoError(t, i.store.PutUser(t.Context(), mobileid.User{ID: "dora", Active: true}, ""))
			require.NoError(t, i.store.CreateMobileID(t.Context(), mobileid.MobileID{ID: "mid-dora", Owner: mobileid.User{ID: "dora"}, State: mobileid.Active}))
			return "mid-dora"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := test.make(t)
			before := i.events(id)

			// By a client that knows names and JSON alone.
			run := i.start(id, object{"mobileId": id, "userId": test.user, "confirmed": true})
			err := run.Get(t.Context(), nil)
			i.keep("refused", id, run.GetRunID())
			application := requireBare(t, err, test.want)
			var refusal mobileid.Refusal
			require.NoError(t, application.Details(&refusal))
			require.Equal(t, test.state, refusal.State)

			// By the library, with Next.
			_, err = i.locks.User(test.user).Lock(t.Context(), id, starter.LockOptions{})
			requireRefusal(t, err, test.want, "")

			require.Equal(t, append(before, mobileid.EventRefused, mobileid.EventRefused), i.events(id), "refusals are recorded")
		})
	}
}

func TestUnknownAndForeignAreTheSameWords(t *testing.T) {
	i := install(t)
	_, unknown := i.locks.User("bert").Lock(t.Context(), "mid-unknown", starter.LockOptions{})
	_, foreign := i.locks.User("bert").Lock(t.Context(), i.mobileID(1), starter.LockOptions{})
	require.Equal(t, unknown, foreign)
}

// To resume is to look again at what is locked. It presses nobody's Next, not even where
// its start joins.
func TestResumePressesNothing(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	olof := i.locks.Operator("olof")
	resume := starter.LockOptions{Owner: "anna", Resume: true}
	calls := map[string]func() (starter.Status, error){
		"operator's lock":  func() (starter.Status, error) { return olof.Lock(t.Context(), id, resume) },
		"operator's start": func() (starter.Status, error) { return olof.Start(t.Context(), id, resume) },
		"user's lock":      func() (starter.Status, error) { return i.anna().Lock(t.Context(), id, resume) },
	}
	for name, call := range calls {
		_, err := call()
		requireRefusal(t, err, mobileid.TypeInvalidRequest, "resume")
		require.NotContains(t, i.events(id), mobileid.EventLocked, name)
	}
	_, err := i.anna().Start(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	for name, call := range calls {
		_, err := call()
		requireRefusal(t, err, mobileid.TypeInvalidRequest, "resume")
		status, err := i.anna().Status(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, workflows.AwaitingConfirmation, status.Phase, name)
	}

	_, err = i.anna().Next(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	for name, call := range calls {
		_, err := call()
		require.NoError(t, err, name)
		_, err = i.execution(id)
		require.NoError(t, err, name)
	}
	status, err := olof.Lock(t.Context(), id, resume)
	require.NoError(t, err)
	require.False(t, status.LockedAt.IsZero())
	require.Len(t, status.Certificates, 1, "those that are revoked, too")
}

// A locked mobile ID with a certificate that is still open is not refused.
func TestLockedWithAnOpenCertificateResumesWithoutAsking(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	_, err = i.execution(id)
	require.NoError(t, err)
	orphan := i.certificate(mobileid.CertificateIssued)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, orphan))

	i.start(id, object{"mobileId": id, "userId": "anna"})
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.Len(t, result.Certificates, 1, "only what was open")
	i.requireLocked(id)
}
