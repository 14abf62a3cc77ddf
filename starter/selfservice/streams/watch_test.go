package streams

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// soon is how long what is due may take on a busy machine.
const soon = time.Minute

// counted is an audit that is written by a test.
type counted struct {
	mu    sync.Mutex
	all   map[string]int64
	err   error
	asked chan []string // what each question was for
}

func (c *counted) AuditNumbers(_ context.Context, ids []string) (map[string]int64, error) {
	c.asked <- ids
	c.mu.Lock()
	defer c.mu.Unlock()
	numbers := map[string]int64{}
	for _, id := range ids {
		numbers[id] = c.all[id]
	}
	return numbers, c.err
}

func (c *counted) write(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[id]++
	c.err = err
}

func (c *counted) question(t *testing.T) []string {
	t.Helper()
	select {
	case ids := <-c.asked:
		return ids
	case <-time.After(soon):
		t.Fatal("nobody asked")
		return nil
	}
}

func TestWatch(t *testing.T) {
	audit := &counted{all: map[string]int64{}, asked: make(chan []string)}
	w := NewWatch(audit)
	w.every = 10 * time.Millisecond
	a, b, other := w.Follow("mid-1"), w.Follow("mid-1"), w.Follow("mid-2")
	for len(audit.question(t)) != 2 { // the first may have come before all followed
	}
	audit.question(t)
	audit.write("mid-1", errors.New("the store is away"))
	audit.question(t)
	audit.question(t)
	require.Empty(t, a.Recorded(), "nothing was read")
	audit.write("mid-3", nil)
	audit.question(t)
	require.Equal(t, []string{"mid-1", "mid-2"}, audit.question(t), "one question for all")
	for _, f := range []*Follower{a, b} {
		select {
		case <-f.Recorded():
		case <-time.After(soon):
			t.Fatal("a follower was not told")
		}
	}
	require.Empty(t, other.Recorded())

	a.Stop()
	b.Stop()
	other.Stop()
	stopped := func() bool {
		select {
		case <-audit.asked: // one that was on its way
		default:
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.running && len(w.their) == 0
	}
	require.Eventually(t, stopped, soon, 10*time.Millisecond, "nobody follows, and nobody asks")
	again := w.Follow("mid-1")
	defer again.Stop()
	require.Equal(t, []string{"mid-1"}, audit.question(t), "it begins anew")
	go func() {
		for range audit.asked { // until the test ends
		}
	}()
}

func TestLooks(t *testing.T) {
	w := NewWatch(&counted{asked: make(chan []string, 100)})
	pausesOf := func(f *Follower, recorded ...bool) []int {
		var all []int
		for _, r := range recorded {
			f.Look(t.Context(), r, func() {})
			all = append(all, f.pause)
		}
		return all
	}
	f := w.Follow("mid-1")
	defer f.Stop()
	require.Equal(t, []int{1, 2, 3, 3, 3}, pausesOf(f, false, false, false, false, false), "less and less often")
	require.Equal(t, []int{1, 2}, pausesOf(f, true, false), "anew after a record")
	require.Equal(t, []int{1, 1, 1}, pausesOf(w.Steady(), false, false, false))

	// With no turn free, nothing is read, and the follower is free to do other things.
	for range looksAtOnce {
		w.slots <- struct{}{}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	f.Look(ended, false, func() { t.Error("there was no turn") })
	require.Equal(t, 1, f.pause, "it looks again soon")
}
