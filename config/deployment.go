package config

import (
	"fmt"
	"os"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Variables that say which version of the worker this is. They are those that
// Temporal's Kubernetes controller for workers sets.
const (
	DeploymentNameVariable = "TEMPORAL_DEPLOYMENT_NAME"
	BuildIDVariable        = "TEMPORAL_WORKER_BUILD_ID"
)

// Deployment returns the version under which a worker polls; none, which is the
// default, if neither variable is set. One without the other is a mistake.
//
// Processes go on with whatever version is current: every path of theirs is replayed
// against new code before it is deployed, and a lock may be open for days.
func Deployment() (worker.DeploymentOptions, error) {
	name, build := os.Getenv(DeploymentNameVariable), os.Getenv(BuildIDVariable)
	if name == "" && build == "" {
		return worker.DeploymentOptions{}, nil
	}
	if name == "" || build == "" {
		return worker.DeploymentOptions{}, fmt.Errorf("%s and %s must be set together, or neither", DeploymentNameVariable, BuildIDVariable)
	}
	return worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: name, BuildID: build},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}, nil
}
