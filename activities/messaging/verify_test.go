package messaging_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

// answer is a good answer to a command with two keys, for rows to spoil.
type answer struct {
	t         *testing.T
	options   messaging.VerifyOptions
	callback  messaging.Callback
	statement messaging.Statement
	// jws makes the JWS; nil: with the good key.
	jws func(payload []byte) string
}

var attestation = rsaKeys[2048]

func goodAnswer(t *testing.T) *answer {
	t.Helper()
	command := provision(t)
	keys, err := messaging.ParseAttestationKeys(jwks(t,
		jose.JSONWebKey{Key: attestation().Public(), KeyID: "rsa"},
		jose.JSONWebKey{Key: ecKey(t, elliptic.P256()).Public(), KeyID: "ec"}))
	require.NoError(t, err)
	return &answer{
		t:        t,
		options:  messaging.VerifyOptions{Keys: keys, Nonce: nonce, UserID: command.UserID, Requests: command.Expected()},
		callback: messaging.Callback{Kind: messaging.KindProvision, CommandID: "1", Outcome: messaging.Answered, ProfileID: "p1"},
		statement: messaging.Statement{Nonce: nonce, UserID: command.UserID, ProfileID: "p1", Keys: []messaging.MadeKey{
			{KeyID: "signer", CSR: csr(t, command.Keys[1].CSRTemplate, rsaKeys[2048]())}, // in another order than asked
			{KeyID: "auth", CSR: csr(t, command.Keys[0].CSRTemplate, ecKey(t, elliptic.P256()))},
		}},
	}
}

func (a *answer) verify() ([]messaging.SignedRequest, error) {
	payload, err := a.statement.Encode()
	require.NoError(a.t, err)
	if a.jws == nil {
		a.jws = func(payload []byte) string { return sign(a.t, jose.RS256, attestation(), "rsa", payload) }
	}
	if a.callback.JWS == "" {
		a.callback.JWS = a.jws(payload)
	}
	return messaging.Verify(a.callback, a.options)
}

func TestVerify(t *testing.T) {
	a := goodAnswer(t)
	requests, err := a.verify()
	require.NoError(t, err)
	require.Len(t, requests, 2)
	require.Equal(t, "auth", requests[0].KeyID, "in the order in which they were asked for")
	require.Equal(t, a.statement.Keys[1].CSR, requests[0].CSR)
	require.Equal(t, "signer", requests[1].KeyID)
	require.Equal(t, "rsa", requests[1].AttestationKey)
	require.Equal(t, anna.CommonName, requests[1].Request.Subject.CommonName)
}

func TestVerifyRefuses(t *testing.T) {
	signerTemplate := func(a *answer) []byte { return a.options.Requests[1].CSRTemplate }
	rawSubject := func(a *answer) []byte {
		asked, err := x509.ParseCertificateRequest(signerTemplate(a))
		require.NoError(a.t, err)
		return asked.RawSubject
	}
	for _, row := range []struct {
		name  string
		spoil func(a *answer)
		want  messaging.Refusal
		key   string
	}{
		{"another kind of callback", func(a *answer) { a.callback.Kind = messaging.KindCertificate }, messaging.Unreadable, ""},
		{"a time-out", func(a *answer) { a.callback.Outcome = messaging.TimedOut }, messaging.Unreadable, ""},

		{"no JWS", func(a *answer) { a.callback.JWS = "x" }, messaging.BadSignature, ""},
		{"foreign key with the right kid", func(a *answer) {
			a.jws = func(p []byte) string { return sign(a.t, jose.RS256, rsaKeys[3072](), "rsa", p) }
		}, messaging.BadSignature, ""},
		{"unknown kid", func(a *answer) {
			a.jws = func(p []byte) string { return sign(a.t, jose.RS256, attestation(), "other", p) }
		}, messaging.BadSignature, ""},
		{"no kid", func(a *answer) {
			a.jws = func(p []byte) string { return sign(a.t, jose.RS256, attestation(), "", p) }
		}, messaging.BadSignature, ""},
		{"kid of a key of another type", func(a *answer) {
			a.jws = func(p []byte) string { return sign(a.t, jose.RS256, attestation(), "ec", p) }
		}, messaging.BadSignature, ""},
		{"algorithm that is not listed", func(a *answer) {
			a.jws = func(p []byte) string { return sign(a.t, jose.PS256, attestation(), "rsa", p) }
		}, messaging.BadSignature, ""},
		{"the public key as an HMAC key", func(a *answer) {
			a.jws = func(p []byte) string {
				der, err := x509.MarshalPKIXPublicKey(attestation().Public())
				require.NoError(a.t, err)
				return sign(a.t, jose.HS256, der, "rsa", p)
			}
		}, messaging.BadSignature, ""},
		{"algorithm none", func(a *answer) {
			a.jws = func(p []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"rsa"}`)) + "." + base64.RawURLEncoding.EncodeToString(p) + "."
			}
		}, messaging.BadSignature, ""},
		{"key in the header", func(a *answer) {
			a.jws = func(p []byte) string {
				signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: rsaKeys[3072]()},
					(&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "rsa"))
				require.NoError(a.t, err)
				jws, err := signer.Sign(p)
				require.NoError(a.t, err)
				text, err := jws.CompactSerialize()
				require.NoError(a.t, err)
				return text
			}
		}, messaging.BadSignature, ""},
		{"another payload under the signature", func(a *answer) {
			a.jws = func(p []byte) string {
				parts := strings.Split(sign(a.t, jose.RS256, attestation(), "rsa", []byte("{}")), ".")
				return parts[0] + "." + base64.RawURLEncoding.EncodeToString(p) + "." + parts[2]
			}
		}, messaging.BadSignature, ""},
		{"no trust", func(a *answer) { a.options.Keys = nil }, messaging.BadSignature, ""},

		{"payload that is not JSON", func(a *answer) {
			a.jws = func([]byte) string { return sign(a.t, jose.RS256, attestation(), "rsa", []byte("hello")) }
		}, messaging.Unreadable, ""},
		{"wrong nonce", func(a *answer) { a.statement.Nonce = "x" }, messaging.WrongNonce, ""},
		{"no nonce on either side", func(a *answer) { a.statement.Nonce, a.options.Nonce = "", "" }, messaging.WrongNonce, ""},
		{"another profile than the callback's", func(a *answer) { a.callback.ProfileID = "p2" }, messaging.WrongProfile, ""},
		{"another user", func(a *answer) { a.statement.UserID = "bo@example.com" }, messaging.WrongProfile, ""},

		{"a key too few", func(a *answer) { a.statement.Keys = a.statement.Keys[:1] }, messaging.MissingKey, "auth"},
		{"no keys, none asked", func(a *answer) { a.statement.Keys, a.options.Requests = nil, nil }, messaging.MissingKey, ""},
		{"a key too many", func(a *answer) {
			a.statement.Keys = append(a.statement.Keys, messaging.MadeKey{KeyID: "more", CSR: a.statement.Keys[0].CSR})
		}, messaging.UnexpectedKey, "more"},
		{"a key twice", func(a *answer) { a.statement.Keys = append(a.statement.Keys, a.statement.Keys[0]) }, messaging.UnexpectedKey, "signer"},

		{"not a CSR", func(a *answer) { a.statement.Keys[0].CSR = []byte("x") }, messaging.Unreadable, "signer"},
		{"a long CSR", func(a *answer) { a.statement.Keys[0].CSR = make([]byte, 9<<10) }, messaging.Unreadable, "signer"},
		{"something after the CSR", func(a *answer) { a.statement.Keys[0].CSR = append(a.statement.Keys[0].CSR, 0) }, messaging.Unreadable, "signer"},
		{"weak RSA key", func(a *answer) { a.statement.Keys[0].CSR = csr(a.t, signerTemplate(a), rsaKeys[1024]()) }, messaging.WrongKey, "signer"},
		{"longer RSA key than asked", func(a *answer) { a.statement.Keys[0].CSR = csr(a.t, signerTemplate(a), rsaKeys[3072]()) }, messaging.WrongKey, "signer"},
		{"another curve", func(a *answer) {
			a.statement.Keys[0].CSR = csr(a.t, signerTemplate(a), ecKey(a.t, elliptic.P384()))
		}, messaging.WrongKey, "signer"},
		{"a type that was not asked for", func(a *answer) {
			a.statement.Keys[1].CSR = csr(a.t, a.options.Requests[0].CSRTemplate, rsaKeys[2048]())
		}, messaging.WrongKey, "auth"},
		{"broken signature", func(a *answer) {
			der := a.statement.Keys[0].CSR
			der[len(der)-1] ^= 1
		}, messaging.BrokenCSR, "signer"},
		{"SHA-1 signature", func(a *answer) {
			a.statement.Keys[0].CSR = request(a.t, &x509.CertificateRequest{RawSubject: rawSubject(a), SignatureAlgorithm: x509.SHA1WithRSA}, rsaKeys[2048]())
		}, messaging.BrokenCSR, "signer"},
		{"another subject", func(a *answer) {
			a.statement.Keys[0].CSR = request(a.t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Mallory"}}, rsaKeys[2048]())
		}, messaging.ForeignCSR, "signer"},
		{"more than the subject", func(a *answer) {
			more := anna
			more.OrganizationalUnit = []string{"Board"}
			a.statement.Keys[0].CSR = request(a.t, &x509.CertificateRequest{Subject: more}, rsaKeys[2048]())
		}, messaging.ForeignCSR, "signer"},
		{"a name in an extension", func(a *answer) {
			a.statement.Keys[0].CSR = request(a.t, &x509.CertificateRequest{RawSubject: rawSubject(a), EmailAddresses: []string{"boss@example.com"}}, rsaKeys[2048]())
		}, messaging.ForeignCSR, "signer"},
		{"the template itself", func(a *answer) { a.statement.Keys[0].CSR = signerTemplate(a) }, messaging.DuplicateKey, "signer"},
		{"one key in two requests", func(a *answer) {
			key := ecKey(a.t, elliptic.P256())
			a.statement.Keys[0].CSR = csr(a.t, signerTemplate(a), key)
			a.statement.Keys[1].CSR = csr(a.t, a.options.Requests[0].CSRTemplate, key)
		}, messaging.DuplicateKey, "signer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := goodAnswer(t)
			row.spoil(a)
			requests, err := a.verify()
			require.Nil(t, requests)
			var refused *messaging.VerifyError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, row.want, refused.Refusal, err)
			require.Equal(t, row.key, refused.KeyID)
			require.NotEmpty(t, refused.Words)
			require.NotContains(t, err.Error(), nonce)
		})
	}
	require.EqualValues(t, "HERMOD_ERROR_JWT_SIGNATURE", messaging.BadSignature)
}

func TestAttestationKeys(t *testing.T) {
	ec := ecKey(t, elliptic.P256())
	for _, row := range []struct {
		name string
		text string
		want string // in the error; empty: it is good
	}{
		{"RSA and EC", string(jwks(t,
			jose.JSONWebKey{Key: rsaKeys[2048]().Public(), KeyID: "a", Algorithm: "RS256", Use: "sig"},
			jose.JSONWebKey{Key: ec.Public(), KeyID: "b"})), ""},
		{"nothing", `{"keys":[]}`, "no key"},
		{"not JSON", `x`, "not a JWKS"},
		{"private key", string(jwks(t, jose.JSONWebKey{Key: ec, KeyID: "a"})), "not a public key"},
		{"secret key", `{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}`, "not a public key"},
		{"no kid", string(jwks(t, jose.JSONWebKey{Key: ec.Public()})), "kid is missing"},
		{"one kid twice", string(jwks(t, jose.JSONWebKey{Key: ec.Public(), KeyID: "a"}, jose.JSONWebKey{Key: ec.Public(), KeyID: "a"})), "there twice"},
		{"weak RSA key", string(jwks(t, jose.JSONWebKey{Key: rsaKeys[1024]().Public(), KeyID: "a"})), "too weak"},
		{"another curve", string(jwks(t, jose.JSONWebKey{Key: ecKey(t, elliptic.P384()).Public(), KeyID: "a"})), "P-256"},
		{"another algorithm", string(jwks(t, jose.JSONWebKey{Key: ec.Public(), KeyID: "a", Algorithm: "RS256"})), "alg is not ES256"},
		{"for encryption", string(jwks(t, jose.JSONWebKey{Key: ec.Public(), KeyID: "a", Use: "enc"})), "use is not sig"},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys, err := messaging.ReadAttestationKeys(file(t, "keys", row.text))
			if row.want == "" {
				require.NoError(t, err)
				require.Len(t, keys, 2)
				return
			}
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "c2VjcmV0")
		})
	}
	_, err := messaging.ReadAttestationKeys(file(t, "keys", strings.Repeat(" ", 256<<10+1)))
	require.ErrorContains(t, err, "longer than")
}
