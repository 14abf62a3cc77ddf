package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"mobileid/activities/messaging"
)

// Options change how a [Server] behaves. The zero value works.
type Options struct {
	// PublicURL is how phones reach the server, https, without a slash at its end.
	// It stands in QR codes. [Run] sets it if it is empty.
	PublicURL string
	// ServerNames are further DNS names and IP addresses of the server's own
	// certificate, beside localhost and its addresses.
	ServerNames []string
	// CallbackURL is where callbacks go, https, or http to this machine. Empty: what
	// was set last, see [SetCallbackURL]. Without any, callbacks wait.
	CallbackURL string
	// CallbackCAFile is a PEM file with what vouches for the callback URL, and
	// nothing else does. Empty: the trust store of the system.
	CallbackCAFile string
	// CallbackLifetime is how long a callback is tried; default 24 h.
	CallbackLifetime time.Duration
	// CallbackRetry is the first pause between two tries; each is twice the one
	// before, up to 30 s. Default 500 ms.
	CallbackRetry time.Duration
	// Retention is how long a command is known after its lifespan, and with it the
	// address where its phone asks for more; default 24 h.
	Retention time.Duration
	// Logger is told of commands and callbacks by id, without their content.
	// Default none.
	Logger *slog.Logger
}

func (o Options) complete() (Options, error) {
	for _, field := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"callback lifetime", &o.CallbackLifetime, 24 * time.Hour},
		{"callback retry", &o.CallbackRetry, 500 * time.Millisecond},
		{"retention", &o.Retention, 24 * time.Hour},
	} {
		if *field.value < 0 {
			return o, fmt.Errorf("%s %s is negative", field.name, *field.value)
		}
		if *field.value == 0 {
			*field.value = field.usual
		}
	}
	if o.CallbackURL != "" {
		if err := checkCallbackURL(o.CallbackURL); err != nil {
			return o, err
		}
	}
	if u, err := url.Parse(o.PublicURL); err != nil || u.Scheme != "https" || u.Host == "" {
		return o, errors.New("public URL: it must be https")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Server is a messaging server that owns a folder. It is safe for concurrent use.
type Server struct {
	options  Options
	folder   folder
	lock     *os.File
	identity identity
	store    *store
	caller   *http.Client

	answered chan struct{} // a callback may be due
	added    chan struct{} // a deadline may be earlier
	stop     context.CancelFunc
	work     sync.WaitGroup
	close    func() error
}

// Open takes the folder dir, making it and the server's secrets if they are
// missing, and starts to make callbacks. It fails with [ErrInUse] if another
// process, or another Server of this one, owns the folder.
func Open(ctx context.Context, dir string, options Options) (_ *Server, err error) {
	if options, err = options.complete(); err != nil {
		return nil, err
	}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{
		options: options, folder: folder(dir),
		answered: make(chan struct{}, 1), added: make(chan struct{}, 1),
	}
	if s.lock, err = s.folder.lock(); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	// The work outlives the call that started it, and ends with Close.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.close = sync.OnceValue(s.end)
	s.work.Go(func() { s.makeCallbacks(background) })
	s.work.Go(func() { s.watchDeadlines(background) })
	return s, nil
}

func (s *Server) load(ctx context.Context) (err error) {
	if s.identity, err = openIdentity(s.folder, s.options.ServerNames, time.Now()); err != nil {
		return err
	}
	// After the identity, whose certificate may be what vouches for the callback URL.
	if s.caller, err = newCaller(s.options.CallbackCAFile); err != nil {
		return err
	}
	if s.store, err = openStore(ctx, s.folder, s.options.CallbackLifetime); err != nil {
		return err
	}
	if s.options.CallbackURL == "" {
		return nil
	}
	if err := s.store.setCallbackURL(ctx, s.options.CallbackURL, time.Now()); err != nil {
		return errors.Join(err, s.store.close())
	}
	return nil
}

// Close ends the background work and gives up the folder. A second call returns
// what the first did.
func (s *Server) Close() error { return s.close() }

func (s *Server) end() error {
	s.stop()
	s.work.Wait()
	s.caller.CloseIdleConnections()
	return errors.Join(s.store.close(), s.lock.Close())
}

// TLSConfig is how the server is to be served.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.identity.server}}
}

// watchDeadlines ends commands whose time is over, and forgets old ones.
func (s *Server) watchDeadlines(ctx context.Context) {
	const longest = 10 * time.Second // so that old state goes, too, when nothing happens
	for ctx.Err() == nil {
		now := time.Now()
		ended, err := s.store.expire(ctx, now, now.Add(-s.options.Retention))
		for _, id := range ended {
			s.options.Logger.Info("nobody answered a command in time", "command", id)
		}
		if len(ended) > 0 {
			signal(s.answered)
		}
		var next time.Time
		if err == nil {
			next, err = s.store.nextDeadline(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.options.Logger.Error("cannot look after deadlines", "error", err)
		}
		pause := longest
		if !next.IsZero() {
			pause = min(pause, max(time.Until(next), time.Millisecond))
		}
		wait(ctx, s.added, pause)
	}
}

// signal wakes who waits, or who waits next.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wait returns at a signal, after the pause, or when ctx ends.
func wait(ctx context.Context, c <-chan struct{}, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c:
	case <-timer.C:
	}
}

// path of a callback below the callback URL.
func callbackPath(kind messaging.CommandKind) string { return messaging.CallbackPath + string(kind) }
