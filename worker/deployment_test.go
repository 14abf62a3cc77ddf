package main

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"

	"mobileid/activities/ca/configured"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// A worker that is told its version shows it to Temporal, which then can hold tasks
// back from it until the version is made the current one.
func TestVersionOfTheWorkerShows(t *testing.T) {
	if server == nil {
		t.Skip("the temporal program is not installed")
	}
	name := "mobileid-" + uuid.NewString()
	t.Setenv(config.DeploymentNameVariable, name)
	t.Setenv(config.BuildIDVariable, "v7")
	deployment, err := config.Deployment()
	require.NoError(t, err)
	c := config.Default()
	c.TaskQueue = name
	cas, err := configured.Authorities(nil)
	require.NoError(t, err)
	w := worker{cas: cas, log: zap.NewNop(), config: c, temporal: server.Client, store: &identitymanager.Store{}, deployment: deployment}
	require.Contains(t, w.startFields(nil), zap.String("build", "v7"))
	for _, poller := range w.pollers(func(err error) { t.Error(err) }) {
		require.NoError(t, poller.Start())
		t.Cleanup(poller.Stop)
	}
	handle := server.Client.WorkerDeploymentClient().GetHandle(name)
	require.Eventually(t, func() bool {
		described, err := handle.Describe(t.Context(), client.WorkerDeploymentDescribeOptions{})
		return err == nil && len(described.Info.VersionSummaries) == 1 && described.Info.VersionSummaries[0].Version == deployment.Version
	}, limit, moment)
}
