package bench

import (
	"context"

	"go.temporal.io/sdk/client"

	"mobileid/workflows"
)

// The contestants, as reports call them.
const (
	subjectLock = "lock"
	subjectNoOp = "no-op"
	subjectBare = "bare"
)

// subject is what is measured beside the others.
type subject struct {
	name string
	// prepare makes what n runs need. A run is told which of them it is.
	prepare func(ctx context.Context, n int) (run func(ctx context.Context, i int) error, err error)
}

func (b *bench) subjects() []subject {
	return []subject{
		{subjectLock, func(ctx context.Context, n int) (func(context.Context, int) error, error) {
			ids, err := b.Seed(ctx, n, false)
			if err != nil {
				return nil, err
			}
			b.lastLock = workflows.LockWorkflowID(ids[0])
			return func(ctx context.Context, i int) error { return b.lock(ctx, ids[i]) }, nil
		}},
		{subjectNoOp, func(context.Context, int) (func(context.Context, int) error, error) {
			return func(ctx context.Context, _ int) error { return b.noOp(ctx) }, nil
		}},
		{subjectBare, func(ctx context.Context, n int) (func(context.Context, int) error, error) {
			ids, err := b.Seed(ctx, n, false)
			return func(ctx context.Context, i int) error { return b.Bare.lock(ctx, ids[i], b.Owner) }, err
		}},
	}
}

// lock runs a confirmed lock to its end.
func (b *bench) lock(ctx context.Context, id string) error {
	run, err := b.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.LockWorkflowID(id), TaskQueue: b.TaskQueue},
		workflows.Lock, workflows.LockRequest{MobileID: id, UserID: b.Owner, Confirmed: true})
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

// noOp runs the no-op of the same shape.
func (b *bench) noOp(ctx context.Context) error {
	run, err := b.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: b.name(), TaskQueue: b.NoOpQueue}, NoOpShape)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}
