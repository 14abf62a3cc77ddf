package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"
)

const (
	probeTimeout = 2 * time.Second
	// readTimeout is for a request with its body.
	readTimeout = 30 * time.Second
)

// health answers /metrics for Prometheus, /healthz, that the process lives, and
// /readyz, that it can work: it is polling, Temporal answers, and Identity Manager's store answers.
// Only the second looks at others: a worker must not be restarted because
// Temporal is away.
type health struct {
	temporal client.Client
	store    interface{ Ping(context.Context) error } // nil if CAs alone are served
	cas      *caWatch
	metrics  http.Handler
	stopping <-chan struct{}
}

func (h health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		state, ready := h.probe(r.Context())
		code := http.StatusOK
		if !ready {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, state)
	})
	mux.Handle("GET /metrics", h.metrics)
	return mux
}

// probe says what is ready, in words that hold no address and no secret.
func (h health) probe(ctx context.Context) (map[string]string, bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	state := map[string]string{"status": "ready", "temporal": "ok"}
	ready := true
	fail := func(what, why string) {
		ready = false
		state["status"] = "not ready"
		state[what] = why
	}
	select {
	case <-h.stopping:
		fail("worker", "is stopping")
	default:
	}
	if _, err := h.temporal.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		fail("temporal", "does not answer")
	}
	if h.store != nil {
		state["store"] = "ok"
		if err := h.store.Ping(ctx); err != nil {
			fail("store", "does not answer")
		}
	}
	// A CA that is not well makes nobody unready: its locks wait, and others go on.
	for name, words := range h.cas.state() {
		state["ca "+name] = words
	}
	return state, ready
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the prober has gone away: nobody to tell
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: probeTimeout, ReadTimeout: readTimeout, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		_ = server.Shutdown(closing)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
