package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Issuer is the key and the certificate of a CA, for fakes, and to sign what a real
// CA would not: chosen serial numbers, and certificates that have ended.
type Issuer struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey

	mu     sync.Mutex
	number int64 // of the last CRL
}

// NewIssuer makes a CA of the given name.
func NewIssuer(t testing.TB, name pkix.Name) *Issuer {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: name, NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return &Issuer{Certificate: sign(t, template, template, key, key), Key: key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// Sign issues a certificate.
func (i *Issuer) Sign(t testing.TB, request IssueRequest) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: request.Serial, Subject: pkix.Name{CommonName: "Anna"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: request.NotAfter,
	}
	if template.SerialNumber == nil {
		var err error
		template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		require.NoError(t, err)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(365 * 24 * time.Hour)
	}
	return sign(t, template, i.Certificate, newKey(t), i.Key)
}

// CRL signs the next CRL, in DER.
func (i *Issuer) CRL(entries []x509.RevocationListEntry) ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.number++
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(i.number), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), RevokedCertificateEntries: entries,
	}, i.Certificate, i.Key)
}

// Credentials is a TLS certificate with its files.
type Credentials struct {
	Certificate       *x509.Certificate
	CertFile, KeyFile string
}

// NewCredentials makes a certificate that vouches for itself, for a caller or a
// server on loopback.
func NewCredentials(t testing.TB, commonName string) Credentials {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(90 * 24 * time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	cert := sign(t, template, template, key, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return Credentials{
		Certificate: cert,
		CertFile:    WritePEM(t, "certificate.pem", "CERTIFICATE", cert.Raw),
		KeyFile:     WritePEM(t, "key.pem", "PRIVATE KEY", der),
	}
}

// WritePEM writes a file into a folder of the test's own, and returns its path.
func WritePEM(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}
