package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"mobileid/activities/ca"
)

// Locks are how many locks are under way.
type Locks struct {
	Open    map[string]int64 // by phase
	Overdue map[string]int64 // by how long after Next
}

// ObserveLocks exports the locks under way. count is asked for each scrape; while it
// does not know, nothing is exported, because an old number would look like a new one.
func (m *Metrics) ObserveLocks(count func(context.Context) (Locks, bool)) error {
	open, openErr := m.meter.Int64ObservableGauge("mobileid_locks_open",
		metric.WithDescription("Locks under way, by phase. Every worker counts all of them."))
	overdue, overdueErr := m.meter.Int64ObservableGauge("mobileid_locks_overdue",
		metric.WithDescription("Locks under way whose Next is longer ago than the threshold, without those that are revoked and wait for a CRL. Every worker counts all of them."))
	if err := errors.Join(openErr, overdueErr); err != nil {
		return err
	}
	_, err := m.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		locks, known := count(ctx)
		if !known {
			return nil
		}
		for phase, n := range locks.Open {
			o.ObserveInt64(open, n, metric.WithAttributes(attribute.String("phase", phase)))
		}
		for threshold, n := range locks.Overdue {
			o.ObserveInt64(overdue, n, metric.WithAttributes(attribute.String("threshold", threshold)))
		}
		return nil
	}, open, overdue)
	return err
}

// ObserveCAs exports how it stands with the CAs as they were last looked at.
func (m *Metrics) ObserveCAs(last func() []ca.Health) error {
	up, upErr := m.meter.Int64ObservableGauge("mobileid_ca_up",
		metric.WithDescription("1 if the part of the CA answered as it should when it was last looked at, else 0."))
	credentials, credentialsErr := m.meter.Float64ObservableGauge("mobileid_ca_credentials_remaining", metric.WithUnit("s"),
		metric.WithDescription("Time until the first certificate ends by which the CA knows the worker; negative: it has ended."))
	age, ageErr := m.meter.Float64ObservableGauge("mobileid_ca_crl_age", metric.WithUnit("s"),
		metric.WithDescription("Time since the CRL that was last read was issued."))
	remaining, remainingErr := m.meter.Float64ObservableGauge("mobileid_ca_crl_remaining", metric.WithUnit("s"),
		metric.WithDescription("Time until the next issue of the CRL that was last read is due; negative: it is late."))
	if err := errors.Join(upErr, credentialsErr, ageErr, remainingErr); err != nil {
		return err
	}
	_, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := time.Now()
		for _, h := range last() {
			name := attribute.String("ca", h.CA)
			for part, state := range map[string]*ca.Part{"driver": h.Driver, "ocsp": h.OCSP, "crl": h.CRL} {
				if state != nil {
					o.ObserveInt64(up, number(state.OK), metric.WithAttributes(name, attribute.String("part", part)))
				}
			}
			seconds := func(gauge metric.Float64Observable, d time.Duration) {
				o.ObserveFloat64(gauge, d.Seconds(), metric.WithAttributes(name))
			}
			if !h.Until.IsZero() {
				seconds(credentials, h.Until.Sub(now))
			}
			if h.CRL != nil && !h.CRL.At.IsZero() {
				seconds(age, now.Sub(h.CRL.At))
			}
			if h.CRL != nil && !h.CRL.Next.IsZero() {
				seconds(remaining, h.CRL.Next.Sub(now))
			}
		}
		return nil
	}, up, credentials, age, remaining)
	return err
}

func number(ok bool) int64 {
	if ok {
		return 1
	}
	return 0
}
