package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// A second `starter get` while nobody answers must not make the grant void that the
// first one's process was started with: it would be refused as not entitled.
func TestGrantIsKeptWhileNobodyAnswers(t *testing.T) {
	c := config.Default()
	dir := t.TempDir()
	c.Store.DSN, c.Audit.KeyFile = filepath.Join(dir, "im.db"), filepath.Join(dir, "audit.key")
	_, err := config.MakeKey(c.Audit.KeyFile)
	require.NoError(t, err)
	store, err := identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	user := mobileid.User{ID: "anna", Name: "Anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, store.PutUser(t.Context(), user, "anna@example.com"))

	// Nobody listens there.
	temporal, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(discard())})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	c.Get.GrantFor = time.Hour
	a := &applicant{
		Applicant: starter.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(nil)).User("anna", "olof"),
		store:     store, user: "anna", by: "olof", c: c,
	}
	require.NoError(t, a.grant(t.Context()))
	first, err := store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NoError(t, a.grant(t.Context()))
	second, err := store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NotNil(t, first.Grant)
	require.Equal(t, first.Grant, second.Grant)
}
