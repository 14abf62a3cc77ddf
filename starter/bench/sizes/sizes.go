// Package sizes measures what a lock costs by the size of what it works on: the
// certificates of the mobile ID, the entries of the CA's CRL, and the rows in Identity
// Manager's store. It also reads from PostgreSQL how each statement of a lock was carried
// out in a store of the largest size (auto_explain, in the worker's own connections).
package sizes

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.temporal.io/sdk/client"

	"mobileid/starter/bench"
	"mobileid/workflows"
)

// Options say what to measure on.
type Options struct {
	Temporal  client.Client
	TaskQueue string
	Owner     string
	Processes func() map[string]bench.Process // those that run now
	// Seed makes active mobile IDs with so many certificates each.
	Seed func(ctx context.Context, n, certificates int) ([]string, error)
	// Revoke makes so many entries in the CA, all revoked, and returns how long the CA then
	// took from its start until it answered.
	Revoke func(ctx context.Context, entries int) (time.Duration, error)
	// Published returns how long it takes until the CRL has a revocation of now, and how
	// long the CRL is.
	Published func(ctx context.Context) (time.Duration, int64, error)
	// Fill brings the rows in Identity Manager's store to so many.
	Fill func(ctx context.Context, rows int) error
	// Plans runs act and returns the plans of the statements that ran meanwhile.
	Plans func(ctx context.Context, act func(context.Context) error) ([]Plan, error)

	Certificates, Entries, Rows []int    // the sizes, ascending
	Filled                      []string // the tables that Fill fills
	Locks                       int      // measured at each
	Out                         io.Writer
}

// Report is what was measured.
type Report struct {
	bench.Place

	Locks        int      `json:"locks"`
	Certificates []Point  `json:"certificates"`
	Entries      []Point  `json:"entries"`
	Rows         []Point  `json:"rows"`
	Plans        []Plan   `json:"plans"`
	Filled       []string `json:"filled"` // tables with that many rows; the plan for an empty one says nothing
}

// Point is what a lock costs at one size. Locks run one at a time.
type Point struct {
	Size   int                      `json:"size"`
	Locked bench.Percentiles        `json:"locked"` // from start until the mobile ID is locked
	Ended  bench.Percentiles        `json:"ended"`  // until all certificates are revoked
	CPU    map[string]time.Duration `json:"cpuNanoseconds"`
	// Of entries alone: how long the CA took to start, and until its CRL had a revocation,
	// and how long that CRL is.
	Start     time.Duration `json:"startNanoseconds,omitempty"`
	Published time.Duration `json:"publishedNanoseconds,omitempty"`
	CRL       int64         `json:"crlBytes,omitempty"`
}

// Run measures. Sizes grow, and what is there is not taken away: the CA is filled last,
// because a long CRL keeps the machine busy.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Locks: o.Locks, Filled: o.Filled}
	if _, err := o.point(ctx, 0, 2, o.Locks); err != nil { // warm-up
		return r, err
	}
	for _, n := range o.Certificates {
		p, err := o.point(ctx, n, n, max(o.Locks*10/max(n, 10), 3))
		if err != nil {
			return r, fmt.Errorf("%d certificates: %w", n, err)
		}
		fmt.Fprintf(o.Out, "  … %d certificates: %s\n", n, bench.Milliseconds(p.Ended.P50))
		r.Certificates = append(r.Certificates, p)
	}
	for _, n := range o.Rows {
		if err := o.Fill(ctx, n); err != nil {
			return r, fmt.Errorf("%d rows: %w", n, err)
		}
		p, err := o.point(ctx, n, 2, o.Locks)
		if err != nil {
			return r, fmt.Errorf("%d rows: %w", n, err)
		}
		fmt.Fprintf(o.Out, "  … %d rows: %s\n", n, bench.Milliseconds(p.Ended.P50))
		r.Rows = append(r.Rows, p)
	}
	var err error
	if r.Plans, err = o.Plans(ctx, func(ctx context.Context) error {
		_, err := o.point(ctx, 0, 2, 2)
		return err
	}); err != nil {
		return r, fmt.Errorf("plans: %w", err)
	}
	for _, n := range o.Entries {
		start, err := o.Revoke(ctx, n)
		if err != nil {
			return r, fmt.Errorf("%d revoked entries: %w", n, err)
		}
		p, err := o.point(ctx, n, 2, o.Locks)
		if err != nil {
			return r, fmt.Errorf("%d revoked entries: %w", n, err)
		}
		p.Start = start
		if p.Published, p.CRL, err = o.Published(ctx); err != nil {
			return r, fmt.Errorf("CRL with %d entries: %w", n, err)
		}
		fmt.Fprintf(o.Out, "  … %d revoked entries: %s\n", n, bench.Milliseconds(p.Ended.P50))
		r.Entries = append(r.Entries, p)
	}
	return r, nil
}

// point runs locks one at a time.
func (o Options) point(ctx context.Context, size, certificates, locks int) (Point, error) {
	p := Point{Size: size, CPU: map[string]time.Duration{}}
	ids, err := o.Seed(ctx, locks, certificates)
	if err != nil {
		return p, err
	}
	before, err := bench.Used(o.Processes())
	if err != nil {
		return p, err
	}
	for _, id := range ids {
		run, err := o.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.LockWorkflowID(id), TaskQueue: o.TaskQueue},
			workflows.Lock, workflows.LockRequest{MobileID: id, UserID: o.Owner, Confirmed: true})
		if err != nil {
			return p, err
		}
		if err := run.Get(ctx, nil); err != nil {
			return p, err
		}
	}
	after, err := bench.Used(o.Processes())
	if err != nil {
		return p, err
	}
	for name, used := range after {
		p.CPU[name] = (used - before[name]) / time.Duration(locks)
	}
	var locked, ended []time.Duration
	for _, id := range ids {
		first, end, err := bench.SinceNext(ctx, o.Temporal, workflows.LockWorkflowID(id))
		if err != nil {
			return p, err
		}
		locked, ended = append(locked, first), append(ended, end)
	}
	p.Locked, p.Ended = bench.PercentilesOf(locked), bench.PercentilesOf(ended)
	return p, nil
}
