package devca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrBadRequest reports that no certificate is issued for a request like this.
var ErrBadRequest = errors.New("the CA issues nothing for this request")

// Profile says what a certificate is for.
type Profile string

// The profiles, after the certificates of a mobile ID.
const (
	ProfileAuthentication Profile = "authentication" // key usage digitalSignature; TLS client authentication
	ProfileSignature      Profile = "signature"      // key usage contentCommitment; document signing (RFC 9336)
	ProfileEncryption     Profile = "encryption"     // key usage keyAgreement (EC) or keyEncipherment (RSA); e-mail protection
)

// Sizes of RSA keys, in bits: smaller ones are weak, and larger ones only make
// whoever verifies work.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// oidDocumentSigning is id-kp-documentSigning (RFC 9336 section 3.1).
func oidDocumentSigning() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}
}

// IssueRequest is a request for a certificate.
type IssueRequest struct {
	CSR       []byte // DER, PKCS #10 (RFC 2986); of its content only the key and what names a person are taken over
	Profile   Profile
	NotBefore time.Time // default an hour ago
	// Validity is the time from NotBefore to notAfter. That may be past, and is
	// never after the CA's own.
	Validity time.Duration
	// Serial is for tests; nil means a random one of 20 bytes.
	Serial *big.Int
	// Once issues one certificate for the key, however often it is asked for: a
	// repeat returns the first one, whatever else it asks.
	Once bool
}

// Issue signs a certificate and returns it once it is on disk. It fails with
// [ErrBadRequest], [ErrSerialTaken] or [ErrRefusesChanges].
func (s *Server) Issue(ctx context.Context, request IssueRequest) (*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	template, public, err := s.template(request)
	if err != nil {
		return nil, err
	}
	cert, err := signCertificate(template, public, s.identity.ca)
	if err != nil {
		return nil, fmt.Errorf("issue: %w", err)
	}
	serial, possible := serialOf(cert.SerialNumber)
	if !possible {
		return nil, fmt.Errorf("%w: its serial number is not positive or too long", ErrBadRequest)
	}
	var number uint64
	if request.Once {
		cert, number, err = s.addOnce(serial, cert)
	} else {
		number, err = s.add(serial, cert.Raw)
	}
	if err != nil {
		return nil, fmt.Errorf("issue serial %s: %w", serial, err)
	}
	if err := s.journal.wait(number); err != nil {
		return nil, fmt.Errorf("issue serial %s: %w", serial, err)
	}
	return cert, nil
}

// add takes a certificate into the books, and returns its record.
func (s *Server) add(serial serialNumber, der []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enter(opIssue, serial, der)
}

// enter is add with the lock held.
func (s *Server) enter(op operation, serial serialNumber, der []byte) (uint64, error) {
	if _, taken := s.certificates[serial]; taken {
		return 0, ErrSerialTaken
	}
	number, err := s.journal.append(record{at: s.now(), op: op, serial: serial, argument: base64.StdEncoding.EncodeToString(der)})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRefusesChanges, err)
	}
	s.certificates[serial] = certificate{record: number}
	return number, nil
}

// template checks the request and returns the certificate to sign and its key.
func (s *Server) template(request IssueRequest) (*x509.Certificate, crypto.PublicKey, error) {
	csr, err := checkCSR(request.CSR)
	if err != nil {
		return nil, nil, err
	}
	subject, err := personalSubject(csr.RawSubject)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if request.NotBefore.IsZero() {
		request.NotBefore = s.now().Add(-backdate)
	}
	if request.Validity <= 0 {
		return nil, nil, fmt.Errorf("%w: its validity is not positive", ErrBadRequest)
	}
	notAfter := request.NotBefore.Add(request.Validity)
	if notAfter.After(s.identity.ca.certificate.NotAfter) {
		return nil, nil, fmt.Errorf("%w: notAfter is after the CA's own", ErrBadRequest)
	}
	if request.Serial != nil {
		if _, possible := serialOf(request.Serial); !possible {
			return nil, nil, fmt.Errorf("%w: its serial number is not positive or too long", ErrBadRequest)
		}
	}
	template := &x509.Certificate{
		SerialNumber:          request.Serial,
		RawSubject:            subject,
		NotBefore:             request.NotBefore,
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
	}
	if err := request.Profile.shape(template, csr.PublicKeyAlgorithm); err != nil {
		return nil, nil, err
	}
	if s.options.PublicURL != "" {
		template.CRLDistributionPoints = []string{s.options.PublicURL + crlPath}
		template.OCSPServer = []string{s.options.PublicURL + ocspPath}
		template.IssuingCertificateURL = []string{s.options.PublicURL + caPath}
	}
	return template, csr.PublicKey, nil
}

// shape gives the certificate the key usages of the profile (RFC 5280 sections
// 4.2.1.3 and 4.2.1.12).
func (p Profile) shape(template *x509.Certificate, algorithm x509.PublicKeyAlgorithm) error {
	switch p {
	case ProfileAuthentication:
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case ProfileSignature:
		template.KeyUsage = x509.KeyUsageContentCommitment
		template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidDocumentSigning()}
	case ProfileEncryption:
		template.KeyUsage = x509.KeyUsageKeyAgreement
		if algorithm == x509.RSA {
			template.KeyUsage = x509.KeyUsageKeyEncipherment
		}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	default:
		return fmt.Errorf("%w: profile %q is none of %s, %s, %s", ErrBadRequest, string(p), ProfileAuthentication, ProfileSignature, ProfileEncryption)
	}
	return nil
}

// checkCSR refuses what the holder of the key did not sign, and weak keys. The
// key comes first, so that an enormous one is not computed with.
func checkCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no PKCS #10 request: %w", ErrBadRequest, err)
	}
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return nil, fmt.Errorf("%w: its curve is neither P-256 nor P-384", ErrBadRequest)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("%w: its RSA key has %d bits instead of %d to %d", ErrBadRequest, bits, minRSABits, maxRSABits)
		}
	default:
		return nil, fmt.Errorf("%w: its key is neither ECDSA nor RSA", ErrBadRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: its signature is not by its own key: %w", ErrBadRequest, err)
	}
	return csr, nil
}
