package encryption

import "fmt"

// KeyMissingError reports a payload under a key that the keyset does not hold, or
// that is disabled there. With the key it decodes.
type KeyMissingError struct {
	KeyID uint32
	File  string // the keyset file
}

func (e *KeyMissingError) Error() string {
	return fmt.Sprintf("payload is encrypted under key %d, which keyset file %s does not hold or has disabled: "+
		"bring the file up to date with where the payload was encrypted", e.KeyID, e.File)
}

// AlteredError reports a payload that is not as it was encrypted: it, or what stands
// beside it, was changed. It will never decode.
type AlteredError struct {
	KeyID uint32
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("payload is not as it was encrypted under key %d: it or its metadata was altered", e.KeyID)
}

// MalformedError reports a payload that says it is encrypted and is not as this
// package encrypts. It will never decode.
type MalformedError struct {
	Problem string
}

func (e *MalformedError) Error() string {
	return "payload says that it is encrypted, but " + e.Problem
}
