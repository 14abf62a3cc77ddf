// Package selfservice is the Self-Service backend behind 'starter serve': the pages for
// the owners of mobile IDs.
//
//	session/  who is signed in; passwords
//	openid/   sign-in by OpenID Connect
//	seal/     what forms carry, sealed
//	desk/     what a user can do and see, whatever it is shown with
//	pages/    desk in a browser
//	api/      desk for programs
//	streams/  how many event streams may be open, and when they look
//	observe/  what is told to whoever measures it
//
// The limits, the headers and the log of this package hold for the pages and the API
// alike.
package selfservice

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.uber.org/zap"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/starter/selfservice/api"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/observe"
	"mobileid/starter/selfservice/openid"
	"mobileid/starter/selfservice/pages"
	"mobileid/starter/selfservice/seal"
	"mobileid/starter/selfservice/session"
	"mobileid/starter/selfservice/streams"
	"mobileid/workflows"
)

const (
	probeTimeout = 2 * time.Second
	// probeEvery is how long what a probe has found counts: anybody may ask for it, as
	// often as they like.
	probeEvery = time.Second

	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = time.Minute // of all but event streams, which have their own
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	maxBody       = 16 << 10

	// forgetEvery is how often sessions that have expired are deleted.
	forgetEvery = 10 * time.Minute
)

// Server is Self-Service.
type Server struct {
	config   config.Config
	store    *identitymanager.Store
	temporal client.Client
	log      *zap.Logger
	handler  http.Handler
	observer observe.Observer
	streams  *streams.Limit
	stopping chan struct{}
	reached  reached
}

// Options are what the connection to Temporal has come with.
type Options struct {
	Failures converter.FailureConverter      // nil: the SDK's own
	Trace    func(http.Handler) http.Handler // makes each request a span; nil: none
	Observer observe.Observer                // is told what happens; nil: nobody
}

// New makes the server from the configuration of the programs.
func New(c config.Config, store *identitymanager.Store, temporal client.Client, log *zap.Logger, o Options) (*Server, error) {
	key, err := config.ReadKey("serve.form_key_file", c.Serve.FormKeyFile)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, store: store, temporal: temporal, log: log, observer: o.Observer, stopping: make(chan struct{}), reached: reached{now: time.Now}}
	if s.observer == nil {
		s.observer = observe.Nobody{}
	}
	failures := starter.WithFailures(o.Failures)
	d := &desk.Desk{
		Store: store, Locks: starter.New(temporal, c.TaskQueue, failures), GrantFor: c.Get.GrantFor,
		CodeByMail: c.Get.QR == config.QRByEmail,
	}
	if c.Get.Enabled {
		hashKey, err := config.GetHashKey(c)
		if err != nil {
			return nil, err
		}
		d.Gets = starter.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(hashKey), failures)
	}
	s.streams = streams.New(c.Serve.Streams, func() { s.observer.Refused(observe.LimitStreams) })
	watch := streams.NewWatch(store)
	options := pages.Options{
		Desk: d, Key: key, FormTime: c.Serve.FormTimeout, AskReason: c.Serve.AskReason, Contact: c.Mail.Contact,
		Streams: s.streams, Watch: watch, Address: s.address, Stopping: s.stopping, Log: log,
		Sessions: session.New(session.Options{Store: store, Secure: c.Serve.Secure(), Idle: c.Serve.IdleTimeout, Lifetime: c.Serve.SessionTimeout}),
	}
	if c.Serve.SignIn == config.SignInOpenID {
		options.OpenID, err = s.openID(key)
	} else {
		options.Passwords, err = session.NewPasswords(store)
	}
	if err != nil {
		return nil, err
	}
	if options.Passwords != nil {
		options.Passwords.Tried = s.tried(observe.ByPassword)
	}
	shown, err := pages.New(options)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.ready)
	shown.Register(mux)
	if c.Serve.API.Audience == "" {
		mux.HandleFunc(api.Root, api.NotFound)
	} else {
		api.New(api.Options{
			Desk: d, Tokens: s.tokens(), Scope: c.Serve.API.Scope, GetScope: c.Serve.API.GetScope, OperatorRole: c.Serve.API.OperatorRole,
			Streams: s.streams, Watch: watch, Stopping: s.stopping, Log: log,
		}).Register(mux)
	}
	s.handler = s.guard(mux)
	if o.Trace != nil {
		s.handler = o.Trace(s.handler)
	}
	return s, nil
}

func (s *Server) openID(key []byte) (*openid.SignIn, error) {
	o := s.config.Serve.OpenID
	secret, err := config.ReadSecretLine("serve.openid.client_secret_file", o.ClientSecretFile)
	if err != nil {
		return nil, err
	}
	sealer, err := seal.New(key, "openid", nil)
	if err != nil {
		return nil, err
	}
	return openid.New(openid.Options{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, Scopes: o.Scopes, UserClaim: o.UserClaim, MobileIDACR: o.MobileIDACR,
		PublicURL: s.config.Serve.URL(), Secure: s.config.Serve.Secure(), Tried: s.tried(observe.ByOpenID),
	}, sealer), nil
}

// tried tells how tries to sign in have ended.
func (s *Server) tried(way observe.Way) func(error) {
	return func(err error) {
		outcome := observe.Failed
		switch {
		case err == nil:
			outcome = observe.SignedIn
		case errors.Is(err, session.ErrTooMany):
			outcome = observe.TooMany
			s.observer.Refused(observe.LimitSignIn)
		case errors.Is(err, session.ErrWrong), errors.Is(err, openid.ErrRefused):
			outcome = observe.Refused
		}
		s.observer.SignIn(way, outcome)
	}
}

// OpenStreams is how many event streams are open.
func (s *Server) OpenStreams() int { return s.streams.Count() }

// tokens reads who calls the API. Its tokens are for the API alone: another audience
// than the sign-in's.
func (s *Server) tokens() *openid.Tokens {
	c := s.config.Serve
	return openid.NewTokens(openid.TokenOptions{
		Issuer: c.OpenID.Issuer, Audience: c.API.Audience, Scope: c.API.Scope, UserClaim: c.OpenID.UserClaim, RoleClaim: c.API.OperatorClaim,
	})
}

// Handler is all of it.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve serves until ctx ends, and then lets the requests under way end. Event streams
// are ended at once: browsers open them again, at another instance.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: log.New(nameless{s.log}, "", 0),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	ended := make(chan error, 1)
	go func() {
		if c := s.config.Serve; c.CertificateFile != "" {
			ended <- server.ServeTLS(listener, c.CertificateFile, c.KeyFile)
			return
		}
		ended <- server.Serve(listener)
	}()
	forgetting := time.NewTicker(forgetEvery)
	defer forgetting.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-forgetting.C:
			if err := s.store.ForgetOldSessions(ctx, session.TryWindow); err != nil {
				s.log.Warn("Old sessions are not deleted", zap.Error(err))
			}
		case <-ctx.Done():
			close(s.stopping)
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Serve.StopTimeout)
			defer cancel()
			err := server.Shutdown(stopping)
			if errors.Is(err, context.DeadlineExceeded) {
				err = server.Close()
			}
			if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
				err = errors.Join(err, served)
			}
			return err
		}
	}
}

// reached is what was found when Temporal and Identity Manager were asked last.
type reached struct {
	now      func() time.Time
	mu       sync.Mutex
	at       time.Time
	temporal bool
	store    bool
}

// reach asks both, once for all who want to know it within probeEvery. Whoever asks first
// may go away meanwhile.
func (s *Server) reach(ctx context.Context) (temporal, store bool) {
	r := &s.reached
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || r.now().Sub(r.at) >= probeEvery {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		_, err := s.temporal.CheckHealth(ctx, &client.CheckHealthRequest{})
		r.temporal, r.store = err == nil, s.store.Ping(ctx) == nil
		r.at = r.now()
	}
	return r.temporal, r.store
}

// ready reports whether an instance can be of use. It can while either Temporal or
// Identity Manager is away: Next is taken without the latter, and what has happened is
// told without the former. No other instance would have what this one lacks.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	state := map[string]string{"status": "ready", "temporal": "ok", "identityManager": "ok"}
	temporal, store := s.reach(r.Context())
	if !temporal {
		state["temporal"] = "does not answer"
	}
	if !store {
		state["identityManager"] = "does not answer"
	}
	stopping := false
	select {
	case <-s.stopping:
		stopping = true
		state["serve"] = "is stopping"
	default:
	}
	code := http.StatusOK
	if stopping || !temporal && !store {
		code, state["status"] = http.StatusServiceUnavailable, "not ready"
	}
	answer(w, code, state)
}

func answer(w http.ResponseWriter, code int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // nobody is left to tell
}

// address is the network that a request comes from.
func (s *Server) address(r *http.Request) string {
	if header := s.config.Serve.AddressHeader; header != "" {
		if values := r.Header.Values(header); len(values) == 1 {
			return session.Network(strings.TrimSpace(values[0]))
		}
		return "unknown"
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return session.Network(host)
}
