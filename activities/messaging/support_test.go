package messaging_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

const (
	deadline = time.Minute
	nonce    = "nonce-that-nobody-may-see"
	apiKey   = "key-that-nobody-may-see"
	password = "password-that-nobody-may-see"
)

var anna = pkix.Name{CommonName: "Anna Andersson", Organization: []string{"Example"}}

// rsaKeys are made once: it takes time.
var rsaKeys = map[int]func() *rsa.PrivateKey{
	1024: sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) }),
	2048: sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) }),
	3072: sync.OnceValue(func() *rsa.PrivateKey { return newRSA(3072) }),
}

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

func template(t testing.TB, subject pkix.Name) []byte {
	t.Helper()
	der, err := messaging.CSRTemplate(subject)
	require.NoError(t, err)
	return der
}

// csr is what a phone returns for a template.
func csr(t testing.TB, template []byte, key crypto.Signer) []byte {
	t.Helper()
	asked, err := x509.ParseCertificateRequest(template)
	require.NoError(t, err)
	return request(t, &x509.CertificateRequest{RawSubject: asked.RawSubject}, key)
}

func request(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

// sign makes a compact JWS.
func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, kid string, payload []byte) string {
	t.Helper()
	options := new(jose.SignerOptions)
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	require.NoError(t, err)
	jws, err := signer.Sign(payload)
	require.NoError(t, err)
	text, err := jws.CompactSerialize()
	require.NoError(t, err)
	return text
}

// jwks is a JWKS of the keys as they are given.
func jwks(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	require.NoError(t, err)
	return text
}

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func provision(t testing.TB) messaging.Provision {
	t.Helper()
	return messaging.Provision{
		Header: messaging.Header{Lifespan: 5 * time.Minute, Timeout: 25 * time.Minute, ExternalID: "Get/1"},
		Nonce:  nonce, UserID: "anna@example.com", ServerName: "Smart ID", ProfileName: "MobileID Anna",
		Keys: []messaging.KeyRequest{
			{KeyID: "auth", Usage: messaging.Authentication, Types: []messaging.KeyType{messaging.P256}, CSRTemplate: template(t, anna)},
			{KeyID: "signer", Usage: messaging.Signature, Types: []messaging.KeyType{messaging.RSA2048, messaging.P256}, CSRTemplate: template(t, anna)},
		},
	}
}
