// Package cmp revokes certificates by CMP, the Certificate Management Protocol (RFC
// 9810) over HTTP (RFC 9811), which EJBCA and other CAs speak.
//
// Facts, by section of RFC 9810 unless another is named; those of OpenSSL 3.0 from
// running `openssl cmp` against this driver and against the responder of its tests;
// those of EJBCA from its source (Keyfactor/ejbca-ce, RevocationMessageHandler.java,
// CmpRevokeResponseMessage.java, CmpMessageDispatcherSessionBean.java) and its page "CMP
// error messages". It was not run against EJBCA or another CA.
//
//   - A revocation request, rr, names the certificate by serial number and issuer, as
//     they stand in it (5.3.9). The issuer's Name is taken from the CA's certificate.
//   - The reason goes as a CRL entry extension. Unspecified is said by leaving it out,
//     as RFC 5280 section 5.3.1 has it; EJBCA and OpenSSL take that for unspecified.
//   - Messages protect themselves, by a signature or by a MAC under a shared secret
//     (5.1.3), so CMP often runs over plain HTTP. Whatever is not protected, the HTTP
//     status code included, can then come from anybody on the line: see below.
//   - The answer is rp with one status per certificate (5.3.10), or an error message.
//     Status 4, revocationWarning, announces a revocation, and nothing is done; OpenSSL's
//     own client counts it as success. 3 is waiting. Both are polled by CRL and OCSP; the
//     polling of CMP (5.3.22) is not used.
//   - There is no call for the status of a certificate: the CA must have a CRL or OCSP.
//   - A CA was seen to answer systemFailure and to revoke all the same (OmniTrust core
//     #1833).
//   - EJBCA answers certRevoked to a second request and badCertId for an unknown
//     certificate, both signed with the key that signs certificates, so that its issuer
//     certificate verifies them. Its pending approvals it answers with "accepted": nothing
//     shows the revocation then, and the next try is refused as badRequest, which is for
//     an operator. Where EJBCA has approvals the driver ejbca is the better one.
//   - EJBCA takes 10,000 iterations in a MAC at most; OpenSSL 3.0 has no PBMAC1.
//
// What an answer counts, from the most to the least:
//
//   - Protected by the issuer's key, a configured responder's or the secret, with our
//     transaction ID and nonce: it is the CA's word. Only such an answer is a success, or
//     says that the certificate is revoked already or unknown.
//   - Not so, over https: it may say that the worker is not let in, because CAs cannot
//     protect an answer to a stranger; and its HTTP status code counts.
//   - Not so, over http: it means nothing, and the request may have had its effect
//     (ca.Ambiguous). A man in the middle can delay a lock, and neither end it nor fake its
//     success.
package cmp

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"os"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// contentType of requests and answers.
const contentType = "application/pkixcmp"

// The MACs that requests may have.
const (
	PBM    = "pbm"    // RFC 4211 section 4.4, which every product speaks
	PBMAC1 = "pbmac1" // RFC 8018 section 7.1, which RFC 9481 prefers
)

// Options say where the CA is and who asks: by certificate, or by secret.
type Options struct {
	// URL is http or https, and whole: it names the CA or the profile where the product
	// has several.
	URL        string
	IssuerFile string // PEM, the CA's certificate: its name goes into requests, and its key is trusted in answers

	CertFile string // PEM, of an RA that may revoke, with those above it if the CA needs them
	KeyFile  string // PEM: RSA, EC P-256 or EC P-384

	SecretFile string // file with the shared secret, without its last line end
	Reference  string // by which the CA finds the secret
	MAC        string // PBM or PBMAC1; empty: PBM. Answers may have either

	ResponderFile string        // PEM, certificates whose keys are trusted in answers beside the issuer's
	ServerCAFile  string        // PEM, for https; empty: the trust store of the system
	Timeout       time.Duration // of one request; default 10 s
}

// Driver is a [ca.Driver] for CMP. It needs a CRL or OCSP beside it.
type Driver struct {
	url       *url.URL
	issuer    *x509.Certificate
	protector protector
	trust     trust
	client    *httpcall.Client
}

var (
	_ ca.Driver       = (*Driver)(nil)
	_ ca.Checker      = (*Driver)(nil)
	_ ca.Credentialed = (*Driver)(nil)
)

// New returns a driver. It reads the files, and reports all faults of the options
// at once; it does not connect.
func New(options Options) (*Driver, error) {
	address, urlErr := readURL(options.URL)
	var unused error
	if urlErr == nil && address.Scheme == "http" && options.ServerCAFile != "" {
		unused = errors.New("server CA: the url is not https")
	}
	protector, protectorErr := newProtector(options)
	issuer, issuerErr := readCertificates("issuer", options.IssuerFile)
	var responders []*x509.Certificate
	var respondersErr error
	if options.ResponderFile != "" {
		responders, respondersErr = readCertificates("responder", options.ResponderFile)
	}
	client, clientErr := httpcall.New(httpcall.Options{ServerCAFile: options.ServerCAFile, Timeout: options.Timeout})
	if err := errors.Join(urlErr, unused, protectorErr, issuerErr, respondersErr, clientErr); err != nil {
		return nil, err
	}
	d := &Driver{url: address, issuer: issuer[0], protector: protector, client: client}
	d.trust.signers = append([]*x509.Certificate{d.issuer}, responders...)
	if s, ok := protector.(*secret); ok {
		d.trust.secret = s.value
	}
	return d, nil
}

func readURL(text string) (*url.URL, error) {
	address, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if address.Scheme != "http" && address.Scheme != "https" || address.Host == "" || address.User != nil {
		return nil, fmt.Errorf("url %q is not an http or https URL without a user", address.Redacted())
	}
	return address, nil
}

func newProtector(options Options) (protector, error) {
	byCertificate := options.CertFile != "" || options.KeyFile != ""
	bySecret := options.SecretFile != "" || options.Reference != "" || options.MAC != ""
	switch {
	case byCertificate && bySecret:
		return nil, errors.New("certificate and secret: give one of them")
	case byCertificate:
		return newSigner(options.CertFile, options.KeyFile)
	case options.SecretFile == "" || options.Reference == "":
		return nil, errors.New("certificate or secret: give a certificate and its key, or a secret and its reference")
	case options.MAC != "" && options.MAC != PBM && options.MAC != PBMAC1:
		return nil, fmt.Errorf("mac %q is none of %s, %s", options.MAC, PBM, PBMAC1)
	}
	return newSecret(options.SecretFile, options.Reference, options.MAC == PBMAC1)
}

// readCertificates reads all certificates of a PEM file; it has one at least.
func readCertificates(what, file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: %s holds no PEM certificate", what, file)
	}
	return certs, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Credentials implements [ca.Credentialed]: none with a secret.
func (d *Driver) Credentials() []*x509.Certificate {
	if s, ok := d.protector.(*signer); ok {
		return []*x509.Certificate{s.pair.Leaf}
	}
	return nil
}

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities { return ca.Capabilities{CarriesReason: true} }

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
	if err == nil && cert.Issuer != mobileid.HashName(d.issuer.RawSubject) {
		err = errors.New("another CA issued it") // the request would name this one
	}
	if err != nil {
		return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	content, err := revocationRequest(d.issuer.RawSubject, serial, code)
	if err != nil {
		return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	said, err := d.ask(ctx, op, bodyRR, content)
	if err != nil {
		return ca.Answer{}, err
	}
	return revocation(op, said, serial)
}

// revocation is what a protected answer to a request to revoke amounts to.
func revocation(op string, said answer, serial *big.Int) (ca.Answer, error) {
	switch said.kind {
	case bodyRP:
		status, err := readRevocation(said.content, serial)
		if err != nil {
			return ca.Answer{}, httpcall.Unreadable(op, err)
		}
		return status.outcome(op)
	case bodyError:
		status, err := readError(said.content)
		if err != nil {
			return ca.Answer{}, httpcall.Unreadable(op, err)
		}
		return status.failure(op)
	}
	return ca.Answer{}, httpcall.Unreadable(op, errWrongBody)
}

// Status implements [ca.Driver]. CMP has no such call.
func (*Driver) Status(_ context.Context, cert ca.Certificate) (ca.Evidence, error) {
	return ca.Evidence{Status: mobileid.StatusUnknown}, &ca.Error{
		Kind: ca.Unsupported, Op: "read status of " + cert.String(), Words: "CMP has no status: CRL and OCSP tell",
	}
}

// Check sends a general message that asks for nothing. A protected answer, and be it
// an error, shows that the CA knows the worker and the worker the CA, unless it says
// that the worker is not let in. Whether the worker may revoke shows at the first
// request. EJBCA has no general messages and does not protect its refusal, so there
// Check only tells, as an error of kind Unsupported, that a CMP server is reached.
func (d *Driver) Check(ctx context.Context) error {
	const op = "check CMP"
	said, err := d.ask(ctx, op, bodyGenM, emptySequence)
	var e *ca.Error
	switch {
	case errors.Is(err, errForeign) && errors.As(err, &e):
		return &ca.Error{Kind: ca.Denied, Op: op, Words: e.Words, Err: err}
	case errors.Is(err, errUnprotected) && errors.As(err, &e) && e.Kind != ca.Denied:
		return &ca.Error{Kind: ca.Unsupported, Op: op, Words: "reached, but whether it lets the worker in shows at the first request: " + e.Words, Err: err}
	case err != nil:
		return err
	case said.kind == bodyGenP:
		return nil
	case said.kind != bodyError:
		return httpcall.Unreadable(op, errWrongBody)
	}
	status, err := readError(said.content)
	if err != nil {
		return httpcall.Unreadable(op, err)
	}
	if kind := status.kind(); kind == ca.Denied || ca.Curable(&ca.Error{Kind: kind}) {
		return &ca.Error{Kind: kind, Op: op, Words: status.String()}
	}
	return nil // it does not take the message, and has read it
}

// ask sends a message and returns the answer to it, which is protected by the CA. The
// error is *ca.Error.
func (d *Driver) ask(ctx context.Context, op string, body uint8, content []byte) (answer, error) {
	x := newExchange()
	der, err := message(d.protector, d.issuer.RawSubject, x, time.Now(), body, content)
	if err != nil {
		return answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.String(), bytes.NewReader(der))
	if err != nil {
		return answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", contentType)
	reply, err := d.client.Do(ctx, op, request)
	if err != nil {
		return answer{}, err
	}
	// A server may send its message with whatever HTTP status code (RFC 9811).
	media, _, _ := mime.ParseMediaType(reply.Header.Get("Content-Type"))
	if media != contentType {
		if reply.Code == http.StatusOK {
			return answer{}, httpcall.Unreadable(op, fmt.Errorf("its content type is %q", media))
		}
		return answer{}, d.refused(op, reply)
	}
	said, err := readAnswer(reply.Body)
	switch {
	case err != nil && reply.Code != http.StatusOK:
		return answer{}, d.refused(op, reply)
	case err != nil:
		return answer{}, httpcall.Unreadable(op, err)
	case !said.protected():
		return answer{}, d.unprotected(op, x, said)
	case !x.binds(said):
		return answer{}, httpcall.Unreadable(op, errors.New("it is the answer to another request"))
	}
	if err := d.trust.verify(said); err != nil {
		return answer{}, &ca.Error{Kind: ca.Ambiguous, Op: op, Words: httpcall.Clean(err.Error()), Err: err}
	}
	return said, nil
}

// refused is an answer of HTTP alone.
func (d *Driver) refused(op string, reply httpcall.Reply) *ca.Error {
	e := reply.Failure(op, "")
	switch {
	case e.Kind == ca.Unavailable:
		// Believed over http too: at worst a request that had its effect is made again.
	case d.url.Scheme != "https":
		e.Kind = ca.Ambiguous
	case e.Kind == ca.NotFound:
		e.Kind = ca.Unsupported // the address is wrong: HTTP knows no certificates
	}
	return e
}

// unprotected is an answer without protection, which is no success whatever it says.
func (d *Driver) unprotected(op string, x exchange, said answer) *ca.Error {
	e := &ca.Error{Kind: ca.Ambiguous, Op: op, Words: errUnprotected.Error(), Err: errUnprotected}
	if said.kind != bodyError {
		return e
	}
	status, err := readError(said.content)
	if err != nil {
		return e
	}
	e.Words += "; it is an error message: " + status.String()
	if d.url.Scheme == "https" && x.binds(said) && status.status == rejection && status.fail&denials == status.fail && status.fail != 0 {
		e.Kind = ca.Denied
	}
	return e
}
