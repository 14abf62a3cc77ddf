package messaging

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxJWKS is the longest file of attestation keys, in bytes.
	maxJWKS = 256 << 10
	// minRSA is the shortest RSA key that vouches for anything (RFC 7518 section 3.3).
	minRSA = 2048
)

// AttestationKeys are the public keys by which phones prove that they are phones,
// by their key id. They are configured, and nothing else vouches for a phone.
type AttestationKeys map[string]crypto.PublicKey

// ReadAttestationKeys reads a file with a JWKS (RFC 7517 section 5) of public keys.
func ReadAttestationKeys(file string) (AttestationKeys, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("attestation keys: %w", err)
	}
	if info.Size() > maxJWKS {
		return nil, fmt.Errorf("attestation keys: %s is longer than %d bytes", file, maxJWKS)
	}
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("attestation keys: %w", err)
	}
	keys, err := ParseAttestationKeys(text)
	if err != nil {
		return nil, fmt.Errorf("attestation keys: %s: %w", file, err)
	}
	return keys, nil
}

// ParseAttestationKeys reads a JWKS. Each key needs a kid of its own, and must be
// an RSA key of 2048 bits or more, or one on P-256.
func ParseAttestationKeys(text []byte) (AttestationKeys, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is not a JWKS of RSA and EC keys") // the parser's words may quote what it read
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	keys := AttestationKeys{}
	for i, key := range set.Keys {
		name := fmt.Sprintf("key %d (kid %q)", i+1, clean(key.KeyID))
		if _, twice := keys[key.KeyID]; twice || key.KeyID == "" {
			return nil, fmt.Errorf("%s: its kid is missing, or there twice", name)
		}
		if !key.IsPublic() {
			return nil, fmt.Errorf("%s: it is not a public key", name)
		}
		if key.Use != "" && key.Use != "sig" {
			return nil, fmt.Errorf("%s: its use is not sig", name)
		}
		algorithm, err := algorithmOf(key.Key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if key.Algorithm != "" && key.Algorithm != string(algorithm) {
			return nil, fmt.Errorf("%s: its alg is not %s", name, algorithm)
		}
		keys[key.KeyID] = key.Key
	}
	return keys, nil
}

// algorithmOf is the one algorithm in which a key signs. It follows from the key,
// never from a message.
func algorithmOf(public crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA || key.E < 65537 {
			return "", fmt.Errorf("%s is too weak", describeKey(key))
		}
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return "", errors.New("an EC key must be on P-256")
		}
		return jose.ES256, nil
	default:
		return "", errors.New("it is neither an RSA nor an EC key")
	}
}

// open checks a compact JWS and returns its payload. The reasons are for people,
// and free of the content.
func (k AttestationKeys) open(compact string) (payload []byte, kid string, err error) {
	if len(compact) > MaxBody {
		return nil, "", errors.New("the JWS is too long")
	}
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil || len(jws.Signatures) != 1 {
		return nil, "", errors.New("the answer is not a compact JWS in RS256 or ES256")
	}
	header := jws.Signatures[0].Protected
	if _, critical := header.ExtraHeaders["crit"]; critical {
		return nil, "", errors.New("the JWS asks for an extension that is not supported")
	}
	public, known := k[header.KeyID]
	if !known {
		return nil, "", fmt.Errorf("attestation key %q is not among the configured ones", clean(header.KeyID))
	}
	algorithm, err := algorithmOf(public)
	if err != nil {
		return nil, "", err
	}
	if header.Algorithm != string(algorithm) {
		return nil, "", fmt.Errorf("attestation key %q signs in %s, but the JWS names another algorithm", header.KeyID, algorithm)
	}
	// A key or a chain in the header is not looked at: only the configured key counts.
	if payload, err = jws.Verify(public); err != nil {
		return nil, "", fmt.Errorf("the signature does not fit attestation key %q", header.KeyID)
	}
	return payload, header.KeyID, nil
}
