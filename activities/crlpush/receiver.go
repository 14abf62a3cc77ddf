package crlpush

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/time/rate"

	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
)

// Path is where CRLs come to, as in the original.
const Path = "/ws/certificate/crl"

const (
	// DefaultMaxBytes is the largest CRL that is taken, some 400,000 entries.
	DefaultMaxBytes = 16 << 20
	// takeTimeout bounds what one CRL may take, from its first byte.
	takeTimeout = 5 * time.Minute
	// pushes and their burst are far more than a CA sends.
	pushRate, pushBurst = 2, 10
)

// Options say who may bring CRLs, and how.
type Options struct {
	Roots       *x509.CertPool // of client certificates; nil: none lets anybody in
	ClientNames []string       // common or DNS names of those that do; empty: all of the roots'
	User        string         // of HTTP Basic; empty: no password lets anybody in
	Password    string
	Tenant      string // the tenantId that must be asked for; empty: it is not looked at
	MaxBytes    int64  // of a CRL; default DefaultMaxBytes
	Logger      *slog.Logger
	Now         func() time.Time // default time.Now
}

// Receiver is the HTTP handler for CRLs:
//
//	POST or PUT /ws/certificate/crl?tenantId=...
//
// 200 with a [Taken] when all that the CRL says stands in Identity Manager; else a
// [Problem]: 400, 401, 404, 405, 409 for one that is older than the last or lacks its
// base, 413, 422 for one that is not believed, 429 and 503. It must be served with TLS
// that asks for client certificates and does not check them: see [Receiver.Roots].
type Receiver struct {
	store   *identitymanager.Store
	cas     *ca.Authorities
	options Options
	senders senders
	pushes  *rate.Limiter
	others  *rate.Limiter // with wrong credentials, so that they do not keep senders out
	turn    chan struct{} // one CRL is in memory at a time
	log     *slog.Logger
	mux     *http.ServeMux
}

// New returns a receiver. It reports all faults of the options at once.
func New(store *identitymanager.Store, cas *ca.Authorities, options Options) (*Receiver, error) {
	var faults []error
	if options.Roots == nil && options.User == "" {
		faults = append(faults, errors.New("nobody could bring one: there is neither a CA of client certificates nor a user"))
	}
	if options.User != "" && options.Password == "" {
		faults = append(faults, errors.New("password: it is empty"))
	}
	if options.MaxBytes < 0 {
		faults = append(faults, errors.New("max bytes: it is negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("CRL push: %w", err)
	}
	if options.MaxBytes == 0 {
		options.MaxBytes = DefaultMaxBytes
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{
		store: store, cas: cas, options: options, log: options.Logger,
		senders: senders{
			roots: options.Roots, names: options.ClientNames, now: options.Now,
			basic: options.User != "", user: sha256.Sum256([]byte(options.User)), pass: sha256.Sum256([]byte(options.Password)),
		},
		pushes: rate.NewLimiter(pushRate, pushBurst),
		others: rate.NewLimiter(pushRate, pushBurst),
		turn:   make(chan struct{}, 1),
		mux:    http.NewServeMux(),
	}
	r.mux.HandleFunc("POST "+Path, r.serve)
	r.mux.HandleFunc("PUT "+Path, r.serve)
	return r, nil
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mux.ServeHTTP(w, request)
}

func (r *Receiver) serve(w http.ResponseWriter, request *http.Request) {
	if !r.senders.authentic(request) {
		if !r.others.Allow() {
			newProblem(TooMany, "").write(w)
			return
		}
		if r.options.User != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="crl"`)
		}
		newProblem(NotAuthenticated, "").write(w)
		return
	}
	if !r.pushes.Allow() {
		newProblem(TooMany, "").write(w)
		return
	}
	if r.options.Tenant != "" && request.URL.Query().Get("tenantId") != r.options.Tenant {
		newProblem(UnknownTenant, "").write(w)
		return
	}
	// What is begun is finished although the sender goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(request.Context()), takeTimeout)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		newProblem(Unavailable, "").write(w)
		return
	case <-request.Context().Done():
		return
	}
	document, err := io.ReadAll(http.MaxBytesReader(w, request.Body, r.options.MaxBytes))
	if err != nil {
		word := Unreadable
		tooLarge := new(http.MaxBytesError)
		switch {
		case errors.As(err, &tooLarge):
			word = TooLarge
		case errors.Is(err, os.ErrDeadlineExceeded): // it had to wait for its turn, say
			word = Unavailable
		}
		newProblem(word, "").write(w)
		return
	}
	taken, err := r.Take(ctx, document)
	if err != nil {
		p := problemOf(err)
		if p.Status == http.StatusServiceUnavailable {
			r.log.Error("CRL is not taken over; the sender is asked to come again", "error", err)
		} else {
			r.log.Warn("CRL is refused", "problem", p.Type, "error", err)
		}
		p.write(w)
		return
	}
	answer(w, "application/json", http.StatusOK, taken)
}
