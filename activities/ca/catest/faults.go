package catest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"

	"mobileid/activities/ca/httpcall"
)

// Faults stands between a driver and its CA, on the driver's side, so that the CA
// can be the real one. It counts the requests to revoke, and does to them what a
// test orders.
type Faults struct {
	next     http.RoundTripper
	isRevoke func(*http.Request) bool

	mu      sync.Mutex
	fault   fault
	times   int // how many more requests the fault is for; negative: all
	revokes int
	last    recorded // the last answer to a request to revoke
}

type fault func(f *Faults, r *http.Request) (*http.Response, error)

type recorded struct {
	code   int
	header http.Header
	body   []byte
}

// NewFaults puts itself before the client's transport. isRevoke tells requests to
// revoke from others, and must leave the body as it is.
func NewFaults(client *httpcall.Client, isRevoke func(*http.Request) bool) *Faults {
	f := &Faults{next: client.Transport, isRevoke: isRevoke}
	client.Transport = f
	return f
}

// Revokes returns how many requests to revoke the driver has made, those that met
// a fault included.
func (f *Faults) Revokes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revokes
}

// order lets the fault happen to the next requests to revoke: to so many of them,
// or to all if times is negative.
func (f *Faults) order(times int, fault fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.times = fault, times
}

func (f *Faults) heal() { f.order(0, nil) }

// RoundTrip implements http.RoundTripper.
func (f *Faults) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.isRevoke(r) {
		return f.next.RoundTrip(r)
	}
	f.mu.Lock()
	f.revokes++
	act := f.fault
	if f.times == 0 {
		act = nil
	} else if f.times > 0 {
		f.times--
	}
	f.mu.Unlock()
	if act != nil {
		return act(f, r)
	}
	return f.pass(r)
}

// pass lets the request through, and notes the answer.
func (f *Faults) pass(r *http.Request) (*http.Response, error) {
	response, err := f.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.last = recorded{response.StatusCode, response.Header.Clone(), body}
	f.mu.Unlock()
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func swallow(r *http.Request) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
}

func (a recorded) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.code), StatusCode: a.code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}

// CloseIdleConnections lets the client close those of the transport behind.
func (f *Faults) CloseIdleConnections() {
	if transport, ok := f.next.(interface{ CloseIdleConnections() }); ok {
		transport.CloseIdleConnections()
	}
}

// Handler is a transport that answers by itself, without a connection: for tests of
// what answers mean, and fuzz tests.
type Handler http.HandlerFunc

// RoundTrip implements http.RoundTripper.
func (h Handler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	swallow(r)
	return w.Result(), nil
}

// refused: nobody listens.
func refused(_ *Faults, r *http.Request) (*http.Response, error) {
	swallow(r)
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// cutAfter: the CA does it, and its answer is lost.
func cutAfter(f *Faults, r *http.Request) (*http.Response, error) {
	response, err := f.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return nil, io.ErrUnexpectedEOF
}

// answerInstead answers, and the CA never learns of the request.
func answerInstead(code int, body string) fault {
	return func(_ *Faults, r *http.Request) (*http.Response, error) {
		swallow(r)
		return recorded{code, http.Header{}, []byte(body)}.response(r), nil
	}
}

// answerAfter: the CA does it, and something else is answered.
func answerAfter(code int, body string) fault {
	return func(f *Faults, r *http.Request) (*http.Response, error) {
		response, err := f.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return recorded{code, http.Header{}, []byte(body)}.response(r), nil
	}
}

// replay answers what the CA answered last, to another request, with texts
// exchanged. The CA never learns of it.
func replay(exchange ...[2]string) fault {
	return func(f *Faults, r *http.Request) (*http.Response, error) {
		swallow(r)
		f.mu.Lock()
		last := f.last
		f.mu.Unlock()
		for _, pair := range exchange {
			last.body = bytes.ReplaceAll(last.body, []byte(pair[0]), []byte(pair[1]))
		}
		return last.response(r), nil
	}
}
