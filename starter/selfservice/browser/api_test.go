package browser

import (
	"bytes"
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

	"mobileid"
)

// byAPI is a lock by another backend: no browser, and the same process.
func byAPI(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "kim", "Kim Karlsson", "mid-2008"))
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
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": provider.URL, "aud": "mobile-id-api", "sub": "kim", "scope": "mobile-id", "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	require.NoError(t, err)
	withAPI := *in
	withAPI.Config.Serve.API.Audience, withAPI.Config.Serve.OpenID.Issuer = "mobile-id-api", provider.URL
	url, _ := withAPI.another(t)

	call := func(method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url+"/api/v1/mobile-ids/mid-2008"+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Idempotency-Key", "once")
		if body != "" {
			request.Header.Set("Content-Type", "application/json")
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(bytes.TrimSpace(text))
	}
	code, text := call(http.MethodPost, "/lock/next", "")
	require.Equal(t, http.StatusConflict, code, text)
	require.Contains(t, text, "urn:mobileid:problem:NoLock", "Next starts nothing")
	for _, path := range []string{"/lock", "/lock", "/lock/cancel"} { // the second start joins
		code, text = call(http.MethodPost, path, "{}")
		require.Equal(t, http.StatusOK, code, text)
	}
	require.Contains(t, text, `"stage":"unchanged"`)
	in.requireState(t, "mid-2008", mobileid.Active, 2)
	code, text = call(http.MethodPost, "/lock", "")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"stage":"waiting"`)
	in.requireState(t, "mid-2008", mobileid.Active, 2)

	for range 2 { // the second is the same Next
		code, text = call(http.MethodPost, "/lock/next", `{"reason": "keyCompromise"}`)
		require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, code, text)
	}
	// The stream ends when others can see it.
	code, text = call(http.MethodGet, "/lock/events", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "event: over")
	in.requireState(t, "mid-2008", mobileid.Locked, 0)
	code, text = call(http.MethodPost, "/lock/cancel", "")
	require.Equal(t, http.StatusConflict, code, text)
	require.Contains(t, text, "urn:mobileid:problem:AlreadyConfirmed")
	code, text = call(http.MethodPost, "/lock/retry", "")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"retried":false`)
	code, text = call(http.MethodGet, "/receipt", "")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"byUser":true`)
	require.Contains(t, text, `"reason":"keyCompromise"`)
	require.Contains(t, text, `"proof":[`)
}
