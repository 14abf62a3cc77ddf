package messaging_test

import (
	"crypto/elliptic"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

// Any certificate command: a typed error that names the field, or certificates that
// can be read, each once, and few.
func FuzzCertificateCommand(f *testing.F) {
	const head = `{"commandHeader":{"lifespan":60,"timeout":60,"externalId":"e"},"certCommand":{"userid":"anna","profileid":"p1","certificates":`
	for _, chains := range []string{`[]`, `null`, `[{"keyid":"auth","certs":["AAAA"]}]`, `[{"keyid":"../x","certs":[]}]`, `[{"keyid":"auth"},{"keyid":"auth"}]`, `{}`} {
		f.Add([]byte(head + chains + `}}`))
	}
	f.Add([]byte(`{"commandHeader":{"lifespan":-1,"timeout":1e99}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		command, err := messaging.ParseCertificates(body)
		if err != nil {
			var invalid *messaging.Error
			require.True(t, errors.As(err, &invalid), "%T: %v", err, err)
			require.Equal(t, messaging.Invalid, invalid.Kind)
			return
		}
		require.NotEmpty(t, command.ProfileID)
		require.NotEmpty(t, command.Chains)
		seen := map[string]bool{}
		for _, chain := range command.Chains {
			require.False(t, seen[chain.KeyID])
			seen[chain.KeyID] = true
			require.NotContains(t, chain.KeyID, "/")
			require.NotEmpty(t, chain.Certificates)
		}
	})
}

// Any file of attestation keys: public keys of the two kinds that count, under names
// of their own, or an error. A secret or a private key vouches for nobody.
func FuzzAttestationKeys(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	good := jwks(f, jose.JSONWebKey{Key: key.Public(), KeyID: "ec", Use: "sig", Algorithm: "ES256"})
	f.Add(good)
	f.Add(jwks(f, jose.JSONWebKey{Key: key, KeyID: "private"}))
	f.Add(jwks(f, jose.JSONWebKey{Key: []byte("secret"), KeyID: "oct"}))
	f.Add(jwks(f, jose.JSONWebKey{Key: ecKey(f, elliptic.P384()).Public(), KeyID: "p384"}))
	f.Add([]byte(strings.Replace(string(good), "ES256", "none", 1)))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"e3","n":"` + strings.Repeat("_", 342) + `","e":"Aw"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"r","n":"` + strings.Repeat("_", 342) + `","e":"AQAB"},{"kty":"EC"}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":null,"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := messaging.ParseAttestationKeys(text)
		if err != nil {
			require.Empty(t, keys)
			return
		}
		require.NotEmpty(t, keys)
		for kid, public := range keys {
			require.NotEmpty(t, kid)
			jwk := jose.JSONWebKey{Key: public}
			require.True(t, jwk.Valid())
			require.True(t, jwk.IsPublic())
			again, err := messaging.ParseAttestationKeys(jwks(t, jose.JSONWebKey{Key: public, KeyID: "k"}))
			require.NoError(t, err)
			require.Equal(t, messaging.AttestationKeys{"k": public}, again)
		}
	})
}
