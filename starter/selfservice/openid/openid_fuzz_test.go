package openid

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

// signedText is a token whose claims are any bytes, by the provider's key.
func (p *provider) signedText(t testing.TB, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k"}}, nil)
	require.NoError(t, err)
	signature, err := signer.Sign(payload)
	require.NoError(t, err)
	text, err := signature.CompactSerialize()
	require.NoError(t, err)
	return text
}

// claimsOf reads claims in their one spelling, as anybody else would.
func claimsOf(payload []byte) (claims map[string]any) {
	_ = json.Unmarshal(payload, &claims) // none
	return claims
}

// Words that stand in an input for what no fuzzer finds.
const (
	issuerWord = "ISSUER"
	stateWord  = "STATE"
	nonceWord  = "NONCE"
	tokenWord  = "TOKEN"
)

// Any callback with any cookie, and any claims in an ID token that is well signed:
// nobody is signed in but the user of a token of this issuer, for us, in time, with the
// nonce of the sign-in that this browser began.
func FuzzCallback(f *testing.F) {
	p := newProvider(f)
	s := signIn(f, p)
	cookie := begin(f, p, s)
	state, nonce := p.query.Get("state"), p.query.Get("nonce")
	const good = `{"iss":"ISSUER","aud":"self-service","sub":"anna","nonce":"NONCE","exp":32503680000,"iat":1}`
	for _, claims := range []string{
		good, strings.Replace(good, `"anna"`, `["anna"]`, 1), strings.Replace(good, `"self-service"`, `["self-service","x"]`, 1), strings.Replace(good, "NONCE", "", 1),
		strings.Replace(good, "32503680000", "1", 1), strings.Replace(good, "ISSUER", "https://evil.example", 1), strings.Replace(good, `"sub"`, `"SUB"`, 1),
		strings.Replace(good, `{`, `{"sub":"otto",`, 1), strings.Replace(good, `}`, `,"acr":7,"amr":"x"}`, 1), `null`, `[]`, ``, `{"exp":1e300}`,
	} {
		f.Add("code=the-code&state=STATE", cookie.Value, []byte(claims))
	}
	for _, query := range []string{"", "code=the-code", "code=x&state=STATE", "code=the-code&state=STATE&state=x", "error=access_denied&state=STATE", "%zz", "code=the-code;state=STATE", "code=&state="} {
		f.Add(query, cookie.Value, []byte(good))
	}
	f.Add("code=the-code&state=STATE", "AAAA", []byte(good))
	f.Add("code=the-code&state=STATE", "", []byte(good))
	f.Fuzz(func(t *testing.T, query, value string, claims []byte) {
		claims = []byte(strings.NewReplacer(issuerWord, p.URL, nonceWord, nonce).Replace(string(claims)))
		p.sign = func(map[string]any) string { return p.signedText(t, claims) }
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, CallbackPath, nil)
		r.URL.RawQuery = strings.ReplaceAll(query, stateWord, state)
		r.AddCookie(&http.Cookie{Name: cookie.Name, Value: value})
		in, err := s.Finish(httptest.NewRecorder(), r)
		if err != nil {
			require.ErrorIs(t, err, ErrRefused, "the provider was reached")
			require.Empty(t, in.UserID)
			return
		}
		require.Equal(t, "/mobile-ids", in.Then)
		require.Equal(t, cookie.Value, value, "another browser")
		values, _ := url.ParseQuery(r.URL.RawQuery)
		require.Equal(t, state, values.Get("state"))
		said := claimsOf(claims)
		require.Equal(t, p.URL, said["iss"])
		require.Equal(t, nonce, said["nonce"])
		require.Equal(t, said["sub"], in.UserID)
		require.NotEmpty(t, in.UserID)
		require.LessOrEqual(t, len(in.UserID), maxUserID)
		require.Contains(t, said["aud"], "self-service")
	})
}

// Any Authorization headers, and any claims in an access token that is well signed:
// a caller whom the token names, for this audience, in time and with the scope, or one
// of the three errors, which say nothing of the token.
func FuzzBearer(f *testing.F) {
	p := newProvider(f)
	tokens := NewTokens(TokenOptions{Issuer: p.URL, Audience: "mobile-id-api", Scope: "mobile-id", UserClaim: "sub", RoleClaim: "roles"})
	const good = `{"iss":"ISSUER","aud":"mobile-id-api","sub":"anna","scope":"profile mobile-id","roles":["operator"],"exp":32503680000}`
	for _, claims := range []string{
		good, strings.Replace(good, `"profile mobile-id"`, `["mobile-id",7]`, 1), strings.Replace(good, "scope", "scp", 1), strings.Replace(good, "profile mobile-id", "mobile-ids", 1),
		strings.Replace(good, `"mobile-id-api"`, `["x","mobile-id-api"]`, 1), strings.Replace(good, "mobile-id-api", "self-service", 1), strings.Replace(good, `"anna"`, `{"a":1}`, 1),
		strings.Replace(good, "32503680000", "1", 1), strings.Replace(good, "32503680000", `"never"`, 1), strings.Replace(good, "ISSUER", "", 1), strings.Replace(good, `{`, `{"sub":"otto",`, 1), `{}`, ``,
	} {
		f.Add("Bearer TOKEN", "", []byte(claims))
	}
	for _, header := range []string{"", "Bearer", "Bearer  TOKEN", "bearer TOKEN", "Basic TOKEN", "Bearer TOKEN.", "Bearer e30.e30.", "Bearer \xff", "Bearer eyJhbGciOiJub25lIn0.e30."} {
		f.Add(header, "", []byte(good))
	}
	f.Add("Bearer TOKEN", "Bearer TOKEN", []byte(good))
	f.Fuzz(func(t *testing.T, header, second string, claims []byte) {
		claims = []byte(strings.ReplaceAll(string(claims), issuerWord, p.URL))
		token := p.signedText(t, claims)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{strings.ReplaceAll(header, tokenWord, token)}
		if second != "" {
			r.Header["Authorization"] = append(r.Header["Authorization"], second)
		}
		caller, err := tokens.Caller(r)
		if err != nil {
			require.True(t, errors.Is(err, ErrNoToken) || errors.Is(err, ErrBadToken) || errors.Is(err, ErrNoScope), "%v", err)
			require.NotContains(t, err.Error(), token)
			require.Empty(t, caller)
			return
		}
		require.Empty(t, second)
		require.Contains(t, header, tokenWord, "nobody else has signed one")
		said := claimsOf(claims)
		require.Equal(t, p.URL, said["iss"])
		require.Equal(t, said["sub"], caller.UserID)
		require.NotEmpty(t, caller.UserID)
		require.LessOrEqual(t, len(caller.UserID), maxUserID)
		require.Contains(t, said["aud"], "mobile-id-api")
		require.Contains(t, caller.Scopes, "mobile-id")
		require.True(t, caller.Until.After(time.Now()))
		_, err = jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
	})
}
