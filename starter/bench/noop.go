package bench

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// What a lock is measured against. The bodies are empty, and so are the payloads:
// what these cost is the engine's own cost.
const (
	// NoOpShape has the activities of a confirmed lock with one CA: a local one,
	// and three in a row.
	NoOpShape = "NoOpShape"
	// NoOpStep waits for a message, as update or signal "next", and has one activity.
	NoOpStep = "NoOpStep"

	noOpActivity = "noOp"
	nextName     = "next"
)

// RegisterNoOp lets a worker run the no-op workflows.
func RegisterNoOp(registry worker.Registry) {
	registry.RegisterWorkflowWithOptions(noOpShape, workflow.RegisterOptions{Name: NoOpShape})
	registry.RegisterWorkflowWithOptions(noOpStep, workflow.RegisterOptions{Name: NoOpStep})
	registry.RegisterActivityWithOptions(noOp, activity.RegisterOptions{Name: noOpActivity})
}

func noOp(context.Context) error { return nil }

func options(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		HeartbeatTimeout:    10 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1.5, MaximumInterval: 5 * time.Minute},
	})
}

func noOpShape(ctx workflow.Context) error {
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 2 * time.Second})
	if err := workflow.ExecuteLocalActivity(local, noOp).Get(ctx, nil); err != nil {
		return err
	}
	for range 3 {
		if err := workflow.ExecuteActivity(options(ctx), noOpActivity).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func noOpStep(ctx workflow.Context) error {
	pressed, done := false, false
	if err := workflow.SetUpdateHandler(ctx, nextName, func(ctx workflow.Context) error {
		pressed = true
		return workflow.Await(ctx, func() bool { return done })
	}); err != nil {
		return err
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		workflow.GetSignalChannel(ctx, nextName).Receive(ctx, nil)
		pressed = true
	})
	if err := workflow.Await(ctx, func() bool { return pressed }); err != nil {
		return err
	}
	if err := workflow.ExecuteActivity(options(ctx), noOpActivity).Get(ctx, nil); err != nil {
		return err
	}
	done = true
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}
