package devca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
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
	url    *url.URL
	client *httpcall.Client
}

var (
	_ ca.Driver = (*Driver)(nil)
	_ ca.Issuer = (*Driver)(nil)
)

// NewDriver returns a driver. It reads the files, and reports all faults of the
// options at once; it does not connect.
func NewDriver(options DriverOptions) (*Driver, error) {
	base, urlErr := httpcall.BaseURL(options.URL)
	var missing error
	if options.ClientCertFile == "" || options.ClientKeyFile == "" {
		missing = errors.New("client certificate: no files are named")
	}
	if options.ServerCAFile == "" {
		missing = errors.Join(missing, errors.New("server CA: no file is named"))
	}
	client, err := httpcall.New(httpcall.Options{
		ClientCertFile: options.ClientCertFile,
		ClientKeyFile:  options.ClientKeyFile,
		ServerCAFile:   options.ServerCAFile,
		Timeout:        options.Timeout,
	})
	if err := errors.Join(urlErr, missing, err); err != nil {
		return nil, err
	}
	return &Driver{url: base, client: client}, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Close gives up the connections that the driver keeps. It need not be called.
func (d *Driver) Close() { d.client.CloseIdleConnections() }

// Credentials implements [ca.Credentialed].
func (d *Driver) Credentials() []*x509.Certificate {
	return []*x509.Certificate{d.client.ClientCertificate()}
}

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
	answer, err := d.do(ctx, op, http.MethodPost, []string{certificatesPath, cert.Serial, "revoke"}, revokeBody{Reason: reason})
	if err != nil {
		return ca.Answer{}, err
	}
	if answer.Code != http.StatusOK && answer.Code != http.StatusConflict {
		return ca.Answer{}, failure(op, answer)
	}
	status, err := readStatus(answer, cert.Serial)
	if err != nil {
		return ca.Answer{}, httpcall.Unreadable(op, err)
	}
	switch {
	case status.Status == mobileid.StatusRevoked && answer.Code == http.StatusOK:
		return ca.Answer{Outcome: ca.Revoked, RevokedAt: status.RevokedAt}, nil
	case status.Status == mobileid.StatusRevoked:
		return ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: status.RevokedAt}, nil
	case status.Status == mobileid.StatusOnHold:
		return ca.Answer{Outcome: ca.OnHold, RevokedAt: status.RevokedAt}, nil
	}
	return ca.Answer{}, &ca.Error{Kind: ca.Contradiction, Op: op,
		Words: fmt.Sprintf("HTTP %d says that the certificate is %s", answer.Code, status.Status)}
}

// Status implements [ca.Driver].
func (d *Driver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	op := "read status of " + cert.String()
	if err := checkSerial(op, cert); err != nil {
		return ca.Evidence{}, err
	}
	answer, err := d.do(ctx, op, http.MethodGet, []string{certificatesPath, cert.Serial}, nil)
	if err != nil {
		return ca.Evidence{}, err
	}
	if answer.Code != http.StatusOK && answer.Code != http.StatusNotFound {
		return ca.Evidence{}, failure(op, answer)
	}
	status, err := readStatus(answer, cert.Serial)
	if err != nil && answer.Code == http.StatusNotFound {
		// Not found, but not by the CA: a wrong URL must not read as a CA that
		// does not know the certificate.
		return ca.Evidence{}, &ca.Error{Kind: ca.Unsupported, Op: op, Words: "HTTP 404, and not from the CA", Err: err}
	}
	if err != nil {
		return ca.Evidence{}, httpcall.Unreadable(op, err)
	}
	if (status.Status == mobileid.StatusUnknown) != (answer.Code == http.StatusNotFound) {
		return ca.Evidence{}, httpcall.Unreadable(op, fmt.Errorf("HTTP %d says %s", answer.Code, status.Status))
	}
	return ca.Evidence{
		Status:    status.Status,
		Reason:    status.Reason,
		RevokedAt: status.RevokedAt,
		Proof:     answer.Proof(status.At),
	}, nil
}

// Issue asks for a certificate for the DER-encoded PKCS #10 request, valid from
// now for the given days, and for another one each time. It is no part of
// [ca.Driver]; its errors are the same.
func (d *Driver) Issue(ctx context.Context, csrDER []byte, profile string, days int) (*x509.Certificate, error) {
	return d.issue(ctx, csrDER, issueBody{Profile: Profile(profile), Days: days})
}

// IssueOnce implements [ca.Issuer]. The procedure is a [Profile]. devca counts in
// days from now, so notAfter is up to half a day from what is asked for.
func (d *Driver) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	days := int(time.Until(request.NotAfter).Round(24*time.Hour) / (24 * time.Hour))
	return d.issue(ctx, request.CSR.Raw, issueBody{Profile: Profile(request.Procedure), Days: days, Once: true})
}

// Issued implements [ca.Issuer].
func (d *Driver) Issued(ctx context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	const op = "look for what was issued for a key"
	key := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	answer, err := d.do(ctx, op, http.MethodGet, []string{keysPath, hex.EncodeToString(key[:])}, nil)
	if err != nil {
		return nil, err
	}
	if answer.Code != http.StatusOK {
		var body apiError
		if answer.Code == http.StatusNotFound && json.Unmarshal(answer.Body, &body) == nil && body.Code == codeUnknownKey {
			return nil, nil
		}
		return nil, failure(op, answer)
	}
	cert, err := readIssued(op, answer, csr.PublicKey)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert}, nil
}

func (d *Driver) issue(ctx context.Context, csrDER []byte, body issueBody) (*x509.Certificate, error) {
	const op = "issue a certificate"
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	body.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER}))
	answer, err := d.do(ctx, op, http.MethodPost, []string{certificatesPath}, body)
	if err != nil {
		return nil, err
	}
	if answer.Code != http.StatusCreated {
		return nil, failure(op, answer)
	}
	return readIssued(op, answer, csr.PublicKey)
}

// readIssued reads a certificate, which must be for the key.
func readIssued(op string, answer httpcall.Reply, key crypto.PublicKey) (*x509.Certificate, error) {
	var body issuedBody
	if err := answer.JSON(op, &body); err != nil {
		return nil, err
	}
	der, err := decodePEM([]byte(body.Certificate), "CERTIFICATE")
	if err != nil {
		return nil, httpcall.Unreadable(op, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, httpcall.Unreadable(op, err)
	}
	if !samePublicKey(cert.PublicKey, key) {
		return nil, httpcall.Unreadable(op, errors.New("the certificate is for another key"))
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
func (d *Driver) do(ctx context.Context, op, method string, path []string, body any) (httpcall.Reply, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
		}
	}
	target := d.url.JoinPath(path...)
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(content))
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return d.client.Do(ctx, op, request)
}

// failure translates an answer that is not the one hoped for.
func failure(op string, answer httpcall.Reply) *ca.Error {
	var body apiError
	_ = json.Unmarshal(answer.Body, &body) // what is no error body has no words
	e := answer.Failure(op, body.Message)
	if answer.Code == http.StatusBadRequest && body.Code == codeBadReason {
		e.Kind = ca.BadReason
	}
	return e
}

// readStatus reads a CertificateStatus. Fields that it does not know are those of a
// newer CA, and ignored.
func readStatus(answer httpcall.Reply, serial string) (CertificateStatus, error) {
	var status CertificateStatus
	if err := json.Unmarshal(answer.Body, &status); err != nil {
		return status, err
	}
	if status.Serial != serial {
		return status, fmt.Errorf("it is about serial %q", httpcall.Clean(status.Serial))
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
			return status, fmt.Errorf("it is %s for the reason %q", status.Status, httpcall.Clean(string(status.Reason)))
		}
		return status, nil
	}
	return status, fmt.Errorf("it has the status %q", httpcall.Clean(string(status.Status)))
}
