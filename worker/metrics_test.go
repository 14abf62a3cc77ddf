package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// counting answers queries, and counts them.
type counting struct {
	mu      sync.Mutex
	queries []string
	err     error
}

func (c *counting) count(_ context.Context, query string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queries = append(c.queries, query)
	if strings.Contains(query, "'needsOperator'") {
		return 3, c.err
	}
	return 0, c.err
}

func TestLockCounter(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	temporal := &counting{}
	counter := &lockCounter{counts: temporal.count, log: zap.New(core), overdue: map[string]time.Duration{"15m": 15 * time.Minute, "4h": 4 * time.Hour}}

	locks, known := counter.count(t.Context())
	require.True(t, known)
	require.Equal(t, map[string]int64{"validating": 0, "awaitingConfirmation": 0, "locking": 0, "revoking": 0, "publishing": 0, "needsOperator": 3}, locks.Open)
	require.Equal(t, map[string]int64{"15m": 0, "4h": 0}, locks.Overdue)
	require.Len(t, temporal.queries, 8)
	overdue := 0
	for _, query := range temporal.queries {
		require.Contains(t, query, "ExecutionStatus = 'Running'")
		if strings.Contains(query, "LockRequestedAt <") {
			overdue++
			require.Contains(t, query, "LockPhase != 'publishing'", "what is revoked and waits for a CRL gets nobody out of bed, as it sends no mail")
		}
	}
	require.Equal(t, 2, overdue)

	_, known = counter.count(t.Context())
	require.True(t, known)
	require.Len(t, temporal.queries, 8, "who scrapes often costs Temporal nothing")

	counter.until = time.Now()
	temporal.err = errors.New("Temporal is away")
	_, known = counter.count(t.Context())
	require.False(t, known, "the number from before is none of now")
	asked := len(temporal.queries)
	_, known = counter.count(t.Context())
	require.False(t, known)
	require.Len(t, temporal.queries, asked, "who is away is not asked at once again")
	require.Equal(t, 1, logs.FilterMessage("Locks under way are not counted").Len())
}
