package stack

import (
	"errors"
	"os"
	"syscall"
)

// own takes the lock file of a folder. The system gives it back when the
// process ends, however it ends.
func own(file string) (release func() error, err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a fixed name in our own folder
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
