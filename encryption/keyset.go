package encryption

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"mobileid/config"
)

const (
	setting = "encryption.keyset_file"

	// lookEvery is how often the file is looked at for a change.
	lookEvery = time.Second

	// tinkPrefix is the form of ciphertext that says under which key it is.
	tinkPrefix = "TINK"
)

// Keyset is the keys of a file, which is read again when it changes. It is a payload
// codec, safe for concurrent use.
type Keyset struct {
	file    string
	onFault func(error)
	every   time.Duration // between two looks at the file

	mu     sync.RWMutex
	keys   *keys
	looked time.Time
	seen   os.FileInfo // of the file that keys come from, or that was refused last
}

// keys is what one state of the file holds.
type keys struct {
	aead    tink.AEAD
	primary uint32
	enabled map[uint32]bool
}

// Configured opens the configured keyset; nil if payloads are not encrypted. onFault,
// which may be nil, is told when a changed file cannot be read: the keys from before
// are used until it can.
func Configured(c config.Encryption, onFault func(error)) (*Keyset, error) {
	if c.KeysetFile == "" {
		return nil, nil
	}
	return Open(c.KeysetFile, onFault)
}

// Open reads a keyset file; see [Configured].
func Open(file string, onFault func(error)) (*Keyset, error) {
	handle, info, err := read(file)
	if err != nil {
		return nil, err
	}
	keys, err := usable(file, handle)
	if err != nil {
		return nil, err
	}
	if onFault == nil {
		onFault = func(error) {}
	}
	return &Keyset{file: file, onFault: onFault, every: lookEvery, keys: keys, looked: time.Now(), seen: info}, nil
}

// current returns the keys, after a look at the file if the last one is old.
func (k *Keyset) current() *keys {
	k.mu.RLock()
	keys, fresh := k.keys, time.Since(k.looked) < k.every
	k.mu.RUnlock()
	if fresh {
		return keys
	}
	return k.reread()
}

// reread looks at the file now, and takes its keys if it has changed.
func (k *Keyset) reread() *keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Now()
	info, err := os.Stat(k.file)
	if err != nil {
		if k.seen != nil { // told once
			k.seen = nil
			k.onFault(fmt.Errorf("read %s: %w", setting, err))
		}
		return k.keys
	}
	if same(info, k.seen) {
		return k.keys
	}
	handle, read, err := read(k.file)
	if err == nil {
		info = read
		var changed *keys
		if changed, err = usable(k.file, handle); err == nil {
			k.keys = changed
		}
	}
	k.seen = info
	if err != nil {
		k.onFault(err)
	}
	return k.keys
}

func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// read reads a keyset file. Its errors never show the content.
func read(file string) (*keyset.Handle, os.FileInfo, error) {
	content, info, err := config.ReadSecret(setting, file)
	if err != nil {
		return nil, nil, err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		// The reader's own words may quote the content.
		return nil, nil, fmt.Errorf("read %s: %s is no keyset in Tink's JSON format", setting, file)
	}
	return handle, info, nil
}

// usable makes keys of a keyset, or says why it is of no use here.
func usable(file string, handle *keyset.Handle) (*keys, error) {
	info := handle.KeysetInfo()
	k := &keys{primary: info.GetPrimaryKeyId(), enabled: map[uint32]bool{}}
	for _, key := range info.GetKeyInfo() {
		if prefix := key.GetOutputPrefixType().String(); prefix != tinkPrefix {
			return nil, fmt.Errorf("read %s: key %d of %s has output prefix %s, must be %s", setting, key.GetKeyId(), file, prefix, tinkPrefix)
		}
		k.enabled[key.GetKeyId()] = key.GetStatus().String() == statusEnabled
	}
	if len(k.enabled) != handle.Len() {
		return nil, fmt.Errorf("read %s: %s has two keys of one id", setting, file)
	}
	var err error
	if k.aead, err = aead.New(handle); err != nil {
		return nil, fmt.Errorf("read %s: the keys of %s: %w", setting, file, errors.Join(errNotForAEAD, err))
	}
	return k, nil
}

const statusEnabled = "ENABLED"

var errNotForAEAD = errors.New("are not for authenticated encryption (AEAD)")
