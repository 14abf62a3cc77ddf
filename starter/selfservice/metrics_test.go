package selfservice

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/telemetry"
)

// What is measured is what happened, and names nobody.
func TestMetrics(t *testing.T) {
	metrics, err := telemetry.NewServeMetrics(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	p := newPlaceWith(t, Options{Observer: metrics})
	require.NoError(t, metrics.ObserveStreams(p.server.OpenStreams))
	b := p.browser(t)
	for range 11 {
		_, _ = b.post("/sign-in", url.Values{"user": {"otto"}, "password": {"wrong"}})
	}
	b = p.signedIn(t, "anna")
	_, _ = b.get("/mobile-ids/mid-otto")
	_, _ = b.get("/nowhere/anna")
	_, _ = b.post("/sign-in", url.Values{"user": {strings.Repeat("a", 20<<10)}})
	for range 6 {
		response, err := b.Do(b.request(http.MethodGet, "/mobile-ids/mid-anna/progress/events", nil))
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
	}
	_, _ = b.get("/mobile-ids/mid-anna/progress/events")

	scraped := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(scraped, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	text := scraped.Body.String()
	for _, line := range []string{
		`mobileid_serve_sign_ins_total{outcome="refused",way="password"} 10`,
		`mobileid_serve_sign_ins_total{outcome="tooMany",way="password"} 1`,
		`mobileid_serve_sign_ins_total{outcome="signedIn",way="password"} 1`,
		`mobileid_serve_refused_total{limit="signIn"} 1`,
		`mobileid_serve_refused_total{limit="body"} 1`,
		`mobileid_serve_refused_total{limit="streams"} 1`,
		`mobileid_serve_streams_open 6`,
		`mobileid_serve_request_seconds_count{class="4xx",route="/mobile-ids/{id}"} 1`,
		`mobileid_serve_request_seconds_count{class="4xx",route="/sign-in"} 12`,
		`mobileid_serve_request_seconds_count{class="4xx",route="/"} 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	for _, private := range []string{"anna", "otto", "127.0.0.1"} {
		require.NotContains(t, text, private)
	}
	response, _ := b.get("/metrics")
	require.Equal(t, http.StatusNotFound, response.StatusCode, "not where people come")
}
