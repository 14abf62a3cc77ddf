package vault

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"mobileid"
	"mobileid/activities/ca"
)

// colons is a serial number as the engine names its certificates: pairs of
// lower-case hex digits with colons between them.
func colons(cert ca.Certificate) (string, error) {
	serial, err := cert.SerialNumber()
	if err != nil {
		return "", err
	}
	pairs := make([]string, 0, len(serial.Bytes()))
	for _, b := range serial.Bytes() {
		pairs = append(pairs, fmt.Sprintf("%02x", b))
	}
	return strings.Join(pairs, ":"), nil
}

// errAnother: the serial number is that of another issuer's certificate.
var errAnother = errors.New("it is another certificate of this serial number")

// sameCertificate sees that a certificate in PEM is the one that is meant. Two issuers
// may bear one name, and share a mount: where both have a key identifier, it counts.
func sameCertificate(text string, cert ca.Certificate) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return errors.New("it holds no PEM certificate")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	serial, err := mobileid.FormatSerial(parsed.SerialNumber)
	if err != nil {
		return err
	}
	aki := hex.EncodeToString(parsed.AuthorityKeyId)
	if serial != cert.Serial || mobileid.HashName(parsed.RawIssuer) != cert.Issuer || cert.AKI != "" && aki != cert.AKI {
		return errAnother
	}
	return nil
}
