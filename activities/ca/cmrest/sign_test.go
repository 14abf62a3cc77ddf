package cmrest_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
)

// officer makes the certificate of an officer with the key.
func officer(t *testing.T, public, key any) catest.Credentials {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "officer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return catest.Credentials{
		Certificate: cert, CertFile: catest.WritePEM(t, "officer.pem", "CERTIFICATE", der), KeyFile: catest.WritePEM(t, "officer-key.pem", "PRIVATE KEY", pkcs8),
	}
}

// Another implementation reads the signature: the content and the officer's certificate
// are in it.
func TestOpenSSLVerifiesSignature(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed, so nobody else can be asked")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	content := []byte("\x00\r\n\xff what the gateway wants, as it is")
	for name, signing := range map[string]catest.Credentials{
		"ECDSA P-256": officer(t, &p256.PublicKey, p256),
		"ECDSA P-384": officer(t, &p384.PublicKey, p384),
		"RSA":         officer(t, &rsa2048.PublicKey, rsa2048),
	} {
		t.Run(name, func(t *testing.T) {
			connects := catest.NewCredentials(t, "connects")
			d := newDriver(t, cmrest.Options{
				URL: "https://localhost", IssuerDN: dn, ClientCertFile: connects.CertFile, ClientKeyFile: connects.KeyFile,
				SigningCertFile: signing.CertFile, SigningKeyFile: signing.KeyFile,
			})
			g := &gateway{list: listOf(active), answers: []reply{
				{200, `{"error":-19,"dataToSign":"` + base64.StdEncoding.EncodeToString(content) + `"}`}, {200, `{"error":0}`},
			}}
			d.Client().Transport = catest.Handler(g.serve)
			_, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.NoError(t, err)
			der, err := base64.StdEncoding.DecodeString(g.forms[1].Get("signature"))
			require.NoError(t, err)
			folder := t.TempDir()
			message, verified := filepath.Join(folder, "message.der"), filepath.Join(folder, "content")
			require.NoError(t, os.WriteFile(message, der, 0o600))
			said, err := exec.CommandContext(t.Context(), openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", message,
				"-CAfile", signing.CertFile, "-purpose", "any", "-out", verified).CombinedOutput()
			require.NoError(t, err, string(said))
			read, err := os.ReadFile(verified)
			require.NoError(t, err)
			require.Equal(t, content, read)
			said, err = exec.CommandContext(t.Context(), openssl, "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", message).CombinedOutput()
			require.NoError(t, err, string(said))
			require.Contains(t, string(said), "sha256")
			require.NotContains(t, string(said), "sha1")
		})
	}
}

// A key that CMS messages of this kind are not signed with is refused at the start, not
// at the first lock.
func TestSigningKey(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	edwards, connects := officer(t, public, key), catest.NewCredentials(t, "connects")
	_, err = cmrest.New(cmrest.Options{
		URL: "https://localhost", IssuerDN: dn, ClientCertFile: connects.CertFile, ClientKeyFile: connects.KeyFile,
		SigningCertFile: edwards.CertFile, SigningKeyFile: edwards.KeyFile,
	})
	require.ErrorContains(t, err, "neither ECDSA nor RSA")
	_, err = cmrest.New(cmrest.Options{
		URL: "https://localhost", IssuerDN: dn, ClientCertFile: connects.CertFile, ClientKeyFile: connects.KeyFile,
		SigningCertFile: connects.CertFile, SigningKeyFile: edwards.KeyFile,
	})
	require.ErrorContains(t, err, "signing certificate", "a key of another certificate")
}
