package codecserver_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"mobileid/config"
	"mobileid/encryption"
	"mobileid/encryption/codecserver"
)

// Any body and any token: nothing breaks the server, and nobody without the token is
// told anything.
func FuzzRequest(f *testing.F) {
	folder := f.TempDir()
	_, err := encryption.Create(filepath.Join(folder, "keyset.json"))
	require.NoError(f, err)
	keyset, err := encryption.Open(filepath.Join(folder, "keyset.json"), nil)
	require.NoError(f, err)
	tokenFile := filepath.Join(folder, "token")
	require.NoError(f, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
	c := config.Default().CodecServer
	c.TokenFile, c.Origins, c.RateLimit = tokenFile, []string{origin}, 1e9
	served, err := codecserver.New(c, keyset, zap.NewNop())
	require.NoError(f, err)
	handler := served.Handler()
	for _, body := range []string{`{"payloads":[]}`, `{"payloads":[{"metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="},"data":"AAAA"}]}`, `{`, ``, `[]`, `{"payloads":[null]}`,
		`{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"MQ=="}]}`} {
		f.Add("/decode", "Bearer "+token, body)
		f.Add("/default/decode", "Bearer "+token+"x", body)
		f.Add("/encode", "", body)
	}
	f.Fuzz(func(t *testing.T, path, authorization, body string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/decode", strings.NewReader(body))
		request.URL.Path = path
		request.Header.Set("Authorization", authorization)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Namespace", "default")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		require.Less(t, answer.Code, 500, answer.Body.String())
		if authorization != "Bearer "+token {
			require.NotEqual(t, http.StatusOK, answer.Code, "%q opens %q", authorization, path)
		}
	})
}
