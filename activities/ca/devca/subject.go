package devca

import (
	"encoding/asn1"
	"errors"
	"slices"
)

// personal reports whether an attribute of a name says who a person is. Only
// those are taken over from a request: nobody checks here whether the person
// belongs to the organisation or country that the request claims.
func personal(a attribute) bool {
	switch a.Type.String() {
	case "2.5.4.3", // commonName
		"2.5.4.4",                   // surname
		"2.5.4.5",                   // serialNumber
		"2.5.4.42",                  // givenName
		"2.5.4.65",                  // pseudonym
		"1.2.840.113549.1.9.1",      // emailAddress
		"0.9.2342.19200300.100.1.1", // uid
		"0.9.2342.19200300.100.1.3": // mail
		return len(a.Value.Bytes) > 0
	default:
		return false
	}
}

// attribute is an AttributeTypeAndValue (RFC 5280 section 4.1.2.4) whose value
// keeps the bytes that it was given, string type included.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeSET is a RelativeDistinguishedName; encoding/asn1 knows a SET OF by
// the end of the name.
type attributeSET []attribute

// personalSubject returns a DER Name with the personal attributes of another, or
// an error if that has none.
func personalSubject(der []byte) ([]byte, error) {
	var rdns []attributeSET
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return nil, errors.New("its subject is no Name")
	}
	var kept []attributeSET
	for _, rdn := range rdns {
		rdn = slices.DeleteFunc(rdn, func(a attribute) bool { return !personal(a) })
		if len(rdn) > 0 {
			kept = append(kept, rdn)
		}
	}
	if len(kept) == 0 {
		return nil, errors.New("its subject names nobody")
	}
	return asn1.Marshal(kept)
}
