// Package pages measures what open progress pages cost whoever else asks for a page.
//
// Every visitor is a user of their own, with a session, an address, an active mobile ID
// and one whose lock waits for a CA that is down: that is when people keep a progress
// page open. Rounds take turns, with no such page open and with many. In each, pages are
// asked for at a fixed rate, whatever the answers take, and a page's time counts from
// when it was due: a server that falls behind is not spared the requests that it delays.
//
// A second pair of rounds has locks that go through meanwhile, by form, Next and the
// event stream of the progress page, so that streams have something to send.
package pages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mobileid/starter/bench"
)

// Goal is what p99 with the pages open may be, as a multiple of p99 without.
const Goal = 2.0

// Options say what to measure on.
type Options struct {
	URL string // of Self-Service
	// Open are the visitors who keep a progress page open, Asking those who ask for
	// pages, Locking those who lock their active mobile ID, one after the other.
	Open, Asking, Locking []*Visitor
	Pairs                 int           // of rounds without and with the pages open
	Round                 time.Duration // of each round
	PerSecond             float64       // pages asked for
	LocksPerSecond        float64       // in the rounds with locks; 0: no such rounds
	Usage                 func() (map[string]time.Duration, error)
	Out                   io.Writer
}

// Report is what was measured.
type Report struct {
	bench.Place

	Open      int           `json:"open"`
	PerSecond float64       `json:"pagesPerSecond"`
	Round     time.Duration `json:"roundNanoseconds"`
	Pairs     int           `json:"pairs"`
	Quiet     Comparison    `json:"quiet"`
	Busy      *Comparison   `json:"busy,omitempty"` // with locks that go through
	Goal      float64       `json:"goal"`
}

// Comparison is one series of rounds in turns.
type Comparison struct {
	None  Side    `json:"none"`
	Many  Side    `json:"many"`
	Ratio float64 `json:"ratio"` // of p99 over all rounds
	// Ratios are those of the pairs of rounds.
	Ratios []float64 `json:"ratios"`
}

// Side is one of the two.
type Side struct {
	All    bench.Percentiles            `json:"all"`
	Pages  map[string]bench.Percentiles `json:"pages"`
	Asked  int                          `json:"asked"`
	Events int                          `json:"events"`                  // that came over the open streams
	Locks  *bench.Percentiles           `json:"locks,omitempty"`         // from Next until the page says that all is done
	Locked int                          `json:"lockedCount"`             // how many locks went through
	CPU    map[string]time.Duration     `json:"cpuNanosecondsPerSecond"` // by process, per second
}

// Run measures.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Open: len(o.Open), PerSecond: o.PerSecond, Round: o.Round, Pairs: o.Pairs, Goal: Goal}
	m := &measurement{Options: o}
	fmt.Fprintln(o.Out, "  … warm-up")
	if _, err := m.round(ctx, nil, nil); err != nil {
		return r, err
	}
	var err error
	fmt.Fprintln(o.Out, "  … pages while locks wait")
	if r.Quiet, err = m.compare(ctx, false); err != nil {
		return r, err
	}
	if o.LocksPerSecond == 0 {
		return r, nil
	}
	fmt.Fprintln(o.Out, "  … pages while others go through")
	busy, err := m.compare(ctx, true)
	r.Busy = &busy
	return r, err
}

type measurement struct {
	Options

	locked int // how many of Locking are used up
}

// round is what one round came to.
type round struct {
	pages  map[string][]time.Duration
	locks  []time.Duration
	events int
	cpu    map[string]time.Duration
}

func (r *round) all() []time.Duration {
	var all []time.Duration
	for _, some := range r.pages {
		all = append(all, some...)
	}
	return all
}

// add takes another round in.
func (r *round) add(other round) {
	if r.pages == nil {
		r.pages, r.cpu = map[string][]time.Duration{}, map[string]time.Duration{}
	}
	for name, some := range other.pages {
		r.pages[name] = append(r.pages[name], some...)
	}
	for name, used := range other.cpu {
		r.cpu[name] += used
	}
	r.locks = append(r.locks, other.locks...)
	r.events += other.events
}

func (r *round) side(took time.Duration) Side {
	s := Side{All: bench.PercentilesOf(r.all()), Pages: map[string]bench.Percentiles{}, Events: r.events, Locked: len(r.locks), CPU: map[string]time.Duration{}}
	for name, some := range r.pages {
		s.Asked += len(some)
		s.Pages[name] = bench.PercentilesOf(some)
	}
	for name, used := range r.cpu {
		s.CPU[name] = time.Duration(float64(used) / took.Seconds())
	}
	if len(r.locks) > 0 {
		locks := bench.PercentilesOf(r.locks)
		s.Locks = &locks
	}
	return s
}

// compare takes turns. Which of the two comes first in a pair takes turns, too.
func (m *measurement) compare(ctx context.Context, busy bool) (Comparison, error) {
	var none, many round
	var c Comparison
	for n := range m.Pairs {
		var pair [2]round
		for i := range 2 {
			with := (i + n) % 2 // 0: none, 1: many
			var open []*Visitor
			if with == 1 {
				open = m.Open
			}
			one, err := m.round(ctx, open, m.toLock(busy))
			if err != nil {
				return c, err
			}
			pair[with] = one
		}
		none.add(pair[0])
		many.add(pair[1])
		before, after := bench.PercentilesOf(pair[0].all()), bench.PercentilesOf(pair[1].all())
		c.Ratios = append(c.Ratios, float64(after.P99)/float64(before.P99))
		fmt.Fprintf(m.Out, "    none open: p50 %s, p99 %s; %d open: p50 %s, p99 %s; ratio of p99 %.2f\n",
			bench.Milliseconds(before.P50), bench.Milliseconds(before.P99), len(m.Open), bench.Milliseconds(after.P50), bench.Milliseconds(after.P99), c.Ratios[n])
	}
	took := m.Round * time.Duration(m.Pairs)
	c.None, c.Many = none.side(took), many.side(took)
	c.Ratio = float64(c.Many.All.P99) / float64(c.None.All.P99)
	return c, nil
}

// toLock takes the visitors who lock in one round.
func (m *measurement) toLock(busy bool) []*Visitor {
	if !busy {
		return nil
	}
	n := min(int(m.LocksPerSecond*m.Round.Seconds()), len(m.Locking)-m.locked)
	some := m.Locking[m.locked : m.locked+n]
	m.locked += n
	return some
}

// errStreamsLost means that the measurement was not what it says.
var errStreamsLost = errors.New("event streams ended while pages were measured")

// round asks for pages, with streams open or none, and while some lock.
func (m *measurement) round(ctx context.Context, open, locking []*Visitor) (round, error) {
	r := round{pages: map[string][]time.Duration{}}
	streams, err := openAll(ctx, m.URL, open)
	if err != nil {
		return r, err
	}
	defer streams.close()
	before, err := m.Usage()
	if err != nil {
		return r, err
	}
	var mu sync.Mutex
	group, asking := errgroup.WithContext(ctx)
	group.Go(func() error {
		return m.askAll(asking, func(name string, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			r.pages[name] = append(r.pages[name], took)
		})
	})
	group.Go(func() error {
		return bench.OpenLoop(asking, len(locking), evenly(m.LocksPerSecond), func(ctx context.Context, n int, _ time.Time) error {
			took, err := locking[n].lock(ctx, m.URL)
			mu.Lock()
			defer mu.Unlock()
			r.locks = append(r.locks, took)
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return r, err
	}
	if r.cpu, err = m.Usage(); err != nil {
		return r, err
	}
	for name := range r.cpu {
		r.cpu[name] -= before[name]
	}
	r.events = streams.events()
	if lost := streams.ended(); lost > 0 {
		return r, fmt.Errorf("%w: %d of %d", errStreamsLost, lost, len(open))
	}
	return r, nil
}

// evenly makes calls so many a second.
func evenly(perSecond float64) func(int) time.Duration {
	return func(int) time.Duration { return time.Duration(float64(time.Second) / perSecond) }
}

// askAll asks for one page after the other, of one visitor after the other.
func (m *measurement) askAll(ctx context.Context, note func(string, time.Duration)) error {
	return bench.OpenLoop(ctx, int(m.PerSecond*m.Round.Seconds()), evenly(m.PerSecond), func(ctx context.Context, n int, due time.Time) error {
		page := asked[n%len(asked)]
		v := m.Asking[(n/len(asked))%len(m.Asking)]
		if err := v.show(ctx, m.URL+page.path(v)); err != nil {
			return fmt.Errorf("%s: %w", page.name, err)
		}
		note(page.name, time.Since(due))
		return nil
	})
}

// asked are the pages that are measured.
var asked = []struct {
	name string
	path func(*Visitor) string
}{
	{"Dashboard", func(*Visitor) string { return "/" }},
	{"menu Mobile ID", func(*Visitor) string { return "/mobile-ids" }},
	{"one mobile ID", func(v *Visitor) string { return "/mobile-ids/" + v.Active }},
	{"form of a lock", func(v *Visitor) string { return "/mobile-ids/" + v.Active + "/lock" }},
	{"progress", func(v *Visitor) string { return v.progress() }},
}
