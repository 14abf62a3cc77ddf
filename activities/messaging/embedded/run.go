package embedded

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"mobileid/activities/messaging"
)

// Limits of the HTTP server. Requests are small and answered at once.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	shutdownGrace = 5 * time.Second
)

// RunOptions say what [Run] runs.
type RunOptions struct {
	Dir string // the folder of the server
	// Address is "host:port". Port 0 means the port of the last run if it is free,
	// or else any. Default 127.0.0.1:0.
	Address string
	Server  Options // its PublicURL follows from Address if it is empty
}

// Addresses are where [Run] serves.
type Addresses struct {
	URL string `json:"url"` // https, the base of messaging.Options
}

// ReadAddresses reads where the server of a folder serves, or served last.
func ReadAddresses(dir string) (Addresses, error) {
	path := folder(dir).path(AddressesFile)
	text, err := os.ReadFile(path) //nolint:gosec // the folder is the caller's choice
	if err != nil {
		return Addresses{}, err
	}
	var addresses Addresses
	if err := json.Unmarshal(text, &addresses); err != nil {
		return Addresses{}, fmt.Errorf("read %s: %w", path, err)
	}
	return addresses, nil
}

// Run opens the messaging server of a folder and serves it until ctx ends, which is
// no error. Where it serves stands in the folder ([ReadAddresses]) before ready is
// called.
func Run(ctx context.Context, options RunOptions, ready func(Addresses)) (err error) {
	last, _ := ReadAddresses(options.Dir) // none at first start
	listener, host, err := listen(options.Address, last.URL)
	if err != nil {
		return err
	}
	defer func() {
		if closing := listener.Close(); !errors.Is(closing, net.ErrClosed) {
			err = errors.Join(err, closing)
		}
	}()
	if options.Server.PublicURL == "" {
		options.Server.PublicURL = "https://" + net.JoinHostPort(host, strconv.Itoa(portOf(listener))) + BasePath
	}
	options.Server.ServerNames = append([]string{host}, options.Server.ServerNames...)
	server, err := Open(ctx, options.Dir, options.Server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	addresses := Addresses{URL: options.Server.PublicURL}
	text, err := json.MarshalIndent(addresses, "", "  ")
	if err != nil {
		return err
	}
	if err := server.folder.write(AddressesFile, append(text, '\n')); err != nil {
		return err
	}
	if ready != nil {
		ready(addresses) // the listener takes connections already
	}
	return server.serve(ctx, listener)
}

// serve answers until ctx ends or the listener fails, then lets requests under way
// finish. It returns nil if ctx ended.
func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(tls.NewListener(listener, s.TLSConfig())) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve messaging: %w", err)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		err = errors.Join(err, server.Close())
	}
	return err
}

// listen listens at address, and says how programs of this machine call its host.
// With port 0 it first tries the port that was used last, because that URL stands
// in QR codes.
func listen(address, lastURL string) (_ net.Listener, host string, err error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", fmt.Errorf("listen at %q: %w", address, err)
	}
	called := host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		called = "localhost"
	}
	if last, err := url.Parse(lastURL); err == nil && port == "0" && last.Port() != "" {
		if listener, err := net.Listen("tcp", net.JoinHostPort(host, last.Port())); err == nil {
			return listener, called, nil
		}
	}
	listener, err := net.Listen("tcp", address)
	return listener, called, err
}

func portOf(listener net.Listener) int {
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

// callbackURLPath and callbackURLBody are ours: the product is configured by file.
const callbackURLPath = "/util/callback-url"

type callbackURLBody struct {
	CallbackURL string `json:"callbackUrl"`
}

// ClientOptions are those of a client of the server that runs on a folder.
func ClientOptions(dir string) (messaging.Options, error) {
	addresses, err := ReadAddresses(dir)
	if err != nil {
		return messaging.Options{}, err
	}
	f := folder(dir)
	return messaging.Options{
		URL: addresses.URL, ClientID: ClientID, APIKeyFile: f.path(APIKeyFile), ServerCAFile: f.path(ServerCAFile),
	}, nil
}

// SetCallbackURL tells the server that runs on a folder where callbacks go from now
// on. It lasts over restarts.
func SetCallbackURL(ctx context.Context, dir, callbackURL string) error {
	addresses, err := ReadAddresses(dir)
	if err != nil {
		return err
	}
	f := folder(dir)
	key, err := readAPIKey(f)
	if err != nil {
		return err
	}
	client, err := newCaller(f.path(ServerCAFile))
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(callbackURLBody{CallbackURL: callbackURL})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, addresses.URL+callbackURLPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-Api-Key", key)
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("set callback URL: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing depends on it
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("set callback URL: HTTP %d", response.StatusCode)
	}
	return nil
}
