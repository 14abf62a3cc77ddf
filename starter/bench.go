package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/worker"

	"mobileid/activities/ca/configured"
	"mobileid/starter/bench"
	"mobileid/starter/stack"
)

const (
	// benchDir is not the folder of the demo, so that one does not remove the other's.
	benchDir   = ".dev/bench"
	benchQueue = "bench-no-op"
	benchOwner = "bench"
)

func (p *program) benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a lock beside a no-op workflow of the same shape",
		Long: `Bench starts Temporal, the development CA and a worker on free loopback ports, and
measures confirmed locks beside a no-op workflow of the same shape on the same
server, and beside the same calls to Identity Manager and the CA without an engine:
throughput, latency from Next and at half load, processor time, history, rows,
memory with many locks waiting, and time to ready. Rounds take turns; the median of
their ratios is what counts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.bench(cmd.Context(), o) },
	}
	cmd.AddCommand(p.benchPagesCommand(), p.benchSizesCommand(), p.benchSoakCommand(), p.benchSummaryCommand())
	temporalFlag(cmd, &o.temporal, developmentServer)
	cmd.Flags().IntVar(&o.rounds, "rounds", 5, "rounds of each")
	cmd.Flags().BoolVar(&o.short, "short", false, "two small rounds and 500 that wait, to try it in some two minutes; no figures to quote")
	cmd.Flags().IntVar(&o.waiting, "waiting", 20_000, "locks that wait while the worker's memory is read")
	cmd.Flags().StringVar(&o.file, "file", "", "also write the report as JSON into this file, beside those of the other server")
	return cmd
}

type benchOptions struct {
	temporal string
	rounds   int
	waiting  int
	short    bool
	file     string
}

// benchWorkerCommand runs the no-op workflows in a process of their own, with the
// options of the real worker. It is there for bench alone.
func (p *program) benchWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "bench-worker",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			temporal, c, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer temporal.Close()
			worker.SetStickyWorkflowCacheSize(c.Worker.Cache)
			w := worker.New(temporal, benchQueue, worker.Options{
				MaxConcurrentActivityExecutionSize: c.Worker.Activities,
				DisableRegistrationAliasing:        true,
			})
			bench.RegisterNoOp(w)
			if err := w.Start(); err != nil {
				return err
			}
			<-cmd.Context().Done()
			w.Stop()
			return nil
		},
	}
}

func (p *program) bench(ctx context.Context, o benchOptions) (err error) {
	if o.short {
		o.rounds, o.waiting = 2, min(o.waiting, 500)
	}
	s, err := p.benchStack(ctx, o.temporal, settleForLocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := s.Run("bench-worker", self, "bench-worker"); err != nil {
		return err
	}
	report, err := p.measure(ctx, s, o)
	if err != nil { // what was measured before is shown nevertheless
		return errors.Join(err, report.Print(p.out))
	}
	if err := report.Print(p.out); err != nil || o.file == "" {
		return err
	}
	return writeReport(o.file, o.temporal, report)
}

func (p *program) measure(ctx context.Context, s *stack.Stack, o benchOptions) (bench.Report, error) {
	m, err := p.measuring(ctx, s)
	if err != nil {
		return bench.Report{}, err
	}
	defer m.close()
	cas, err := configured.Authorities(m.config.CAs)
	if err != nil {
		return bench.Report{}, err
	}
	processes := benchProcesses(s, "worker", "bench-worker", "temporal", "devca", "postgres")
	processes["this"] = bench.Process{PID: os.Getpid()} // the client of all, and where bare runs
	report, err := bench.Run(ctx, bench.Options{
		Temporal: m.temporal, Locks: m.locks(), TaskQueue: m.config.TaskQueue, NoOpQueue: benchQueue,
		Seed: m.seed.mobileIDs, Owner: benchOwner, Processes: processes, Ready: s.MeasureWorkerStart,
		Bare: bench.Bare{Store: m.store, CAs: cas}, Databases: s.Databases(), Short: o.short,
		Rounds: o.rounds, Waiting: o.waiting, Out: p.out,
	})
	report.Place = m.place()
	return report, err
}
