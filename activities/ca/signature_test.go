package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid"
)

// The lists are made and signed by another implementation. Their next update is
// after 2049, so that both forms of a Time are read (RFC 5280 section 5.1.2.4).
func TestCRLOfEverySignatureAlgorithm(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ecKey := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		return key
	}
	for _, test := range []struct {
		algorithm x509.SignatureAlgorithm
		key       crypto.Signer
	}{
		{x509.SHA256WithRSA, rsaKey},
		{x509.SHA384WithRSA, rsaKey},
		{x509.SHA512WithRSA, rsaKey},
		{x509.SHA256WithRSAPSS, rsaKey},
		{x509.SHA384WithRSAPSS, rsaKey},
		{x509.SHA512WithRSAPSS, rsaKey},
		{x509.ECDSAWithSHA256, ecKey(elliptic.P256())},
		{x509.ECDSAWithSHA384, ecKey(elliptic.P384())},
		{x509.ECDSAWithSHA512, ecKey(elliptic.P521())},
		{x509.PureEd25519, edKey},
	} {
		t.Run(test.algorithm.String(), func(t *testing.T) {
			template := &x509.Certificate{
				SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte{1},
				NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
				IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign,
			}
			der, err := x509.CreateCertificate(rand.Reader, template, template, test.key.Public(), test.key)
			require.NoError(t, err)
			issuer, err := x509.ParseCertificate(der)
			require.NoError(t, err)
			list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
				SignatureAlgorithm: test.algorithm, Number: big.NewInt(0x2a),
				ThisUpdate: noon.Add(-time.Hour), NextUpdate: time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
				RevokedCertificateEntries: []x509.RevocationListEntry{{
					SerialNumber: big.NewInt(userSerial), RevocationTime: revocationDate, ReasonCode: 4,
				}},
			}, issuer, test.key)
			require.NoError(t, err)
			c, err := NewCRL(testURL, issuer, serving(list), clockAt(noon))
			require.NoError(t, err)
			cert := Certificate{CertificateID: mobileid.CertificateID{
				Issuer: mobileid.HashName(issuer.RawSubject), AKI: "01", Serial: big.NewInt(userSerial).Text(16),
			}}
			evidence, err := c.Check(t.Context(), cert)
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, evidence.Status)
			require.Equal(t, mobileid.Superseded, evidence.Reason)
			require.Equal(t, revocationDate, evidence.RevokedAt)
			require.Equal(t, "2a", evidence.Proof.Number)

			list[len(list)-1] ^= 1
			c.client = &http.Client{Transport: serving(list).Transport}
			c.current = nil
			_, err = c.Check(t.Context(), cert)
			require.ErrorContains(t, requireKind(t, Unsupported, err), "not signed by the CA")
		})
	}
}

func TestSignatureAlgorithmsThatProveNothing(t *testing.T) {
	identifier := func(id objectID, parameters func(*cryptobyte.Builder)) cryptobyte.String {
		var b cryptobyte.Builder
		element(&b, asn1.OBJECT_IDENTIFIER, []byte(id))
		if parameters != nil {
			sequence(&b, parameters)
		}
		return b.BytesOrPanic()
	}
	overHash := func(id objectID) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) { addAlgorithm(b, id) })
		}
	}
	for name, test := range map[string]struct {
		identifier cryptobyte.String
		words      string
	}{
		"nothing":                   {nil, "well-formed"},
		"md5WithRSA":                {identifier("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", nil), "MD5 or SHA-1"},
		"sha1WithRSA":               {identifier("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", nil), "MD5 or SHA-1"},
		"sha1WithRSA, the old name": {identifier("\x2b\x0e\x03\x02\x1d", nil), "MD5 or SHA-1"},
		"ecdsa-with-SHA1":           {identifier(ecdsaSHA1, nil), "MD5 or SHA-1"},
		"dsa-with-sha1":             {identifier("\x2a\x86\x48\xce\x38\x04\x03", nil), "MD5 or SHA-1"},
		"md2WithRSA":                {identifier("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x02", nil), "unknown algorithm"},
		"PSS of SHA-1, by default":  {identifier(oidRSAPSS, func(*cryptobyte.Builder) {}), "MD5 or SHA-1"},
		"PSS of SHA-1, by name":     {identifier(oidRSAPSS, overHash(oidSHA1)), "over the hash 1.3.14.3.2.26"},
		"PSS without parameters":    {identifier(oidRSAPSS, nil), "well-formed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signatureAlgorithm(test.identifier)
			require.ErrorContains(t, err, test.words)
		})
	}
}
