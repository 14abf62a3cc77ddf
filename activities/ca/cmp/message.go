package cmp

import (
	"bytes"
	"crypto/rand"
	encodingasn1 "encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// pvno is the version cmp2000. The newer cmp2021 is for what is not used here
// (RFC 9810 section 7).
const pvno = 2

// The bodies that are sent and answered (RFC 9810 section 5.1.2).
const (
	bodyRR    = 11 // revocation request
	bodyRP    = 12 // its answer
	bodyGenM  = 21 // general message
	bodyGenP  = 22 // its answer
	bodyError = 23
)

// tokenSize of a transaction ID and of a nonce, in bytes: 128 random bits (RFC 9810
// section 5.1.1).
const tokenSize = 16

var oidReasonCode = encodingasn1.ObjectIdentifier{2, 5, 29, 21} // RFC 5280 section 5.3.1

// explicit is the tag [n] around another element: those of CMP are all explicit.
func explicit(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

// exchange is what an answer must repeat, so that it is the answer to this request.
type exchange struct {
	transactionID []byte
	nonce         []byte
}

func newExchange() exchange {
	random := make([]byte, 2*tokenSize)
	_, _ = rand.Read(random) // it never fails
	return exchange{transactionID: random[:tokenSize], nonce: random[tokenSize:]}
}

// binds reports whether an answer is the one to this request.
func (x exchange) binds(a answer) bool {
	return bytes.Equal(a.transactionID, x.transactionID) && bytes.Equal(a.recipNonce, x.nonce)
}

// message is a PKIMessage, protected (RFC 9810 section 5.1). recipient is a Name in
// DER, content the body without its tag.
func message(p protector, recipient []byte, x exchange, now time.Time, body uint8, content []byte) ([]byte, error) {
	seal := p.seal()
	var part cryptobyte.Builder // ProtectedPart, section 5.1.3
	part.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(pvno)
			addDirectoryName(b, p.sender())
			addDirectoryName(b, recipient)
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(now.UTC()) })
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddBytes(seal.algorithm) })
			if keyID := p.keyID(); len(keyID) > 0 {
				b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })
			}
			b.AddASN1(explicit(4), func(b *cryptobyte.Builder) { b.AddASN1OctetString(x.transactionID) })
			b.AddASN1(explicit(5), func(b *cryptobyte.Builder) { b.AddASN1OctetString(x.nonce) })
		})
		b.AddASN1(explicit(body), func(b *cryptobyte.Builder) { b.AddBytes(content) })
	})
	protected, err := part.Bytes()
	if err != nil {
		return nil, err
	}
	bits, err := seal.protect(protected)
	if err != nil {
		return nil, err
	}
	inner := cryptobyte.String(protected)
	inner.ReadASN1(&inner, asn1.SEQUENCE)
	var whole cryptobyte.Builder
	whole.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(inner)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1BitString(bits) })
		if chain := p.certificates(); len(chain) > 0 {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, der := range chain {
						b.AddBytes(der)
					}
				})
			})
		}
	})
	return whole.Bytes()
}

// addDirectoryName adds a GeneralName (RFC 5280 section 4.2.1.6). Its tag is explicit,
// because Name is a CHOICE.
func addDirectoryName(b *cryptobyte.Builder, name []byte) {
	b.AddASN1(explicit(4), func(b *cryptobyte.Builder) { b.AddBytes(name) })
}

// revocationRequest is a RevReqContent for one certificate (RFC 9810 section 5.3.9),
// named by its serial number and its issuer's Name in DER. The tags of CertTemplate
// are implicit (RFC 4211 section 5). Reason 0 is said by saying none, as in a CRL
// (RFC 5280 section 5.3.1).
func revocationRequest(issuer []byte, serial *big.Int, reason int) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				var number cryptobyte.Builder
				number.AddASN1BigInt(serial)
				content := cryptobyte.String(number.BytesOrPanic())
				content.ReadASN1(&content, asn1.INTEGER)
				b.AddASN1(asn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(content) })
				b.AddASN1(explicit(3), func(b *cryptobyte.Builder) { b.AddBytes(issuer) })
			})
			if reason != 0 {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addReason(b, reason) })
			}
		})
	})
	return b.Bytes()
}

func addReason(b *cryptobyte.Builder, reason int) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidReasonCode)
		b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(reason)) })
	})
}

// emptySequence is the content of a general message that asks for nothing (RFC 9810
// section 5.3.19), and a Name without parts, NULL-DN.
var emptySequence = []byte{byte(asn1.SEQUENCE), 0}
