package devca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of the HTTP servers. Requests are small and answered at once.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute // a long CRL over a slow line
	idleTimeout   = 2 * time.Minute
	maxHeader     = 128 << 10 // bytes; an OCSP request by GET stands in the first line
	shutdownGrace = 5 * time.Second
)

// TLSConfig is the server configuration of the API: its callers must show a
// certificate of the transport trust.
func (s *Server) TLSConfig() *tls.Config {
	trust := x509.NewCertPool()
	trust.AddCert(s.identity.trust.certificate)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{s.identity.server.tls()},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    trust,
	}
}

// Serve answers on both listeners until ctx ends or one of them fails, then
// lets requests under way finish for up to five seconds. It closes the listeners
// and the server. It returns nil if ctx ended.
func (s *Server) Serve(ctx context.Context, public, api net.Listener) error {
	log := slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn)
	servers := []*http.Server{{Handler: s.Public()}, {Handler: s.API()}}
	listeners := []net.Listener{public, tls.NewListener(api, s.TLSConfig())}

	failed := make(chan error, len(servers))
	for i, server := range servers {
		server.ReadHeaderTimeout = headerTimeout
		server.ReadTimeout = readTimeout
		server.WriteTimeout = writeTimeout
		server.IdleTimeout = idleTimeout
		server.MaxHeaderBytes = maxHeader
		server.ErrorLog = log
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve the development CA: %w", err)
	}

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(grace) != nil {
			err = errors.Join(err, server.Close())
		}
	}
	return errors.Join(err, s.Close())
}
