package selfservice

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"mobileid/starter/selfservice/api"
	"mobileid/starter/selfservice/observe"
)

const (
	// burst is how many requests may come at once from one address: a page and what
	// belongs to it, of several people behind it.
	burst = 200
	// maxAddresses is how many addresses are told apart.
	maxAddresses = 10_000
)

// securityPolicy lets a page load nothing but our own style, script and pictures, send
// forms to us alone, and stand in nobody's frame.
const securityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard is what holds for every request: the log, the limits, the headers, and that
// other sites' pages change nothing here.
func (s *Server) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusForbidden, "a page of another site may not do this")
	}))
	next = crossOrigin.Handler(next)
	next = s.headers(next)
	next = s.limited(next)
	return s.logged(next)
}

func (s *Server) headers(next http.Handler) http.Handler {
	secure := s.config.Serve.Secure()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", securityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		// Not no-referrer: browsers would then send Origin: null with our own forms.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		// Everything is about somebody, except what says otherwise itself.
		h.Set("Cache-Control", "no-store")
		if secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// limited limits the body, and how often one address asks.
func (s *Server) limited(next http.Handler) http.Handler {
	limits := &addressLimits{rate: rate.Limit(s.config.Serve.Rate), seen: map[string]*addressLimit{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"; !probe && !limits.allow(s.address(r), time.Now()) {
			s.observer.Refused(observe.LimitRate)
			w.Header().Set("Retry-After", "10")
			refuse(w, r, http.StatusTooManyRequests, "too many requests")
			return
		}
		r.Body = limitedBody{http.MaxBytesReader(w, r.Body, maxBody), s.observer}
		next.ServeHTTP(w, r)
	})
}

// limitedBody tells when more than the limit was to be read.
type limitedBody struct {
	io.ReadCloser
	observer observe.Observer
}

// Read reads up to the limit.
func (b limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		b.observer.Refused(observe.LimitBody)
	}
	return n, err
}

// addressLimits are the limits of the addresses that were seen last.
type addressLimits struct {
	rate rate.Limit

	mu   sync.Mutex
	seen map[string]*addressLimit
}

type addressLimit struct {
	*rate.Limiter
	last time.Time
}

func (l *addressLimits) allow(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.seen[address]
	if limit == nil {
		if len(l.seen) >= maxAddresses {
			l.forget(now)
		}
		limit = &addressLimit{Limiter: rate.NewLimiter(l.rate, burst)}
		l.seen[address] = limit
	}
	limit.last = now
	return limit.AllowN(now, 1)
}

// forget makes room: first of those whose limit is full again, which lose nothing, and
// if there are none, of all.
func (l *addressLimits) forget(now time.Time) {
	for address, limit := range l.seen {
		if limit.TokensAt(now) >= burst {
			delete(l.seen, address)
		}
	}
	if len(l.seen) >= maxAddresses {
		clear(l.seen)
	}
}

// logged writes a line for each request: the route by its pattern, and never the
// address of the page, the user, or where it came from.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		counted := &countedWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			if broken := recover(); broken != nil {
				if broken == http.ErrAbortHandler { //nolint:errorlint,err113 // net/http compares it so, too
					panic(broken)
				}
				s.log.Error("Request panicked", zap.String("route", route(r)), zap.Stack("stack"))
				if !counted.wrote {
					refuse(counted, r, http.StatusInternalServerError, "this page is broken")
				}
			}
			s.observer.Answered(route(r), counted.code, time.Since(start))
			s.log.Info("Request", zap.String("method", r.Method), zap.String("route", route(r)), zap.Int("status", counted.code),
				zap.Int64("bytes", counted.bytes), zap.Duration("took", time.Since(start)))
		}()
		next.ServeHTTP(counted, r)
	})
}

// nameless writes to the log what net/http says of connections, such as that a handshake
// has failed, without the addresses in it.
type nameless struct{ log *zap.Logger }

// networkAddress is an address of IPv4, or one of IPv6 with its port, as package net
// writes them.
var networkAddress = regexp.MustCompile(`\d{1,3}(\.\d{1,3}){3}(:\d+)?|\[[0-9A-Fa-f:.]+(%[^\]]*)?\](:\d+)?`)

// Write writes one line.
func (n nameless) Write(line []byte) (int, error) {
	n.log.Info(networkAddress.ReplaceAllString(strings.TrimSpace(string(line)), "an address"))
	return len(line), nil
}

// refuse answers what no handler is asked for: programs in their way, people in words.
func refuse(w http.ResponseWriter, r *http.Request, code int, words string) {
	if strings.HasPrefix(r.URL.Path, api.Root) {
		api.Refuse(w, code, words)
		return
	}
	http.Error(w, words, code)
}

// route is the pattern that a request matched.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return r.Pattern
}

// countedWriter notes what was answered.
type countedWriter struct {
	http.ResponseWriter
	code  int
	bytes int64
	wrote bool
}

// WriteHeader notes the status.
func (w *countedWriter) WriteHeader(code int) {
	if !w.wrote {
		w.code, w.wrote = code, true
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write notes how much was written.
func (w *countedWriter) Write(b []byte) (int, error) {
	w.wrote = true
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
