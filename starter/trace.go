package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"

	"mobileid/telemetry"
)

// trace makes a command the root of a trace, if traces are configured, under which
// comes what it starts. A fault in the configuration is for the command to report:
// some need none.
func (p *program) trace(cmd *cobra.Command) error {
	c, err := p.config()
	if err != nil {
		return nil
	}
	if p.traces, err = telemetry.NewTraces(cmd.Context(), c.Telemetry, "starter"); err != nil || p.traces == nil {
		return err
	}
	// A receiver that is away is no news for whoever waits for a lock.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	ctx, span := p.traces.Start(cmd.Context(), cmd.CommandPath())
	cmd.SetContext(ctx)
	p.endTrace = func() {
		span.End()
		_ = p.traces.Stop(context.WithoutCancel(ctx)) // what is lost is a trace
	}
	return nil
}
