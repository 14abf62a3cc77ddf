package telemetry

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// sdkScope names the metrics of Temporal's SDK.
const sdkScope = "temporal-sdk-go"

// exported is what every program's metrics have: the process itself, and Temporal's SDK.
type exported struct {
	registry *prometheus.Registry
	meter    metric.Meter
	sdk      metric.Meter
	log      *slog.Logger
}

func newExported(log *slog.Logger) (exported, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return exported{}, err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithView(sdkmetric.NewView(
		// The SDK's own histograms come without bounds, and OpenTelemetry's default ones are for milliseconds.
		sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram, Scope: scope(sdkScope)},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: callBounds}},
	)))
	return exported{registry: registry, meter: provider.Meter("mobileid"), sdk: provider.Meter(sdkScope), log: log}, errors.Join(
		registry.Register(collectors.NewGoCollector()), registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// Handler answers scrapes.
func (e *exported) Handler() http.Handler {
	return promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError})
}

// Temporal takes up what Temporal's SDK measures.
func (e *exported) Temporal() client.MetricsHandler {
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: e.sdk,
		// Counters that never go down: so Prometheus calls them counters, and their names end with _total.
		UseMonotonicCounters: true,
		OnError:              e.failed,
	})
}

func (e *exported) failed(err error) { e.log.Warn("Metric is not measured", "error", err) }
