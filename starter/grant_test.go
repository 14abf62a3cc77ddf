package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/mocks"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// A second `starter get` while nobody answers must not make the grant void that the
// first one's process was started with: it would be refused as not entitled.
func TestGrantIsKeptWhileNobodyAnswers(t *testing.T) {
	// Nobody listens there.
	temporal, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(discard())})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	a := newApplicant(t, temporal)
	require.NoError(t, a.grant(t.Context()))
	first, err := a.store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NoError(t, a.grant(t.Context()))
	second, err := a.store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NotNil(t, first.Grant)
	require.Equal(t, first.Grant, second.Grant)
}

// A Get that somebody terminated answers as if it ran. The next one needs a grant of its own.
func TestGrantAfterStoppedGet(t *testing.T) {
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(&workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED},
	}, nil)
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(workflows.GetStatus{Phase: workflows.AwaitingPhone})
	require.NoError(t, err)
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(client.NewValue(payloads), nil)
	a := newApplicant(t, temporal)
	require.NoError(t, a.grant(t.Context()))
	found, err := a.store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NotNil(t, found.Grant)
}

// newApplicant is anna, in a store that knows nobody else.
func newApplicant(t *testing.T, temporal client.Client) *applicant {
	t.Helper()
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
	c.Get.GrantFor = time.Hour
	return &applicant{
		Applicant: starter.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(nil)).User("anna", "olof"),
		store:     store, user: "anna", by: "olof", c: c,
	}
}
