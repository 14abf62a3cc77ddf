package stepca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// tokenLifetime is short, and still survives clocks that differ by minutes.
	tokenLifetime = 5 * time.Minute
	tokenLeeway   = time.Minute
	p256Bytes     = 32
)

// signer mints one-time tokens: JSON Web Tokens (RFC 7519) with ES256 (RFC 7518
// section 3.4), in the form that step-ca's JWK provisioners take.
type signer struct {
	provisioner string
	keyID       string
	root        string // fingerprint of the CA's root
	key         *ecdsa.PrivateKey
}

func newSigner(provisioner, keyFile, rootFile string) (*signer, error) {
	key, keyErr := readKey(keyFile)
	root, rootErr := fingerprint(rootFile)
	if err := errors.Join(keyErr, rootErr); err != nil {
		return nil, err
	}
	return &signer{provisioner: provisioner, keyID: KeyID(&key.PublicKey), root: root, key: key}, nil
}

// readKey reads the key of the provisioner, and never tells what stands in it.
func readKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("provisioner key: %w", err)
	}
	unfit := fmt.Errorf("provisioner key: %s holds no unencrypted PEM key of curve P-256", file)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, unfit
	}
	var parsed any
	if parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if parsed, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			return nil, unfit
		}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, unfit
	}
	return key, nil
}

func fingerprint(file string) (string, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return "", fmt.Errorf("server CA: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("server CA: %s holds no PEM certificate", file)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// KeyID is the thumbprint of a provisioner's key by which step-ca knows it (RFC
// 7638).
func KeyID(key *ecdsa.PublicKey) string {
	x, y := coordinates(key)
	// The members in lexical order, without spaces.
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// coordinates of a P-256 key, as a JSON Web Key has them (RFC 7518 section 6.2.1).
func coordinates(key *ecdsa.PublicKey) (x, y string) {
	point, err := key.Bytes() // 4, x, y
	if err != nil || len(point) != 1+2*p256Bytes {
		return "", ""
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(point[1 : 1+p256Bytes]), encode(point[1+p256Bytes:])
}

// JWK is the public part of a provisioner's key for step-ca's ca.json.
func JWK(key *ecdsa.PublicKey) map[string]string {
	x, y := coordinates(key)
	return map[string]string{"use": "sig", "kty": "EC", "kid": KeyID(key), "crv": "P-256", "alg": "ES256", "x": x, "y": y}
}

// claims of a one-time token. There is no "iat": step-ca refuses tokens from before
// its own start, so after a restart a worker whose clock is behind would be denied. It
// remembers the tokens in its database, and needs no such guard.
type claims struct {
	Audience  string   `json:"aud"`
	Subject   string   `json:"sub"`
	Issuer    string   `json:"iss"`
	ID        string   `json:"jti"`
	Root      string   `json:"sha"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	SANs      []string `json:"sans,omitempty"`
}

// token mints a token for one request.
func (s *signer) token(audience, subject string, now time.Time, sans ...string) (string, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	header, err := json.Marshal(map[string]string{"alg": "ES256", "typ": "JWT", "kid": s.keyID})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims{
		Audience: audience, Subject: subject, Issuer: s.provisioner, ID: hex.EncodeToString(id), Root: s.root, SANs: sans,
		NotBefore: now.Add(-tokenLeeway).Unix(), Expires: now.Add(tokenLifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	r, z, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign one-time token: %w", err)
	}
	// RFC 7518 section 3.4: both numbers at full length, one after the other.
	signature := make([]byte, 2*p256Bytes)
	r.FillBytes(signature[:p256Bytes])
	z.FillBytes(signature[p256Bytes:])
	return signed + "." + encode(signature), nil
}
