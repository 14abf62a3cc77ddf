package phone

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// attestationKey signs the phone's statements.
type attestationKey struct{ jwk jose.JSONWebKey }

func readAttestationKey(file string) (attestationKey, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is the caller's choice
	if err != nil {
		return attestationKey{}, fmt.Errorf("attestation key: %w", err)
	}
	var key jose.JSONWebKey
	if key.UnmarshalJSON(text) != nil || key.IsPublic() {
		// The parser's words may quote what it read.
		return attestationKey{}, fmt.Errorf("attestation key: %s is not a JWK of a private key", file)
	}
	return attestationKey{jwk: key}, nil
}

// sign makes a compact JWS that names the key by its kid.
func (k attestationKey) sign(payload []byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.jwk.Algorithm), Key: k.jwk}, nil)
	if err != nil {
		return "", fmt.Errorf("attestation key: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("attestation key: %w", err)
	}
	return jws.CompactSerialize()
}

// foreignKey is a new key that claims to be the given one.
func foreignKey(k attestationKey) (attestationKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return attestationKey{jwk: jose.JSONWebKey{Key: key, KeyID: k.jwk.KeyID, Algorithm: string(jose.ES256)}}, err
}
