// Package cmrest revokes certificates at Nexus Certificate Manager (CM) by the REST
// API of its Protocol Gateway, and has it issue, once for a key.
//
// Nothing was run against the product: the tests run against a fake that was written
// from the same facts. They are from the API's public documentation
// (https://doc.nexusgroup.com/pub/certificate-manager-cm-rest-api) and, marked C, from
// clients whose source is public: Keyfactor/nexus-certificate-manager-caplugin
// (models/ApiModels.cs, models/Helpers.cs) and Sleepw4lker/PSCertificateEnrollment
// (Invoke-PGWYPKCS10Operation.ps1, New-SignedCms.ps1).
//
//   - The caller is known by its TLS client certificate, that of a CM officer. Requests
//     that change something are signed by an officer, too: by the gateway itself (VRO
//     mode), or, by default, by the caller. Which of them it is shows in the answer: one
//     with dataToSign wants the whole request once more, with a signature (C). It is HTTP
//     200, and nothing is revoked: see signed.
//   - POST /certificates/revoke, a form of certid and reason, a number (C). Taken are 0,
//     1, 3, 4, 5, 6 and 9 (C); 6 is a hold, which no lock sends.
//   - An answer is JSON with error, 0 for success, and msg; errors[] has one entry for
//     each certificate that failed (C). HTTP 200 alone says nothing. The number for
//     "revoked already" is not known, so the status is read back.
//   - certid is CM's own name of a certificate. GET /certificates finds it by serial
//     number and issuer. An archive copy of another CA's certificate may lie in CM, too:
//     what matches several is not revoked, and what matches nothing exactly is not either.
//   - GET /certificates/{certid}/details: status is active or revoked, the reason comes in
//     words (C). A certificate on hold is taken to be a revoked one whose reason is
//     "certificate hold": that is inferred, and in no source.
//   - POST /certificates/pkcs10 issues: a form of pkcs10, procname, the token procedure,
//     and validto (C). The certid of what it issued is in a header (C): see Issue. Dates are
//     ISO 8601 in a search; that validto is written so, too, is inferred.
//   - GET /certificates finds by subjectKeyIdentifier, too, and GET
//     /certificates/{certid}/download has the certificate, in DER where Accept is
//     application/pkix-cert (both C). By them a lost answer is made good: see IssueOnce.
//
// Not known, and first to look at with a real gateway (live_test.go): the HTTP status
// codes of errors, how serial numbers are written (Options.SerialFormat), the unit of
// revocationtime, what dataToSign is made of (see signer), and how CM makes and writes key
// identifiers (see Issued).
package cmrest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// Options say where the API is and who asks.
type Options struct {
	// URL is https and ends in the API's root, usually https://host:8444/pgwy/api; the
	// name of a handler may follow.
	URL string
	// IssuerDN is the name of the CA as CM shows it: issuer in the answer of GET
	// /certificates, an RFC 1779 text. Order, spaces and quotes differ between programs, so
	// it is configured.
	IssuerDN string
	// SerialFormat is how CM writes serial numbers; default [Hex]. "1234" is a number in
	// both, and not the same one, so it is not guessed.
	SerialFormat SerialFormat
	// Issuer is the certificate of the CA. Who only revokes does not need it.
	Issuer *x509.Certificate

	ClientCertFile string // PEM, of an officer
	ClientKeyFile  string // PEM
	// SigningCertFile and SigningKeyFile are PEM files of the officer who signs the
	// requests, with an ECDSA or RSA key. None: the one of the TLS certificate.
	SigningCertFile string
	SigningKeyFile  string
	ServerCAFile    string        // PEM; empty: the trust store of the system
	Timeout         time.Duration // of one request; default 10 s
}

// Driver is a [ca.Driver] and a [ca.Issuer] for CM. A revocation takes up to four requests
// after its search, and one more if CM refuses it; a certificate up to four after the
// search for one that is there: the timeout of a call must allow for that.
type Driver struct {
	url      *url.URL
	issuerDN string
	issuer   *x509.Certificate
	serials  SerialFormat
	signer   *signer
	client   *httpcall.Client
}

var (
	_ ca.Driver       = (*Driver)(nil)
	_ ca.Checker      = (*Driver)(nil)
	_ ca.Credentialed = (*Driver)(nil)
	_ ca.Issuer       = (*Driver)(nil)
)

// New returns a driver. It reads the files, and reports all faults of the options at
// once; it does not connect.
func New(options Options) (*Driver, error) {
	var faults []error
	base, err := httpcall.BaseURL(options.URL)
	faults = append(faults, err)
	if options.IssuerDN == "" {
		faults = append(faults, errors.New("issuer DN: none is given"))
	}
	if options.SerialFormat == "" {
		options.SerialFormat = Hex
	}
	faults = append(faults, options.SerialFormat.check())
	if options.ClientCertFile == "" || options.ClientKeyFile == "" {
		faults = append(faults, errors.New("client certificate: no files are named"))
	}
	client, err := httpcall.New(httpcall.Options{
		ClientCertFile: options.ClientCertFile, ClientKeyFile: options.ClientKeyFile, ServerCAFile: options.ServerCAFile, Timeout: options.Timeout,
	})
	faults = append(faults, err)
	if options.SigningCertFile == "" && options.SigningKeyFile == "" {
		options.SigningCertFile, options.SigningKeyFile = options.ClientCertFile, options.ClientKeyFile
	}
	var officer *signer
	if options.SigningCertFile != "" || options.SigningKeyFile != "" {
		officer, err = newSigner(options.SigningCertFile, options.SigningKeyFile)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Driver{
		url: base, issuerDN: options.IssuerDN, issuer: options.Issuer, serials: options.SerialFormat, signer: officer, client: client,
	}, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Credentials implements [ca.Credentialed].
func (d *Driver) Credentials() []*x509.Certificate {
	return []*x509.Certificate{d.client.ClientCertificate(), d.signer.certificate}
}

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities {
	return ca.Capabilities{
		CarriesReason: true, HasStatus: true,
		Reasons: []mobileid.Reason{
			mobileid.KeyCompromise, mobileid.AffiliationChanged, mobileid.Superseded, mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn,
		},
	}
}

// Revoke implements [ca.Driver]. An empty reason is sent as unspecified. A certificate
// that CM shows as revoked for good is not asked for again.
func (d *Driver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	op := "revoke " + cert.String()
	if reason == "" {
		reason = mobileid.Unspecified
	}
	code, _ := reason.Code()
	if !d.Capabilities().Takes(reason) {
		return ca.Answer{}, &ca.Error{Kind: ca.BadReason, Op: op, Words: fmt.Sprintf("CM does not revoke for good for the reason %q", string(reason))}
	}
	found, err := d.find(ctx, op, cert)
	if err != nil {
		return ca.Answer{}, withoutEffect(err)
	}
	if found.entry == nil {
		return ca.Answer{}, &ca.Error{Kind: ca.NotFound, Op: op, Words: fmt.Sprintf("CM shows no such certificate of the issuer %q", d.issuerDN)}
	}
	if evidence, err := found.entry.evidence(); err == nil && evidence.Status == mobileid.StatusRevoked {
		return ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: evidence.RevokedAt}, nil
	}
	form := url.Values{"certid": {found.entry.CertID}, "reason": {strconv.Itoa(code)}}
	reply, err := d.signed(ctx, op, func(signature string) (*http.Request, error) { return d.revokeRequest(ctx, form, signature) })
	if err != nil {
		return ca.Answer{}, err
	}
	a, err := readAnswer(op, reply)
	if err == nil && a.Error == nil {
		err = httpcall.Unreadable(op, errors.New("it has no error number"))
	}
	if err != nil {
		return ca.Answer{}, err
	}
	refusal := a.failure(op, reply, found.entry.CertID)
	if refusal == nil {
		return ca.Answer{Outcome: ca.Revoked}, nil
	}
	if refusal.Kind == ca.Ambiguous || refusal.Kind == ca.Unsupported {
		// Somebody else may have been faster, and no number says so.
		if evidence, err := d.details(ctx, op, cert, found.entry.CertID); err == nil && evidence.Status == mobileid.StatusRevoked {
			return ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: evidence.RevokedAt}, nil
		}
	}
	return ca.Answer{}, refusal
}

// withoutEffect is a failure before anything was asked for that changes something.
func withoutEffect(err error) error {
	var e *ca.Error
	if !errors.As(err, &e) || e.Kind != ca.Ambiguous {
		return err
	}
	harmless := *e
	harmless.Kind = ca.Unavailable
	return &harmless
}

func (d *Driver) revokeRequest(ctx context.Context, form url.Values, signature string) (*http.Request, error) {
	if signature != "" {
		form = url.Values{"certid": form["certid"], "reason": form["reason"], "signature": {signature}}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.JoinPath("certificates", "revoke").String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	return request, nil
}

// Status implements [ca.Driver].
func (d *Driver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	op := "read status of " + cert.String()
	asked := time.Now()
	found, err := d.find(ctx, op, cert)
	if err != nil {
		return ca.Evidence{}, err
	}
	if found.entry == nil {
		return ca.Evidence{Status: mobileid.StatusUnknown, Proof: found.reply.Proof(asked)}, nil
	}
	return d.details(ctx, op, cert, found.entry.CertID)
}

// Check implements [ca.Checker]. It lists the token procedures, which changes nothing.
func (d *Driver) Check(ctx context.Context) error {
	const op = "check Protocol Gateway"
	var body struct {
		Procedures *[]struct{} `json:"procedures"`
	}
	if _, err := d.get(ctx, op, url.Values{"mediaType": {"pkcs10"}}, &body, "procedures"); err != nil {
		return err
	}
	if body.Procedures == nil {
		return httpcall.Unreadable(op, errors.New("it lists no procedures"))
	}
	return nil
}

// get reads JSON that says success into a value.
func (d *Driver) get(ctx context.Context, op string, query url.Values, into any, path ...string) (httpcall.Reply, error) {
	reply, err := d.fetch(ctx, op, "application/json", query, path...)
	if err != nil {
		return httpcall.Reply{}, err
	}
	a, err := readAnswer(op, reply)
	if err != nil {
		return httpcall.Reply{}, err
	}
	if refusal := a.failure(op, reply, ""); refusal != nil {
		return httpcall.Reply{}, refusal
	}
	return reply, reply.JSON(op, into)
}

// fetch sends a request that changes nothing.
func (d *Driver) fetch(ctx context.Context, op, accept string, query url.Values, path ...string) (httpcall.Reply, error) {
	target := d.url.JoinPath(path...)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Accept", accept)
	return d.client.Do(ctx, op, request)
}
