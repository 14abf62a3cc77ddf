// Package seal seals what a page hands to a browser and wants back unchanged and
// unread: what a form was shown for, and what a sign-in elsewhere began with.
//
// A seal is AES-256-GCM (NIST SP 800-38D) with a random nonce, under a key that is
// derived for its purpose by HKDF-SHA256 (RFC 5869). What it is bound to is
// authenticated with it, and stands in it nowhere: opened for another session or
// another mobile ID, it is as good as forged. With random nonces one key is good for
// 2^32 seals, some centuries of forms.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// minKeyBytes is the length of the key behind all seals.
const minKeyBytes = 32

// maxSealed is the longest text that is looked at.
const maxSealed = 4096

// ErrNotSealed reports what was not sealed here for this, was changed, or is too old.
// It does not tell which.
var ErrNotSealed = errors.New("not sealed for this, or no longer valid")

// Sealer seals for one purpose.
type Sealer struct {
	aead  cipher.AEAD
	clock func() time.Time
}

// New makes a Sealer. Two with the same key and different purposes do not open each
// other's seals. A nil clock is time.Now.
func New(key []byte, purpose string, clock func() time.Time) (*Sealer, error) {
	if len(key) < minKeyBytes {
		return nil, fmt.Errorf("seal: the key has %d bytes, it must have at least %d", len(key), minKeyBytes)
	}
	if clock == nil {
		clock = time.Now
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "mobileid/self-service/"+purpose, minKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("seal: derive key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Sealer{aead: aead, clock: clock}, nil
}

// sealed is what lies inside.
type sealed struct {
	Until time.Time       `json:"until"`
	Value json.RawMessage `json:"value"`
}

// Seal returns value as text for a form, an address or a cookie, valid for a time and
// bound to what is given.
func (s *Sealer) Seal(value any, valid time.Duration, boundTo ...string) (string, error) {
	inner, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	plain, err := json.Marshal(sealed{Until: s.clock().Add(valid).UTC(), Value: inner})
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	box := s.aead.Seal(nil, nil, plain, fields(boundTo)) //nolint:gosec // the nonce is made at random by the cipher itself
	return base64.RawURLEncoding.EncodeToString(box), nil
}

// Open reads into value what Seal returned, if it is valid and bound to the same.
// Otherwise it is ErrNotSealed.
func (s *Sealer) Open(text string, value any, boundTo ...string) error {
	if len(text) > maxSealed {
		return ErrNotSealed
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return ErrNotSealed
	}
	plain, err := s.aead.Open(nil, nil, box, fields(boundTo))
	if err != nil {
		return ErrNotSealed
	}
	var inner sealed
	if err := json.Unmarshal(plain, &inner); err != nil || !s.clock().Before(inner.Until) {
		return ErrNotSealed
	}
	if err := json.Unmarshal(inner.Value, value); err != nil {
		return ErrNotSealed
	}
	return nil
}

// fields joins texts after their lengths, so that no two lists are the same bytes.
func fields(list []string) []byte {
	var joined []byte
	for _, text := range list {
		joined = binary.BigEndian.AppendUint64(joined, uint64(len(text)))
		joined = append(joined, text...)
	}
	return joined
}
