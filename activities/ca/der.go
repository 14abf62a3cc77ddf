package ca

import (
	encodingasn1 "encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// objectID is an object identifier as its DER content, which compares without
// an allocation: a CRL has one in each of a million entries.
type objectID string

// The object identifiers of extensions, by section of RFC 5280 or RFC 6960.
const (
	oidIssuerAltName     objectID = "\x55\x1d\x12"                         // 2.5.29.18, 5.2.2
	oidCRLNumber         objectID = "\x55\x1d\x14"                         // 2.5.29.20, 5.2.3
	oidReasonCode        objectID = "\x55\x1d\x15"                         // 2.5.29.21, 5.3.1
	oidInvalidityDate    objectID = "\x55\x1d\x18"                         // 2.5.29.24, 5.3.2
	oidDeltaCRLIndicator objectID = "\x55\x1d\x1b"                         // 2.5.29.27, 5.2.4
	oidIssuingPoint      objectID = "\x55\x1d\x1c"                         // 2.5.29.28, 5.2.5
	oidCertificateIssuer objectID = "\x55\x1d\x1d"                         // 2.5.29.29, 5.3.3
	oidAuthorityKeyID    objectID = "\x55\x1d\x23"                         // 2.5.29.35, 5.2.1
	oidNonce             objectID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02" // 1.3.6.1.5.5.7.48.1.2, RFC 6960 4.4.1
)

// String returns the dotted form, for messages.
func (id objectID) String() string {
	element := append([]byte{byte(asn1.OBJECT_IDENTIFIER), byte(len(id))}, id...) //nolint:gosec // longer ones are refused below
	var oid encodingasn1.ObjectIdentifier
	der := cryptobyte.String(element)
	if len(id) > 127 || !der.ReadASN1ObjectIdentifier(&oid) {
		return fmt.Sprintf("%x", string(id))
	}
	return oid.String()
}

// explicitTag is the tag [n] around another element.
func explicitTag(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

// implicitTag is the tag [n] in the place of a primitive element's own.
func implicitTag(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific() }

var errMalformed = errors.New("is not well-formed DER")

// malformed names the part of an answer that cannot be read.
func malformed(what string) error { return fmt.Errorf("%s %w", what, errMalformed) }

// extension is an X.509 extension (RFC 5280 section 4.2). Its parts share memory
// with the answer.
type extension struct {
	id       []byte
	critical bool
	value    cryptobyte.String
}

func (e extension) is(id objectID) bool { return string(e.id) == string(id) }

// eachExtension calls visit for every extension of a SEQUENCE OF Extension,
// given without its own header.
func eachExtension(list cryptobyte.String, visit func(extension) error) error {
	for !list.Empty() {
		var one, id, value cryptobyte.String
		var critical bool
		if !list.ReadASN1(&one, asn1.SEQUENCE) || !one.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return malformed("extension")
		}
		if one.PeekASN1Tag(asn1.BOOLEAN) && !one.ReadASN1Boolean(&critical) {
			return malformed("extension")
		}
		if !one.ReadASN1(&value, asn1.OCTET_STRING) || !one.Empty() {
			return malformed("extension")
		}
		if err := visit(extension{id: id, critical: critical, value: value}); err != nil {
			return err
		}
	}
	return nil
}

// readTime reads a Time, which is UTCTime up to 2049 and GeneralizedTime from
// then on (RFC 5280 section 5.1.2.4).
func readTime(der *cryptobyte.String, out *time.Time) bool {
	if der.PeekASN1Tag(asn1.UTCTime) {
		return der.ReadASN1UTCTime(out)
	}
	return der.ReadASN1GeneralizedTime(out)
}
