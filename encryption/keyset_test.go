package encryption_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	commonpb "go.temporal.io/api/common/v1"

	"mobileid/config"
	"mobileid/encryption"
)

func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// copyFile brings a keyset file to another place, as operators do.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to+".new", content, 0o600))
	require.NoError(t, os.Rename(to+".new", to))
}

// The documented order: a key is everywhere before anybody encrypts under it. No
// program is restarted, and what is old decodes to the end.
func TestRotation(t *testing.T) {
	backend, backendFile := newKeyset(t)
	workerFile := filepath.Join(t.TempDir(), "worker.json")
	copyFile(t, backendFile, workerFile)
	worker, err := encryption.Open(workerFile, func(err error) { t.Errorf("fault: %v", err) })
	require.NoError(t, err)
	worker.LookAlways()

	plain := payload(t, "anna")
	old := encode(t, backend, plain)
	requireDecodes(t, worker, old, plain)

	added, err := encryption.Add(backendFile)
	require.NoError(t, err)
	require.Equal(t, keyID(old), keyID(encode(t, backend, plain)), "an added key is not encrypted under")

	copyFile(t, backendFile, workerFile)
	require.NoError(t, encryption.Promote(backendFile, added.ID))
	young := encode(t, backend, plain)
	require.Equal(t, strconv.FormatUint(uint64(added.ID), 10), keyID(young))
	requireDecodes(t, worker, young, plain)
	requireDecodes(t, backend, old, plain)
	requireDecodes(t, backend, young, plain)
	require.Equal(t, keyID(old), keyID(encode(t, worker, plain)), "the worker's file is as it was brought there")

	keys, err := encryption.List(backendFile)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.Equal(t, []bool{false, true}, []bool{keys[0].Primary, keys[1].Primary})
	require.Equal(t, added.ID, keys[1].ID)
	require.Equal(t, "AesGcmKey", keys[1].Type)
}

// The wrong order: the error says which key is missing where, and once the key is
// there all decodes, without a restart and without a wait.
func TestRotationInTheWrongOrder(t *testing.T) {
	backend, backendFile := newKeyset(t)
	workerFile := filepath.Join(t.TempDir(), "worker.json")
	copyFile(t, backendFile, workerFile)
	worker, err := encryption.Open(workerFile, nil)
	require.NoError(t, err)
	added, err := encryption.Add(backendFile)
	require.NoError(t, err)
	require.NoError(t, encryption.Promote(backendFile, added.ID))

	plain := payload(t, "anna")
	young := encode(t, backend, plain)
	_, err = worker.Decode([]*commonpb.Payload{young})
	var missing *encryption.KeyMissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, added.ID, missing.KeyID)
	require.Equal(t, workerFile, missing.File)
	require.ErrorContains(t, err, workerFile)
	copyFile(t, backendFile, workerFile)
	requireDecodes(t, worker, young, plain)
}

// A file that is changed to the worse is told of, once, and the keys from before
// stay in use.
func TestChangedToTheWorse(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"gone":              func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
		"no keyset":         func(t *testing.T, file string) { require.NoError(t, os.WriteFile(file, []byte("hunter2"), 0o600)) },
		"readable for all":  func(t *testing.T, file string) { require.NoError(t, os.Chmod(file, 0o644)) },
		"of another keyset": nil,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keyset.json")
			_, err := encryption.Create(file)
			require.NoError(t, err)
			var faults []error
			keyset, err := encryption.Open(file, func(err error) { faults = append(faults, err) })
			require.NoError(t, err)
			keyset.LookAlways()
			plain := payload(t, "anna")
			old := encode(t, keyset, plain)

			if spoil == nil { // it is valid, so it counts
				_, other := newKeyset(t)
				copyFile(t, other, file)
				_, err := keyset.Decode([]*commonpb.Payload{old})
				require.True(t, isA[*encryption.KeyMissingError](err), err)
				require.Empty(t, faults)
				return
			}
			kept := filepath.Join(t.TempDir(), "kept.json")
			copyFile(t, file, kept)
			spoil(t, file)
			for range 3 {
				requireDecodes(t, keyset, old, plain)
				require.Equal(t, keyID(old), keyID(encode(t, keyset, plain)))
			}
			require.Len(t, faults, 1)
			require.ErrorContains(t, faults[0], "encryption.keyset_file")
			require.NotContains(t, faults[0].Error(), "hunter2")

			_, err = encryption.Add(kept)
			require.NoError(t, err)
			copyFile(t, kept, file)
			requireDecodes(t, keyset, old, plain)
			require.Len(t, faults, 1)
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	keysetOf := func(template func(*tinkkeyset.Manager) error) string {
		manager := tinkkeyset.NewManager()
		require.NoError(t, template(manager))
		handle, err := manager.Handle()
		require.NoError(t, err)
		var text bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.Write(handle, tinkkeyset.NewJSONWriter(&text)))
		return text.String()
	}
	raw := aead.AES256GCMNoPrefixKeyTemplate()
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"no JSON":         {"hunter2", 0o600, "is no keyset"},
		"another's JSON":  {`{"hunter2": 1}`, 0o600, "is no keyset"},
		"no keys":         {`{}`, 0o600, "is no keyset"},
		"others can read": {"", 0o604, "mode 0604"},
		"others change":   {"", 0o620, "mode 0620"},
		"no prefix": {keysetOf(func(m *tinkkeyset.Manager) error {
			id, err := m.Add(raw)
			return errors.Join(err, m.SetPrimary(id))
		}), 0o600, "output prefix RAW"},
		"for something else": {keysetOf(func(m *tinkkeyset.Manager) error {
			id, err := m.Add(mac.HMACSHA256Tag256KeyTemplate())
			return errors.Join(err, m.SetPrimary(id))
		}), 0o600, "AEAD"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keyset.json")
			require.NoError(t, os.WriteFile(file, []byte(test.content), 0o600))
			require.NoError(t, os.Chmod(file, test.mode))
			_, err := encryption.Open(file, nil)
			require.ErrorContains(t, err, "encryption.keyset_file")
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	_, err := encryption.Open(filepath.Join(t.TempDir(), "none"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestConfigured(t *testing.T) {
	keyset, err := encryption.Configured(config.Encryption{}, nil)
	require.NoError(t, err)
	require.Nil(t, keyset)
	_, file := newKeyset(t)
	keyset, err = encryption.Configured(config.Encryption{KeysetFile: file}, nil)
	require.NoError(t, err)
	require.NotNil(t, keyset)
}

// Files come whole, for their owner alone, and none is overwritten.
func TestKeysetFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(folder, "keyset.json")
	first, err := encryption.Create(file)
	require.NoError(t, err)
	require.True(t, first.Primary && first.Enabled)
	content, err := os.ReadFile(file)
	require.NoError(t, err)

	_, err = encryption.Create(file)
	require.ErrorIs(t, err, fs.ErrExist)
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, content, kept)

	_, err = encryption.Add(file)
	require.NoError(t, err)
	require.ErrorContains(t, encryption.Promote(file, first.ID+1), "not found")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left in the folder")
}
