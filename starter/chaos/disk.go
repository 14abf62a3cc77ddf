package chaos

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// diskSize is that of Identity Manager's disk: some 40 MB for an empty cluster and 64
// MB for its log, and room for ten thousand locks.
const diskSize = "size=512m,mode=0755"

// disk is where Identity Manager's database lies: a file system of its own, so that
// it can be full. Without the right to mount it is a folder, and is never full.
type disk struct {
	dir     string
	mounted bool
}

func mountDisk() (*disk, error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	// The server runs as somebody else.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // it holds nothing itself
		return nil, errors.Join(err, os.Remove(dir))
	}
	err = syscall.Mount("chaos", dir, "tmpfs", 0, diskSize)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &disk{dir: dir, mounted: err == nil}, nil
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all that is free.
func (d *disk) fill() error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(piece)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// empty gives it back.
func (d *disk) empty() error {
	err := os.Remove(d.ballast())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *disk) close() error {
	if d.mounted {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.dir)
}
