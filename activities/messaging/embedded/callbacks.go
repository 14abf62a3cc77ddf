package embedded

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	callbackTimeout = 10 * time.Second
	longestRetry    = 30 * time.Second
	// maxCallbackAnswer is how much of an answer is read, so that the connection
	// can be used again.
	maxCallbackAnswer = 4 << 10
)

// checkCallbackURL takes https, and http where nobody is in between.
func checkCallbackURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("callback URL: it must be a URL without user and query")
	}
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "https" || u.Scheme == "http" && here {
		return nil
	}
	return errors.New("callback URL: it must be https, or http to this machine")
}

func newCaller(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile) //nolint:gosec // the file is what the operator configured
		if err != nil {
			return nil, fmt.Errorf("callback CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("callback CA: %s holds no PEM certificate", caFile)
		}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, IdleConnTimeout: time.Minute},
		Timeout:   callbackTimeout,
		// A redirected callback would take the password to who knows where.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// makeCallbacks makes callbacks one after the other until ctx ends.
func (s *Server) makeCallbacks(ctx context.Context) {
	for ctx.Err() == nil {
		pause, err := s.makeCallback(ctx)
		if err != nil && ctx.Err() == nil {
			s.options.Logger.Error("cannot look after callbacks", "error", err)
			pause = longestRetry
		}
		if pause > 0 {
			wait(ctx, s.answered, pause)
		}
	}
}

// makeCallback makes one callback if one is due. It returns how long to wait for
// the next, zero if it may be due already.
func (s *Server) makeCallback(ctx context.Context) (time.Duration, error) {
	target, err := s.store.callbackURL(ctx)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	call, next, err := s.store.due(ctx, now)
	if err != nil {
		return 0, err
	}
	if call == nil {
		if next.IsZero() {
			return longestRetry, nil
		}
		return min(longestRetry, max(time.Until(next), time.Millisecond)), nil
	}
	log := s.options.Logger.With("command", call.commandID, "kind", call.kind, "attempt", call.attempts+1)
	if !now.Before(call.giveUp) {
		log.Error("a callback is given up")
		return 0, s.store.done(ctx, call.number)
	}
	if err := s.post(ctx, target, *call); err != nil {
		if ctx.Err() != nil {
			return 0, nil // it counts as not tried
		}
		log.Warn("a callback is not taken", "error", err)
		due := now.Add(min(longestRetry, s.options.CallbackRetry<<min(call.attempts, 10)))
		if due.After(call.giveUp) {
			due = call.giveUp
		}
		return 0, s.store.postpone(ctx, call.number, due)
	}
	log.Info("a callback is taken")
	return 0, s.store.done(ctx, call.number)
}

// post makes a callback. Its errors do not hold what is in it.
func (s *Server) post(ctx context.Context, target string, c call) error {
	if target == "" {
		return errors.New("no callback URL is set")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(target, "/")+callbackPath(c.kind), bytes.NewReader(c.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.SetBasicAuth(CallbackUser, s.identity.password)
	response, err := s.caller.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // nothing depends on it
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxCallbackAnswer)); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("HTTP %d", response.StatusCode)
	}
	return nil
}
