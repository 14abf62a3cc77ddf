package ca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"time"

	"mobileid"
)

const (
	maxCRLBytes = 64 << 20
	// crlTimeout bounds a download, which outlives the callers that wait for it.
	crlTimeout = 2 * time.Minute
)

// CRL reads the CRL of one CA (RFC 5280 section 5). All callers share the one
// that was read last; every check asks the server whether it has a newer one,
// and checks at the same time share the question. It is safe for concurrent use.
type CRL struct {
	endpoint
	issuer *x509.Certificate

	mu       sync.Mutex
	current  *revocationList // the one with the highest number seen; nil before the first
	etag     string          // of current, as the server sent it
	modified string
	download *download // under way, or nil
}

// download is a question to the server that several callers wait for. list and
// err are set before done is closed.
type download struct {
	done chan struct{}
	list *revocationList
	err  error
}

// NumberError reports a CRL that is older than one seen before. It is refused,
// because a revocation that was published would seem undone (RFC 5280 section
// 5.2.3; contract rule 8).
type NumberError struct {
	Seen, Got *big.Int
}

func (e *NumberError) Error() string {
	return fmt.Sprintf("the CRL has number %x, after %x was seen", e.Got, e.Seen)
}

// NewCRL returns the CRL source of the CA that issuer is the certificate of.
// client bounds a download; nil is one of [NewHTTPClient] with 2 min. Redirects to
// other hosts are refused whichever it is. now is the clock, nil for the system's.
// Nothing is read before the first check.
func NewCRL(url string, issuer *x509.Certificate, client *http.Client, now func() time.Time) (*CRL, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	place, err := newEndpoint(url, client, crlTimeout, now, maxCRLBytes)
	if err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	return &CRL{endpoint: place, issuer: issuer}, nil
}

// Check implements [Source]. Being listed for good counts whatever the age of
// the CRL, even if no newer one can be had at the moment. Not being listed is
// StatusGood only in a current CRL for all reasons, and StatusUnknown otherwise.
// A CRL that does not cover the certificate, or goes back, is an error.
func (c *CRL) Check(ctx context.Context, cert Certificate) (Evidence, error) {
	if _, err := c.key(cert); err != nil {
		return Evidence{Status: mobileid.StatusUnknown}, err // without a question
	}
	list, err := c.refresh(ctx)
	if list == nil {
		return Evidence{Status: mobileid.StatusUnknown}, err
	}
	evidence, lookErr := c.look(list, cert)
	if lookErr != nil {
		return evidence, lookErr
	}
	if err != nil && evidence.Status != mobileid.StatusRevoked {
		evidence.Status = mobileid.StatusUnknown
		return evidence, err
	}
	return evidence, nil
}

// look looks a certificate up in a CRL that was read.
func (c *CRL) look(list *revocationList, cert Certificate) (Evidence, error) {
	key, err := c.key(cert)
	if err == nil && !list.scope.covers(cert, c.url) {
		err = &Error{Kind: Unsupported, Op: lookOp(cert), Err: errors.New("the CRL is of another distribution point (RFC 5280 section 5.2.5)")}
	}
	if err != nil {
		return Evidence{Status: mobileid.StatusUnknown}, err
	}
	return list.evidence(key, c.now()), nil
}

func lookOp(cert Certificate) string { return "look in CRL for " + cert.CertificateID.String() }

// key is by what a certificate is found in the CRL. One of another issuer has none.
func (c *CRL) key(cert Certificate) (serialKey, error) {
	if err := issuedBy(c.issuer, cert.CertificateID); err != nil {
		return serialKey{}, &Error{Kind: Unsupported, Op: lookOp(cert), Err: err}
	}
	key, err := newSerialKey(cert.Serial)
	if err != nil {
		return serialKey{}, &Error{Kind: Unsupported, Op: lookOp(cert), Err: err}
	}
	return key, nil
}

// NextUpdate implements [Publication].
func (c *CRL) NextUpdate() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return time.Time{}
	}
	return c.current.nextUpdate.UTC()
}

// evidence looks a serial number up.
func (l *revocationList) evidence(key serialKey, now time.Time) Evidence {
	e := Evidence{
		Status: mobileid.StatusGood,
		Proof: mobileid.Proof{
			Source: mobileid.ProofFromCRL,
			At:     l.thisUpdate.UTC(),
			Number: l.number.Text(16),
			SHA256: l.hexSum(),
		},
	}
	found, listed := l.entries[key]
	if listed {
		e.Status, e.Reason = revocation(int(found.reason))
		e.RevokedAt = time.Unix(found.revokedAt, 0).UTC()
		if found.reason == noReason {
			e.Reason = mobileid.Unspecified // RFC 5280 section 5.3.1 wants it left out
		}
	}
	// Without nextUpdate, which RFC 5280 section 5.1.2.5 requires, nobody knows
	// whether there is a newer CRL.
	current := !l.nextUpdate.IsZero() && !now.After(l.nextUpdate)
	if e.Status != mobileid.StatusRevoked && !current || !listed && l.scope.someReasons {
		e.Status = mobileid.StatusUnknown
	}
	return e
}

// refresh returns the newest CRL. If it cannot be read, the error comes with the
// one read before, or nil.
func (c *CRL) refresh(ctx context.Context) (*revocationList, error) {
	c.mu.Lock()
	d := c.download
	if d == nil {
		d = &download{done: make(chan struct{})}
		c.download = d
		// Whoever asked first may give up, while others still wait.
		go c.run(context.WithoutCancel(ctx), d)
	}
	before := c.current
	c.mu.Unlock()
	select {
	case <-d.done:
		return d.list, d.err
	case <-ctx.Done():
		return before, &Error{Kind: Unavailable, Op: "wait for CRL", Err: ctx.Err()}
	}
}

func (c *CRL) run(ctx context.Context, d *download) {
	ctx, cancel := context.WithTimeout(ctx, crlTimeout)
	defer cancel()
	d.list, d.err = c.fetch(ctx)
	c.mu.Lock()
	c.download = nil
	c.mu.Unlock()
	close(d.done)
}

// fetch asks for a newer CRL than the current one and takes it over. Only one
// runs at a time.
func (c *CRL) fetch(ctx context.Context) (*revocationList, error) {
	const op = "read CRL"
	c.mu.Lock()
	current, etag, modified := c.current, c.etag, c.modified
	c.mu.Unlock()

	req, err := c.request(ctx, http.MethodGet, nil)
	if err != nil {
		return current, &Error{Kind: Unsupported, Op: op, Err: err}
	}
	accepted := []int{http.StatusOK}
	if current != nil {
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		if modified != "" {
			req.Header.Set("If-Modified-Since", modified)
		}
		accepted = append(accepted, http.StatusNotModified)
	}
	resp, body, err := c.exchange(req, op, accepted...) //nolint:bodyclose // exchange has closed it
	if err != nil {
		return current, err
	}
	if resp.StatusCode == http.StatusNotModified {
		return current, nil
	}
	list, kind, err := c.judge(body, current)
	if err != nil {
		return current, &Error{Kind: kind, Op: op, Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = list
	c.etag, c.modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return list, nil
}

// judge decides whether a document takes the place of the current CRL. The Kind
// goes with the error: what cannot be read may be a proxy's page, and a mirror
// that lags catches up, so both are tried again.
func (c *CRL) judge(document []byte, current *revocationList) (*revocationList, Kind, error) {
	der, err := decodeCRL(document)
	if err != nil {
		return nil, Unavailable, err
	}
	if current != nil && sha256.Sum256(der) == current.sha256 {
		return current, "", nil
	}
	list, err := newRevocationList(der, c.issuer)
	if errors.Is(err, errMalformed) {
		return nil, Unavailable, err
	}
	if err != nil {
		return nil, Unsupported, err
	}
	if err := early("thisUpdate of the CRL", list.thisUpdate, c.now()); err != nil {
		return nil, Unavailable, err
	}
	if current != nil && list.before(current) {
		return nil, Unavailable, &NumberError{Seen: current.number, Got: list.number}
	}
	return list, "", nil
}

// before reports whether l is older than other. CRLs of one number are the same
// by RFC 5280 section 5.2.3; some CAs sign them anew.
func (l *revocationList) before(other *revocationList) bool {
	if order := l.number.Cmp(other.number); order != 0 {
		return order < 0
	}
	return l.thisUpdate.Before(other.thisUpdate)
}
