package pages

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// site answers like Self-Service, as far as visitors look.
type site struct {
	open, most atomic.Int64 // event streams
	hangUp     atomic.Bool  // streams of locks that wait end at once
	broken     atomic.Bool  // the Dashboard is not found
}

func (s *site) serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, _ *http.Request) {}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if s.broken.Load() {
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("GET /mobile-ids", page)
	mux.HandleFunc("GET /mobile-ids/{id}", page)
	mux.HandleFunc("GET /mobile-ids/{id}/lock", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<input type="hidden" name="form" value="a&#43;b">`)
	})
	mux.HandleFunc("POST /mobile-ids/{id}/lock", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("form") != "a+b" || r.PostFormValue("decision") != "next" {
			http.Error(w, "not this form", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "/mobile-ids/"+r.PathValue("id")+"/progress?next=x", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /mobile-ids/{id}/progress", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<div data-events="/mobile-ids/%s/progress/events?a=b&amp;next=x">`, r.PathValue("id"))
	})
	mux.HandleFunc("GET /mobile-ids/{id}/progress/events", func(w http.ResponseWriter, r *http.Request) {
		s.most.Store(max(s.most.Load(), s.open.Add(1)))
		defer s.open.Add(-1)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 5000\n\nevent: progress\ndata: 1\n\nevent: progress\ndata: 2\n\n")
		_ = http.NewResponseController(w).Flush()
		switch {
		case strings.HasPrefix(r.PathValue("id"), "active"):
			fmt.Fprint(w, "event: over\ndata:\n\n")
		case !s.hangUp.Load():
			<-r.Context().Done()
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("session"); err != nil || r.Header.Get(AddressHeader) != "10.0.0."+cookie.Value {
			http.Error(w, "not signed in, or from nowhere", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func visitors(n int) []*Visitor {
	all := make([]*Visitor, n)
	for i := range all {
		number := fmt.Sprint(i)
		all[i] = &Visitor{User: number, Cookie: &http.Cookie{Name: "session", Value: number}, Address: "10.0.0." + number, Active: "active-" + number, Waiting: "waiting-" + number}
	}
	return all
}

func TestRun(t *testing.T) {
	s := &site{}
	used := time.Duration(0)
	options := Options{
		URL: s.serve(t), Open: visitors(30), Asking: visitors(3), Locking: visitors(10), Pairs: 2, Round: 100 * time.Millisecond,
		PerSecond: 100, LocksPerSecond: 20, Out: io.Discard,
		Usage: func() (map[string]time.Duration, error) {
			used += time.Second
			return map[string]time.Duration{"serve": used}, nil
		},
	}
	r, err := Run(t.Context(), options)
	require.NoError(t, err)
	for _, c := range []Comparison{r.Quiet, *r.Busy} {
		require.Len(t, c.Ratios, 2)
		require.Positive(t, c.Ratio)
		require.Len(t, c.None.Pages, len(asked))
		require.Equal(t, 20, c.None.Asked)
		require.Equal(t, 20, c.Many.Asked)
		require.Zero(t, c.None.Events)
		require.Positive(t, c.None.All.P50)
	}
	require.Nil(t, r.Quiet.Many.Locks)
	require.Equal(t, 4, r.Busy.None.Locked)
	require.Equal(t, 4, r.Busy.Many.Locked)
	require.EqualValues(t, 10*time.Second, r.Quiet.None.CPU["serve"], "a second in each of two rounds of a tenth")
	require.GreaterOrEqual(t, s.most.Load(), int64(30), "all were open at once")
	require.Eventually(t, func() bool { return s.open.Load() == 0 }, time.Minute, time.Millisecond)

	var table strings.Builder
	require.NoError(t, r.Print(&table))
	require.Contains(t, table.String(), "form of a lock")

	s.hangUp.Store(true)
	_, err = Run(t.Context(), options)
	require.ErrorIs(t, err, errStreamsLost)
	s.broken.Store(true)
	_, err = Run(t.Context(), options)
	require.ErrorIs(t, err, errAnswer)
}

func TestGoal(t *testing.T) {
	for _, test := range []struct {
		name        string
		quiet, busy float64
		met         bool
	}{
		{"both", 1.9, 2.0, true},
		{"while locks wait it is missed", 2.1, 1, false},
		{"while others go through it is missed", 1, 2.1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Report{Goal: Goal, Quiet: Comparison{Ratio: test.quiet}, Busy: &Comparison{Ratio: test.busy}}
			require.Equal(t, test.met, r.Met())
		})
	}
}
