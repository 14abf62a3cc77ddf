// Package stepca revokes certificates at Smallstep step-ca.
//
// Facts, from the source of smallstep/certificates v0.30.2 (api/revoke.go,
// authority/tls.go) and from running it:
//
//   - POST /1.0/revoke with the serial number, a reason code and a one-time token of
//     a JWK provisioner. The token is good for one try: the same one again is
//     refused, so each try mints its own.
//   - A serial number in hex may be read as decimal, and one with a leading zero as
//     octal: only decimal is sent.
//   - "passive" must be true, or the answer is 501. It does not make the revocation
//     any less: the CRL carries it.
//   - A serial number that was never issued is answered with success, and listed. So
//     an answer proves nothing, and the CRL does: the CA must have one
//     ("crl": {"enabled": true, "generateOnRevoke": true}). There is no OCSP, and no
//     call that reads a status.
//   - The revocation is stored before the CRL is made: a failure of the second is
//     answered 500, and the next try with "already revoked".
package stepca

import (
	"bytes"
	"context"
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

const (
	revokePath     = "/1.0/revoke"
	provisionsPath = "/1.0/provisioners"
	maxPages       = 100 // of provisioners, more than any CA has
)

// Options say where the CA is and who asks.
type Options struct {
	URL          string        // https, of the CA, without a path
	ServerCAFile string        // PEM file with the CA's root certificate
	Provisioner  string        // name of a JWK provisioner; each of them may revoke every certificate
	KeyFile      string        // PEM file with the provisioner's private key, EC P-256
	Timeout      time.Duration // of one request; default 10 s
}

// Driver is a [ca.Driver] for step-ca. It needs a CRL beside it.
type Driver struct {
	url    *url.URL
	client *httpcall.Client
	signer *signer
}

var _ ca.Driver = (*Driver)(nil)

// New returns a driver. It reads the files, and reports all faults of the options
// at once; it does not connect.
func New(options Options) (*Driver, error) {
	base, urlErr := httpcall.BaseURL(options.URL)
	if urlErr == nil && strings.Trim(base.Path, "/") != "" {
		// The tokens name the address, and step-ca takes its own alone.
		urlErr = fmt.Errorf("url %q has a path", base)
	}
	var missing error
	if options.ServerCAFile == "" {
		missing = errors.New("server CA: no file is named")
	}
	if options.Provisioner == "" {
		missing = errors.Join(missing, errors.New("provisioner: none is named"))
	}
	client, clientErr := httpcall.New(httpcall.Options{ServerCAFile: options.ServerCAFile, Timeout: options.Timeout})
	signer, signerErr := newSigner(options.Provisioner, options.KeyFile, options.ServerCAFile)
	if err := errors.Join(urlErr, missing, clientErr, signerErr); err != nil {
		return nil, err
	}
	return &Driver{url: base, client: client, signer: signer}, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities { return ca.Capabilities{CarriesReason: true} }

// revokeBody is what the CA is asked.
type revokeBody struct {
	Serial     string `json:"serial"` // decimal
	OTT        string `json:"ott"`
	ReasonCode int    `json:"reasonCode"`
	Passive    bool   `json:"passive"`
}

// answerBody is an answer, be it good or an error.
type answerBody struct {
	Status  any    `json:"status"` // "ok", or the HTTP status code
	Message string `json:"message"`
}

// Revoke implements [ca.Driver]. An empty reason is sent as unspecified.
func (d *Driver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	op := "revoke " + cert.String()
	if reason == "" {
		reason = mobileid.Unspecified
	}
	code, _ := reason.Code()
	if !reason.Final() {
		return ca.Answer{}, &ca.Error{Kind: ca.BadReason, Op: op, Words: fmt.Sprintf("%q does not revoke for good", string(reason))}
	}
	serial, err := cert.SerialNumber()
	if err != nil {
		return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	token, err := d.signer.token(d.url.JoinPath(revokePath).String(), serial.String(), time.Now())
	if err != nil {
		return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	reply, err := d.post(ctx, op, revokeBody{Serial: serial.String(), OTT: token, ReasonCode: code, Passive: true})
	if err != nil {
		return ca.Answer{}, err
	}
	var answer answerBody
	unreadable := json.Unmarshal(reply.Body, &answer)
	switch {
	case reply.Code == http.StatusOK && unreadable == nil && answer.Status == "ok":
		return ca.Answer{Outcome: ca.Revoked}, nil
	case reply.Code == http.StatusOK:
		return ca.Answer{}, httpcall.Unreadable(op, errors.Join(unreadable, errors.New("it does not say ok")))
	case reply.Code == http.StatusBadRequest && strings.Contains(answer.Message, "certificate with serial number '"+serial.String()+"' is already revoked"):
		// There is no code for it. The caller sees the CRL before it believes this.
		return ca.Answer{Outcome: ca.AlreadyRevoked}, nil
	}
	e := reply.Failure(op, answer.Message)
	if reply.Code == http.StatusNotImplemented || reply.Code == http.StatusNotFound {
		// A step-ca without a database, and something that is no step-ca: serial numbers
		// are never unknown to one.
		e.Kind = ca.Unsupported
	}
	return ca.Answer{}, e
}

func (d *Driver) post(ctx context.Context, op string, body revokeBody) (httpcall.Reply, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.JoinPath(revokePath).String(), bytes.NewReader(content))
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	return d.client.Do(ctx, op, request)
}

// Status implements [ca.Driver]. The CA has no such call.
func (*Driver) Status(_ context.Context, cert ca.Certificate) (ca.Evidence, error) {
	return ca.Evidence{Status: mobileid.StatusUnknown}, &ca.Error{
		Kind: ca.Unsupported, Op: "read status of " + cert.String(), Words: "step-ca has no status but its CRL",
	}
}

// Check sees that the CA answers, and that it knows the provisioner with this very
// key. Whether a token is accepted shows when one is used.
func (d *Driver) Check(ctx context.Context) error {
	const op = "check step-ca"
	cursor := ""
	for range maxPages {
		page, err := d.provisioners(ctx, op, cursor)
		if err != nil {
			return err
		}
		for _, p := range page.Provisioners {
			if p.Type == "JWK" && p.Name == d.signer.provisioner && p.Key.KeyID == d.signer.keyID {
				return nil
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	return &ca.Error{Kind: ca.Denied, Op: op, Words: fmt.Sprintf("it has no JWK provisioner %q with key %s", d.signer.provisioner, d.signer.keyID)}
}

// provisionerPage is one page of the list: 100 provisioners at most.
type provisionerPage struct {
	Provisioners []struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Key  struct {
			KeyID string `json:"kid"`
		} `json:"key"`
	} `json:"provisioners"`
	NextCursor string `json:"nextCursor"`
}

func (d *Driver) provisioners(ctx context.Context, op, cursor string) (page provisionerPage, err error) {
	target := d.url.JoinPath(provisionsPath)
	target.RawQuery = url.Values{"limit": {"100"}, "cursor": {cursor}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return page, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	reply, err := d.client.Do(ctx, op, request)
	if err != nil {
		return page, err
	}
	if reply.Code != http.StatusOK {
		return page, reply.Failure(op, "")
	}
	return page, reply.JSON(op, &page)
}
