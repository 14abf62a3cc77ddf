package ca

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxRedirects is how many redirects within one host are followed.
const maxRedirects = 3

var errRedirect = errors.New("redirected to another host, or too often")

// NewHTTPClient returns a client for OCSP responders and CRLs. timeout bounds a
// whole request with its body; the context bounds it further. The answers are
// signed, so plain HTTP loses nothing, and it is what RFC 5280 section 8
// recommends for them.
func NewHTTPClient(timeout time.Duration) *http.Client {
	const dialTimeout = 5 * time.Second
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: timeout,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   4,
			ForceAttemptHTTP2:     true,
		},
	}
}

// endpoint is a place on the web where a CA publishes. It does not retry.
type endpoint struct {
	url    string
	client *http.Client
	now    func() time.Time
	limit  int64 // of an answer, in bytes
}

// newEndpoint checks the URL. Without a client it makes one whose requests take
// no longer than timeout.
func newEndpoint(text string, client *http.Client, timeout time.Duration, now func() time.Time, limit int64) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return endpoint{}, fmt.Errorf("%q is not an http or https URL", u.Redacted())
	}
	if client == nil {
		client = NewHTTPClient(timeout)
	}
	if now == nil {
		now = time.Now
	}
	// A copy, because the client may be the caller's for other hosts too.
	within := *client
	within.CheckRedirect = sameHost
	return endpoint{url: text, client: &within, now: now, limit: limit}, nil
}

// sameHost lets no redirect lead to another host: it could reach what only the
// worker can reach.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if next.URL.Host != first.Host || next.URL.Scheme != first.Scheme || len(via) > maxRedirects {
		return errRedirect
	}
	return nil
}

// exchange sends a request and reads the answer. accepted lists the HTTP status
// codes that are an answer; any other is an *Error.
func (e endpoint) exchange(req *http.Request, op string, accepted ...int) (*http.Response, []byte, error) {
	resp, err := e.client.Do(req) //nolint:gosec // the URL is configured by the operator
	if err != nil {
		kind := Unavailable
		if errors.Is(err, errRedirect) {
			kind = Unsupported
		}
		return nil, nil, &Error{Kind: kind, Op: op, Err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end, or given up: nothing depends on it
	for _, code := range accepted {
		if resp.StatusCode != code {
			continue
		}
		body, err := e.read(resp, op)
		return resp, body, err
	}
	return nil, nil, &Error{
		Kind:       kindOfStatus(resp.StatusCode),
		Op:         op,
		Words:      "HTTP " + resp.Status,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), e.now()),
	}
}

func (e endpoint) read(resp *http.Response, op string) ([]byte, error) {
	tooLong := &Error{Kind: Unsupported, Op: op, Err: fmt.Errorf("the answer has more than %d bytes", e.limit)}
	if resp.ContentLength > e.limit {
		return nil, tooLong
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, e.limit+1))
	if err != nil {
		return nil, &Error{Kind: Unavailable, Op: op, Err: fmt.Errorf("read the answer: %w", err)}
	}
	if int64(len(body)) > e.limit {
		return nil, tooLong
	}
	return body, nil
}

// kindOfStatus says which HTTP status codes go away by themselves.
func kindOfStatus(code int) Kind {
	switch {
	case code >= http.StatusInternalServerError,
		code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return Unavailable
	}
	return Unsupported
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second // 31 bits fit
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}

// request makes a request for the endpoint. The URL was checked before.
func (e endpoint) request(ctx context.Context, method string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, e.url, body)
}
