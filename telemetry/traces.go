package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"

	"mobileid/activities/ca"
	"mobileid/config"
)

// tracesPath is where receivers take traces (OTLP/HTTP), if the URL names no path.
const tracesPath = "/v1/traces"

// sendWait is how long the last traces of a program may take to be sent.
const sendWait = 5 * time.Second

// Traces sends the traces of a program. A nil *Traces sends none.
type Traces struct {
	provider *sdktrace.TracerProvider
	temporal interceptor.Interceptor
}

// NewTraces makes the traces of a program, nil if none are configured. A receiver that
// is away costs its traces and nothing else: they are sent behind the program's back,
// and those that it cannot hold any longer are dropped.
func NewTraces(ctx context.Context, c config.Telemetry, program string) (*Traces, error) {
	if c.OTLPEndpoint == "" {
		return nil, nil //nolint:nilnil // see Traces
	}
	endpoint, err := url.Parse(c.OTLPEndpoint)
	if err != nil {
		return nil, fmt.Errorf("telemetry.otlp_endpoint: %w", err)
	}
	if strings.Trim(endpoint.Path, "/") == "" {
		endpoint.Path = tracesPath
	}
	sender, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()))
	if err != nil {
		return nil, fmt.Errorf("telemetry.otlp_endpoint: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(sender),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.SampleRatio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.namespace", "mobileid"), attribute.String("service.name", program))),
	)
	temporal, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer: provider.Tracer(sdkScope),
		// Queries only look, and pages look every second.
		DisableQueryTracing: true,
		// What callers hang on their traces is not for histories.
		DisableBaggage: true,
		// The header comes from whoever starts a process: a malformed one must not end a lock.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, err
	}
	return &Traces{provider: provider, temporal: temporal}, nil
}

// Interceptors let Temporal's client carry a trace from a call to the process and to
// its steps.
func (t *Traces) Interceptors() []interceptor.ClientInterceptor {
	if t == nil {
		return nil
	}
	return []interceptor.ClientInterceptor{t.temporal}
}

// Start begins a span, for example of a command or a page.
func (t *Traces) Start(ctx context.Context, name string) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	return t.provider.Tracer("mobileid").Start(ctx, name)
}

// Pages makes each request to next a span, under which come the locks that it starts.
// The span bears the pattern of the page, never what stands in the address.
func (t *Traces) Pages(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := t.provider.Tracer("mobileid").Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		r = r.WithContext(ctx)
		next.ServeHTTP(w, r)
		if r.Pattern != "" { // set by the http.ServeMux that next is
			span.SetName(r.Pattern)
		}
	})
}

// Stop sends what is left, within a few seconds.
func (t *Traces) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendWait)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// startCall begins the span of a call to a CA under the one of its step, if that is
// traced.
func startCall(ctx context.Context, name string, call ca.Call) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("mobileid").Start(ctx, "CA:"+string(call),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("mobileid.ca", name)))
}

// endCall ends it with the class of the answer. The answer's own words stand in the
// log and in the process.
func endCall(span trace.Span, class string) {
	span.SetAttributes(attribute.String("mobileid.class", class))
	for _, kind := range ca.Kinds() {
		if class == string(kind) {
			span.SetStatus(codes.Error, class)
		}
	}
	span.End()
}

// scope names the part of the program that measures.
func scope(name string) instrumentation.Scope { return instrumentation.Scope{Name: name} }
