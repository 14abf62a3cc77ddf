package config

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Any value in any of our variables is a configuration, or a fault that names the
// setting; a name that is none of ours is one, too.
func FuzzEnvironment(f *testing.F) {
	f.Chdir(f.TempDir()) // where there is no config.yaml
	var names []string
	for _, s := range settings(reflect.ValueOf(Default()), "") {
		names = append(names, s.key)
	}
	values := []string{"", "0", "-1", "true", "15m", "1h,2h", ",", "[]", "postgres", "127.0.0.1:0", "\xff", "a\nb", "https://x", "9999999999999999999", "NaN", "1e99"}
	for n := range names {
		f.Add(uint16(n), "", values[n%len(values)])
		f.Add(uint16(n), "", values[(n+7)%len(values)])
	}
	f.Add(uint16(0), "X", "1")
	f.Fuzz(func(t *testing.T, which uint16, more, value string) {
		key := names[int(which)%len(names)]
		name := variable(key) + more
		if strings.ContainsAny(name+value, "\x00") || strings.ContainsAny(name, "=") {
			return // of no environment
		}
		t.Setenv(name, value)
		_, err := Load(nil)
		if more != "" && err == nil {
			known := name == FileVariable || slices.ContainsFunc(names, func(key string) bool { return variable(key) == name })
			require.True(t, known, "%s is taken, and is none of ours", name)
		}
		if err == nil {
			return
		}
		var faults *Faults
		require.True(t, errors.As(err, &faults), "%T: %v", err, err)
		for _, fault := range faults.list { // one value may ask for another setting
			named := slices.ContainsFunc(append(names, name), func(name string) bool { return strings.Contains(fault, name) })
			require.True(t, named, "%s=%q: %s does not say which setting", name, value, fault)
		}
	})
}

// Files of keys and of secrets: a key that is long enough, a secret of one line, or
// an error that names the setting and nothing of the content.
func FuzzSecretFile(f *testing.F) {
	for _, text := range []string{
		strings.Repeat("0a", keyBytes) + "\n", strings.Repeat("0A", keyBytes), strings.Repeat("0", 2*keyBytes-1), strings.Repeat("zz", keyBytes),
		"secret\r\n", "\nsecret", "  ", "", "\x00", strings.Repeat("00 ", keyBytes),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const setting = "some.key_file"
		file := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		silent := func(err error) {
			require.ErrorContains(t, err, setting)
			if line := strings.TrimSpace(string(text)); len(line) > 4 {
				require.NotContains(t, strings.ReplaceAll(err.Error(), file, ""), line)
			}
		}
		if key, err := ReadKey(setting, file); err != nil {
			silent(err)
		} else {
			require.GreaterOrEqual(t, len(key), keyBytes)
			require.True(t, strings.EqualFold(strings.TrimSpace(string(text)), hex.EncodeToString(key)))
		}
		secret, err := ReadSecretLine(setting, file)
		if err != nil {
			silent(err)
			return
		}
		require.NotEmpty(t, secret)
		require.NotContains(t, secret, "\n")
		require.Contains(t, string(text), secret)
	})
}
