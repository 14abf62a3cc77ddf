//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package embedded

import (
	"errors"
	"fmt"
	"os"
)

// lock refuses: without flock nothing would keep two processes from writing one
// store.
func (f folder) lock() (*os.File, error) {
	return nil, fmt.Errorf("lock folder %s: the embedded messaging server needs a system with flock: %w", f, errors.ErrUnsupported)
}
