package devca

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"mobileid/activities/ca"
)

// maxWords is the most of the CA's own words that an error keeps, in bytes.
const maxWords = 300

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

func readReply(op string, response *http.Response) (reply, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return reply{}, &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer was cut short", Err: err}
	}
	if len(body) > maxAnswer {
		return reply{}, &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer is too large"}
	}
	return reply{code: response.StatusCode, header: response.Header, body: body}, nil
}

func unreadable(op string, err error) *ca.Error {
	return &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer cannot be read: " + err.Error(), Err: err}
}

// failure translates an answer that is not the one hoped for.
func (r reply) failure(op string) *ca.Error {
	var body apiError
	_ = json.Unmarshal(r.body, &body) // what is no error body has no words
	e := &ca.Error{Kind: r.kind(body.Code), Op: op, Words: "HTTP " + strconv.Itoa(r.code)}
	if words := clean(body.Message); words != "" {
		e.Words += ": " + words
	}
	if e.Kind == ca.Unavailable {
		e.RetryAfter = retryAfter(r.header.Get("Retry-After"), time.Now())
	}
	return e
}

func (r reply) kind(code string) ca.Kind {
	switch {
	case r.code == http.StatusTooManyRequests, r.code == http.StatusServiceUnavailable:
		return ca.Unavailable
	case r.code == http.StatusUnauthorized, r.code == http.StatusForbidden:
		return ca.Denied
	case r.code == http.StatusNotFound:
		return ca.NotFound
	case r.code == http.StatusBadRequest && code == codeBadReason:
		return ca.BadReason
	case r.code >= 500, r.code < 300, r.code == http.StatusRequestTimeout:
		return ca.Ambiguous
	default:
		return ca.Unsupported
	}
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// clean makes the CA's words fit for a log line.
func clean(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, ""))
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "…"
	}
	return strings.TrimSpace(words)
}
