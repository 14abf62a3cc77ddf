package chaos

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Ways in which a CA answers wrongly.
const (
	answer500      = "500"
	answer429      = "429"
	answerGarbage  = "garbage"      // 200 and a page, after it was done
	answerSlow     = "slow"         // longer than anybody waits, after it was done
	answerCut      = "after-commit" // done, and the connection cut or 500
	answerLie      = "lie"          // success, and nothing done
	answerTwice    = "duplicate"    // the request reaches the CA twice
	answerReorder  = "reorder"      // requests reach the CA in another order
	maxMessage     = 1 << 20
	slowestAnswer  = 15 * time.Second
	longestReorder = 1500 * time.Millisecond
)

// front stands before one service of a CA. It hands requests on, keeps a journal of
// revocations and issued certificates, and answers wrongly where it is told to.
type front struct {
	ca      string
	proxy   *httputil.ReverseProxy
	journal *journal // nil: nothing that is kept goes past here
	server  *http.Server
	address string

	mu     sync.Mutex
	wrong  string // how it answers; empty: as the CA does
	share  float64
	healed chan struct{} // closed when what is slow need not wait any more
	met    int           // requests that met a fault
}

// newFront serves on loopback, with TLS if serverTLS is given, and hands on to the
// target with the transport.
func newFront(ctx context.Context, ca, target string, serverTLS *tls.Config, transport http.RoundTripper, j *journal) (*front, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &front{ca: ca, journal: j, address: listener.Addr().String(), healed: make(chan struct{})}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host}) },
		Transport: transport,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // a CA that is away gives no answer at all
		},
	}
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: time.Minute, ErrorLog: quiet()}
	if serverTLS != nil {
		listener = tls.NewListener(listener, serverTLS)
	}
	go func() { _ = f.server.Serve(listener) }() // it ends with close
	return f, nil
}

func (f *front) close() { f.heal(); _ = f.server.Close() }

// misbehave lets a share of the requests from now on meet a wrong answer.
func (f *front) misbehave(how string, share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong, f.share = how, share
}

// heal ends that. What is slow is answered now.
func (f *front) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = ""
	close(f.healed)
	f.healed = make(chan struct{})
}

func (f *front) take() (how string, healed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wrong == "" || rand.Float64() >= f.share { //nolint:gosec // spreads, protects nothing
		return "", nil
	}
	f.met++
	return f.wrong, f.healed
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	how, healed := f.take()
	switch how {
	case "":
		f.pass(w, r, body)
	case answer500:
		http.Error(w, `{"error":"ordered","message":"a fault that was ordered"}`, http.StatusInternalServerError)
	case answer429:
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"error":"ordered","message":"a fault that was ordered"}`, http.StatusTooManyRequests)
	case answerGarbage:
		f.pass(newSink(), r, body)
		_, _ = io.WriteString(w, "<html>a proxy's page</html>")
	case answerSlow:
		kept := newSink()
		f.pass(kept, r, body)
		f.wait(r, healed, slowestAnswer)
		kept.copyTo(w)
	case answerCut:
		f.pass(newSink(), r, body)
		if rand.IntN(2) == 0 { //nolint:gosec // spreads, protects nothing
			panic(http.ErrAbortHandler)
		}
		http.Error(w, `{"error":"ordered","message":"a fault that was ordered"}`, http.StatusInternalServerError)
	case answerLie:
		f.lie(w, r, body)
	case answerTwice:
		f.pass(newSink(), r, body)
		f.pass(w, r, body)
	case answerReorder:
		f.wait(r, healed, rand.N(longestReorder)) //nolint:gosec // spreads, protects nothing
		f.pass(w, r, body)
	}
}

func (*front) wait(r *http.Request, healed <-chan struct{}, most time.Duration) {
	select {
	case <-time.After(most):
	case <-healed:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// pass hands a request on, and keeps what it was. It does not end with the client:
// a CA goes on with what it was asked, whoever waits for the answer.
func (f *front) pass(w http.ResponseWriter, r *http.Request, body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Minute)
	defer cancel()
	sent := r.Clone(ctx)
	sent.Body, sent.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	serial, revokes := revocationOf(r, body)
	if !revokes || f.journal == nil {
		f.proxy.ServeHTTP(w, sent)
		return
	}
	f.journal.write(Entry{Moment: before, Call: "revoke", CA: f.ca, Serial: serial})
	watched := &statusWatch{ResponseWriter: w}
	f.proxy.ServeHTTP(watched, sent)
	f.journal.write(Entry{Moment: after, Call: "revoke", CA: f.ca, Serial: serial, Answer: watched.status})
}

// lie answers a request to revoke with success and does nothing; all else is handed on.
func (f *front) lie(w http.ResponseWriter, r *http.Request, body []byte) {
	serial, revokes := revocationOf(r, body)
	if !revokes {
		f.pass(w, r, body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	now := time.Now().UTC().Format(time.RFC3339)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"status": "revoked", "serial": serial, "reason": "unspecified", "revokedAt": now, "at": now,
	})
}

// devcaRevoke and stepRevoke are where the two CAs are asked to revoke.
var devcaRevoke = regexp.MustCompile(`^/v1/certificates/([0-9a-f]+)/revoke$`)

const stepRevoke = "/revoke"

// revocationOf is the serial number, in lower-case hex, that a request is to revoke.
func revocationOf(r *http.Request, body []byte) (string, bool) {
	if r.Method != http.MethodPost {
		return "", false
	}
	if found := devcaRevoke.FindStringSubmatch(r.URL.Path); found != nil {
		return found[1], true
	}
	if !strings.HasSuffix(r.URL.Path, stepRevoke) {
		return "", false
	}
	var asked struct {
		Serial string `json:"serial"`
	}
	if json.Unmarshal(body, &asked) != nil {
		return "", false
	}
	number, ok := new(big.Int).SetString(asked.Serial, 0)
	if !ok {
		return "", false
	}
	return number.Text(16), true
}

// statusWatch remembers the status of an answer.
type statusWatch struct {
	http.ResponseWriter
	status int
}

// WriteHeader takes it down.
func (w *statusWatch) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// sink takes an answer that nobody, or somebody later, gets.
type sink struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newSink() *sink { return &sink{header: http.Header{}, status: http.StatusOK} }

// Header is that of the answer.
func (s *sink) Header() http.Header { return s.header }

// WriteHeader keeps the status.
func (s *sink) WriteHeader(status int) { s.status = status }

// Write keeps a piece of the body.
func (s *sink) Write(p []byte) (int, error) {
	if s.body.Len()+len(p) > maxMessage {
		return 0, errors.New("the answer is too long")
	}
	return s.body.Write(p)
}

func (s *sink) copyTo(w http.ResponseWriter) {
	for name, values := range s.header {
		w.Header()[name] = values
	}
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body.Bytes())
}
