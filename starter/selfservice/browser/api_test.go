package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// byAPI is what other backends do: no browser, and the same processes.
func byAPI(t *testing.T, in *installation) {
	p := newProvider(t)
	url, _ := in.withAPI(p).another(t)
	t.Run("a lock", func(t *testing.T) { locksByAPI(t, in, p, url) })
	t.Run("an operator's lock", func(t *testing.T) { operatorLocks(t, in, p, url) })
	t.Run("Get mobile ID", func(t *testing.T) { getByAPI(t, in, p, url) })
	t.Run("metrics", func(t *testing.T) { scraped(t, in) })
}

func locksByAPI(t *testing.T, in *installation, p *provider, url string) {
	require.NoError(t, in.Add(t.Context(), "kim", "Kim Karlsson", "mid-2008"))
	token := p.token(t, "kim")
	call := func(method, path, body string) (int, string) {
		t.Helper()
		return callAPI(t, url, token, method, "/mobile-ids/mid-2008"+path, body, "Idempotency-Key", "once")
	}
	history := func() (int, string) { return callAPI(t, url, token, http.MethodGet, "/history", "") }
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
	code, text = history()
	require.Equal(t, http.StatusOK, code, text)
	require.Equal(t, 1, strings.Count(text, `"event":"locked"`), text)
	require.Equal(t, 1, strings.Count(text, `"event":"cancelled"`), text)
}
