package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of the folder that other programs read.
const (
	ServerCAFile         = "tls.pem"           // trust for the server, and its certificate
	ServerKeyFile        = "tls.key"           // the key of that
	APIKeyFile           = "api.key"           // of the client [ClientID]
	CallbackPasswordFile = "callback.password" // of [CallbackUser]
	AttestationKeyFile   = "attestation.jwk"   // for the phone simulator
	AttestationKeysFile  = "attestation.jwks"  // for messaging.ReadAttestationKeys
	AddressesFile        = "addresses.json"    // see [Addresses]
)

const (
	storeFile = "messages.db"
	lockFile  = "lock"
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

// write replaces a file, for the owner alone, so that a reader, and a start after a
// crash, find either the old content or the new one in full. The temporary name is
// fixed, because whoever holds the folder's lock is the only writer.
func (f folder) write(name string, content []byte) error {
	temporary := f.path("." + name + ".new")
	err := writeSynced(temporary, content)
	if err == nil {
		err = os.Rename(temporary, f.path(name))
	}
	if err == nil {
		err = f.sync() // without it the name may lead to the old file after a power cut
	}
	if err != nil {
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

func writeSynced(path string, content []byte) error {
	// A file left over from a crash may have another mode, so it must not be reused.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a fixed name in the server's folder
	if err != nil {
		return err
	}
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
