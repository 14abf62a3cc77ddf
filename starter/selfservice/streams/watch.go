package streams

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// watchEvery is how often it is looked whether anything was recorded.
	watchEvery = time.Second
	// watchWait is how long the store may take to say so.
	watchWait = 3 * time.Second

	// looksAtOnce is how many streams look at once. Whoever asks for a page is not made to
	// wait behind all who merely have one open.
	looksAtOnce = 16
	// turnWait is how long a stream waits for its turn before it does other things, such
	// as to say that it is still there.
	turnWait = 2 * time.Second
)

// pauses are how long a stream waits between looks of its own: after the first look, and
// after one for a new record, it begins anew. The first is short, because a record that
// came right after that look may not be noticed as new, and a Get that a lock goes on to
// has no record there. What else the audit does not tell, such as the next try at a CA,
// is not urgent.
var pauses = [...]time.Duration{1500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 20 * time.Second}

// Audit says how many records there are about mobile IDs: *identitymanager.Store.
type Audit interface {
	AuditNumbers(ctx context.Context, mobileIDs []string) (map[string]int64, error)
}

// Watch tells streams when to look at the locks that they show. To ask the process of
// each for its state all the time would take more than everything else: a query is a
// task of a worker. What a lock brings about stands in the audit, so one statement a
// second asks that for all of them, and a stream looks when its mobile ID has a new
// record, and else now and then.
type Watch struct {
	audit Audit
	every time.Duration
	slots chan struct{}

	mu      sync.Mutex
	their   map[string]map[*Follower]bool // by mobile ID
	running bool
}

// NewWatch makes a Watch.
func NewWatch(audit Audit) *Watch {
	return &Watch{audit: audit, every: watchEvery, slots: make(chan struct{}, looksAtOnce), their: map[string]map[*Follower]bool{}}
}

// Follower is one stream. It is for one goroutine.
type Follower struct {
	watch  *Watch
	id     string
	moved  chan struct{}
	timer  *time.Timer
	pause  int  // which one is next
	steady bool // it is always the first one
}

// Follow begins to watch one mobile ID, until Stop. The first look is due at once.
func (w *Watch) Follow(mobileID string) *Follower {
	f := &Follower{watch: w, id: mobileID, moved: make(chan struct{}, 1), timer: time.NewTimer(0)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.their[mobileID] == nil {
		w.their[mobileID] = map[*Follower]bool{}
	}
	w.their[mobileID][f] = true
	if !w.running {
		w.running = true
		go w.run()
	}
	return f
}

// Steady is a Follower of what the audit does not tell: it looks often all the time.
func (w *Watch) Steady() *Follower {
	return &Follower{watch: w, timer: time.NewTimer(0), steady: true}
}

// Stop ends it.
func (f *Follower) Stop() {
	f.timer.Stop()
	f.watch.mu.Lock()
	defer f.watch.mu.Unlock()
	if delete(f.watch.their[f.id], f); len(f.watch.their[f.id]) == 0 {
		delete(f.watch.their, f.id)
	}
}

// Recorded has a value when there is a new record about the mobile ID.
func (f *Follower) Recorded() <-chan struct{} { return f.moved }

// Due has a value when it is time to look although nothing was recorded.
func (f *Follower) Due() <-chan time.Time { return f.timer.C }

// Look calls read, and sets when the next look is due. If there is no turn for it, read is
// not called, and the next look is due soon.
func (f *Follower) Look(ctx context.Context, recorded bool, read func()) {
	turn, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	select {
	case f.watch.slots <- struct{}{}:
		read()
		<-f.watch.slots
	case <-turn.Done():
		recorded = true
	}
	if recorded || f.steady {
		f.pause = 0
	}
	wait := pauses[f.pause]
	f.pause = min(f.pause+1, len(pauses)-1)
	// Not on the dot, so that streams that began together do not look together for ever.
	f.timer.Reset(wait*3/4 + rand.N(wait/2)) //nolint:gosec // spreads, protects nothing
}

// run looks for as long as anybody follows.
func (w *Watch) run() {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	last := map[string]int64{}
	for {
		ids := w.followed()
		if ids == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), watchWait)
		now, err := w.audit.AuditNumbers(ctx, ids)
		cancel()
		if err == nil {
			w.tell(last, now)
			last = now
		}
		<-ticker.C
	}
}

// followed are the mobile IDs that are followed; if there are none, run ends.
func (w *Watch) followed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.their) == 0 {
		w.running = false
		return nil
	}
	ids := make([]string, 0, len(w.their))
	for id := range w.their {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// tell wakes those who follow what has a new record. One that was not asked about last
// time is new here: its follower looks soon anyway.
func (w *Watch) tell(last, now map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, number := range now {
		if before, asked := last[id]; !asked || before == number {
			continue
		}
		for f := range w.their[id] {
			select {
			case f.moved <- struct{}{}:
			default: // it is told already
			}
		}
	}
}
