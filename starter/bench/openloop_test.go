package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Calls are made when they are due, and not when the ones before have ended.
func TestOpenLoop(t *testing.T) {
	const calls = 5
	var begun atomic.Int64
	together := make(chan struct{})
	err := OpenLoop(t.Context(), calls, func(int) time.Duration { return time.Millisecond }, func(ctx context.Context, _ int, _ time.Time) error {
		if begun.Add(1) == calls {
			close(together)
		}
		select {
		case <-together: // none ends before all have begun
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return errors.New("the calls wait for each other")
		}
	})
	require.NoError(t, err)
	require.EqualValues(t, calls, begun.Load())
}

func TestOpenLoopEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	var begun atomic.Int64
	err := OpenLoop(t.Context(), 1000, func(int) time.Duration { return time.Minute }, func(context.Context, int, time.Time) error {
		begun.Add(1)
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.EqualValues(t, 1, begun.Load())
}

// What a server delays counts from when it was due.
func TestOpenLoopTellsWhenACallWasDue(t *testing.T) {
	start := time.Now()
	due := make([]time.Time, 3)
	require.NoError(t, OpenLoop(t.Context(), len(due), func(int) time.Duration { return 20 * time.Millisecond }, func(_ context.Context, i int, at time.Time) error {
		due[i] = at
		return nil
	}))
	require.WithinDuration(t, start, due[0], time.Minute)
	require.Equal(t, 20*time.Millisecond, due[1].Sub(due[0]))
	require.Equal(t, 20*time.Millisecond, due[2].Sub(due[1]))
}
