package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
	"mobileid/config"
	"mobileid/telemetry"
	"mobileid/telemetry/otlptest"
)

func newTraces(t *testing.T, c config.Telemetry) *telemetry.Traces {
	t.Helper()
	traces, err := telemetry.NewTraces(t.Context(), c, "test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = traces.Stop(t.Context()) })
	return traces
}

// visit serves a page that calls a CA.
func visit(t *testing.T, traces *telemetry.Traces) {
	t.Helper()
	observer := newMetrics(t).Calls(t.Context(), nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mobile-ids/{id}/lock", func(_ http.ResponseWriter, r *http.Request) {
		_, done := observer.Calling(r.Context(), "issuing", ca.CallRevoke)
		done(string(ca.Denied))
	})
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mobile-ids/mid-1001/lock", nil)
	traces.Pages(mux).ServeHTTP(httptest.NewRecorder(), request)
}

func TestTraces(t *testing.T) {
	receiver := otlptest.Start(t)
	traces := newTraces(t, config.Telemetry{OTLPEndpoint: receiver.URL, SampleRatio: 1})
	visit(t, traces)
	require.NoError(t, traces.Stop(t.Context()))
	spans := receiver.Spans()
	require.Len(t, spans, 2)
	page, ok := otlptest.Find(spans, "POST /mobile-ids/{id}/lock")
	require.True(t, ok, "the span bears the pattern, not what stands in the address: %v", spans)
	call, ok := otlptest.Find(spans, "CA:revoke")
	require.True(t, ok)
	require.Equal(t, page.SpanID, call.ParentID)
	require.Equal(t, page.TraceID, call.TraceID)
	require.Equal(t, "issuing", call.Attributes["mobileid.ca"])
	require.Equal(t, "CADenied", call.Attributes["mobileid.class"])
	require.True(t, call.Failed)
	require.Equal(t, "test", call.Program)
}

func TestTracesThatAreNotSampled(t *testing.T) {
	receiver := otlptest.Start(t)
	traces := newTraces(t, config.Telemetry{OTLPEndpoint: receiver.URL})
	visit(t, traces)
	require.NoError(t, traces.Stop(t.Context()))
	require.Empty(t, receiver.Spans())
}

// Without a receiver there are no traces, and nobody needs to ask.
func TestNoTraces(t *testing.T) {
	traces := newTraces(t, config.Telemetry{SampleRatio: 1})
	require.Nil(t, traces)
	visit(t, traces)
	require.Empty(t, traces.Interceptors())
	_, span := traces.Start(t.Context(), "command")
	span.End()
	require.NoError(t, traces.Stop(t.Context()))
}

// A receiver that is away holds nobody up.
func TestReceiverThatIsAway(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	receiver.Close()
	traces := newTraces(t, config.Telemetry{OTLPEndpoint: receiver.URL, SampleRatio: 1})
	visit(t, traces)
}
