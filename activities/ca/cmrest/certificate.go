package cmrest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"

	"mobileid/activities/ca/httpcall"
)

const (
	// pkixCert is the media type of one certificate in DER (RFC 2585 section 4).
	pkixCert = "application/pkix-cert"
	// maxCertificates is the longest answer with certificates, in bytes.
	maxCertificates = 64 << 10
)

// readCertificates reads an answer that holds the certificate with the certid. One in
// JSON holds none, whatever its HTTP status code.
func readCertificates(op string, reply httpcall.Reply, certID string) ([]*x509.Certificate, error) {
	if !success(reply.Code) || bytes.HasPrefix(bytes.TrimSpace(reply.Body), []byte("{")) {
		a, err := readAnswer(op, reply)
		if err != nil {
			return nil, err
		}
		if refusal := a.failure(op, reply, certID); refusal != nil {
			return nil, refusal
		}
		return nil, httpcall.Unreadable(op, errors.New("it says success and holds no certificate"))
	}
	certs, err := parseCertificates(reply.Body)
	if err != nil {
		return nil, httpcall.Unreadable(op, fmt.Errorf("certid %q: %w", certID, err))
	}
	return certs, nil
}

// parseCertificates reads a certificate, or those of a PKCS #7 message, in DER or PEM. A
// gateway that does not heed Accept answers with PKCS #7.
func parseCertificates(body []byte) ([]*x509.Certificate, error) {
	if len(body) > maxCertificates {
		return nil, errors.New("it is too large")
	}
	if block, _ := pem.Decode(body); block != nil {
		body = block.Bytes
	}
	if cert, err := x509.ParseCertificate(body); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	message, err := pkcs7.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("it is neither a certificate nor PKCS #7: %w", err)
	}
	return message.Certificates, nil
}

// pick returns the certificate for the key of the request, which must be the issuer's.
func (d *Driver) pick(certs []*x509.Certificate, csr *x509.CertificateRequest) (*x509.Certificate, error) {
	for _, cert := range certs {
		if !isFor(cert, csr) {
			continue // one of the chain
		}
		if err := d.checkIssuer(cert); err != nil {
			return nil, err
		}
		return cert, nil
	}
	return nil, errors.New("no certificate in it is for the key of the request")
}

func isFor(cert *x509.Certificate, csr *x509.CertificateRequest) bool {
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(csr.PublicKey)
}

// checkIssuer says why the certificate is not one of the configured issuer, or nothing.
func (d *Driver) checkIssuer(cert *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, d.issuer.RawSubject) {
		return errors.New("the certificate is of another issuer")
	}
	if err := cert.CheckSignatureFrom(d.issuer); err != nil {
		return fmt.Errorf("the certificate is not signed by the issuer: %w", err)
	}
	return nil
}
