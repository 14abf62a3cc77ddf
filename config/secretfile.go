package config

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// maxSecret bounds what is read of a file with a secret, in bytes.
const maxSecret = 1 << 20

// errNotSecret means that others can read a file, or change it.
var errNotSecret = errors.New("must be for its owner alone (chmod 600), or root's and readable by a group (chmod 640)")

// ReadSecret reads a file that nobody but its owner may read, and returns what the
// system says of it. One that belongs to root may be readable by a group, too: it is
// how secrets come into containers. Its errors name the setting and the file, never
// the content.
func ReadSecret(setting, file string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", setting, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", setting, err)
	}
	others := info.Mode().Perm() & 0o077
	if ownedByRoot(info) {
		others &^= 0o040
	}
	if others != 0 {
		return nil, nil, fmt.Errorf("read %s: %s has mode %04o and %w", setting, file, info.Mode().Perm(), errNotSecret)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", setting, err)
	}
	if len(content) > maxSecret {
		return nil, nil, fmt.Errorf("read %s: %s has more than %d bytes", setting, file, maxSecret)
	}
	return content, info, nil
}
