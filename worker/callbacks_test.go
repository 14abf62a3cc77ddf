package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
)

// A phone can answer before the worker has written down what it was asked: messaging
// comes again, for as long as somebody could wait for the answer.
func TestAnswerBeforeItsCommandIsKnown(t *testing.T) {
	store, err := identitymanager.Open(t.Context(), identitymanager.Options{
		Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "im.db"), AuditKey: []byte(strings.Repeat("k", 32)),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	user := mobileid.User{ID: "anna", Name: "Anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, store.PutUser(t.Context(), user, "anna@example.com"))
	process := mobileid.Process{Name: "Get", WorkflowID: "Get/anna", RunID: "run"}
	grant, err := store.PutGrant(t.Context(), "anna", "test", time.Hour)
	require.NoError(t, err)
	_, err = store.Register(t.Context(), mobileid.RegistrationOrder{MobileID: grant.MobileID, UserID: "anna", Name: "phone", Process: process})
	require.NoError(t, err)

	tells := inbox{store: store}
	answer := messaging.Callback{Kind: messaging.KindCertificate, CommandID: "command", ExternalID: grant.MobileID, Outcome: messaging.Refused}
	_, err = tells.Deliver(t.Context(), answer)
	require.ErrorContains(t, err, "not written down yet")

	for name, externalID := range map[string]string{"nobody's": "", "of another installation": "mid-unknown"} {
		t.Run(name, func(t *testing.T) {
			answer := answer
			answer.ExternalID = externalID
			delivery, err := tells.Deliver(t.Context(), answer)
			require.NoError(t, err)
			require.Equal(t, messaging.Unknown, delivery)
		})
	}

	_, err = store.Abandon(t.Context(), mobileid.AbandonOrder{
		MobileID: grant.MobileID, Process: process, Failure: &mobileid.Failure{Type: mobileid.FailurePhoneSilent, Message: "silent"},
	})
	require.NoError(t, err)
	delivery, err := tells.Deliver(t.Context(), answer)
	require.NoError(t, err)
	require.Equal(t, messaging.Unknown, delivery, "nobody waits any more")
}
