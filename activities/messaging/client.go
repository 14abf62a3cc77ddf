package messaging

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	commandPath    = "rest/command"
	apiKeyHeader   = "X-Api-Key" //nolint:gosec // the name of the header, not a key
	defaultTimeout = 10 * time.Second
	// maxAnswer is the longest answer that is read, in bytes.
	maxAnswer = 64 << 10
	// maxKeyFile is the longest file with a key or a password, in bytes.
	maxKeyFile = 4 << 10
)

// Options say where messaging is and who asks.
type Options struct {
	// URL is https and ends before /rest, usually https://<host>:20400/hermod.
	URL string
	// ClientID and the key of APIKeyFile are those of allowed-clients in the
	// configuration of messaging. The file holds the key and nothing else.
	ClientID   string
	APIKeyFile string
	// ServerCAFile is a PEM file with what vouches for the server, and nothing
	// else does. Empty: the trust store of the system.
	ServerCAFile string
	// Timeout of one request with its answer; default 10 s.
	Timeout time.Duration
}

// Client sends commands. It is safe for concurrent use and does not retry.
type Client struct {
	base      *url.URL
	apiKey    string // the header's value
	timeout   time.Duration
	transport *http.Transport
	secrets   []string // what no error may say
}

var clientIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// NewClient returns a client. It reads the files, and reports all faults of the options
// at once; it does not connect.
func NewClient(options Options) (*Client, error) {
	var faults []error
	base, err := url.Parse(options.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" {
		faults = append(faults, errors.New("url: it must be https, without a user and a query"))
	}
	if !clientIDs.MatchString(options.ClientID) {
		faults = append(faults, errors.New("client ID: it is missing, or no id"))
	}
	key, err := ReadSecret(options.APIKeyFile)
	if err != nil {
		faults = append(faults, fmt.Errorf("API key: %w", err))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if options.ServerCAFile != "" {
		if config.RootCAs, err = readTrust(options.ServerCAFile); err != nil {
			faults = append(faults, err)
		}
	}
	if options.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout %s is negative", options.Timeout))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("messaging: %w", err)
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	header := base64.StdEncoding.EncodeToString([]byte(options.ClientID + ":" + key))
	return &Client{
		base: base, apiKey: header, timeout: options.Timeout, secrets: []string{key, header},
		// No proxy of the environment, and no HTTP/2: of a request on a connection of
		// its own it is easier to say whether it was sent.
		transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute},
	}, nil
}

// Close gives up the connections that the client keeps.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Provision asks for a profile with new keys. The uri in the answer is a secret for
// the person alone. Errors are *Error.
func (c *Client) Provision(ctx context.Context, command Provision) (Accepted, error) {
	const op = "send provision command"
	body, err := command.body(op)
	if err != nil {
		return Accepted{}, err
	}
	return c.send(ctx, op, KindProvision, body, command.Nonce)
}

// Certificates delivers certificates to a profile. Errors are *Error.
func (c *Client) Certificates(ctx context.Context, command Certificates) (Accepted, error) {
	const op = "send certificate command"
	body, err := command.body(op)
	if err != nil {
		return Accepted{}, err
	}
	return c.send(ctx, op, KindCertificate, body)
}

func (c *Client) send(ctx context.Context, op string, kind CommandKind, body []byte, secrets ...string) (Accepted, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var sent sending
	target := c.base.JoinPath(commandPath, string(kind)).String()
	request, err := http.NewRequestWithContext(sent.watch(ctx), http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return Accepted{}, &Error{Kind: Invalid, Op: op, Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set(apiKeyHeader, c.apiKey)
	client := http.Client{
		Transport: c.transport,
		// A redirected command would take the API key to who knows where.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return Accepted{}, sent.failure(op, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end, or given up: nothing depends on it
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Accepted{}, &Error{Kind: Ambiguous, Op: op, Words: "the answer was cut short", Err: err}
	}
	if len(answer) > maxAnswer {
		return Accepted{}, &Error{Kind: Ambiguous, Op: op, Words: "the answer is too large"}
	}
	if response.StatusCode != http.StatusOK {
		return Accepted{}, failure(op, response, answer, append(secrets, c.secrets...))
	}
	accepted, err := ParseAccepted(kind, answer)
	if err != nil {
		return Accepted{}, &Error{Kind: Ambiguous, Op: op, Words: "the answer cannot be read: " + err.Error()}
	}
	return accepted, nil
}

// failure is an answer that is not the one hoped for.
func failure(op string, response *http.Response, body []byte, secrets []string) *Error {
	e := &Error{Kind: kindOf(response.StatusCode), Op: op, Words: "HTTP " + strconv.Itoa(response.StatusCode)}
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		for _, secret := range secrets { // messaging may quote what it does not like
			said.Message = strings.ReplaceAll(said.Message, secret, "…")
		}
		e.Words += ": " + clean(said.Message)
	}
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31); err == nil && e.Kind == Unavailable {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// kindOf says what an HTTP status code means for the next try.
func kindOf(code int) Kind {
	switch {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return Unavailable
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return Denied
	case code >= 500, code < 300, code == http.StatusRequestTimeout:
		return Ambiguous
	default:
		return Invalid
	}
}

// ReadSecret reads a file that holds one secret in one line. The error does not
// quote it.
func ReadSecret(file string) (string, error) {
	f, err := os.Open(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" || len(text) > maxKeyFile || strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("%s must hold one line of at most %d bytes", file, maxKeyFile)
	}
	return secret, nil
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
