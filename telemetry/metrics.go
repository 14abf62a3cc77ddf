package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
)

// stageBounds are for what a person waits for and for what may take a CA's deadline:
// a millisecond to a week, in seconds.
var stageBounds = []float64{
	0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300,
	15 * 60, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600,
}

// callBounds are for one call, which ends with its time-out, in seconds.
var callBounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// Metrics are what a worker measures. They are safe for concurrent use.
type Metrics struct {
	exported
	stages   metric.Float64Histogram
	answers  metric.Int64Counter
	calls    metric.Float64Histogram
	compared metric.Int64Counter
}

// NewMetrics makes the metrics of a worker. What goes wrong with them later is
// logged: it is no reason to stop a lock.
func NewMetrics(log *slog.Logger) (*Metrics, error) {
	program, err := newExported(log)
	if err != nil {
		return nil, err
	}
	m := &Metrics{exported: program}
	var stagesErr, answersErr, callsErr, comparedErr error
	m.stages, stagesErr = m.meter.Float64Histogram("mobileid_lock_stage", metric.WithUnit("s"),
		metric.WithDescription("Time from Next until a lock came to a stage, once per lock and stage."),
		metric.WithExplicitBucketBoundaries(stageBounds...))
	m.answers, answersErr = m.meter.Int64Counter("mobileid_ca_answers",
		metric.WithDescription("Answers to calls about certificates, by class: an outcome, a status, or the kind of the error."))
	m.calls, callsErr = m.meter.Float64Histogram("mobileid_ca_call", metric.WithUnit("s"),
		metric.WithDescription("Time that calls about certificates took, whatever came of them."),
		metric.WithExplicitBucketBoundaries(callBounds...))
	m.compared, comparedErr = m.meter.Int64Counter("mobileid_ca_compared",
		metric.WithDescription("Certificates that are revoked in Identity Manager and were looked up at their CA by reconciliation, by what it says."))
	return m, errors.Join(stagesErr, answersErr, callsErr, comparedErr)
}

// Reached takes up that a lock has come to a stage.
func (m *Metrics) Reached(milestone identitymanager.Milestone) {
	m.stages.Record(context.Background(), milestone.After.Seconds(), metric.WithAttributes(attribute.String("stage", string(milestone.Stage))))
}

// Compared takes up what reconciliation found when it looked certificates up at their
// CA: how many, by verdict.
func (m *Metrics) Compared(ctx context.Context, ca string, verdicts map[string]int) {
	for verdict, n := range verdicts {
		m.compared.Add(ctx, int64(n), metric.WithAttributes(attribute.String("ca", ca), attribute.String("verdict", verdict)))
	}
}

// Calls makes the observer of calls to CAs. It measures them, and each call is a span
// of the trace that it belongs to. The kinds of errors of the named CAs are there from
// the start: Prometheus does not see the rise of a counter that was not there before.
func (m *Metrics) Calls(ctx context.Context, cas []string) ca.Observer {
	for _, name := range cas {
		m.Compared(ctx, name, map[string]int{string(ca.StillRevoked): 0, string(ca.Forgotten): 0, string(ca.NotKnown): 0})
		for _, call := range []ca.Call{ca.CallRevoke, ca.CallStatus} {
			for _, kind := range ca.Kinds() {
				m.answers.Add(ctx, 0, metric.WithAttributes(answerLabels(name, call, string(kind))...))
			}
		}
	}
	return calls{m}
}

type calls struct{ *Metrics }

// Calling implements [ca.Observer].
func (c calls) Calling(ctx context.Context, name string, call ca.Call) (context.Context, func(class string)) {
	begun := time.Now()
	ctx, span := startCall(ctx, name, call)
	return ctx, func(class string) {
		endCall(span, class)
		c.answers.Add(ctx, 1, metric.WithAttributes(answerLabels(name, call, class)...))
		c.calls.Record(ctx, time.Since(begun).Seconds(), metric.WithAttributes(attribute.String("ca", name), attribute.String("call", string(call))))
	}
}

func answerLabels(name string, call ca.Call, class string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("ca", name), attribute.String("call", string(call)), attribute.String("class", class)}
}
