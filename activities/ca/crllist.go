package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// entryBytes is about what an entry takes in a CRL, to size the index.
const entryBytes = 40

// revocationList is a complete CRL of one issuer (RFC 5280 section 5), indexed by
// serial number. It does not change once it is made, and keeps nothing of the
// document but its hash. crypto/x509 would make ten objects of every entry.
type revocationList struct {
	number     *big.Int
	thisUpdate time.Time
	nextUpdate time.Time // zero if it has none
	scope      scope
	sha256     [sha256.Size]byte
	entries    map[serialKey]entry
}

// entry is a revoked certificate.
type entry struct {
	revokedAt int64 // Unix seconds, which is all that a CRL can say
	reason    int16 // noReason if it carries none
}

// crlDocument is a CRL that was taken apart, and not yet believed.
type crlDocument struct {
	revocationList
	signed    []byte
	algorithm cryptobyte.String // content of the AlgorithmIdentifier
	signature []byte
	issuer    []byte // the DER Name
	base      []byte // content of the deltaCRLIndicator
	revoked   cryptobyte.String
}

// decodeCRL returns the DER of a CRL that came as DER or as PEM (RFC 7468 section 5).
func decodeCRL(document []byte) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(document[:min(len(document), 64)]), []byte("-----BEGIN")) {
		return document, nil
	}
	block, _ := pem.Decode(document)
	if block == nil || block.Type != "X509 CRL" {
		return nil, malformed("PEM text of the CRL")
	}
	return block.Bytes, nil
}

// newRevocationList reads a CRL and checks everything that does not depend on
// the certificate it is asked about: issuer, signature, scope, extensions. The
// entries are read last, so that a forgery costs little.
func newRevocationList(der []byte, issuer *x509.Certificate) (*revocationList, error) {
	document, err := parseCRL(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(document.issuer, issuer.RawSubject) {
		return nil, errors.New("the CRL bears the name of another issuer")
	}
	if err := document.checkSignature(issuer); err != nil {
		return nil, err
	}
	if document.number == nil {
		return nil, errors.New("the CRL has no number (RFC 5280 section 5.2.3)")
	}
	if err := document.scope.check(); err != nil {
		return nil, err
	}
	list := document.revocationList
	list.sha256 = sha256.Sum256(der)
	list.entries, err = indexEntries(document.revoked)
	if err != nil {
		return nil, err
	}
	return &list, nil
}

// parseCRL reads a CertificateList up to its entries (RFC 5280 section 5.1).
func parseCRL(der []byte) (*crlDocument, error) {
	input := cryptobyte.String(der)
	var d crlDocument
	var list, tbs, algorithm, issuer cryptobyte.String
	var signature encodingasn1.BitString
	if !input.ReadASN1(&list, asn1.SEQUENCE) || !input.Empty() ||
		!list.ReadASN1Element(&tbs, asn1.SEQUENCE) ||
		!list.ReadASN1(&d.algorithm, asn1.SEQUENCE) ||
		!list.ReadASN1BitString(&signature) || !list.Empty() {
		return nil, malformed("CRL")
	}
	d.signed, d.signature = tbs, signature.RightAlign()

	var version int
	if !tbs.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.ReadASN1Integer(&version) {
		// A list without a version is of version 1, which has no number either.
		return nil, malformed("CRL of version 2")
	}
	if version != 1 {
		return nil, fmt.Errorf("the CRL has the unknown version %d", version+1)
	}
	if !tbs.ReadASN1(&algorithm, asn1.SEQUENCE) || !tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) || !readTime(&tbs, &d.thisUpdate) {
		return nil, malformed("CRL")
	}
	if !bytes.Equal(algorithm, d.algorithm) {
		return nil, errors.New("the CRL names two signature algorithms (RFC 5280 section 5.1.1.2)")
	}
	d.issuer = issuer
	hasNext := tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime)
	if hasNext && !readTime(&tbs, &d.nextUpdate) {
		return nil, malformed("nextUpdate of the CRL")
	}
	var hasEntries bool
	if !tbs.ReadOptionalASN1(&d.revoked, &hasEntries, asn1.SEQUENCE) {
		return nil, malformed("entries of the CRL")
	}
	if err := d.parseExtensions(&tbs); err != nil {
		return nil, err
	}
	if !tbs.Empty() {
		return nil, malformed("CRL")
	}
	return &d, nil
}

// parseExtensions reads the crlExtensions (RFC 5280 section 5.2).
func (d *crlDocument) parseExtensions(tbs *cryptobyte.String) error {
	seen := map[objectID]bool{}
	return eachOptionalExtension(tbs, explicitTag(0), func(e extension) error {
		id := objectID(e.id)
		if seen[id] {
			return fmt.Errorf("the CRL has the extension %s twice", id)
		}
		seen[id] = true
		switch id {
		case oidCRLNumber:
			d.number = new(big.Int)
			if !e.value.ReadASN1Integer(d.number) || !e.value.Empty() || d.number.Sign() < 0 {
				return malformed("number of the CRL")
			}
			return nil
		case oidDeltaCRLIndicator:
			d.scope.delta, d.base = true, e.value
			return nil
		case oidIssuingPoint:
			return d.scope.parse(e.value)
		case oidAuthorityKeyID, oidIssuerAltName:
			// The signature is checked with the configured key, whatever they say.
			return nil
		}
		return refuseCritical(e)
	})
}

// checkSignature checks that the CA itself has signed, with a key that may sign
// CRLs (RFC 5280 section 6.3.3 (f) and (g)).
func (d *crlDocument) checkSignature(issuer *x509.Certificate) error {
	algorithm, err := signatureAlgorithm(d.algorithm)
	if err != nil {
		return fmt.Errorf("the CRL %w", err)
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return errors.New("the CA's certificate is not for signing CRLs (cRLSign)")
	}
	if err := issuer.CheckSignature(algorithm, d.signed, d.signature); err != nil {
		return fmt.Errorf("the CRL is not signed by the CA: %w", err)
	}
	return nil
}

// indexEntries reads revokedCertificates. Of two entries for one certificate the
// one that is for good counts.
func indexEntries(revoked cryptobyte.String) (map[serialKey]entry, error) {
	entries := make(map[serialKey]entry, len(revoked)/entryBytes)
	for !revoked.Empty() {
		var one, serial cryptobyte.String
		var at time.Time
		if !revoked.ReadASN1(&one, asn1.SEQUENCE) || !one.ReadASN1(&serial, asn1.INTEGER) || !readTime(&one, &at) {
			return nil, malformed("entry of the CRL")
		}
		reason, err := parseEntryExtensions(&one)
		if err != nil {
			return nil, fmt.Errorf("entry %x of the CRL: %w", []byte(serial), err)
		}
		key, ok := serialKeyOf(serial)
		if !ok {
			continue
		}
		if before, twice := entries[key]; twice && before.final() {
			continue
		}
		entries[key] = entry{revokedAt: at.Unix(), reason: reason}
	}
	return entries, nil
}

func (e entry) final() bool {
	return e.reason != codeCertificateHold && e.reason != codeRemoveFromCRL
}

// The codes of the reasons that are not for good (RFC 5280 section 5.3.1).
const (
	codeCertificateHold = 6
	codeRemoveFromCRL   = 8
)

// parseEntryExtensions returns the reason of an entry (RFC 5280 section 5.3). An
// entry of another issuer, or one that cannot be understood, spoils the whole
// CRL, because the entries after it may mean something else.
func parseEntryExtensions(one *cryptobyte.String) (int16, error) {
	if one.Empty() {
		return noReason, nil
	}
	var list cryptobyte.String
	if !one.ReadASN1(&list, asn1.SEQUENCE) || !one.Empty() {
		return 0, malformed("extensions")
	}
	reason := noReason
	err := eachExtension(list, func(e extension) error {
		switch {
		case e.is(oidReasonCode):
			if !e.value.ReadASN1Enum(&reason) || !e.value.Empty() || reason < 0 || reason > 127 {
				return malformed("reason")
			}
			return nil
		case e.is(oidCertificateIssuer):
			return errIndirect
		case e.is(oidInvalidityDate):
			return nil
		}
		return refuseCritical(e)
	})
	return int16(reason), err // -1 to 127
}

// hexSum returns the hash in the form that proofs have.
func (l *revocationList) hexSum() string { return hex.EncodeToString(l.sha256[:]) }
