package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"golang.org/x/sync/errgroup"

	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/telemetry"
	"mobileid/workflows"
)

const (
	// countEvery is how long a count of the locks is good for: whoever scrapes more
	// often costs Temporal nothing.
	countEvery = 10 * time.Second
	// countTimeout is less than Prometheus waits for a scrape.
	countTimeout = 5 * time.Second
	// countsAtOnce bounds what one scrape asks of Temporal at a time.
	countsAtOnce = 4
)

// lockCounter counts the locks under way by what Temporal shows of them. Every worker
// that serves processes counts all of them when it is scraped: no worker must be
// chosen for it, and none is missed when one dies, for ten cheap queries a scrape. So
// whoever reads the metrics takes the greatest number and not the sum.
//
// Temporal groups counts by status alone, so each phase is a query. Its list lags a
// moment behind.
type lockCounter struct {
	counts  func(ctx context.Context, query string) (int64, error)
	log     *zap.Logger
	overdue map[string]time.Duration // by its text in the configuration

	mu    sync.Mutex
	until time.Time
	last  telemetry.Locks
	known bool
}

func (w worker) newLockCounter() (*lockCounter, error) {
	steps, err := w.config.Lock.OverdueAfter()
	if err != nil {
		return nil, err
	}
	counter := &lockCounter{log: w.log, overdue: map[string]time.Duration{}}
	for i, step := range steps {
		counter.overdue[w.config.Lock.Overdue[i]] = step
	}
	counter.counts = func(ctx context.Context, query string) (int64, error) {
		answer, err := w.temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		return answer.GetCount(), err
	}
	return counter, nil
}

// openPhases are the phases of a lock under way.
var openPhases = []workflows.Phase{
	workflows.Validating, workflows.AwaitingConfirmation, workflows.Locking, workflows.Revoking, workflows.Publishing, workflows.NeedsOperator,
}

// queries are what is counted, by where the number goes.
func (l *lockCounter) queries(now time.Time, locks telemetry.Locks) map[string]func(int64) {
	running := fmt.Sprintf("WorkflowType IN ('%s', '%s') AND ExecutionStatus = 'Running'", workflows.Lock, workflows.LockForOperator)
	phase := workflows.AttributePhase.GetName()
	queries := map[string]func(int64){}
	for _, p := range openPhases {
		query := fmt.Sprintf("%s AND %s = '%s'", running, phase, p)
		if p == workflows.Validating {
			// What shows is part of what the validation finds out.
			query = fmt.Sprintf("%s AND (%s IS NULL OR %s = '%s')", running, phase, phase, p)
		}
		queries[query] = func(n int64) { locks.Open[string(p)] = n }
	}
	for text, step := range l.overdue {
		query := fmt.Sprintf("%s AND %s < '%s'", workflows.OverdueQuery(), workflows.AttributeRequestedAt.GetName(), now.Add(-step).UTC().Format(time.RFC3339))
		queries[query] = func(n int64) { locks.Overdue[text] = n }
	}
	return queries
}

// count counts, or answers with a count that is still good, and whether there is one.
func (l *lockCounter) count(ctx context.Context) (telemetry.Locks, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.until) {
		return l.last, l.known
	}
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	locks := telemetry.Locks{Open: map[string]int64{}, Overdue: map[string]int64{}}
	queries := l.queries(now, locks)
	var writing sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(countsAtOnce)
	for _, query := range slices.Sorted(maps.Keys(queries)) {
		group.Go(func() error {
			n, err := l.counts(ctx, query)
			if err != nil {
				return fmt.Errorf("count %s: %w", query, err)
			}
			writing.Lock()
			defer writing.Unlock()
			queries[query](n)
			return nil
		})
	}
	err := group.Wait()
	if err != nil {
		l.log.Warn("Locks under way are not counted", zap.Error(err))
	}
	// A count that failed is not repeated at once either.
	l.last, l.known, l.until = locks, err == nil, now.Add(countEvery)
	return l.last, l.known
}

// measure makes the metrics, and the traces if there are any, before all that they are
// about.
func (w *worker) measure(ctx context.Context) (*telemetry.Traces, error) {
	log := slog.New(zapslog.NewHandler(w.log.Core()))
	// OpenTelemetry has one place for what goes wrong behind a program's back, and it is global.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("Telemetry", "error", err) }))
	var err error
	if w.metrics, err = telemetry.NewMetrics(log); err != nil {
		return nil, err
	}
	observer := w.metrics.Calls(ctx, names(w.cas))
	for _, a := range w.cas.All() {
		a.Observer = observer
	}
	return telemetry.NewTraces(ctx, w.config.Telemetry, "worker")
}

// observe makes the metrics tell of the CAs and, if this worker can, of the locks.
func (w worker) observe(cas *caWatch) error {
	if err := w.metrics.ObserveCAs(cas.all); err != nil {
		return err
	}
	if w.store == nil || !w.config.SearchAttributes.Enabled {
		return nil // without the attributes nothing shows where a lock stands
	}
	counter, err := w.newLockCounter()
	if err != nil {
		return err
	}
	return w.metrics.ObserveLocks(counter.count)
}

// compared tells the metrics what a comparison with a CA came to.
func (w worker) compared(ctx context.Context, c activities.Comparison) {
	w.metrics.Compared(ctx, c.CA, map[string]int{
		string(ca.StillRevoked): c.Checked - c.Forgotten - c.Unknown, string(ca.Forgotten): c.Forgotten, string(ca.NotKnown): c.Unknown,
	})
}

// names are those of the configured CAs.
func names(cas *ca.Authorities) []string {
	var names []string
	for _, a := range cas.All() {
		names = append(names, a.Name)
	}
	return names
}
