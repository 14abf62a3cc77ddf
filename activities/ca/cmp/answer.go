package cmp

import (
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var errMalformed = errors.New("is not well-formed DER")

// malformed names the part of an answer that cannot be read.
func malformed(what string) error { return fmt.Errorf("%s %w", what, errMalformed) }

// answer is a PKIMessage (RFC 9810 section 5.1). Its parts share memory with the bytes
// that were read.
type answer struct {
	header, body  []byte            // elements, as they came
	kind          int               // of the body: its tag
	content       cryptobyte.String // of the body
	algorithm     cryptobyte.String // content of protectionAlg; empty: not protected
	protection    []byte
	transactionID []byte
	recipNonce    []byte
}

// protected reports whether there is a protection, good or bad.
func (a answer) protected() bool { return len(a.algorithm) > 0 }

// part is what is protected: ProtectedPart (RFC 9810 section 5.1.3).
func (a answer) part() []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(a.header)
		b.AddBytes(a.body)
	})
	return b.BytesOrPanic() // an answer is far from what DER cannot hold
}

// readAnswer reads all of a PKIMessage: nothing may follow it, and nothing unknown may
// stand in it.
func readAnswer(der []byte) (answer, error) {
	var a answer
	var whole, header, body, bits, certs cryptobyte.String
	input := cryptobyte.String(der)
	var tag asn1.Tag
	if !input.ReadASN1(&whole, asn1.SEQUENCE) || !input.Empty() ||
		!whole.ReadASN1Element(&header, asn1.SEQUENCE) || !whole.ReadAnyASN1Element(&body, &tag) {
		return a, malformed("PKIMessage")
	}
	a.header, a.body = header, body
	if tag&^0x1f != explicit(0) {
		return a, malformed("PKIBody")
	}
	a.kind = int(tag & 0x1f)
	if !body.ReadASN1(&a.content, tag) {
		return a, malformed("PKIBody")
	}
	hasBits, ok := readOptional(&whole, 0, asn1.BIT_STRING, &bits)
	if !ok {
		return a, malformed("protection")
	}
	if _, ok := readOptional(&whole, 1, asn1.SEQUENCE, &certs); !ok || !whole.Empty() {
		return a, malformed("extraCerts") // not used: who is trusted is configured
	}
	if err := a.readHeader(header); err != nil {
		return a, err
	}
	if hasBits {
		if len(bits) < 1 || bits[0] != 0 {
			return a, malformed("protection")
		}
		a.protection = bits[1:]
	}
	return a, nil
}

// readHeader reads a PKIHeader (RFC 9810 section 5.1.1). Names and times in it are
// not looked at: the protection says who it is, and the nonce that it is new.
func (a *answer) readHeader(element cryptobyte.String) error {
	var h, transactionID, recipNonce, ignored cryptobyte.String
	var version int
	if !element.ReadASN1(&h, asn1.SEQUENCE) || !h.ReadASN1Integer(&version) {
		return malformed("PKIHeader")
	}
	if version != 2 && version != 3 {
		return fmt.Errorf("the answer is of CMP version %d", version)
	}
	for _, name := range []string{"sender", "recipient"} {
		var tag asn1.Tag
		if !h.ReadAnyASN1(&ignored, &tag) || tag&0xc0 != 0x80 {
			return malformed(name)
		}
	}
	for n, field := range []struct {
		name string
		tag  asn1.Tag
		into *cryptobyte.String
	}{
		{"messageTime", asn1.GeneralizedTime, &ignored},
		{"protectionAlg", asn1.SEQUENCE, &a.algorithm},
		{"senderKID", asn1.OCTET_STRING, &ignored},
		{"recipKID", asn1.OCTET_STRING, &ignored},
		{"transactionID", asn1.OCTET_STRING, &transactionID},
		{"senderNonce", asn1.OCTET_STRING, &ignored},
		{"recipNonce", asn1.OCTET_STRING, &recipNonce},
		{"freeText", asn1.SEQUENCE, &ignored},
		{"generalInfo", asn1.SEQUENCE, &ignored},
	} {
		present, ok := readOptional(&h, uint8(n), field.tag, field.into)
		if !ok || present && field.into == &a.algorithm && a.algorithm.Empty() {
			return malformed(field.name)
		}
	}
	if !h.Empty() {
		return malformed("PKIHeader")
	}
	a.transactionID, a.recipNonce = transactionID, recipNonce
	return nil
}

// readOptional reads the content of an element under the explicit tag [n].
func readOptional(from *cryptobyte.String, n uint8, tag asn1.Tag, into *cryptobyte.String) (present, ok bool) {
	var outer cryptobyte.String
	if !from.ReadOptionalASN1(&outer, &present, explicit(n)) {
		return false, false
	}
	return present, !present || outer.ReadASN1(into, tag) && outer.Empty()
}

// readRevocation reads a RevRepContent (RFC 9810 section 5.3.10) of one status. If it
// names a certificate that must be the one with the serial number; issuers are not
// compared, because servers write names anew.
func readRevocation(content cryptobyte.String, serial *big.Int) (statusInfo, error) {
	var s statusInfo
	var reply, statuses, named, crls cryptobyte.String
	if !content.ReadASN1(&reply, asn1.SEQUENCE) || !content.Empty() || !reply.ReadASN1(&statuses, asn1.SEQUENCE) {
		return s, malformed("RevRepContent")
	}
	if err := s.read(&statuses); err != nil {
		return s, err
	}
	if !statuses.Empty() {
		return s, errors.New("it has more than one status")
	}
	hasNames, ok := readOptional(&reply, 0, asn1.SEQUENCE, &named)
	if !ok {
		return s, malformed("revCerts")
	}
	if _, ok := readOptional(&reply, 1, asn1.SEQUENCE, &crls); !ok || !reply.Empty() {
		return s, malformed("RevRepContent")
	}
	if !hasNames {
		return s, nil
	}
	var id, issuer cryptobyte.String
	var tag asn1.Tag
	number := new(big.Int)
	if !named.ReadASN1(&id, asn1.SEQUENCE) || !id.ReadAnyASN1(&issuer, &tag) || !id.ReadASN1Integer(number) || !id.Empty() {
		return s, malformed("revCerts")
	}
	if !named.Empty() {
		return s, errors.New("it names more than one certificate")
	}
	if number.Cmp(serial) != 0 {
		return s, fmt.Errorf("it is about serial %x", number)
	}
	return s, nil
}

// readError reads an ErrorMsgContent (RFC 9810 section 5.3.21).
func readError(content cryptobyte.String) (statusInfo, error) {
	var s statusInfo
	var body cryptobyte.String
	if !content.ReadASN1(&body, asn1.SEQUENCE) || !content.Empty() {
		return s, malformed("ErrorMsgContent")
	}
	if err := s.read(&body); err != nil {
		return s, err
	}
	code := new(big.Int)
	if body.PeekASN1Tag(asn1.INTEGER) && !body.ReadASN1Integer(code) {
		return s, malformed("errorCode")
	}
	if body.PeekASN1Tag(asn1.SEQUENCE) {
		details, err := readFreeText(&body)
		if err != nil {
			return s, err
		}
		s.words = append(s.words, details...)
	}
	if !body.Empty() {
		return s, malformed("ErrorMsgContent")
	}
	return s, nil
}
