// Package otlptest receives traces in tests.
//
// Nothing here is for programs: importing it links the testing package.
package otlptest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// mostBytes bounds one delivery.
const mostBytes = 16 << 20

// Span is a span as it was received.
type Span struct {
	Name       string
	Program    string // service.name
	TraceID    string
	SpanID     string
	ParentID   string // empty: the root of its trace
	Failed     bool
	Attributes map[string]string
}

// Receiver takes traces by OTLP over HTTP, and ends with its test.
type Receiver struct {
	URL string

	mu    sync.Mutex
	spans []Span
}

// Start starts a receiver.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", r.take)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *Receiver) take(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, mostBytes))
	var delivery collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &delivery)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range delivery.GetResourceSpans() {
		program := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				program = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, read(s, program))
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func read(s *tracepb.Span, program string) Span {
	span := Span{
		Name:       s.GetName(),
		Program:    program,
		TraceID:    hex.EncodeToString(s.GetTraceId()),
		SpanID:     hex.EncodeToString(s.GetSpanId()),
		ParentID:   hex.EncodeToString(s.GetParentSpanId()),
		Failed:     s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Attributes: map[string]string{},
	}
	for _, a := range s.GetAttributes() {
		span.Attributes[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return span
}

// Spans are those received so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Find returns the first span of a name.
func Find(spans []Span, name string) (Span, bool) {
	for _, s := range spans {
		if s.Name == name {
			return s, true
		}
	}
	return Span{}, false
}
