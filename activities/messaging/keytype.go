package messaging

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"strconv"
)

// KeyType is a kind of key that a phone is asked to make.
type KeyType string

// The kinds of keys. RSA2048 is the one that the product's examples show.
const (
	RSA2048 KeyType = "RSA-2048"
	RSA3072 KeyType = "RSA-3072"
	P256    KeyType = "EC-P-256"
)

// keyTypeWords are the product's words for a kind of key. Those for P256 are an
// assumption: the documentation shows RSA alone.
type keyTypeWords struct {
	Type      string `json:"keytype"`
	Length    string `json:"keylength"` // bits, as text
	Mechanism string `json:"responsemechanism"`
}

var keyTypes = map[KeyType]keyTypeWords{
	RSA2048: {Type: "RSA", Length: "2048", Mechanism: "RS256"},
	RSA3072: {Type: "RSA", Length: "3072", Mechanism: "RS256"},
	P256:    {Type: "EC", Length: "256", Mechanism: "ES256"},
}

// ParseKeyType reads the name of a kind of key, as configuration has it.
func ParseKeyType(text string) (KeyType, error) {
	if _, known := keyTypes[KeyType(text)]; !known {
		return "", fmt.Errorf("key type %q is none of %s, %s and %s", clean(text), RSA2048, RSA3072, P256)
	}
	return KeyType(text), nil
}

func keyTypeOf(words keyTypeWords) (KeyType, bool) {
	for name, w := range keyTypes {
		if w == words {
			return name, true
		}
	}
	return "", false
}

// Fits reports whether a public key is of this kind.
func (k KeyType) Fits(public crypto.PublicKey) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		// A small or even exponent is a weak key, whatever its size.
		return (k == RSA2048 || k == RSA3072) && keyTypes[k].Length == strconv.Itoa(key.N.BitLen()) &&
			key.E >= 65537 && key.E%2 == 1
	case *ecdsa.PublicKey:
		return k == P256 && key.Curve == elliptic.P256()
	default:
		return false
	}
}

// describeKey says what a key is, for people.
func describeKey(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("an RSA key of %d bits with exponent %d", key.N.BitLen(), key.E)
	case *ecdsa.PublicKey:
		return "an EC key on " + key.Curve.Params().Name
	default:
		return "a key of another kind"
	}
}
