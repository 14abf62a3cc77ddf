package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/starter/selfservice/desk"
)

// Any path, query and key under anna's token, and an operator's: nothing breaks, what is
// refused is a problem of the document, and nothing of otto's is told or touched.
func FuzzAddress(f *testing.F) {
	p := newPlace(f)
	stopped := make(chan struct{})
	close(stopped)
	p.api.Stopping = stopped // so that streams end
	handler := p.Config.Handler
	anna, olof := p.token("anna"), p.operator("olof")
	for _, path := range []string{
		"/mobile-ids", "/mobile-ids/mid-anna", "/mobile-ids/mid-otto", "/mobile-ids/mid-otto/lock", "/mobile-ids/mid-anna/lock/next", "/mobile-ids/mid-anna/lock/events",
		"/mobile-ids/mid-anna/receipt", "/operator/mobile-ids/mid-otto/lock", "/operator/mobile-ids/mid-anna/lock/cancel", "/get", "/get/code.png", "/get/events", "/history",
		"/mobile-ids//lock", "/mobile-ids/../mobile-ids", "/mobile-ids/\x00/lock", "/mobile-ids/\xff", "/mobile-ids/mid-anna/", "//evil.example", "/openapi.json", "/mobile-ids/'--",
	} {
		f.Add("GET", path, "owner=otto", "", false)
		f.Add("POST", path, "", "key-1", false)
		f.Add("POST", path, "userId=otto&%zz", strings.Repeat("k", 65), true)
	}
	f.Add("BREW", "/get", ";", "\xff", true)
	f.Fuzz(func(t *testing.T, method, path, query, key string, operator bool) {
		p.t, p.engine.calls, p.engine.orders, p.engine.stage = t, nil, nil, desk.StageNone
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.Method, r.URL = method, &url.URL{Path: base + path, RawQuery: query}
		r.Header.Set("Authorization", "Bearer "+anna)
		if operator {
			r.Header.Set("Authorization", "Bearer "+olof)
		}
		if key != "" {
			r.Header["Idempotency-Key"] = []string{key}
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, w.Body)
		if w.Code >= 400 {
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			require.Empty(t, p.engine.calls, "it was refused")
			p.requireSchema("Problem", w.Body.Bytes())
		}
		require.NotContains(t, w.Body.String(), "Phone of otto")
		for i, call := range p.engine.calls {
			require.False(t, operator, "no owner was named: %s", call)
			require.Regexp(t, `^(get )?[a-z]+ anna$`, call)
			require.Contains(t, []string{"", "mid-anna"}, p.engine.orders[i].MobileID)
		}
		p.engine.calls, p.engine.orders = nil, nil
		p.requireUnchanged()
	})
}
