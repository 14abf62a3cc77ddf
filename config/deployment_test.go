package config

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func TestDeployment(t *testing.T) {
	both := worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: "mobileid", BuildID: "v7"},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
	for name, test := range map[string]struct {
		deployment, build string
		want              worker.DeploymentOptions
		fault             string
	}{
		"neither":    {},
		"both":       {deployment: "mobileid", build: "v7", want: both},
		"name alone": {deployment: "mobileid", fault: BuildIDVariable},
		"id alone":   {build: "v7", fault: DeploymentNameVariable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(DeploymentNameVariable, test.deployment)
			t.Setenv(BuildIDVariable, test.build)
			got, err := Deployment()
			if test.fault != "" {
				require.ErrorContains(t, err, test.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}
