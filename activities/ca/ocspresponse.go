package ca

import (
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	oidBasicResponse objectID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01" // 1.3.6.1.5.5.7.48.1.1, RFC 6960 4.2.1

	// maxResponderCertificates bounds the signatures that one answer makes us check.
	maxResponderCertificates = 8
)

// ocspStatus is OCSPResponseStatus (RFC 6960 section 4.2.1).
type ocspStatus int

const ocspSuccessful ocspStatus = 0

func (s ocspStatus) String() string {
	names := map[ocspStatus]string{
		ocspSuccessful: "successful",
		1:              "malformedRequest",
		2:              "internalError",
		3:              "tryLater",
		5:              "sigRequired",
		6:              "unauthorized",
	}
	if name, ok := names[s]; ok {
		return name
	}
	return fmt.Sprintf("OCSP response status %d", int(s))
}

// kind says which of the statuses go away by themselves (RFC 6960 section 2.3).
func (s ocspStatus) kind() Kind {
	if s == 2 || s == 3 {
		return Unavailable
	}
	return Unsupported
}

// ocspResponse is a successful BasicOCSPResponse (RFC 6960 section 4.2.1). Its
// parts share memory with the answer. Nothing of it is to be believed before its
// signature is checked.
type ocspResponse struct {
	signed       []byte
	algorithm    cryptobyte.String // content of the AlgorithmIdentifier
	signature    []byte
	certificates []*x509.Certificate

	responderName []byte // ResponderID byName: the DER Name
	responderKey  []byte // ResponderID byKey: the SHA-1 of the public key
	producedAt    time.Time
	singles       []singleResponse
	nonce         []byte // nil if the answer has none
}

// singleResponse is what an answer says about one certificate.
type singleResponse struct {
	hash       objectID
	nameHash   []byte
	keyHash    []byte
	serial     *big.Int
	status     asn1.Tag // one of the three below
	revokedAt  time.Time
	reason     int // noReason if it carries none
	thisUpdate time.Time
	nextUpdate time.Time // zero if it has none
}

// The tags of CertStatus.
const (
	tagGood    = asn1.Tag(0x80) // [0] IMPLICIT NULL
	tagRevoked = asn1.Tag(0xa1) // [1] IMPLICIT RevokedInfo
	tagUnknown = asn1.Tag(0x82) // [2] IMPLICIT NULL
)

// parseOCSP reads an OCSPResponse. If its status is not successful there is
// nothing else in it. The package golang.org/x/crypto/ocsp would take the first
// entry with the right serial number whoever the issuer is, and an entry without
// a status for a revocation.
func parseOCSP(der []byte) (*ocspResponse, ocspStatus, error) {
	input := cryptobyte.String(der)
	var outer, wrapped, inner, kind, basic cryptobyte.String
	var status int
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&status) {
		return nil, 0, malformed("OCSP answer")
	}
	if ocspStatus(status) != ocspSuccessful {
		return nil, ocspStatus(status), nil
	}
	if !outer.ReadASN1(&wrapped, explicitTag(0)) || !outer.Empty() ||
		!wrapped.ReadASN1(&inner, asn1.SEQUENCE) || !wrapped.Empty() ||
		!inner.ReadASN1(&kind, asn1.OBJECT_IDENTIFIER) || !inner.ReadASN1(&basic, asn1.OCTET_STRING) || !inner.Empty() {
		return nil, 0, malformed("OCSP answer")
	}
	if objectID(kind) != oidBasicResponse {
		return nil, 0, fmt.Errorf("OCSP answer is of type %s and not basic", objectID(kind))
	}
	response, err := parseBasicResponse(basic)
	return response, ocspSuccessful, err
}

func parseBasicResponse(input cryptobyte.String) (*ocspResponse, error) {
	var (
		r                               ocspResponse
		basic, data, list, certificates cryptobyte.String
		signature                       encodingasn1.BitString
		present                         bool
	)
	if !input.ReadASN1(&basic, asn1.SEQUENCE) || !input.Empty() ||
		!basic.ReadASN1Element(&data, asn1.SEQUENCE) ||
		!basic.ReadASN1(&r.algorithm, asn1.SEQUENCE) ||
		!basic.ReadASN1BitString(&signature) ||
		!basic.ReadOptionalASN1(&list, &present, explicitTag(0)) || !basic.Empty() {
		return nil, malformed("basic OCSP answer")
	}
	r.signed, r.signature = data, signature.RightAlign()
	if present && (!list.ReadASN1(&certificates, asn1.SEQUENCE) || !list.Empty()) {
		return nil, malformed("list of certificates of the OCSP answer")
	}
	for !certificates.Empty() {
		var der cryptobyte.String
		if !certificates.ReadASN1Element(&der, asn1.SEQUENCE) {
			return nil, malformed("certificate of the OCSP answer")
		}
		if len(r.certificates) == maxResponderCertificates {
			return nil, fmt.Errorf("OCSP answer has more than %d certificates", maxResponderCertificates)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate of the OCSP answer: %w", err)
		}
		r.certificates = append(r.certificates, certificate)
	}
	return &r, r.parseData(data)
}

// parseData reads the ResponseData.
func (r *ocspResponse) parseData(input cryptobyte.String) error {
	var data, list, version cryptobyte.String
	if !input.ReadASN1(&data, asn1.SEQUENCE) || !input.Empty() {
		return malformed("OCSP response data")
	}
	var number uint8
	var hasVersion bool
	if !data.ReadOptionalASN1(&version, &hasVersion, explicitTag(0)) || hasVersion && !version.ReadASN1Integer(&number) {
		return malformed("version of the OCSP answer")
	}
	if number != 0 {
		return fmt.Errorf("OCSP answer has the unknown version %d", int(number)+1)
	}
	if err := r.parseResponderID(&data); err != nil {
		return err
	}
	if !data.ReadASN1GeneralizedTime(&r.producedAt) || !data.ReadASN1(&list, asn1.SEQUENCE) {
		return malformed("OCSP response data")
	}
	for !list.Empty() {
		single, err := parseSingle(&list)
		if err != nil {
			return err
		}
		r.singles = append(r.singles, single)
	}
	if err := r.parseExtensions(&data); err != nil {
		return err
	}
	if !data.Empty() {
		return malformed("OCSP response data")
	}
	return nil
}

func (r *ocspResponse) parseResponderID(data *cryptobyte.String) error {
	var id, content cryptobyte.String
	switch {
	case data.PeekASN1Tag(explicitTag(1)):
		if !data.ReadASN1(&id, explicitTag(1)) || !id.ReadASN1Element(&content, asn1.SEQUENCE) || !id.Empty() {
			return malformed("name of the OCSP responder")
		}
		r.responderName = content
	case data.PeekASN1Tag(explicitTag(2)):
		if !data.ReadASN1(&id, explicitTag(2)) || !id.ReadASN1(&content, asn1.OCTET_STRING) || !id.Empty() {
			return malformed("key hash of the OCSP responder")
		}
		r.responderKey = content
	default:
		return malformed("OCSP responder id")
	}
	return nil
}

// parseExtensions reads the responseExtensions, of which only the nonce means
// anything here.
func (r *ocspResponse) parseExtensions(data *cryptobyte.String) error {
	return eachOptionalExtension(data, explicitTag(1), func(e extension) error {
		if !e.is(oidNonce) {
			return refuseCritical(e)
		}
		// RFC 8954 section 2.1: an OCTET STRING within that of the extension. Older
		// responders return what they were sent, which is the same.
		var nonce cryptobyte.String
		if r.nonce != nil || !e.value.ReadASN1(&nonce, asn1.OCTET_STRING) || !e.value.Empty() {
			return malformed("nonce of the OCSP answer")
		}
		r.nonce = append([]byte{}, nonce...)
		return nil
	})
}

func parseSingle(list *cryptobyte.String) (singleResponse, error) {
	var single, id, algorithm, hash, nameHash, keyHash, status cryptobyte.String
	s := singleResponse{serial: new(big.Int), reason: noReason}
	if !list.ReadASN1(&single, asn1.SEQUENCE) || !single.ReadASN1(&id, asn1.SEQUENCE) ||
		!id.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1(&hash, asn1.OBJECT_IDENTIFIER) ||
		!id.ReadASN1(&nameHash, asn1.OCTET_STRING) || !id.ReadASN1(&keyHash, asn1.OCTET_STRING) ||
		!id.ReadASN1Integer(s.serial) || !id.Empty() {
		return s, malformed("certificate id of the OCSP answer")
	}
	s.hash, s.nameHash, s.keyHash = objectID(hash), nameHash, keyHash
	if !single.ReadAnyASN1(&status, &s.status) {
		return s, malformed("status of the OCSP answer")
	}
	switch {
	case s.status == tagGood && status.Empty(), s.status == tagUnknown && status.Empty():
	case s.status == tagRevoked:
		if err := s.parseRevoked(status); err != nil {
			return s, err
		}
	default:
		return s, malformed("status of the OCSP answer")
	}
	var next cryptobyte.String
	var hasNext bool
	if !single.ReadASN1GeneralizedTime(&s.thisUpdate) || !single.ReadOptionalASN1(&next, &hasNext, explicitTag(0)) ||
		hasNext && (!next.ReadASN1GeneralizedTime(&s.nextUpdate) || !next.Empty()) {
		return s, malformed("time of the OCSP answer")
	}
	if err := eachOptionalExtension(&single, explicitTag(1), refuseCritical); err != nil {
		return s, err
	}
	if !single.Empty() {
		return s, malformed("OCSP answer")
	}
	return s, nil
}

func (s *singleResponse) parseRevoked(info cryptobyte.String) error {
	var reason cryptobyte.String
	var hasReason bool
	if !info.ReadASN1GeneralizedTime(&s.revokedAt) || !info.ReadOptionalASN1(&reason, &hasReason, explicitTag(0)) ||
		hasReason && (!reason.ReadASN1Enum(&s.reason) || !reason.Empty()) || !info.Empty() {
		return malformed("revocation of the OCSP answer")
	}
	if hasReason && s.reason < 0 {
		return malformed("revocation reason of the OCSP answer")
	}
	return nil
}

// eachOptionalExtension visits the Extensions under a tag, if they are there.
func eachOptionalExtension(der *cryptobyte.String, tag asn1.Tag, visit func(extension) error) error {
	var wrapped, list cryptobyte.String
	var present bool
	if !der.ReadOptionalASN1(&wrapped, &present, tag) {
		return malformed("extensions")
	}
	if !present {
		return nil
	}
	if !wrapped.ReadASN1(&list, asn1.SEQUENCE) || !wrapped.Empty() {
		return malformed("extensions")
	}
	return eachExtension(list, visit)
}

// errCritical: what must not be ignored, and is not known here.
var errCritical = errors.New("unknown critical extension")

func refuseCritical(e extension) error {
	if e.critical {
		return fmt.Errorf("%w %s", errCritical, objectID(e.id))
	}
	return nil
}
