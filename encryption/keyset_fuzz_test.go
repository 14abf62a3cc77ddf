package encryption

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
)

// Whatever a keyset file holds: keys that are of use, or an error that names the
// setting, and a file that stays as it was.
func FuzzKeysetFile(f *testing.F) {
	made := filepath.Join(f.TempDir(), "keyset.json")
	_, err := Create(made)
	require.NoError(f, err)
	_, err = Add(made)
	require.NoError(f, err)
	good, err := os.ReadFile(made)
	require.NoError(f, err)
	f.Add(good)
	f.Add(bytes.ReplaceAll(good, []byte("ENABLED"), []byte("DISABLED")))
	f.Add(bytes.Replace(good, []byte("TINK"), []byte("RAW"), 1))
	f.Add(withDisabledKey(f, made, "foo"))
	f.Add([]byte(`{"primaryKeyId":1,"key":[]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "keyset.json")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		listed, listErr := List(file)
		keyset, err := Open(file, nil)
		require.Equal(t, err == nil, listErr == nil, "%v and %v", err, listErr)
		if err != nil {
			require.ErrorContains(t, err, setting)
			_, err = Add(file)
			require.Error(t, err, "nothing is added to what cannot be read")
			kept, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, text, kept)
			return
		}
		primaries := 0
		for _, key := range listed {
			if key.Primary {
				primaries++
				require.True(t, key.Enabled)
			}
		}
		require.Equal(t, 1, primaries)
		plain := []*commonpb.Payload{{Data: []byte("anna")}}
		sealed, err := keyset.Encode(plain)
		require.NoError(t, err)
		require.NotContains(t, string(sealed[0].GetData()), "anna")
		opened, err := keyset.Decode(sealed)
		require.NoError(t, err)
		require.Equal(t, "anna", string(opened[0].GetData()))
		added, err := Add(file)
		require.NoError(t, err)
		again, err := List(file)
		require.NoError(t, err)
		require.Len(t, again, len(listed)+1)
		require.NotContains(t, listed, added)
	})
}

// withDisabledKey is a keyset whose last key is disabled, of a type that nobody knows.
func withDisabledKey(t testing.TB, file, typeURL string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	const of, on = `"type.googleapis.com/google.crypto.tink.AesGcmKey"`, `"ENABLED"`
	before, after := text[:bytes.LastIndex(text, []byte(of))], text[bytes.LastIndex(text, []byte(of))+len(of):]
	after = bytes.Replace(after, []byte(on), []byte(`"DISABLED"`), 1)
	return slices.Concat(before, []byte(`"`+typeURL+`"`), after)
}

// What a disabled key is for, nobody checks. It is listed all the same.
func TestListDisabledKeyOfAnotherType(t *testing.T) {
	for typeURL, want := range map[string]string{"foo": "foo", "": "", "example.com/a.B": "B", "a.": ""} {
		file := filepath.Join(t.TempDir(), "keyset.json")
		_, err := Create(file)
		require.NoError(t, err)
		_, err = Add(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, withDisabledKey(t, file, typeURL), 0o600))
		keys, err := List(file)
		require.NoError(t, err, typeURL)
		require.Len(t, keys, 2)
		require.False(t, keys[1].Enabled)
		require.Equal(t, want, keys[1].Type)
	}
}
