package devcatest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"mobileid"
	"mobileid/activities/ca/devca"
)

// Request says which requests to the API a fault is for.
type Request string

// The requests that faults tell apart.
const (
	AnyRequest     Request = ""
	RevokeRequest  Request = "revoke"
	StatusRequest  Request = "status"
	IssueRequest   Request = "issue"
	anotherRequest Request = "other"
)

// Fault is what happens to a request instead of, or after, its being served.
type Fault struct {
	On    Request
	Times int // how many requests it is for; 0: until Heal

	act func(f *faults, w http.ResponseWriter, r *http.Request, serve http.Handler)
}

// Only returns the fault for requests of one kind.
func (f Fault) Only(on Request) Fault { f.On = on; return f }

// Once returns the fault for one request.
func (f Fault) Once() Fault { f.Times = 1; return f }

// Refuse answers with the HTTP status code, and Retry-After unless that is zero,
// without serving.
func Refuse(code int, retryAfter time.Duration) Fault {
	return Fault{act: func(_ *faults, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "ordered", "message": "a fault that the test ordered"})
	}}
}

// RefuseReason answers as if the CA did not take the reason.
func RefuseReason() Fault {
	return Fault{act: func(_ *faults, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "badReason", "message": "a fault that the test ordered"})
	}}
}

// CutBefore cuts the connection without serving.
func CutBefore() Fault {
	return Fault{act: func(_ *faults, _ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}}
}

// CutAfter serves, and cuts the connection instead of answering.
func CutAfter() Fault {
	return Fault{act: func(_ *faults, _ http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}}
}

// RefuseAfter serves, and answers with the HTTP status code all the same.
func RefuseAfter(code int) Fault {
	return Fault{act: func(f *faults, w http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(httptest.NewRecorder(), r)
		Refuse(code, 0).act(f, w, r, serve)
	}}
}

// Garbage serves, and answers 200 with something that is not JSON.
func Garbage() Fault {
	return Fault{act: func(_ *faults, w http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(httptest.NewRecorder(), r)
		_, _ = io.WriteString(w, "<html>a proxy's page</html>")
	}}
}

// Flood serves, and answers 200 with more than any client should read.
func Flood() Fault {
	return Fault{act: func(_ *faults, w http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(httptest.NewRecorder(), r)
		_, _ = io.Copy(w, io.LimitReader(spaces{}, 2<<20))
	}}
}

// Lie answers a request to revoke with success, without serving it.
func Lie() Fault { return lie(func(serial string) string { return serial }).Only(RevokeRequest) }

// LieAboutAnother answers with the status of another certificate, without serving.
func LieAboutAnother() Fault { return lie(func(serial string) string { return serial + "f" }) }

func lie(serial func(string) string) Fault {
	return Fault{act: func(_ *faults, w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, asked := classify(r)
		now := time.Now().UTC().Truncate(time.Second)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(devca.CertificateStatus{
			Serial: serial(asked), Status: mobileid.StatusRevoked, Reason: mobileid.Unspecified, RevokedAt: now, At: now,
		})
	}}
}

// Hang does not serve and does not answer, until the client gives up.
func Hang() Fault {
	return Fault{act: func(f *faults, _ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client left
		f.hang(r)
	}}
}

// HangAfter serves and does not answer, until the client gives up.
func HangAfter() Fault {
	return Fault{act: func(f *faults, _ http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(httptest.NewRecorder(), r)
		f.hang(r)
	}}
}

// Break lets the fault happen to the requests that come from now on, instead of
// any ordered before.
func (c *CA) Break(fault Fault) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.ordered = &fault
}

// Heal ends all faults. What hangs goes on hanging.
func (c *CA) Heal() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.ordered = nil
}

// Revokes returns how many requests came to revoke the certificate with that
// serial number, those that met a fault included.
func (c *CA) Revokes(serial string) int {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	return c.faults.revokes[serial]
}

// faults stands between the listener and the API.
type faults struct {
	mu      sync.Mutex
	ordered *Fault
	revokes map[string]int
	ended   chan struct{} // closed at the end of the test
}

func (f *faults) wrap(serve http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.take(r); fault != nil {
			fault.act(f, w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	})
}

// take counts the request and returns the fault that is for it, if any.
func (f *faults) take(r *http.Request) *Fault {
	kind, serial := classify(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if kind == RevokeRequest {
		if f.revokes == nil {
			f.revokes = make(map[string]int)
		}
		f.revokes[serial]++
	}
	fault := f.ordered
	if fault == nil || fault.On != AnyRequest && fault.On != kind {
		return nil
	}
	if fault.Times > 0 {
		if fault.Times--; fault.Times == 0 {
			f.ordered = nil
		}
	}
	return fault
}

func (f *faults) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-f.ended:
	}
	panic(http.ErrAbortHandler)
}

func classify(r *http.Request) (Request, string) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/certificates/")
	if r.URL.Path == "/v1/certificates" {
		return IssueRequest, ""
	}
	if !ok {
		return anotherRequest, ""
	}
	serial, verb, _ := strings.Cut(rest, "/")
	switch {
	case verb == "revoke":
		return RevokeRequest, serial
	case verb == "" && r.Method == http.MethodGet:
		return StatusRequest, serial
	default:
		return anotherRequest, serial
	}
}

// spaces is an endless answer that could begin JSON.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
