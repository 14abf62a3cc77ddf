package devca

import "errors"

// Owned reports whether a process owns the folder at this moment. It takes the
// folder for an instant to find out, so it is for programs that are about to
// start or remove a CA, not for watching one.
func Owned(dir string) bool {
	lock, err := folder(dir).lock()
	if err != nil {
		return errors.Is(err, ErrInUse)
	}
	_ = lock.Close()
	return false
}
