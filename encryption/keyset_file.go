package encryption

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Key is one key of a keyset file, without what is secret of it.
type Key struct {
	ID      uint32 `json:"id"`
	Primary bool   `json:"primary"` // is encrypted under
	Enabled bool   `json:"enabled"`
	Type    string `json:"type"`
}

// Create writes a keyset file with one new key of AES-256-GCM. It never overwrites:
// the file is missing, or the error is fs.ErrExist.
func Create(file string) (Key, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return Key{}, fmt.Errorf("make key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return Key{}, fmt.Errorf("create keyset: %w", err)
	}
	whole, err := writeBeside(file, handle)
	if err != nil {
		return Key{}, fmt.Errorf("create keyset: %w", err)
	}
	// A link fails where there is a file, which a renaming would replace.
	err = os.Link(whole, file)
	if err := errors.Join(err, os.Remove(whole)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Key{}, fmt.Errorf("create keyset: %s is there already, and is kept: %w", file, fs.ErrExist)
		}
		return Key{}, fmt.Errorf("create keyset: %w", err)
	}
	return list(handle)[0], syncFolder(file)
}

// Add adds a new key of AES-256-GCM, under which nothing is encrypted yet.
func Add(file string) (added Key, err error) {
	err = change(file, func(manager *keyset.Manager) error {
		added.ID, err = manager.Add(aead.AES256GCMKeyTemplate())
		return err
	}, func(keys []Key) {
		for _, key := range keys {
			if key.ID == added.ID {
				added = key
			}
		}
	})
	return added, err
}

// Promote makes a key of the file the one under which is encrypted.
func Promote(file string, id uint32) error {
	return change(file, func(manager *keyset.Manager) error { return manager.SetPrimary(id) }, func([]Key) {})
}

// List tells of the keys of a file, oldest first.
func List(file string) ([]Key, error) {
	handle, _, err := read(file)
	if err != nil {
		return nil, err
	}
	if _, err := usable(file, handle); err != nil {
		return nil, err
	}
	return list(handle), nil
}

func list(handle *keyset.Handle) []Key {
	info := handle.KeysetInfo()
	keys := make([]Key, 0, handle.Len())
	for _, key := range info.GetKeyInfo() {
		keys = append(keys, Key{
			ID: key.GetKeyId(), Primary: key.GetKeyId() == info.GetPrimaryKeyId(),
			Enabled: key.GetStatus().String() == statusEnabled, Type: typeName(key.GetTypeUrl()),
		})
	}
	return keys
}

// typeName is the last part of a type URL. Of a disabled key nobody has checked it, so
// it may have no parts.
func typeName(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

// change replaces a keyset file by one that is changed, whole at every moment.
// Two changes at once are for people to avoid: the later one would win.
func change(file string, act func(*keyset.Manager) error, done func([]Key)) error {
	handle, _, err := read(file)
	if err != nil {
		return err
	}
	if _, err := usable(file, handle); err != nil {
		return err
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := act(manager); err != nil {
		return fmt.Errorf("change keyset %s: %w", file, err)
	}
	if handle, err = manager.Handle(); err != nil {
		return fmt.Errorf("change keyset %s: %w", file, err)
	}
	whole, err := writeBeside(file, handle)
	if err != nil {
		return fmt.Errorf("change keyset: %w", err)
	}
	if err := os.Rename(whole, file); err != nil {
		return fmt.Errorf("change keyset: %w", errors.Join(err, os.Remove(whole)))
	}
	done(list(handle))
	return syncFolder(file)
}

// writeBeside writes a keyset to a new file in the folder of another one, for its
// owner alone, and returns its name once the disk has it.
func writeBeside(file string, handle *keyset.Handle) (name string, err error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return "", err
	}
	text.WriteByte('\n')
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".new-*") // with mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(text.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncFolder makes the disk have the name of a file, too.
func syncFolder(file string) error {
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
