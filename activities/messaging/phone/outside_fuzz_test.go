package phone

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

// What a phone sees, as a picture or on a terminal: the content of a code, or an error
// that does not quote what was seen.
func FuzzCode(f *testing.F) {
	code, err := messaging.QR("com.nexusgroup.plugout:///?url=https%3A%2F%2Fx.example%2Frest%2Fms%2F1")
	require.NoError(f, err)
	f.Add(code)
	f.Add(code[:len(code)/2])
	f.Add([]byte(strings.Repeat(strings.Repeat("█", 33)+"\n", 17)))
	f.Add([]byte("\x1b[7m ▀▄█\x1b[0m\n"))
	f.Add([]byte("secret\xff\n"))
	f.Fuzz(func(t *testing.T, seen []byte) {
		for name, read := range map[string]func() (string, error){
			"picture":  func() (string, error) { return ReadPNG(bytes.NewReader(seen)) },
			"terminal": func() (string, error) { return ReadTerminal(bytes.NewReader(seen)) },
		} {
			content, err := read()
			if err == nil {
				require.NotEmpty(t, content, name)
				continue
			}
			require.ErrorContains(t, err, "read QR code", name)
			require.Less(t, len(err.Error()), 500, name)
		}
	})
}

// Any certificate command: the phone takes certificates for its own keys, all of them,
// or it keeps what it had.
func FuzzInstall(f *testing.F) {
	signer, err := makeKey(messaging.P256, false)
	require.NoError(f, err)
	own := &Profile{ID: "p1", keys: map[string]*key{"auth": {signer: signer}}}
	asked, err := (&scan{}).request(template(f), signer)
	require.NoError(f, err)
	certificate := base64.StdEncoding.EncodeToString(selfSigned(f, signer))
	other, err := makeKey(messaging.P256, false)
	require.NoError(f, err)
	foreign := base64.StdEncoding.EncodeToString(selfSigned(f, other))
	const head = `{"commandHeader":{"lifespan":60,"timeout":60,"externalId":"e"},"certCommand":{"userid":"anna","profileid":"p1","certificates":`
	for _, chains := range []string{
		`[{"keyid":"auth","certs":["OWN"]}]`, `[{"keyid":"auth","certs":["OWN","FOREIGN"]}]`, `[{"keyid":"auth","certs":["FOREIGN","OWN"]}]`, `[{"keyid":"sign","certs":["OWN"]}]`,
		`[{"keyid":"auth","certs":[]}]`, `[]`, `[{"keyid":"auth","certs":["OWN"]},{"keyid":"auth","certs":["FOREIGN"]}]`, `[{"keyid":"auth","certs":["` + base64.StdEncoding.EncodeToString(asked) + `"]}]`,
	} {
		f.Add([]byte(head + chains + `}}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		own.keys["auth"].chain = nil
		body = []byte(strings.NewReplacer("OWN", certificate, "FOREIGN", foreign).Replace(string(body)))
		delivered, err := messaging.ParseCertificates(body)
		if err == nil {
			err = own.install(delivered)
		}
		require.Equal(t, []string{"auth"}, own.KeyIDs())
		if err != nil {
			require.Empty(t, own.keys["auth"].chain)
			return
		}
		leaf, err := own.Certificate("auth")
		require.NoError(t, err)
		public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		require.True(t, ok)
		require.True(t, public.Equal(leaf.PublicKey))
		require.NoError(t, own.Prove("auth", []byte("challenge")))
	})
}

// Files of the phone: a private JWK that signs, a profile with its keys, or an error
// that does not quote them.
func FuzzFiles(f *testing.F) {
	signer, err := makeKey(messaging.P256, false)
	require.NoError(f, err)
	jwk, err := json.Marshal(jose.JSONWebKey{Key: signer, KeyID: "k", Algorithm: string(jose.ES256)})
	require.NoError(f, err)
	public, err := json.Marshal(jose.JSONWebKey{Key: signer.Public(), KeyID: "k", Algorithm: string(jose.ES256)})
	require.NoError(f, err)
	for _, text := range [][]byte{jwk, public, bytes.Replace(jwk, []byte("ES256"), []byte("none"), 1), []byte(`{"kty":"oct","k":"c2VjcmV0c2VjcmV0"}`), []byte(`{"kty":"OKP","crv":"Ed25519"}`), []byte("{"), nil} {
		f.Add(text)
	}
	f.Add([]byte(`{"id":"p1","keys":["auth"]}`))
	f.Add([]byte(`{"id":"p1","keys":["auth","auth"]}`))
	f.Add([]byte(`{"keys":["../../auth"]}`))
	dir := f.TempDir()
	require.NoError(f, (&Profile{ID: "p1", keys: map[string]*key{"auth": {signer: signer}}}).save(dir))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "attestation.jwk")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		key, err := readAttestationKey(file)
		if err == nil {
			_, err = key.sign([]byte("{}"))
		}
		if err != nil {
			require.ErrorContains(t, err, "attestation key")
			if said := strings.ReplaceAll(err.Error(), file, ""); len(text) > 20 {
				require.NotContains(t, said, string(text))
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "p1", profileFile), text, 0o600))
		profile, err := Open(filepath.Join(dir, "p1"))
		if err != nil {
			return
		}
		for _, id := range profile.KeyIDs() {
			require.True(t, slices.Contains([]string{"auth"}, filepath.Base(id)), "%q", id)
			_, err = profile.Certificate(id)
			require.Error(t, err, "none has come")
		}
	})
}

func template(t testing.TB) []byte {
	t.Helper()
	der, err := messaging.CSRTemplate(pkix.Name{CommonName: "Anna"})
	require.NoError(t, err)
	return der
}

func selfSigned(t testing.TB, signer crypto.Signer) []byte {
	t.Helper()
	made := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Anna"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, made, made, signer.Public(), signer)
	require.NoError(t, err)
	return der
}
