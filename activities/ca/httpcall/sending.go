package httpcall

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"mobileid/activities/ca"
)

// sending watches whether a request can have reached the CA.
type sending struct {
	connected atomic.Bool
}

// watch notes that a connection stands: dialled, and through the TLS handshake.
// Whether a byte was written after that cannot be told for sure, because the
// transport writes in a goroutine of its own that may run on after a time-out. So
// everything after counts as written, and nothing before does.
func (s *sending) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	})
}

// failure translates an error of the transport.
func (s *sending) failure(op string, err error) *ca.Error {
	switch {
	case refusedByTLS(err):
		// With TLS 1.3 the client learns of it after it has written its request,
		// which the server then has never read.
		return &ca.Error{Kind: ca.Denied, Op: op, Words: "the CA does not accept the client certificate", Err: err}
	case !s.connected.Load(), neverDialled(err):
		return &ca.Error{Kind: ca.Unavailable, Op: op, Err: err}
	default:
		return &ca.Error{Kind: ca.Ambiguous, Op: op, Err: err}
	}
}

// neverDialled reports that the last connection was never made. The transport
// gets there with a kept connection too, which it found closed, but only if it
// knows that nothing was written to that one.
func neverDialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// refusedByTLS reports that the server refused the client's certificate. The
// alerts are those of RFC 8446 section 6.2; crypto/tls does not export their type.
func refusedByTLS(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	switch strings.TrimPrefix(op.Err.Error(), "tls: ") {
	case "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate",
		"unknown certificate", "unknown certificate authority", "access denied", "certificate required":
		return true
	default:
		return false
	}
}
