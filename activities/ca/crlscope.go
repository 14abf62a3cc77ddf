package ca

import (
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// errIndirect: a CRL with the entries of several issuers does not say in itself
// whom the CA has let sign it.
var errIndirect = errors.New("the CRL is indirect (RFC 5280 section 5.2.5)")

// crlDistributionPoints is the extension of a certificate (RFC 5280 section 4.2.1.13).
const oidCRLDistributionPoints = "2.5.29.31"

// tagURI is uniformResourceIdentifier of GeneralName (RFC 5280 section 4.2.1.6).
const tagURI = 6

// scope is what a CRL is about: its IssuingDistributionPoint (RFC 5280 section
// 5.2.5) and whether it is a delta CRL. The zero scope is every certificate of
// the issuer.
type scope struct {
	delta         bool
	userOnly      bool
	caOnly        bool
	attributeOnly bool
	indirect      bool
	someReasons   bool
	point         bool     // it is of one distribution point
	names         []string // of the point, as DER GeneralNames
	raw           string   // the IssuingDistributionPoint as it stands; empty: none
}

// parse reads the value of an IssuingDistributionPoint.
func (s *scope) parse(value cryptobyte.String) error {
	s.raw = string(value)
	var point, content cryptobyte.String
	var hasReasons bool
	if !value.ReadASN1(&point, asn1.SEQUENCE) || !value.Empty() {
		return malformed("scope of the CRL")
	}
	var name cryptobyte.String
	if !point.ReadOptionalASN1(&name, &s.point, explicitTag(0)) {
		return malformed("scope of the CRL")
	}
	if s.point {
		names, ok := readPointName(name)
		if !ok {
			return malformed("distribution point of the CRL")
		}
		s.names = names
	}
	ok := readFlag(&point, 1, &s.userOnly) &&
		readFlag(&point, 2, &s.caOnly) &&
		point.ReadOptionalASN1(&content, &hasReasons, implicitTag(3)) &&
		readFlag(&point, 4, &s.indirect) &&
		readFlag(&point, 5, &s.attributeOnly) &&
		point.Empty()
	if !ok {
		return malformed("scope of the CRL")
	}
	s.someReasons = hasReasons
	return nil
}

// readFlag reads a BOOLEAN DEFAULT FALSE under the tag [n].
func readFlag(der *cryptobyte.String, n uint8, flag *bool) bool {
	var content cryptobyte.String
	var present bool
	if !der.ReadOptionalASN1(&content, &present, implicitTag(n)) {
		return false
	}
	if !present {
		return true
	}
	*flag = len(content) == 1 && content[0] == 0xff
	return *flag || len(content) == 1 && content[0] == 0
}

// readPointName reads a DistributionPointName. A name relative to the CRL's
// issuer gives no names, so that it matches nothing.
func readPointName(name cryptobyte.String) (names []string, ok bool) {
	if name.PeekASN1Tag(explicitTag(1)) {
		return nil, true
	}
	var full cryptobyte.String
	if !name.ReadASN1(&full, explicitTag(0)) || !name.Empty() {
		return nil, false
	}
	for !full.Empty() {
		var one cryptobyte.String
		var tag asn1.Tag
		if !full.ReadAnyASN1Element(&one, &tag) {
			return nil, false
		}
		names = append(names, string(one))
	}
	return names, true
}

// check refuses what never is a complete list of the revocations of user
// certificates of its issuer (contract rule 8).
func (s scope) check() error {
	switch {
	case s.delta:
		return errors.New("the CRL is a delta CRL, which lists changes alone (RFC 5280 section 5.2.4)")
	case s.indirect:
		return errIndirect
	case s.caOnly:
		return errors.New("the CRL is about CA certificates only")
	case s.attributeOnly:
		return errors.New("the CRL is about attribute certificates only")
	}
	return nil
}

// covers reports whether the CRL is of a distribution point of the certificate
// (RFC 5280 section 6.3.3 (b) (2) (i)). If the certificate is at hand and names
// its points, these count; if not, the URL that is configured for its CA.
func (s scope) covers(cert Certificate, url string) bool {
	if !s.point {
		return true
	}
	points := distributionPoints(cert.DER)
	if len(points) == 0 {
		points = map[string]bool{uriName(url): true}
	}
	for _, name := range s.names {
		if points[name] {
			return true
		}
	}
	return false
}

// uriName returns a URL as a DER GeneralName.
func uriName(url string) string {
	var b cryptobyte.Builder
	b.AddASN1(implicitTag(tagURI), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
	return string(b.BytesOrPanic())
}

// distributionPoints returns the names of the CRLDistributionPoints of a
// certificate as DER GeneralNames: none if it has none, or cannot be read.
func distributionPoints(der []byte) map[string]bool {
	if len(der) == 0 {
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	points := map[string]bool{}
	for _, e := range cert.Extensions {
		if e.Id.String() != oidCRLDistributionPoints {
			continue
		}
		value := cryptobyte.String(e.Value)
		var list cryptobyte.String
		if !value.ReadASN1(&list, asn1.SEQUENCE) {
			return nil
		}
		for !list.Empty() {
			var point, name cryptobyte.String
			var present bool
			if !list.ReadASN1(&point, asn1.SEQUENCE) || !point.ReadOptionalASN1(&name, &present, explicitTag(0)) {
				return nil
			}
			names, ok := readPointName(name)
			if present && !ok {
				return nil
			}
			for _, n := range names {
				points[n] = true
			}
		}
	}
	return points
}
