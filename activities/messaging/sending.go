package messaging

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// sending watches whether a request can have reached messaging.
type sending struct {
	connected atomic.Bool
}

// watch notes that a connection stands. The transport writes in a goroutine of its
// own that may run on after a time-out, so everything after counts as sent, and
// nothing before does.
func (s *sending) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	})
}

// failure translates an error of the transport.
func (s *sending) failure(op string, err error) *Error {
	var dial *net.OpError
	// The transport dials after a kept connection, too, which it found closed, but
	// only if it knows that nothing was written to that one.
	neverDialled := errors.As(err, &dial) && dial.Op == "dial"
	if !s.connected.Load() || neverDialled {
		return &Error{Kind: Unavailable, Op: op, Err: err}
	}
	return &Error{Kind: Ambiguous, Op: op, Err: err}
}
