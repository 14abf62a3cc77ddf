package messaging

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
)

// maxCSR is the longest certificate request that is read, in bytes.
const maxCSR = 8 << 10

// CSRTemplate makes a PKCS #10 (DER) with the subject of a certificate to come and
// the signature of a throw-away key, whose private half is gone when it returns.
// Keep it: what the phone returns is compared with it.
func CSRTemplate(subject pkix.Name) ([]byte, error) {
	if len(subject.ToRDNSequence()) == 0 {
		return nil, errors.New("make CSR template: the subject is empty")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CSR template: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR template: %w", err)
	}
	return der, nil
}

func readTemplate(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("it is longer than %d bytes", maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("it is not a PKCS #10")
	}
	return csr, nil
}
