//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package devca

import (
	"errors"
	"fmt"
	"os"
)

// lock refuses: without flock nothing would keep two processes from writing one
// journal. The driver works on every system.
func (f folder) lock() (*os.File, error) {
	return nil, fmt.Errorf("lock folder %s: the development CA needs a system with flock: %w", f, errors.ErrUnsupported)
}
