package openid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"mobileid/starter/selfservice/seal"
)

// provider is an OpenID provider that gives what a test wants.
type provider struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	query  url.Values // of the last authorization request
	claims func(map[string]any)
	sign   func(claims map[string]any) string // nil: with the key
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &provider{key: key}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "the-code" || base64.RawURLEncoding.EncodeToString(sum[:]) != p.query.Get("code_challenge") {
			w.WriteHeader(http.StatusBadRequest)
			reply(w, map[string]string{"error": "invalid_grant"})
			return
		}
		claims := map[string]any{
			"iss": p.URL, "aud": "self-service", "sub": "anna", "nonce": p.query.Get("nonce"),
			"exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(),
		}
		if p.claims != nil {
			p.claims(claims)
		}
		token := ""
		if p.sign != nil {
			token = p.sign(claims)
		} else {
			token = signed(t, jose.ES256, jose.JSONWebKey{Key: key, KeyID: "k"}, claims)
		}
		reply(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": token})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func signed(t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

func unsigned(claims map[string]any) string {
	text, _ := json.Marshal(claims)
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(text) + "."
}

func signIn(t testing.TB, p *provider) *SignIn {
	t.Helper()
	sealer, err := seal.New([]byte(strings.Repeat("k", 32)), "openid", nil)
	require.NoError(t, err)
	return New(Options{Issuer: p.URL, ClientID: "self-service", Scopes: []string{"openid"}, UserClaim: "sub", PublicURL: "https://id.example.com", Secure: true}, sealer)
}

// begin begins a sign-in and returns what the browser keeps of it.
func begin(t testing.TB, p *provider, s *SignIn) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, s.Begin(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sign-in/openid", nil), "/mobile-ids"))
	require.Equal(t, http.StatusSeeOther, w.Code)
	to, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	p.query = to.Query()
	require.Equal(t, "code", p.query.Get("response_type"))
	require.Equal(t, "S256", p.query.Get("code_challenge_method"))
	require.Equal(t, "https://id.example.com"+CallbackPath, p.query.Get("redirect_uri"))
	cookie := w.Result().Cookies()[0]
	require.True(t, cookie.Secure)
	require.True(t, cookie.HttpOnly)
	require.NotContains(t, cookie.Value, p.query.Get("state"))
	return cookie
}

func finish(t testing.TB, s *SignIn, cookie *http.Cookie, query url.Values) (SignedIn, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, CallbackPath+"?"+query.Encode(), nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return s.Finish(httptest.NewRecorder(), r)
}

func TestSignIn(t *testing.T) {
	p := newProvider(t)
	s := signIn(t, p)
	cookie := begin(t, p, s)
	in, err := finish(t, s, cookie, url.Values{"code": {"the-code"}, "state": {p.query.Get("state")}})
	require.NoError(t, err)
	require.Equal(t, SignedIn{UserID: "anna", Then: "/mobile-ids"}, in)
}

// The provider may say that a mobile ID was signed in with.
func TestSignInWithAMobileID(t *testing.T) {
	p := newProvider(t)
	s := signIn(t, p)
	s.options.MobileIDACR = []string{"urn:example:mobile"}
	for _, row := range []struct {
		name   string
		claim  string
		value  any
		mobile bool
	}{
		{"nothing is said", "other", "urn:example:mobile", false},
		{"acr", "acr", "urn:example:mobile", true},
		{"another acr", "acr", "urn:example:card", false},
		{"acr that is no text", "acr", 7, false},
		{"amr", "amr", []any{"pwd", "urn:example:mobile"}, true},
		{"another amr", "amr", []any{"pwd"}, false},
		{"amr that is no list", "amr", "urn:example:mobile", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p.claims = func(c map[string]any) { c[row.claim] = row.value }
			cookie := begin(t, p, s)
			in, err := finish(t, s, cookie, url.Values{"code": {"the-code"}, "state": {p.query.Get("state")}})
			require.NoError(t, err)
			require.Equal(t, row.mobile, in.MobileID)
		})
	}
}

// Whatever comes back that is not the answer to this sign-in makes nobody signed in.
func TestRefused(t *testing.T) {
	p := newProvider(t)
	s := signIn(t, p)
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	other := begin(t, p, s) // of another sign-in
	public := []byte(p.key.X.String())
	for _, test := range []struct {
		name   string
		cookie func(*http.Cookie) *http.Cookie
		query  func(url.Values)
		claims func(map[string]any)
		sign   func(map[string]any) string
	}{
		{name: "begun in no browser", cookie: func(*http.Cookie) *http.Cookie { return nil }},
		{name: "begun in another browser", cookie: func(*http.Cookie) *http.Cookie { return other }},
		{name: "a forged cookie", cookie: func(c *http.Cookie) *http.Cookie { c.Value = "AAAA" + c.Value[4:]; return c }},
		{name: "another state", query: func(q url.Values) { q.Set("state", "other") }},
		{name: "no state", query: func(q url.Values) { q.Del("state") }},
		{name: "no code", query: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }},
		{name: "another code", query: func(q url.Values) { q.Set("code", "other") }},
		{name: "for another client", claims: func(c map[string]any) { c["aud"] = "other" }},
		{name: "of another issuer", claims: func(c map[string]any) { c["iss"] = "https://other.example" }},
		{name: "expired", claims: func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }},
		{name: "another nonce", claims: func(c map[string]any) { c["nonce"] = "other" }},
		{name: "no nonce", claims: func(c map[string]any) { delete(c, "nonce") }},
		{name: "no user", claims: func(c map[string]any) { delete(c, "sub") }},
		{name: "a user that is no text", claims: func(c map[string]any) { c["sub"] = 7 }},
		{name: "not signed", sign: unsigned},
		{name: "signed by a key of others", sign: func(c map[string]any) string {
			return signed(t, jose.ES256, jose.JSONWebKey{Key: foreign, KeyID: "k"}, c)
		}},
		{name: "another algorithm, by the public key", sign: func(c map[string]any) string { return signed(t, jose.HS256, public, c) }},
		{name: "no token", sign: func(map[string]any) string { return "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			cookie := begin(t, p, s)
			query := url.Values{"code": {"the-code"}, "state": {p.query.Get("state")}}
			if test.cookie != nil {
				cookie = test.cookie(cookie)
			}
			if test.query != nil {
				test.query(query)
			}
			p.claims, p.sign = test.claims, test.sign
			in, err := finish(t, s, cookie, query)
			require.ErrorIs(t, err, ErrRefused)
			require.Empty(t, in.UserID)
		})
	}
}

func TestProviderIsAway(t *testing.T) {
	p := newProvider(t)
	s := signIn(t, p)
	p.Close()
	w := httptest.NewRecorder()
	require.Error(t, s.Begin(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sign-in/openid", nil), "/"))
}
