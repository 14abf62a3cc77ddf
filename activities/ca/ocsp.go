package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // names the issuer and its key as RFC 6960 wants it; it secures nothing
	"crypto/sha256"
	_ "crypto/sha512" // for issuers named by SHA-384 and SHA-512
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid"
)

const (
	maxOCSPBytes = 1 << 20
	// nonceBytes is the length that RFC 9654 section 2.1 has clients use.
	nonceBytes = 32
)

// The hash algorithms of a CertID (RFC 5754 section 2).
const (
	oidSHA1   objectID = "\x2b\x0e\x03\x02\x1a"                 // 1.3.14.3.2.26
	oidSHA256 objectID = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384 objectID = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 objectID = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"
)

// errNotKnown is an answer in order, by which the responder says unknown (RFC 6960
// section 2.2).
var errNotKnown = errors.New("the OCSP responder does not know the certificate")

// OCSP asks the OCSP responder of one CA (RFC 6960). It is safe for concurrent
// use and caches nothing.
type OCSP struct {
	endpoint
	issuer     *x509.Certificate
	identities map[objectID]issuerIdentity
	keySHA1    []byte // of the issuer's key, as a ResponderID has it
}

// issuerIdentity is how a CertID names an issuer under one hash algorithm.
type issuerIdentity struct{ nameHash, keyHash []byte }

// NewOCSP returns the OCSP source of the CA that issuer is the certificate of.
// client bounds a request; nil is one of [NewHTTPClient] with 10 s. Redirects to
// other hosts are refused whichever it is. now is the clock, nil for the system's.
func NewOCSP(url string, issuer *x509.Certificate, client *http.Client, now func() time.Time) (*OCSP, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	place, err := newEndpoint(url, client, defaultRequestTimeout, now, maxOCSPBytes)
	if err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	key, err := publicKeyBits(issuer)
	if err != nil {
		return nil, fmt.Errorf("OCSP responder: key of the CA: %w", err)
	}
	o := &OCSP{endpoint: place, issuer: issuer, identities: map[objectID]issuerIdentity{}}
	for id, hash := range map[objectID]crypto.Hash{
		oidSHA1: crypto.SHA1, oidSHA256: crypto.SHA256, oidSHA384: crypto.SHA384, oidSHA512: crypto.SHA512,
	} {
		o.identities[id] = issuerIdentity{nameHash: digest(hash, issuer.RawSubject), keyHash: digest(hash, key)}
	}
	o.keySHA1 = o.identities[oidSHA1].keyHash
	return o, nil
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data) // never fails
	return h.Sum(nil)
}

// publicKeyBits returns what a key hash is taken over: the BIT STRING
// subjectPublicKey without its header (RFC 6960 section 4.1.1).
func publicKeyBits(cert *x509.Certificate) ([]byte, error) {
	input := cryptobyte.String(cert.RawSubjectPublicKeyInfo)
	var info cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&info, asn1.SEQUENCE) || !info.SkipASN1(asn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil, malformed("SubjectPublicKeyInfo")
	}
	return bits, nil
}

// Check implements [Source] with a POST. A revocation counts whatever its age,
// certificateHold is StatusOnHold, and a "good" past its nextUpdate is
// StatusUnknown (contract rule 8). A certificate that the responder does not
// know, or any answer but a proper one, is an error and never "good".
func (o *OCSP) Check(ctx context.Context, cert Certificate) (Evidence, error) {
	op := "ask OCSP responder about " + cert.CertificateID.String()
	unknown := Evidence{Status: mobileid.StatusUnknown}
	if err := issuedBy(o.issuer, cert.CertificateID); err != nil {
		return unknown, &Error{Kind: Unsupported, Op: op, Err: err}
	}
	serial, err := cert.SerialNumber()
	if err != nil {
		return unknown, &Error{Kind: Unsupported, Op: op, Err: err}
	}
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails
	body, err := o.marshalRequest(serial, nonce)
	if err != nil {
		return unknown, &Error{Kind: Unsupported, Op: op, Err: err}
	}
	req, err := o.request(ctx, http.MethodPost, bytes.NewReader(body))
	if err != nil {
		return unknown, &Error{Kind: Unsupported, Op: op, Err: err}
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	_, der, err := o.exchange(req, op, http.StatusOK) //nolint:bodyclose // exchange has closed it
	if err != nil {
		return unknown, err
	}
	evidence, kind, err := o.judge(der, serial, nonce)
	if err != nil {
		return evidence, &Error{Kind: kind, Op: op, Err: err}
	}
	return evidence, nil
}

// marshalRequest makes an OCSPRequest for one certificate (RFC 6960 section
// 4.1.1). It names the issuer by SHA-1, as RFC 5019 section 2.1.1 wants and every
// responder understands.
func (o *OCSP) marshalRequest(serial *big.Int, nonce []byte) ([]byte, error) {
	issuer := o.identities[oidSHA1]
	sequence := func(parts ...func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, part := range parts {
					part(b)
				}
			})
		}
	}
	element := func(tag asn1.Tag, content []byte) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
		}
	}
	certID := sequence(
		sequence(element(asn1.OBJECT_IDENTIFIER, []byte(oidSHA1)), element(asn1.NULL, nil)),
		element(asn1.OCTET_STRING, issuer.nameHash),
		element(asn1.OCTET_STRING, issuer.keyHash),
		func(b *cryptobyte.Builder) { b.AddASN1BigInt(serial) },
	)
	extensions := func(b *cryptobyte.Builder) {
		b.AddASN1(explicitTag(2), sequence(sequence(
			element(asn1.OBJECT_IDENTIFIER, []byte(oidNonce)),
			func(b *cryptobyte.Builder) { b.AddASN1(asn1.OCTET_STRING, element(asn1.OCTET_STRING, nonce)) },
		)))
	}
	var b cryptobyte.Builder
	sequence(sequence(sequence(sequence(certID)), extensions))(&b)
	return b.Bytes()
}

// judge decides what an answer proves about a serial number. The Kind goes with
// the error: what cannot be read may be a proxy's page and is tried again; what
// can be read and is wrong stays wrong.
func (o *OCSP) judge(der []byte, serial *big.Int, nonce []byte) (Evidence, Kind, error) {
	unknown := Evidence{Status: mobileid.StatusUnknown}
	response, status, err := parseOCSP(der)
	if errors.Is(err, errMalformed) {
		return unknown, Unavailable, err
	}
	if err != nil {
		return unknown, Unsupported, err
	}
	if status != ocspSuccessful {
		return unknown, status.kind(), fmt.Errorf("the OCSP responder answers %s", status)
	}
	now := o.now()
	if err := o.authenticate(response, now); err != nil {
		return unknown, Unsupported, err
	}
	if response.nonce != nil && !bytes.Equal(response.nonce, nonce) {
		return unknown, Unsupported, errors.New("the nonce of the OCSP answer is not the one sent")
	}
	single, err := o.find(response, serial)
	if err != nil {
		return unknown, Unsupported, err
	}
	if err := single.checkTimes(response.producedAt, now); err != nil {
		return unknown, Unavailable, err
	}
	sum := sha256.Sum256(der)
	evidence := Evidence{
		Status: mobileid.StatusGood,
		Proof: mobileid.Proof{
			Source: mobileid.ProofFromOCSP,
			At:     single.thisUpdate.UTC(),
			SHA256: hex.EncodeToString(sum[:]),
		},
	}
	switch single.status {
	case tagRevoked:
		evidence.Status, evidence.Reason = revocation(single.reason)
		evidence.RevokedAt = single.revokedAt.UTC()
		if evidence.Status != mobileid.StatusRevoked && single.outdated(now) {
			evidence.Status = mobileid.StatusUnknown // a hold may have ended since
		}
	case tagUnknown:
		evidence.Status = mobileid.StatusUnknown
		return evidence, Unsupported, errNotKnown
	case tagGood:
		if single.outdated(now) {
			evidence.Status = mobileid.StatusUnknown
		}
	}
	return evidence, "", nil
}

// find returns the one entry for the serial number of our issuer. The issuer is
// told by the hashes of its name and of its key: another CA may use the same
// serial number, and even bear the same name.
func (o *OCSP) find(response *ocspResponse, serial *big.Int) (singleResponse, error) {
	var found []singleResponse
	for _, single := range response.singles {
		issuer, known := o.identities[single.hash]
		if known && bytes.Equal(single.nameHash, issuer.nameHash) && bytes.Equal(single.keyHash, issuer.keyHash) &&
			single.serial.Cmp(serial) == 0 {
			found = append(found, single)
		}
	}
	switch len(found) {
	case 0:
		return singleResponse{}, errors.New("the OCSP answer is about another certificate")
	case 1:
		return found[0], nil
	}
	return singleResponse{}, errors.New("the OCSP answer says more than one thing about the certificate")
}

// checkTimes refuses what is not to be believed yet (RFC 6960 section 3.2).
func (s singleResponse) checkTimes(producedAt, now time.Time) error {
	if err := early("producedAt", producedAt, now); err != nil {
		return err
	}
	if err := early("thisUpdate", s.thisUpdate, now); err != nil {
		return err
	}
	if !s.nextUpdate.IsZero() && s.nextUpdate.Before(s.thisUpdate) {
		return errors.New("nextUpdate of the OCSP answer is before its thisUpdate")
	}
	return nil
}

// outdated reports whether the responder has newer information by now. Without
// nextUpdate it has so at any time, and an answer is not out of date by that
// alone (RFC 6960 section 4.2.2.1).
func (s singleResponse) outdated(now time.Time) bool {
	return !s.nextUpdate.IsZero() && now.After(s.nextUpdate)
}

// authenticate checks that the answer was signed by the CA itself or by a
// responder to whom the CA has delegated it (RFC 6960 section 4.2.2.2). The
// certificate of the CA may come along; so may others, which prove nothing.
func (o *OCSP) authenticate(response *ocspResponse, now time.Time) error {
	algorithm, err := signatureAlgorithm(response.algorithm)
	if err != nil {
		return fmt.Errorf("the OCSP answer %w", err)
	}
	signedBy := func(cert *x509.Certificate) bool {
		return cert.CheckSignature(algorithm, response.signed, response.signature) == nil
	}
	if o.isResponder(response, o.issuer.RawSubject, o.keySHA1) && signedBy(o.issuer) {
		return nil
	}
	refusal := errors.New("the OCSP answer is not signed by the CA nor by a responder whose certificate came along")
	for _, cert := range response.certificates {
		key, err := publicKeyBits(cert)
		if err != nil {
			return err
		}
		keySHA1 := sha1.Sum(key) //nolint:gosec // the ResponderID's form; it secures nothing
		if !o.isResponder(response, cert.RawSubject, keySHA1[:]) || !signedBy(cert) {
			continue
		}
		if refusal = o.checkDelegate(cert, response.producedAt, now); refusal == nil {
			return nil
		}
	}
	return refusal
}

// isResponder reports whether the answer names this subject or key as its signer.
func (o *OCSP) isResponder(response *ocspResponse, subject, keySHA1 []byte) bool {
	if response.responderName != nil {
		return bytes.Equal(response.responderName, subject)
	}
	return bytes.Equal(response.responderKey, keySHA1)
}

// checkDelegate checks the certificate of a delegated responder: issued by the
// very CA, for signing OCSP answers, and valid when the answer was made and now.
// anyExtendedKeyUsage does not stand for id-kp-OCSPSigning here.
func (o *OCSP) checkDelegate(cert *x509.Certificate, producedAt, now time.Time) error {
	if !bytes.Equal(cert.RawIssuer, o.issuer.RawSubject) {
		return errors.New("the OCSP responder's certificate bears the name of another issuer")
	}
	if err := cert.CheckSignatureFrom(o.issuer); err != nil {
		return fmt.Errorf("the OCSP responder's certificate was not issued by the CA: %w", err)
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return errors.New("the OCSP responder's certificate is not for signing OCSP answers (id-kp-OCSPSigning)")
	}
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if cert.KeyUsage != 0 && cert.KeyUsage&signing == 0 {
		return errors.New("the OCSP responder's certificate is not for signing")
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("the OCSP responder's certificate has an %w %s", errCritical, cert.UnhandledCriticalExtensions[0])
	}
	for _, at := range []time.Time{producedAt, now} {
		// Responders round producedAt down, some to the minute, so that it may seem to
		// precede a certificate that was made for this very answer.
		if at.Before(cert.NotBefore.Add(-clockTolerance)) || at.After(cert.NotAfter) {
			return fmt.Errorf("the OCSP responder's certificate is not valid at %s", at.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
