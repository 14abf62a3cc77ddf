package devca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of the folder that other programs read.
const (
	CAFile         = "ca.pem"         // the CA certificate: trust for what it issues
	CRLFile        = "crl.pem"        // the newest CRL
	ServerCAFile   = "tls-ca.pem"     // trust for the API's own certificate
	ClientCertFile = "client.pem"     // client certificate of the API
	ClientKeyFile  = "client.key"     // and its key
	AddressesFile  = "addresses.json" // see [Addresses]
)

const (
	journalFile = "journal"
	lockFile    = "lock"
)

// ErrInUse reports that another process owns the folder.
var ErrInUse = errors.New("the folder is in use by another process")

// folder is the directory that a Server owns.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) has(name string) (bool, error) {
	_, err := os.Lstat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// write replaces a file so that a reader, and a start after a crash, find
// either the old content or the new one in full. The temporary name is fixed,
// because whoever holds the folder's lock is the only writer.
func (f folder) write(name string, content []byte, mode fs.FileMode) error {
	temporary := f.path("." + name + ".new")
	if err := writeSynced(temporary, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(temporary, f.path(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Without this the name may still lead to the old file after a power cut.
	if err := f.sync(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (f folder) sync() error {
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, content []byte, mode fs.FileMode) error {
	// A file left over from a crash may have another mode, so it must not be reused.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // a fixed name in the CA's folder
	if err != nil {
		return err
	}
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
