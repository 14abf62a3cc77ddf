// Package httpcall is what the drivers of CAs with an HTTP interface share: one
// request, its whole answer, and what a failure of either means for the next try.
//
// The question that matters after a failure is whether the request can have
// reached the CA. [Client] answers it: before a connection stood, the request had
// no effect for sure (ca.Unavailable); from then on it may have had one
// (ca.Ambiguous), and the status is read before the next.
package httpcall

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"mobileid/activities/ca"
)

const (
	// maxAnswer is the longest answer that is read, in bytes.
	maxAnswer = 1 << 20
	// defaultTimeout is for Options without one.
	defaultTimeout = 10 * time.Second
)

// Options say how to get in.
type Options struct {
	// ClientCertFile and ClientKeyFile are PEM files, for CAs that know their
	// callers by TLS certificate. Both or none.
	ClientCertFile string
	ClientKeyFile  string
	// ServerCAFile is a PEM file with what vouches for the server, and nothing
	// else does. Empty: the trust store of the system.
	ServerCAFile string
	// Timeout of one request with its answer; default 10 s.
	Timeout time.Duration
}

// Client sends requests to one CA. It is safe for concurrent use and does not
// retry.
type Client struct {
	// Transport carries the requests. It may be replaced before the first one, by
	// one that ends in the one that was there.
	Transport http.RoundTripper

	timeout time.Duration
	tls     *tls.Config
}

// New returns a client. It reads the files, and reports all faults of the options
// at once; it does not connect.
func New(options Options) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var faults []error
	if options.ClientCertFile != "" || options.ClientKeyFile != "" {
		pair, err := tls.LoadX509KeyPair(options.ClientCertFile, options.ClientKeyFile)
		if err != nil {
			faults = append(faults, fmt.Errorf("client certificate: %w", err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if options.ServerCAFile != "" {
		trust, err := readTrust(options.ServerCAFile)
		if err != nil {
			faults = append(faults, err)
		}
		config.RootCAs = trust
	}
	if options.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout %s is negative", options.Timeout))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	return &Client{
		timeout: options.Timeout,
		tls:     config,
		// No proxy of the environment, and no HTTP/2: of a request on a connection of
		// its own it is easier to say whether it was sent.
		Transport: &http.Transport{
			TLSClientConfig:     config,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
		},
	}, nil
}

// ClientCertificate returns the certificate by which the CA knows the caller, nil
// if there is none.
func (c *Client) ClientCertificate() *x509.Certificate {
	if len(c.tls.Certificates) == 0 {
		return nil
	}
	return c.tls.Certificates[0].Leaf
}

// CloseIdleConnections gives up the connections that the client keeps.
func (c *Client) CloseIdleConnections() {
	if transport, ok := c.Transport.(interface{ CloseIdleConnections() }); ok {
		transport.CloseIdleConnections()
	}
}

// BaseURL reads the address of a CA's interface, which must be an https URL.
func BaseURL(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if base.Scheme != "https" || base.Host == "" || base.User != nil {
		return nil, fmt.Errorf("url %q is not an https URL without a user", base.Redacted())
	}
	return base, nil
}

func readTrust(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("server CA: %w", err)
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("server CA: %s holds no PEM certificate", file)
	}
	return trust, nil
}

// Do sends a request and reads the answer to its end, whatever its HTTP status
// code. op says what is being done, for errors. The errors are *ca.Error:
//   - Unavailable if the request was not sent;
//   - Denied if the server does not accept the client certificate;
//   - Ambiguous if it may have been sent.
//
// Redirects are not followed: a redirected revocation would go to who knows whom.
func (c *Client) Do(ctx context.Context, op string, request *http.Request) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var sent sending
	client := http.Client{
		Transport:     c.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request.WithContext(sent.watch(ctx))) //nolint:gosec // the URL is configured by the operator
	if err != nil {
		return Reply{}, sent.failure(op, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end, or given up: nothing depends on it
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Reply{}, &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer was cut short", Err: err}
	}
	if len(body) > maxAnswer {
		return Reply{}, &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer is too large"}
	}
	return Reply{Code: response.StatusCode, Header: response.Header, Body: body}, nil
}
