// Package ejbca revokes certificates at EJBCA by its REST API.
//
// Facts, from the source of Keyfactor/ejbca-ce (CertificateRestResource.java,
// ExceptionHandler.java, RevocationReasons.java) and the API's description in
// Keyfactor/ejbca-go-client-sdk v1.0.2. None was run against EJBCA itself: the
// tests run against a fake that was written from the same facts.
//
//   - PUT /v1/certificate/{issuer DN}/{serial in hex}/revoke?reason=WORD, without a
//     body. The caller is known by its TLS client certificate.
//   - The issuer is its DN as EJBCA shows it, not the name of the CA, and not the text
//     that others make of the name: see Options.IssuerDN.
//   - 200 says success for lifting a hold, too: "revoked" must be true. The reason in
//     the answer is an echo of the request.
//   - 202 means that an approval is waited for: nothing is revoked. Its rejection cannot
//     be read here, so the request counts as waiting until the configured time is over.
//   - 409 means revoked already, 404 an unknown certificate or CA, 503 a CA that is
//     offline, 500 anything: one that is revoked all the same, too.
//   - A hold may be made final, and a final revocation is not changed.
//   - The call that revokes an end entity would revoke all of a user's certificates. It
//     is never used.
package ejbca

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// words are the reasons by their names in EJBCA.
var words = map[mobileid.Reason]string{
	mobileid.Unspecified:          "UNSPECIFIED",
	mobileid.KeyCompromise:        "KEY_COMPROMISE",
	mobileid.CACompromise:         "CA_COMPROMISE",
	mobileid.AffiliationChanged:   "AFFILIATION_CHANGED",
	mobileid.Superseded:           "SUPERSEDED",
	mobileid.CessationOfOperation: "CESSATION_OF_OPERATION",
	mobileid.CertificateHold:      "CERTIFICATE_HOLD",
	mobileid.PrivilegeWithdrawn:   "PRIVILEGES_WITHDRAWN",
	mobileid.AACompromise:         "AA_COMPROMISE",
}

// Options say where the API is and who asks.
type Options struct {
	// URL is https and ends in the API's root, usually /ejbca/ejbca-rest-api.
	URL string
	// IssuerDN is the subject DN of the CA as EJBCA shows it: subject_dn in the answer
	// of GET /v1/ca. Order and escaping differ between programs, so it is configured.
	IssuerDN       string
	ClientCertFile string        // PEM, of a role that may revoke for the CA
	ClientKeyFile  string        // PEM
	ServerCAFile   string        // PEM; empty: the trust store of the system
	Timeout        time.Duration // of one request; default 10 s
}

// Driver is a [ca.Driver] for EJBCA.
type Driver struct {
	url      *url.URL
	issuerDN string
	client   *httpcall.Client
}

var _ ca.Driver = (*Driver)(nil)

// New returns a driver. It reads the files, and reports all faults of the options
// at once; it does not connect.
func New(options Options) (*Driver, error) {
	base, urlErr := httpcall.BaseURL(options.URL)
	var missing error
	if options.IssuerDN == "" {
		missing = errors.New("issuer DN: none is given")
	}
	if options.ClientCertFile == "" || options.ClientKeyFile == "" {
		missing = errors.Join(missing, errors.New("client certificate: no files are named"))
	}
	client, clientErr := httpcall.New(httpcall.Options{
		ClientCertFile: options.ClientCertFile, ClientKeyFile: options.ClientKeyFile, ServerCAFile: options.ServerCAFile, Timeout: options.Timeout,
	})
	if err := errors.Join(urlErr, missing, clientErr); err != nil {
		return nil, err
	}
	return &Driver{url: base, issuerDN: options.IssuerDN, client: client}, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Credentials implements [ca.Credentialed].
func (d *Driver) Credentials() []*x509.Certificate {
	return []*x509.Certificate{d.client.ClientCertificate()}
}

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities {
	return ca.Capabilities{CarriesReason: true, HasStatus: true}
}

// statusBody is the answer to both calls.
type statusBody struct {
	SerialNumber string    `json:"serial_number"` // hex
	Reason       string    `json:"revocation_reason"`
	Date         time.Time `json:"revocation_date"`
	Revoked      bool      `json:"revoked"`
}

// errorBody is the answer in case of an error.
type errorBody struct {
	Code    int    `json:"error_code"`
	Message string `json:"error_message"`
}

// Revoke implements [ca.Driver]. An empty reason is sent as unspecified.
func (d *Driver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	op := "revoke " + cert.String()
	if reason == "" {
		reason = mobileid.Unspecified
	}
	word, known := words[reason]
	if !known || !reason.Final() {
		return ca.Answer{}, &ca.Error{Kind: ca.BadReason, Op: op, Words: fmt.Sprintf("%q does not revoke for good", string(reason))}
	}
	reply, err := d.do(ctx, op, http.MethodPut, cert, "revoke", url.Values{"reason": {word}})
	if err != nil {
		return ca.Answer{}, err
	}
	switch reply.Code {
	case http.StatusOK:
		status, err := readStatus(op, reply, cert)
		if err == nil && !status.Revoked {
			err = httpcall.Unreadable(op, errors.New("it does not say revoked"))
		}
		return ca.Answer{Outcome: ca.Revoked, RevokedAt: status.Date.UTC()}, err
	case http.StatusAccepted:
		return ca.Answer{Outcome: ca.Pending}, nil
	case http.StatusConflict:
		return ca.Answer{Outcome: ca.AlreadyRevoked}, nil
	}
	return ca.Answer{}, failure(op, reply)
}

// Status implements [ca.Driver].
func (d *Driver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	op := "read status of " + cert.String()
	asked := time.Now()
	reply, err := d.do(ctx, op, http.MethodGet, cert, "revocationstatus", nil)
	if err != nil {
		return ca.Evidence{}, err
	}
	if reply.Code != http.StatusOK {
		e := failure(op, reply)
		if e.Kind == ca.NotFound {
			return ca.Evidence{Status: mobileid.StatusUnknown, Proof: reply.Proof(asked)}, nil
		}
		return ca.Evidence{}, e
	}
	status, err := readStatus(op, reply, cert)
	if err != nil {
		return ca.Evidence{}, err
	}
	evidence := ca.Evidence{Status: mobileid.StatusGood, Proof: reply.Proof(asked)}
	if !status.Revoked {
		return evidence, nil
	}
	evidence.Status = mobileid.StatusRevoked
	evidence.RevokedAt = status.Date.UTC()
	for reason, word := range words {
		if word == status.Reason {
			evidence.Reason = reason
		}
	}
	if evidence.Reason == "" {
		return ca.Evidence{}, httpcall.Unreadable(op, fmt.Errorf("it is revoked for the reason %q", status.Reason))
	}
	if evidence.Reason == mobileid.CertificateHold {
		evidence.Status = mobileid.StatusOnHold
	}
	return evidence, nil
}

// Check sees that the API lets the worker in, and that it has a CA of the
// configured DN.
func (d *Driver) Check(ctx context.Context) error {
	const op = "check EJBCA"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.JoinPath("v1", "ca").String(), nil)
	if err != nil {
		return &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	reply, err := d.client.Do(ctx, op, request)
	if err != nil {
		return err
	}
	if reply.Code != http.StatusOK {
		return failure(op, reply)
	}
	var list struct {
		CAs []struct {
			SubjectDN string `json:"subject_dn"`
		} `json:"certificate_authorities"`
	}
	if err := reply.JSON(op, &list); err != nil {
		return err
	}
	var names []string
	for _, one := range list.CAs {
		if one.SubjectDN == d.issuerDN {
			return nil
		}
		names = append(names, fmt.Sprintf("%q", one.SubjectDN))
	}
	return &ca.Error{Kind: ca.Unsupported, Op: op, Words: fmt.Sprintf("it shows no CA %q, but %s", d.issuerDN, httpcall.Clean(strings.Join(names, ", ")))}
}

// do sends one request about a certificate and reads its whole answer. The DN goes
// as one segment of the path: a slash in it as %2F.
func (d *Driver) do(ctx context.Context, op, method string, cert ca.Certificate, call string, query url.Values) (httpcall.Reply, error) {
	if _, err := cert.SerialNumber(); err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	target := *d.url
	base := strings.TrimSuffix(d.url.EscapedPath(), "/")
	target.RawPath = base + "/v1/certificate/" + url.PathEscape(d.issuerDN) + "/" + cert.Serial + "/" + call
	path, err := url.PathUnescape(target.RawPath)
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	target.Path = path
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Accept", "application/json")
	return d.client.Do(ctx, op, request)
}

// readStatus reads a 200, which must be about the certificate.
func readStatus(op string, reply httpcall.Reply, cert ca.Certificate) (statusBody, error) {
	var status statusBody
	if err := reply.JSON(op, &status); err != nil {
		return status, err
	}
	named := strings.TrimLeft(strings.TrimPrefix(strings.ToLower(status.SerialNumber), "0x"), "0")
	if named != cert.Serial {
		return status, httpcall.Unreadable(op, fmt.Errorf("it is about serial %q", status.SerialNumber))
	}
	if status.Revoked && status.Date.IsZero() {
		return status, httpcall.Unreadable(op, errors.New("it has no date of the revocation"))
	}
	return status, nil
}

// failure translates an answer that is not the one hoped for.
func failure(op string, reply httpcall.Reply) *ca.Error {
	var body errorBody
	own := json.Unmarshal(reply.Body, &body) == nil && body.Code == reply.Code
	e := reply.Failure(op, body.Message)
	switch {
	case e.Kind == ca.NotFound && !own:
		e.Kind = ca.Unsupported // not found, but not by EJBCA: the address is wrong
	case reply.Code == http.StatusBadRequest && strings.HasPrefix(body.Message, "Invalid revocation reason"):
		e.Kind = ca.BadReason
	}
	return e
}
