package mobileid

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSerials(t *testing.T) {
	for _, test := range []struct {
		name  string
		bytes []byte
		text  string
	}{
		{"one byte", []byte{0x01}, "1"},
		{"leading zero nibble", []byte{0x0a, 0xbc}, "abc"},
		{"high bit set", []byte{0x80}, "80"},
		{"digits only", []byte{0x12, 0x34}, "1234"},
		{"20 bytes", bytes.Repeat([]byte{0x7f}, 20), strings.Repeat("7f", 20)},
		{"20 bytes, high bit set", bytes.Repeat([]byte{0xff}, 20), strings.Repeat("ff", 20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			serial := new(big.Int).SetBytes(test.bytes)
			text, err := FormatSerial(serial)
			require.NoError(t, err)
			require.Equal(t, test.text, text)
			back, err := ParseSerial(text)
			require.NoError(t, err)
			require.Zero(t, serial.Cmp(back))
		})
	}
}

func TestSerialsRefused(t *testing.T) {
	for name, serial := range map[string]*big.Int{
		"none": nil, "zero": big.NewInt(0), "negative": big.NewInt(-1),
		"21 bytes": new(big.Int).SetBytes(bytes.Repeat([]byte{1}, 21)),
	} {
		_, err := FormatSerial(serial)
		require.Error(t, err, name)
	}
	for name, text := range map[string]string{
		"empty": "", "zero": "0", "leading zero": "0abc", "upper case": "ABC", "prefix": "0xab", "separators": "ab:cd",
		"sign": "-1", "space": " 1", "not hex": "xyz", "too long": strings.Repeat("f", 41), "underscore": "a_b",
	} {
		_, err := ParseSerial(text)
		require.Error(t, err, name)
	}
}

func TestNewCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	issuer := &x509.Certificate{
		Subject:      pkix.Name{Organization: []string{"Foo, Bar A/S"}, CommonName: `He said "hi" æ`},
		SubjectKeyId: []byte{1, 2, 3},
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x0abc),
		NotBefore:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)

	c, err := NewCertificate(cert, CertificateValid)
	require.NoError(t, err)
	sum := sha256.Sum256(cert.RawIssuer)
	require.Equal(t, hex.EncodeToString(sum[:]), c.Issuer)
	require.Equal(t, "010203", c.AKI)
	require.Equal(t, "abc", c.Serial)
	require.Equal(t, `CN=He said \"hi\" æ,O=Foo\, Bar A/S`, c.IssuerDN)
	require.Equal(t, der, c.DER)
	require.False(t, c.Expired(template.NotAfter))
	require.True(t, c.Expired(template.NotAfter.Add(time.Second)))
}

func TestFormatNameRefuses(t *testing.T) {
	for name, der := range map[string][]byte{"nothing": nil, "garbage": {1, 2, 3}, "more than a Name": {0x30, 0x00, 0x00}} {
		_, err := FormatName(der)
		require.Error(t, err, name)
	}
}

func FuzzParseSerial(f *testing.F) {
	for _, seed := range []string{"1", "abc", "0", "ff", "-1", strings.Repeat("f", 41)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		serial, err := ParseSerial(text)
		if err != nil {
			return
		}
		back, err := FormatSerial(serial)
		require.NoError(t, err)
		require.Equal(t, text, back, "one certificate has one text")
	})
}
