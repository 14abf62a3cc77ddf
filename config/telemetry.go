package config

import (
	"errors"
	"fmt"
	"math"
	"net/mail"
	"net/url"
	"time"
)

// Telemetry says where traces go. Credentials and the like of the receiver are the
// OTEL_EXPORTER_OTLP_* variables of OpenTelemetry.
type Telemetry struct {
	OTLPEndpoint string  `mapstructure:"otlp_endpoint" doc:"URL of the receiver of traces, OTLP over HTTP, for example http://127.0.0.1:4318; empty: no traces"`
	SampleRatio  float64 `mapstructure:"sample_ratio" doc:"how many of the traces that begin here are sent, 0 to 1; one that began elsewhere is sent if it was there"`
}

func (t Telemetry) check(f *Faults) {
	if t.OTLPEndpoint != "" {
		if u, err := url.Parse(t.OTLPEndpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			f.add("telemetry.otlp_endpoint", "must be an http or https URL")
		}
	}
	if math.IsNaN(t.SampleRatio) || t.SampleRatio < 0 || t.SampleRatio > 1 {
		f.add("telemetry.sample_ratio", "must be 0 to 1")
	}
}

// OverdueAfter returns the steps after which a lock counts as overdue, in their order.
func (l Lock) OverdueAfter() ([]time.Duration, error) {
	var steps []time.Duration
	for _, text := range l.Overdue {
		step, err := time.ParseDuration(text)
		if err != nil || step <= 0 {
			return nil, fmt.Errorf("has %q, which is no duration longer than 0", text)
		}
		if len(steps) > 0 && step <= steps[len(steps)-1] {
			return nil, errors.New("must grow from step to step")
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func (c Config) checkOverdue(f *Faults) {
	steps, err := c.Lock.OverdueAfter()
	if err != nil {
		f.add("lock.overdue", err.Error())
	}
	if len(c.Lock.OverdueMail) == 0 {
		return
	}
	if !c.SearchAttributes.Enabled {
		f.add("lock.overdue_mail", "needs search_attributes.enabled: without them overdue locks cannot be found")
	}
	if len(c.Lock.OverdueMail) > maxOperators {
		f.add("lock.overdue_mail", fmt.Sprintf("has more than %d addresses: give a list of the mail server's", maxOperators))
	}
	for _, address := range c.Lock.OverdueMail {
		if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address {
			f.add("lock.overdue_mail", fmt.Sprintf("has %q, which is no address", address))
		}
	}
	switch {
	case c.Lock.OverdueEvery < time.Minute:
		f.add("lock.overdue_every", "must be at least 1m")
	case len(steps) > 0 && c.Lock.OverdueEvery > steps[0]:
		f.add("lock.overdue_every", "must not be longer than the first step of lock.overdue")
	}
}

// maxOperators is how many addresses one warning goes to.
const maxOperators = 20
