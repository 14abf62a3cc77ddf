package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"mobileid/starter/selfservice/observe"
)

// ServeMetrics are what an instance of Self-Service measures: an [observe.Observer].
// They are safe for concurrent use.
type ServeMetrics struct {
	exported
	requests metric.Float64Histogram
	refused  metric.Int64Counter
	signIns  metric.Int64Counter
}

// NewServeMetrics makes the metrics of an instance of Self-Service. What can be refused
// and how a sign-in can end are there from the start, as 0.
func NewServeMetrics(ctx context.Context, log *slog.Logger) (*ServeMetrics, error) {
	program, err := newExported(log)
	if err != nil {
		return nil, err
	}
	m := &ServeMetrics{exported: program}
	var requestsErr, refusedErr, signInsErr error
	m.requests, requestsErr = m.meter.Float64Histogram("mobileid_serve_request", metric.WithUnit("s"),
		metric.WithDescription("Time that requests took, by the pattern of their route and the class of the answer."),
		metric.WithExplicitBucketBoundaries(callBounds...))
	m.refused, refusedErr = m.meter.Int64Counter("mobileid_serve_refused",
		metric.WithDescription("Requests that a limit refused, by limit."))
	m.signIns, signInsErr = m.meter.Int64Counter("mobileid_serve_sign_ins",
		metric.WithDescription("Tries to sign in, by way and outcome."))
	if err := errors.Join(requestsErr, refusedErr, signInsErr); err != nil {
		return nil, err
	}
	for _, limit := range observe.Limits() {
		m.refused.Add(ctx, 0, limitLabel(limit))
	}
	for _, way := range observe.Ways() {
		for _, outcome := range observe.Outcomes() {
			m.signIns.Add(ctx, 0, signInLabels(way, outcome))
		}
	}
	return m, nil
}

// ObserveStreams exports how many event streams are open.
func (m *ServeMetrics) ObserveStreams(open func() int) error {
	_, err := m.meter.Int64ObservableGauge("mobileid_serve_streams_open",
		metric.WithDescription("Event streams that are open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(open()))
			return nil
		}))
	return err
}

// Answered implements [observe.Observer].
func (m *ServeMetrics) Answered(route string, code int, took time.Duration) {
	m.requests.Record(context.Background(), took.Seconds(), metric.WithAttributes(
		attribute.String("route", route), attribute.String("class", strconv.Itoa(code/100)+"xx")))
}

// Refused implements [observe.Observer].
func (m *ServeMetrics) Refused(limit observe.Limit) {
	m.refused.Add(context.Background(), 1, limitLabel(limit))
}

// SignIn implements [observe.Observer].
func (m *ServeMetrics) SignIn(way observe.Way, outcome observe.Outcome) {
	m.signIns.Add(context.Background(), 1, signInLabels(way, outcome))
}

func limitLabel(limit observe.Limit) metric.AddOption {
	return metric.WithAttributes(attribute.String("limit", string(limit)))
}

func signInLabels(way observe.Way, outcome observe.Outcome) metric.AddOption {
	return metric.WithAttributes(attribute.String("way", string(way)), attribute.String("outcome", string(outcome)))
}
