package phone

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

func TestReadPNGRefuses(t *testing.T) {
	encode := func(width, height int) []byte {
		var b bytes.Buffer
		require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))))
		return b.Bytes()
	}
	for _, row := range []struct {
		name    string
		picture []byte
		words   string
	}{
		{"nothing", nil, "read QR code"},
		{"no picture", []byte("secret"), "read QR code"},
		{"cut short", encode(100, 100)[:50], "read QR code"},
		{"no QR code", encode(100, 100), "there is none"},
		{"huge", encode(5000, 1), "larger than"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ReadPNG(bytes.NewReader(row.picture))
			require.ErrorContains(t, err, row.words)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestReadTerminalRefuses(t *testing.T) {
	dark := strings.Repeat(strings.Repeat("█", 40)+"\n", 30)
	for _, row := range []struct{ name, screen, words string }{
		{"nothing", "", "there is none"},
		{"words alone", "secret\n", "there is none"},
		{"a box", dark, "there is none"},
		{"a line without end", strings.Repeat("secret", 1<<15), "too long"},
		{"a screen without end", strings.Repeat("secret\n", maxScreen), "there is none"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ReadTerminal(strings.NewReader(row.screen))
			require.ErrorContains(t, err, row.words)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestNoCodeIsWiderThanTheWidest(t *testing.T) {
	require.Len(t, codeLine(strings.Repeat("█", maxModules)), maxModules)
	require.Empty(t, codeLine(strings.Repeat("█", maxModules+1)))
}

func TestProfileWithoutCertificates(t *testing.T) {
	dir := t.TempDir()
	signer, err := makeKey(messaging.P256, false)
	require.NoError(t, err)
	made := &Profile{ID: "p1", keys: map[string]*key{"auth": {signer: signer}}}
	require.NoError(t, made.save(dir))
	p, err := Open(filepath.Join(dir, "p1"))
	require.NoError(t, err)
	require.Equal(t, made, p)
	for keyID, words := range map[string]string{"auth": "no certificate for key auth", "other": `no key "other"`} {
		_, err = p.Certificate(keyID)
		require.ErrorContains(t, err, words)
		_, err = p.Sign(keyID, nil)
		require.ErrorContains(t, err, words)
		_, err = p.TLSCertificate(keyID)
		require.ErrorContains(t, err, words)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, row := range []struct{ name, file, content string }{
		{"no profile", "profile.json", ""},
		{"a profile that is not JSON", "profile.json", "{"},
		{"a key that is not PEM", "auth.key", "secret"},
		{"a key that is not a key", "auth.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"},
		{"no key", "auth.key", ""},
		{"a certificate that is none", "auth.pem", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			signer, err := makeKey(messaging.P256, false)
			require.NoError(t, err)
			require.NoError(t, (&Profile{ID: "p1", keys: map[string]*key{"auth": {signer: signer}}}).save(dir))
			path := filepath.Join(dir, "p1", row.file)
			if row.content == "" {
				require.NoError(t, os.Remove(path))
			} else {
				require.NoError(t, os.WriteFile(path, []byte(row.content), 0o600))
			}
			_, err = Open(filepath.Join(dir, "p1"))
			require.ErrorContains(t, err, strings.TrimSuffix(row.file, filepath.Ext(row.file)))
			require.NotContains(t, err.Error(), "secret")
		})
	}
}
