package mobileid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Any DER that is taken for a certificate has an identity that is found again.
func FuzzNewCertificate(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	for _, serial := range []*big.Int{big.NewInt(1), big.NewInt(0x80), new(big.Int).Lsh(big.NewInt(1), 159)} {
		template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Anna, +\x00\"", Country: []string{"SE"}}, NotAfter: time.Unix(1<<33, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(f, err)
		f.Add(der)
	}
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		c, err := NewCertificate(cert, CertificateValid)
		if err != nil {
			return
		}
		number, err := c.SerialNumber()
		require.NoError(t, err)
		require.Zero(t, number.Cmp(cert.SerialNumber))
		require.Len(t, c.Issuer, 64)
	})
}
