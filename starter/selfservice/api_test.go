package selfservice

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/config"
)

func TestWithoutAPI(t *testing.T) {
	p := newPlace(t)
	for _, path := range []string{"/api/", "/api/v1/mobile-ids", "/api/v1/openapi.json"} {
		response, body := p.browser(t).get(path)
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		require.Contains(t, body, "urn:mobileid:problem:NotFound")
	}
}

// The API stands behind the same limits, and is no way in for a signed-in browser.
func TestAPI(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	var provider *httptest.Server
	provider = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = map[string]string{"issuer": provider.URL, "jwks_uri": provider.URL + "/keys"}
		if r.URL.Path == "/keys" {
			answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer provider.Close()
	p := newPlace(t, func(c *config.Config) {
		c.Serve.API.Audience, c.Serve.OpenID.Issuer, c.Serve.Rate = "mobile-id-api", provider.URL, 1
	})
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": provider.URL, "aud": "mobile-id-api", "sub": "anna", "scope": "mobile-id", "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	require.NoError(t, err)

	b := p.signedIn(t, "anna")
	response, _ := b.get("/api/v1/mobile-ids")
	require.Equal(t, http.StatusUnauthorized, response.StatusCode, "a session is no token")

	bearer := func(method, path, body string) *http.Request {
		request := b.request(method, path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		return request
	}
	response, body := b.do(bearer(http.MethodGet, "/api/v1/mobile-ids", ""))
	require.Equal(t, http.StatusOK, response.StatusCode, body)
	require.Contains(t, body, "mid-anna")
	require.NotContains(t, body, "otto")

	// Without Temporal a Next is not taken, and says so.
	response, body = b.do(bearer(http.MethodPost, "/api/v1/mobile-ids/mid-anna/lock", `{"confirmed": true}`))
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Contains(t, body, "urn:mobileid:problem:Unavailable")
	m, err := p.store.MobileID(t.Context(), "mid-anna")
	require.NoError(t, err)
	require.Equal(t, mobileid.Active, m.State)

	response, body = b.do(bearer(http.MethodPost, "/api/v1/mobile-ids/mid-anna/lock", `{"reason": "`+strings.Repeat("a", maxBody)+`"}`))
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode, body)

	request := bearer(http.MethodPost, "/api/v1/mobile-ids/mid-anna/lock", "")
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	response, body = b.do(request)
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	require.Contains(t, body, "urn:mobileid:problem:Forbidden")

	for range burst + 50 {
		response, body = b.get("/api/v1/openapi.json")
		if response.StatusCode != http.StatusOK {
			break
		}
	}
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	require.Contains(t, body, "urn:mobileid:problem:TooManyRequests")

	// So it is at every operation of the document.
	document, err := openapi3.NewLoader().LoadFromFile("api/openapi.json")
	require.NoError(t, err)
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			require.NotNil(t, operation.Responses.Value("429"), operation.OperationID)
			require.Eventually(t, func() bool { // one a second is let through
				response, body = b.do(bearer(method, strings.ReplaceAll(path, "{id}", "mid-none"), ""))
				return response.StatusCode == http.StatusTooManyRequests
			}, time.Minute, time.Millisecond, operation.OperationID)
			require.Contains(t, body, "urn:mobileid:problem:TooManyRequests")
		}
	}
}

// A handler that breaks is told in the way of the API, and without what broke.
func TestBroken(t *testing.T) {
	p := newPlace(t)
	for path, want := range map[string]string{"/api/v1/mobile-ids": "urn:mobileid:problem:Broken", "/mobile-ids": "this page is broken"} {
		w := httptest.NewRecorder()
		p.server.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("anna") })).
			ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.Contains(t, w.Body.String(), want)
		require.NotContains(t, w.Body.String(), "anna")
	}
}
