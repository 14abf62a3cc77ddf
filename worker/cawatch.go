package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"mobileid/activities/ca"
)

// caWatchEvery is how often a worker looks at its CAs. It is for what changes in
// hours, such as the end of a certificate; a CA that is down shows in the locks.
const caWatchEvery = 15 * time.Minute

// caWatch looks at the CAs when the worker starts, and now and then.
type caWatch struct {
	authorities *ca.Authorities

	mu   sync.Mutex
	last []ca.Health
}

// watch runs until ctx ends. What is not well is a warning, and not fatal: see
// [ca.Health].
func (w *caWatch) watch(ctx context.Context, log *zap.Logger) {
	look := time.NewTicker(caWatchEvery)
	defer look.Stop()
	for {
		all := w.authorities.Health(ctx)
		if ctx.Err() != nil {
			return
		}
		for _, h := range all {
			for _, warning := range h.Warnings {
				log.Warn("CA needs attention", zap.String("ca", h.CA), zap.String("warning", warning))
			}
		}
		w.mu.Lock()
		w.last = all
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// all is how each CA was when last looked at, none at first.
func (w *caWatch) all() []ca.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.last)
}

// state is how each CA was when last looked at, in words that hold no address.
func (w *caWatch) state() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := map[string]string{}
	for _, h := range w.last {
		var unwell []string
		for _, warning := range h.Warnings {
			what, _, _ := strings.Cut(warning, ":")
			unwell = append(unwell, what)
		}
		state[h.CA] = "ok"
		if len(unwell) > 0 {
			state[h.CA] = "needs attention: " + strings.Join(unwell, ", ")
		}
	}
	return state
}
