// Package soak runs locks at a steady rate for a long time, and watches whether anything
// grows that should not: memory, goroutines or threads, files, connections, and how long
// locks take.
//
// The verdict compares the first quarter of the samples with the last, by their medians,
// because a single sample says nothing: a garbage collector leaves more or less behind.
package soak

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mobileid/starter/bench"
)

// Options say what to run.
type Options struct {
	For     time.Duration
	Every   time.Duration // between samples
	Measure func(ctx context.Context) (perSecond float64, err error)
	// Prepare makes what n locks need, and returns what runs the i-th to its end.
	Prepare func(ctx context.Context, n int) (run func(ctx context.Context, i int) error, err error)
	// Pages asks for some pages of Self-Service, at each lock.
	Pages func(ctx context.Context) error
	// Watched are the processes.
	Watched []Watched
	Out     io.Writer
}

// Watched is a process that is watched.
type Watched struct {
	Name string
	PID  int
	// Goroutines counts them; nil: the process does not tell, and its threads are counted.
	Goroutines func(ctx context.Context) (int, error)
	// Keeps says that its memory grows with what it is given, as it must: it is shown, and
	// not judged.
	Keeps bool
}

// Report is what was seen.
type Report struct {
	bench.Place

	For       time.Duration `json:"forNanoseconds"`
	PerSecond float64       `json:"locksPerSecond"`
	Locks     int           `json:"locks"`
	Samples   []Sample      `json:"samples"`
	Findings  []Finding     `json:"findings"`
}

// Sample is one look at everything.
type Sample struct {
	At        time.Duration          `json:"atNanoseconds"` // since the start
	Locks     int                    `json:"locks"`         // that ended since the sample before
	Took      bench.Percentiles      `json:"took"`
	Processes map[string]bench.Holds `json:"processes"`
}

// Run runs.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{For: o.For}
	fmt.Fprintln(o.Out, "  … what is reached with many at once")
	most, err := o.Measure(ctx)
	if err != nil {
		return r, err
	}
	r.PerSecond = most / 2
	fmt.Fprintf(o.Out, "  … %.1f a second for %s, half of that\n", r.PerSecond, o.For)
	w := &watch{Options: o}
	group, running := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return w.load(running, r.PerSecond)
	})
	group.Go(func() error {
		r.Samples, err = w.sample(running, ended)
		return err
	})
	if err := group.Wait(); err != nil {
		return r, err
	}
	for _, s := range r.Samples {
		r.Locks += s.Locks
	}
	r.Findings = judge(r.Samples, o.Watched)
	return r, nil
}

type watch struct {
	Options

	mu   sync.Mutex
	took []time.Duration // since the last sample
}

// load runs locks batch by batch; the next batch is prepared while one runs.
func (w *watch) load(ctx context.Context, perSecond float64) error {
	start := time.Now()
	n := max(int(perSecond*min(w.Every, w.For).Seconds()), 1)
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // arrivals
	gap := func(int) time.Duration {
		return time.Duration(random.ExpFloat64() / perSecond * float64(time.Second))
	}
	run, err := w.Prepare(ctx, n)
	if err != nil {
		return err
	}
	for time.Since(start) < w.For {
		now, later := run, run
		group, running := errgroup.WithContext(ctx)
		group.Go(func() (err error) {
			later, err = w.Prepare(running, n)
			return err
		})
		group.Go(func() error {
			return bench.OpenLoop(running, n, gap, func(ctx context.Context, i int, due time.Time) error {
				if err := now(ctx, i); err != nil {
					return err
				}
				took := time.Since(due)
				w.mu.Lock()
				w.took = append(w.took, took)
				w.mu.Unlock()
				return w.Pages(ctx)
			})
		})
		if err := group.Wait(); err != nil {
			return err
		}
		run = later
	}
	return nil
}

// sample looks at intervals, until the load has ended.
func (w *watch) sample(ctx context.Context, ended <-chan struct{}) ([]Sample, error) {
	start := time.Now()
	ticker := time.NewTicker(w.Every)
	defer ticker.Stop()
	var all []Sample
	for {
		select {
		case <-ctx.Done():
			return all, ctx.Err()
		case <-ended:
			return all, nil
		case <-ticker.C:
		}
		w.mu.Lock()
		took := w.took
		w.took = nil
		w.mu.Unlock()
		s := Sample{At: time.Since(start), Locks: len(took), Took: bench.PercentilesOf(took), Processes: map[string]bench.Holds{}}
		for _, process := range w.Watched {
			holds, err := bench.HeldBy(process.PID)
			if err != nil {
				return all, fmt.Errorf("%s: %w", process.Name, err)
			}
			if process.Goroutines != nil {
				if holds.Tasks, err = process.Goroutines(ctx); err != nil {
					return all, fmt.Errorf("goroutines of %s: %w", process.Name, err)
				}
			}
			s.Processes[process.Name] = holds
		}
		fmt.Fprintf(w.Out, "    %s\n", s.line(w.Watched))
		all = append(all, s)
	}
}

func (s Sample) line(watched []Watched) string {
	text := fmt.Sprintf("%6s  %5d locks, p50 %s, p99 %s", s.At.Round(time.Second), s.Locks, bench.Milliseconds(s.Took.P50), bench.Milliseconds(s.Took.P99))
	for _, w := range watched {
		h := s.Processes[w.Name]
		text += fmt.Sprintf("; %s %d MiB, %d %s, %d files, %d connections", w.Name, h.Memory>>20, h.Tasks, w.tasks(), h.Files, h.Connections)
	}
	return text
}

func (w Watched) tasks() string {
	if w.Goroutines == nil {
		return "threads"
	}
	return "goroutines"
}
