package mobileid

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// maxSerialBytes is the longest serial number of RFC 5280 section 4.1.2.2.
// Real CAs also use the top bit of the twentieth byte, so the limit is on the
// integer and not on its DER form, which then has 21.
const maxSerialBytes = 20

// CertificateID says which certificate is meant. A serial number alone never
// does: two CAs may use the same one, and two CAs may even bear one name, which
// the AKI then tells apart. It is comparable, so it serves as a map key.
type CertificateID struct {
	// Issuer is the lower-case hex SHA-256 of the DER issuer Name as it stands
	// in the certificate.
	Issuer string `json:"issuer"`
	// AKI is the lower-case hex authority key identifier (RFC 5280 section
	// 4.2.1.1), empty if the certificate has none.
	AKI string `json:"aki,omitempty"`
	// Serial is the lower-case hex of the integer, without prefix or leading zeros.
	Serial string `json:"serial"`
}

// String returns the identity in a short form for messages and logs.
func (id CertificateID) String() string {
	issuer := id.Issuer
	if len(issuer) > 8 {
		issuer = issuer[:8]
	}
	return "serial " + id.Serial + " of issuer " + issuer
}

// SerialNumber returns the serial as an integer.
func (id CertificateID) SerialNumber() (*big.Int, error) { return ParseSerial(id.Serial) }

// Certificate is a certificate of a mobile ID as Identity Manager knows it.
type Certificate struct {
	CertificateID
	IssuerDN  string           `json:"issuerDn"` // RFC 4514, for people
	NotBefore time.Time        `json:"notBefore"`
	NotAfter  time.Time        `json:"notAfter"`
	State     CertificateState `json:"state"`
	DER       []byte           `json:"der,omitempty"`
}

// NewCertificate reads what Identity Manager keeps of an X.509 certificate.
func NewCertificate(cert *x509.Certificate, state CertificateState) (Certificate, error) {
	serial, err := FormatSerial(cert.SerialNumber)
	if err != nil {
		return Certificate{}, err
	}
	issuerDN, err := FormatName(cert.RawIssuer)
	if err != nil {
		return Certificate{}, fmt.Errorf("read issuer of certificate %s: %w", serial, err)
	}
	return Certificate{
		CertificateID: CertificateID{
			Issuer: HashName(cert.RawIssuer),
			AKI:    hex.EncodeToString(cert.AuthorityKeyId),
			Serial: serial,
		},
		IssuerDN:  issuerDN,
		NotBefore: cert.NotBefore.UTC(),
		NotAfter:  cert.NotAfter.UTC(),
		State:     state,
		DER:       cert.Raw,
	}, nil
}

// Expired reports whether the certificate is past its notAfter.
func (c Certificate) Expired(now time.Time) bool { return now.After(c.NotAfter) }

// HashName returns the identity of a DER-encoded Name: its lower-case hex
// SHA-256.
func HashName(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// FormatName returns a DER-encoded Name as RFC 4514 text, in the order in
// which RFC 4514 writes it (the last RDN first).
func FormatName(der []byte) (string, error) {
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &rdns)
	if err != nil {
		return "", fmt.Errorf("not a DER Name: %w", err)
	}
	if len(rest) > 0 {
		return "", errors.New("not a DER Name: bytes follow it")
	}
	return rdns.String(), nil
}

// FormatSerial returns a serial number in the form that identities use. It
// refuses what RFC 5280 section 4.1.2.2 does not allow: zero, negative numbers,
// and more than 20 bytes.
func FormatSerial(serial *big.Int) (string, error) {
	if serial == nil || serial.Sign() <= 0 {
		return "", errors.New("certificate serial number must be positive (RFC 5280 section 4.1.2.2)")
	}
	if len(serial.Bytes()) > maxSerialBytes {
		return "", fmt.Errorf("certificate serial number has more than %d bytes (RFC 5280 section 4.1.2.2)", maxSerialBytes)
	}
	return serial.Text(16), nil
}

// ParseSerial reads a serial number in the form that identities use, and
// nothing else: no prefix, no upper case, no leading zero, no separators. A
// tolerant reader would make two texts of one certificate.
func ParseSerial(text string) (*big.Int, error) {
	if len(text) > 2*maxSerialBytes {
		return nil, fmt.Errorf("certificate serial number has more than %d hex digits", 2*maxSerialBytes)
	}
	if text == "" || text[0] == '0' || strings.Trim(text, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("certificate serial number %q is not lower-case hex without leading zeros", text)
	}
	serial, ok := new(big.Int).SetString(text, 16)
	if !ok {
		return nil, fmt.Errorf("certificate serial number %q is not hex", text)
	}
	return serial, nil
}
