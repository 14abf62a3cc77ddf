package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyBytes is the length of the keys that we make: the output length of
// SHA-256, as RFC 2104 section 3 advises for HMAC.
const keyBytes = 32

// StoreDSN returns where the store is, from the setting or from its file. It
// may hold a password: never print it.
func (s Store) StoreDSN() (string, error) {
	if s.DSNFile == "" {
		return s.DSN, nil
	}
	text, err := os.ReadFile(s.DSNFile)
	if err != nil {
		return "", fmt.Errorf("read store.dsn_file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// ReadKey reads a key of 32 bytes or more, written as hex digits. Its errors
// name the setting and the file, never the content.
func ReadKey(setting, file string) ([]byte, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", setting, err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) < keyBytes {
		return nil, fmt.Errorf("read %s: %s must hold at least %d hex digits", setting, file, 2*keyBytes)
	}
	return key, nil
}

// ReadSecretLine reads a secret from the first line of a file, as ReadSecret does;
// none if no file is set.
func ReadSecretLine(setting, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, _, err := ReadSecret(setting, file)
	if err != nil {
		return "", err
	}
	secret, _, _ := strings.Cut(string(text), "\n")
	if secret = strings.TrimSpace(secret); secret == "" {
		return "", fmt.Errorf("read %s: %s is empty", setting, file)
	}
	return secret, nil
}

// MakeKey writes a new random key to a file that does not exist yet, readable by
// its owner alone. It reports whether it made one.
func MakeKey(file string) (made bool, err error) {
	key := make([]byte, keyBytes)
	if _, err := rand.Read(key); err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the file is what the operator configured
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("write key to %s: %w", file, err)
	}
	return true, nil
}

// GetHashKey reads the key under which user ids stand in the ids of Get processes;
// nil if they stand there as they are.
func GetHashKey(c Config) ([]byte, error) {
	if c.Get.WorkflowID != "hashed" {
		return nil, nil
	}
	return ReadKey("search_attributes.hash_key_file", c.SearchAttributes.HashKeyFile)
}
