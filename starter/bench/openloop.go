package bench

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// OpenLoop makes n calls, each when it is due, whether the ones before have ended or
// not: as people come, who do not wait for each other. gap is how long after call i the
// next one is due. A call is told when it was due, and its time counts from then, so
// that a server that falls behind is not spared what it delays. OpenLoop returns when
// all have ended, or the first error.
func OpenLoop(ctx context.Context, n int, gap func(i int) time.Duration, call func(ctx context.Context, i int, due time.Time) error) error {
	group, ctx := errgroup.WithContext(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for i := range n {
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return group.Wait()
		}
		at := due
		group.Go(func() error { return call(ctx, i, at) })
		due = due.Add(gap(i))
	}
	return group.Wait()
}
