package devca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

const (
	caLifetime        = 20 * 365 * 24 * time.Hour
	transportLifetime = 10 * 365 * 24 * time.Hour
	// backdate lets verifiers whose clock is behind accept what is new.
	backdate = time.Hour
)

// identity is who the CA is: the pair that signs, and the separate pairs of the
// transport, so that no certificate of a mobile ID ever opens the API.
type identity struct {
	ca     keyPair
	trust  keyPair // signs server and client
	server keyPair
	client keyPair
}

// keyPair is a certificate and its key.
type keyPair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func (p keyPair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.certificate.Raw}, PrivateKey: p.key, Leaf: p.certificate}
}

// openIdentity reads the pairs of the folder, and makes those that are missing.
func openIdentity(f folder, commonName string, serverNames []string, now time.Time) (identity, error) {
	if err := checkNoLostCA(f); err != nil {
		return identity{}, err
	}
	var id identity
	var err error
	if id.ca, err = openPair(f, "ca", nil, keyPair{}, func() *x509.Certificate {
		return authority(commonName, now, caLifetime)
	}); err != nil {
		return identity{}, err
	}
	if id.trust, err = openPair(f, "tls-ca", nil, keyPair{}, func() *x509.Certificate {
		return authority(commonName+" transport", now, transportLifetime)
	}); err != nil {
		return identity{}, err
	}
	names := append([]string{"localhost", "127.0.0.1", "::1"}, serverNames...)
	covers := func(cert *x509.Certificate) bool { return id.issued(cert) && coversNames(cert, names) }
	if id.server, err = openPair(f, "tls", covers, id.trust, func() *x509.Certificate {
		return serverTemplate(commonName+" API", names, now)
	}); err != nil {
		return identity{}, err
	}
	if id.client, err = openPair(f, "client", id.issued, id.trust, func() *x509.Certificate {
		return clientTemplate(commonName+" client", now)
	}); err != nil {
		return identity{}, err
	}
	return id, nil
}

// issued reports whether the transport trust issued cert.
func (id identity) issued(cert *x509.Certificate) bool {
	return cert.CheckSignatureFrom(id.trust.certificate) == nil
}

// checkNoLostCA refuses a folder whose CA is gone but whose work is still
// there: a new CA under the old journal would vouch for certificates of the old.
func checkNoLostCA(f folder) error {
	for _, name := range []string{journalFile, CRLFile} {
		work, err := f.has(name)
		if err != nil {
			return err
		}
		certificate, err := f.has(CAFile)
		if err != nil {
			return err
		}
		if work && !certificate {
			return fmt.Errorf("folder %s has a file %s but no %s: restore it, or start with an empty folder", f, name, CAFile)
		}
	}
	return nil
}

// openPair reads name.pem and name.key. The key is written first, so a crash in
// between leaves a key without certificate, for which one is issued. A
// certificate that fit rejects is replaced; a nil fit accepts all. A zero issuer
// means self-signed.
func openPair(f folder, name string, fit func(*x509.Certificate) bool, issuer keyPair, template func() *x509.Certificate) (keyPair, error) {
	certFile, keyFile := name+".pem", name+".key"
	hasCert, err := f.has(certFile)
	if err != nil {
		return keyPair{}, err
	}
	hasKey, err := f.has(keyFile)
	if err != nil {
		return keyPair{}, err
	}
	if hasCert && !hasKey {
		return keyPair{}, fmt.Errorf("%s has lost its key: restore %s, or start with an empty folder", f.path(certFile), keyFile)
	}

	var pair keyPair
	if hasKey {
		pair.key, err = readKey(f.path(keyFile))
	} else {
		pair.key, err = makeKey(f, keyFile)
	}
	if err != nil {
		return keyPair{}, err
	}
	if hasCert {
		if pair.certificate, err = readCertificate(f.path(certFile)); err != nil {
			return keyPair{}, err
		}
		if !samePublicKey(pair.certificate.PublicKey, pair.key.Public()) {
			return keyPair{}, fmt.Errorf("%s does not belong to %s", f.path(keyFile), certFile)
		}
		if fit == nil || fit(pair.certificate) {
			return pair, nil
		}
	}

	signer := issuer
	want := template()
	if signer.certificate == nil {
		signer = keyPair{certificate: want, key: pair.key}
	}
	if pair.certificate, err = signCertificate(want, pair.key.Public(), signer); err != nil {
		return keyPair{}, fmt.Errorf("make %s: %w", certFile, err)
	}
	if err := f.write(certFile, encodeCertificate(pair.certificate.Raw), 0o644); err != nil {
		return keyPair{}, err
	}
	return pair, nil
}

// signCertificate issues a certificate for the template and reads it back.
func signCertificate(template *x509.Certificate, public crypto.PublicKey, issuer keyPair) (*x509.Certificate, error) {
	var err error
	if template.SerialNumber == nil {
		if template.SerialNumber, err = randomSerial(); err != nil {
			return nil, err
		}
	}
	if template.SubjectKeyId, err = keyIdentifier(public); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, public, issuer.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func authority(commonName string, now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
}

func serverTemplate(commonName string, names []string, now time.Time) *x509.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(transportLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	return template
}

func clientTemplate(commonName string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(transportLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func coversNames(cert *x509.Certificate, names []string) bool {
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// randomSerial returns a serial number of 20 bytes whose top bit is clear, so
// that its DER form has 20 bytes too (RFC 5280 section 4.1.2.2), and whose next
// bit is set, so that its length gives nothing away.
func randomSerial() (*big.Int, error) {
	var serial serialNumber
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, fmt.Errorf("choose a serial number: %w", err)
	}
	serial[0] = serial[0]&0x3f | 0x40
	return serial.integer(), nil
}

// keyIdentifier is method 1 of RFC 7093 section 2: the left 160 bits of the
// SHA-256 of the public key.
func keyIdentifier(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("identify the public key: %w", err)
	}
	bits, err := publicKeyBits(der)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(bits)
	return sum[:20], nil
}

// publicKeyBits returns the subjectPublicKey of a SubjectPublicKeyInfo, without
// its algorithm (RFC 5280 section 4.1).
func publicKeyBits(spki []byte) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	return info.PublicKey.RightAlign(), nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func makeKey(f folder, name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", name, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", name, err)
	}
	if err := f.write(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

func readKey(path string) (crypto.Signer, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The parser's words may quote what it read.
		return nil, fmt.Errorf("read key %s: not a PKCS #8 key", path)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read key %s: it cannot sign", path)
	}
	return signer, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	der, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return cert, nil
}

// readPEM reads a file that holds one block of the given type and nothing after it.
func readPEM(path, blockType string) ([]byte, error) {
	content, err := os.ReadFile(path) //nolint:gosec // a fixed name in the CA's folder
	if err != nil {
		return nil, err
	}
	der, err := decodePEM(content, blockType)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return der, nil
}

func decodePEM(content []byte, blockType string) ([]byte, error) {
	block, rest := pem.Decode(content)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	if block.Type != blockType {
		return nil, fmt.Errorf("it holds a %s instead of a %s", block.Type, blockType)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("something follows the %s", blockType)
	}
	return block.Bytes, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
