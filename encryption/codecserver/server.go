// Package codecserver decodes payloads for people: it speaks the remote codec
// protocol by which the Web UI, the temporal program and tctl have payloads decoded
// (Temporal documentation, "Codec Server"), POST /decode and /{namespace}/decode with
// payloads as JSON.
//
// It holds the keys to all histories: whoever may ask it may read them. Callers show
// a bearer token; the Web UI, which can send the token of its own sign-in alone,
// reaches it through a proxy that has seen who asks and adds the token, or on a
// loopback address without one.
package codecserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
	"go.temporal.io/sdk/converter"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"mobileid/config"
)

const (
	// maxBody is the longest request, in bytes: some payloads of the server's own
	// limit of 2 MiB, in base64.
	maxBody = 8 << 20

	// maxAtOnce bounds the memory that bodies take, with maxBody.
	maxAtOnce = 8

	// minToken is the shortest token, in bytes.
	minToken = 16

	maxHeader     = 16 << 10 // bytes
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	stopTimeout   = 5 * time.Second
)

// Server is a codec server. Make one with [New].
type Server struct {
	config  config.CodecServer
	log     *zap.Logger
	codec   http.Handler
	limit   *rate.Limiter
	running chan struct{}
	tls     *tls.Config // nil: plain http
}

// New makes a server that decodes by codec. The configuration is a checked one.
func New(c config.CodecServer, codec converter.PayloadCodec, log *zap.Logger) (*Server, error) {
	protocol, err := converter.NewPayloadHTTPHandler(converter.PayloadHTTPHandlerOptions{PreStorageCodecs: []converter.PayloadCodec{codec}})
	if err != nil {
		return nil, fmt.Errorf("make codec server: %w", err)
	}
	s := &Server{
		config: c, log: log, codec: protocol,
		limit:   rate.NewLimiter(rate.Limit(c.RateLimit), max(1, int(c.RateLimit))),
		running: make(chan struct{}, maxAtOnce),
	}
	if c.CertificateFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("codec_server.certificate_file: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	if c.TokenFile != "" {
		if _, err := s.token(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Listen listens at the configured address. The URL is for people and programs on
// this machine.
func (s *Server) Listen(ctx context.Context) (listener net.Listener, url string, err error) {
	listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Address)
	if err != nil {
		return nil, "", fmt.Errorf("listen at codec_server.address: %w", err)
	}
	if s.tls == nil {
		return listener, "http://" + listener.Addr().String(), nil
	}
	return tls.NewListener(listener, s.tls), "https://" + listener.Addr().String(), nil
}

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: 2 * bodyTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: zap.NewStdLog(s.log),
	}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = server.Shutdown(closing) // what still runs by then is cut off with the process
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve codec_server.address: %w", err)
	}
	return nil
}

// Handler is all that is served.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	for _, verb := range []string{"decode", "encode"} {
		handler := s.guarded(verb)
		if verb == "encode" && !s.config.Encode {
			// Not as if it were encrypted: who sends through here believes that it is.
			handler = refuse("encode is off: to send through here, have codec_server.encode switched on")
		}
		mux.Handle("POST /"+verb, handler)
		mux.Handle("POST /{namespace}/"+verb, handler)
	}
	pages := cors.New(cors.Options{
		AllowOriginFunc:  func(origin string) bool { return slices.Contains(s.config.Origins, origin) }, // none: nobody's
		AllowedMethods:   []string{http.MethodPost},
		AllowedHeaders:   []string{"Authorization", "Content-Type", "X-Namespace"},
		AllowCredentials: true, // for the cookies of a proxy's sign-in
		MaxAge:           int((10 * time.Minute).Seconds()),
	})
	return s.ours(pages.Handler(s.known(mux)))
}

func refuse(why string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, why, http.StatusForbidden) })
}

// ours refuses, where no token is asked for, what came here under a foreign name: a
// page whose name was made to point at this machine.
func (s *Server) ours(next http.Handler) http.Handler {
	if s.config.TokenFile != "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !config.IsLoopback(strings.Trim(host, "[]")) {
			http.Error(w, "without codec_server.token_file this is for callers on this machine alone, by a loopback address", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known refuses pages of other origins. CORS alone would keep them from reading the
// answer, not from asking.
func (s *Server) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && !slices.Contains(s.config.Origins, origin) {
			http.Error(w, "origin is not in codec_server.origins", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guarded lets a request through to the codec: with the token, not too many, and not
// too long. It logs that there was one, and nothing of what was in it.
func (s *Server) guarded(verb string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer := &recorder{ResponseWriter: w, code: http.StatusOK}
		size := s.serve(answer, r)
		namespace := r.PathValue("namespace")
		if namespace == "" {
			namespace = r.Header.Get("X-Namespace")
		}
		s.log.Info("Request", zap.String("verb", verb), zap.String("namespace", namespace), zap.String("remote", r.RemoteAddr),
			zap.String("origin", r.Header.Get("Origin")), zap.Int("code", answer.code), zap.Int("bytes", size), zap.Duration("took", time.Since(start)))
	})
}

// serve answers one request and returns the length of its body.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) int {
	switch allowed, err := s.allowed(r); {
	case err != nil:
		s.log.Error("The token is not known", zap.Error(err))
		http.Error(w, "the server cannot read its token", http.StatusInternalServerError)
		return 0
	case !allowed:
		w.Header().Set("WWW-Authenticate", `Bearer realm="codec"`)
		http.Error(w, "the bearer token is missing or another one", http.StatusUnauthorized)
		return 0
	}
	// Behind the token, so that strangers do not use up what callers may.
	if !s.limit.Allow() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests: codec_server.rate_limit", http.StatusTooManyRequests)
		return 0
	}
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-r.Context().Done():
		return 0
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		http.Error(w, fmt.Sprintf("request has more than %d bytes", long.Limit), http.StatusRequestEntityTooLarge)
		return maxBody
	case err != nil:
		http.Error(w, "request was cut off", http.StatusBadRequest)
		return len(body)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.codec.ServeHTTP(w, r)
	return len(body)
}

// allowed compares the token in constant time, and hashes it first so that its
// length does not show either.
func (s *Server) allowed(r *http.Request) (bool, error) {
	if s.config.TokenFile == "" {
		return true, nil
	}
	want, err := s.token()
	if err != nil {
		return false, err
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	wantHash, gotHash := sha256.Sum256(want), sha256.Sum256([]byte(strings.TrimSpace(got)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(wantHash[:], gotHash[:]) == 1, nil
}

func (s *Server) token() ([]byte, error) {
	content, _, err := config.ReadSecret("codec_server.token_file", s.config.TokenFile)
	if err != nil {
		return nil, err
	}
	token := bytes.TrimSpace(content)
	if len(token) < minToken {
		return nil, fmt.Errorf("read codec_server.token_file: %s must hold at least %d characters", s.config.TokenFile, minToken)
	}
	return token, nil
}

// recorder keeps the code of an answer, for the log.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}
