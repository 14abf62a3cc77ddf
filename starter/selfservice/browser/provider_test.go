package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

// provider is an OpenID provider, for access tokens.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &provider{key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
		}
		if r.URL.Path == "/keys" {
			answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(p.Close)
	return p
}

// claims are those of a good token for everything a user can do.
func (p *provider) claims(user string) map[string]any {
	return map[string]any{
		"iss": p.URL, "aud": "mobile-id-api", "sub": user, "scope": "mobile-id mobile-id-get", "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func (p *provider) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	return signed(t, jose.ES256, jose.JSONWebKey{Key: p.key, KeyID: "k"}, claims)
}

func signed(t *testing.T, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

func (p *provider) token(t *testing.T, user string) string {
	t.Helper()
	return p.sign(t, p.claims(user))
}

func (p *provider) operator(t *testing.T, name string) string {
	t.Helper()
	claims := p.claims(name)
	claims["roles"] = []string{"operator"}
	return p.sign(t, claims)
}

// withAPI is the same installation, for another instance with an API for tokens of p.
func (in *installation) withAPI(p *provider) *installation {
	with := *in
	with.Config.Serve.API.Audience, with.Config.Serve.OpenID.Issuer, with.Config.Serve.API.OperatorRole = "mobile-id-api", p.URL, "operator"
	return &with
}

// callAPI calls an API.
func callAPI(t *testing.T, url, token, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, strings.TrimSpace(string(text))
}
