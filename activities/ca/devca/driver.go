package devca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"mobileid"
	"mobileid/activities/ca"
)

const (
	// maxAnswer is the longest answer that is read, in bytes.
	maxAnswer = 1 << 20
	// defaultTimeout is for a DriverOptions without one.
	defaultTimeout = 10 * time.Second
)

// DriverOptions say where the CA's API is and how to get in.
type DriverOptions struct {
	URL            string        // https, of the API, as in [Addresses]
	ClientCertFile string        // PEM
	ClientKeyFile  string        // PEM
	ServerCAFile   string        // PEM; nothing else vouches for the API
	Timeout        time.Duration // of one request; default 10s
}

// Driver is a [ca.Driver] for the API of a [Server].
type Driver struct {
	url     *url.URL
	client  *http.Client
	timeout time.Duration
}

var _ ca.Driver = (*Driver)(nil)

// NewDriver returns a driver. It reads the files, and reports all faults of the
// options at once; it does not connect.
func NewDriver(options DriverOptions) (*Driver, error) {
	base, urlErr := url.Parse(options.URL)
	if urlErr == nil && (base.Scheme != "https" || base.Host == "") {
		urlErr = fmt.Errorf("url %q is not an https URL", options.URL)
	}
	if options.Timeout < 0 {
		urlErr = errors.Join(urlErr, fmt.Errorf("timeout %s is negative", options.Timeout))
	}
	pair, pairErr := tls.LoadX509KeyPair(options.ClientCertFile, options.ClientKeyFile)
	if pairErr != nil {
		pairErr = fmt.Errorf("client certificate: %w", pairErr)
	}
	trust, trustErr := readTrust(options.ServerCAFile)
	if err := errors.Join(urlErr, pairErr, trustErr); err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	return &Driver{
		url:     base,
		timeout: options.Timeout,
		client: &http.Client{
			// No proxy of the environment, and no HTTP/2: of a request on a
			// connection of its own it is easier to say whether it was sent.
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{
					MinVersion:   tls.VersionTLS13,
					Certificates: []tls.Certificate{pair},
					RootCAs:      trust,
				},
				MaxIdleConnsPerHost: 16,
				IdleConnTimeout:     time.Minute,
			},
			// A redirected revocation would go to who knows whom.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
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

// Close gives up the connections that the driver keeps. It need not be called.
func (d *Driver) Close() { d.client.CloseIdleConnections() }

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities {
	return ca.Capabilities{CarriesReason: true, HasStatus: true}
}

// Revoke implements [ca.Driver]. An empty reason is sent as unspecified.
func (d *Driver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	op := "revoke " + cert.String()
	if reason == "" {
		reason = mobileid.Unspecified
	}
	if !reason.Final() {
		return ca.Answer{}, &ca.Error{Kind: ca.BadReason, Op: op, Words: fmt.Sprintf("%q does not revoke for good", string(reason))}
	}
	if err := checkSerial(op, cert); err != nil {
		return ca.Answer{}, err
	}
	answer, err := d.do(ctx, op, http.MethodPost, []string{cert.Serial, "revoke"}, revokeBody{Reason: reason})
	if err != nil {
		return ca.Answer{}, err
	}
	if answer.code != http.StatusOK && answer.code != http.StatusConflict {
		return ca.Answer{}, answer.failure(op)
	}
	status, err := answer.status(cert.Serial)
	if err != nil {
		return ca.Answer{}, unreadable(op, err)
	}
	switch {
	case status.Status == mobileid.StatusRevoked && answer.code == http.StatusOK:
		return ca.Answer{Outcome: ca.Revoked, RevokedAt: status.RevokedAt}, nil
	case status.Status == mobileid.StatusRevoked:
		return ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: status.RevokedAt}, nil
	case status.Status == mobileid.StatusOnHold:
		return ca.Answer{Outcome: ca.OnHold, RevokedAt: status.RevokedAt}, nil
	}
	return ca.Answer{}, &ca.Error{Kind: ca.Contradiction, Op: op,
		Words: fmt.Sprintf("HTTP %d says that the certificate is %s", answer.code, status.Status)}
}

// Status implements [ca.Driver].
func (d *Driver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	op := "read status of " + cert.String()
	if err := checkSerial(op, cert); err != nil {
		return ca.Evidence{}, err
	}
	answer, err := d.do(ctx, op, http.MethodGet, []string{cert.Serial}, nil)
	if err != nil {
		return ca.Evidence{}, err
	}
	if answer.code != http.StatusOK && answer.code != http.StatusNotFound {
		return ca.Evidence{}, answer.failure(op)
	}
	status, err := answer.status(cert.Serial)
	if err != nil && answer.code == http.StatusNotFound {
		// Not found, but not by the CA: a wrong URL must not read as a CA that
		// does not know the certificate.
		return ca.Evidence{}, &ca.Error{Kind: ca.Unsupported, Op: op, Words: "HTTP 404, and not from the CA", Err: err}
	}
	if err != nil {
		return ca.Evidence{}, unreadable(op, err)
	}
	if (status.Status == mobileid.StatusUnknown) != (answer.code == http.StatusNotFound) {
		return ca.Evidence{}, unreadable(op, fmt.Errorf("HTTP %d says %s", answer.code, status.Status))
	}
	sum := sha256.Sum256(answer.body)
	return ca.Evidence{
		Status:    status.Status,
		Reason:    status.Reason,
		RevokedAt: status.RevokedAt,
		Proof:     mobileid.Proof{Source: mobileid.ProofFromCA, At: status.At, SHA256: hex.EncodeToString(sum[:])},
	}, nil
}

// Issue asks for a certificate for the DER-encoded PKCS #10 request, valid from
// now for the given days. It is no part of [ca.Driver]; its errors are the same.
func (d *Driver) Issue(ctx context.Context, csrDER []byte, profile string, days int) (*x509.Certificate, error) {
	const op = "issue a certificate"
	answer, err := d.do(ctx, op, http.MethodPost, nil, issueBody{
		CSR:     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER})),
		Profile: Profile(profile),
		Days:    days,
	})
	if err != nil {
		return nil, err
	}
	if answer.code != http.StatusCreated {
		return nil, answer.failure(op)
	}
	var body issuedBody
	if err = json.Unmarshal(answer.body, &body); err != nil {
		return nil, unreadable(op, err)
	}
	der, err := decodePEM([]byte(body.Certificate), "CERTIFICATE")
	if err != nil {
		return nil, unreadable(op, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, unreadable(op, err)
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil || !samePublicKey(cert.PublicKey, csr.PublicKey) {
		return nil, unreadable(op, errors.New("the certificate is for another key"))
	}
	return cert, nil
}

// checkSerial lets nothing into a path that is not a serial number.
func checkSerial(op string, cert ca.Certificate) error {
	if _, err := mobileid.ParseSerial(cert.Serial); err != nil {
		return &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	return nil
}

// do sends one request and reads its whole answer.
func (d *Driver) do(ctx context.Context, op, method string, path []string, body any) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
		}
	}
	var sent sending
	target := d.url.JoinPath(append([]string{certificatesPath}, path...)...)
	request, err := http.NewRequestWithContext(sent.watch(ctx), method, target.String(), bytes.NewReader(content))
	if err != nil {
		return reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := d.client.Do(request)
	if err != nil {
		return reply{}, sent.failure(op, err)
	}
	defer func() { _ = response.Body.Close() }()
	return readReply(op, response)
}

// reply is an answer of the API, read to its end.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// status reads a CertificateStatus. Fields that it does not know are those of a
// newer CA, and ignored.
func (r reply) status(serial string) (CertificateStatus, error) {
	var status CertificateStatus
	if err := json.Unmarshal(r.body, &status); err != nil {
		return status, err
	}
	if status.Serial != serial {
		return status, fmt.Errorf("it is about serial %q", clean(status.Serial))
	}
	if status.At.IsZero() {
		return status, errors.New("it has no time")
	}
	switch status.Status {
	case mobileid.StatusGood, mobileid.StatusUnknown:
		return status, nil
	case mobileid.StatusRevoked, mobileid.StatusOnHold:
		if status.RevokedAt.IsZero() {
			return status, errors.New("it has no date of the revocation")
		}
		final := status.Status == mobileid.StatusRevoked
		if final != status.Reason.Final() || !final && status.Reason != mobileid.CertificateHold {
			return status, fmt.Errorf("it is %s for the reason %q", status.Status, clean(string(status.Reason)))
		}
		return status, nil
	}
	return status, fmt.Errorf("it has the status %q", clean(string(status.Status)))
}
