package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"mobileid/starter/bench"
	"mobileid/starter/bench/pages"
	"mobileid/starter/bench/soak"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

type benchSoakOptions struct {
	temporal string
	time     time.Duration
	file     string
}

// errGrows makes the exit code 1.
var errGrows = errors.New("the verdict is not good")

func (p *program) benchSoakCommand() *cobra.Command {
	var o benchSoakOptions
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Run locks for long, and watch whether anything grows",
		Long: `Soak starts Temporal, the development CA, a worker and Self-Service, and runs locks
and pages at half of the load that they can bear. Every minute it reads memory,
goroutines, files and connections, and how long the locks of the minute took. At
the end it compares the first quarter of the samples with the last. The exit code is
1 if something has grown beyond its bound.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.benchSoak(cmd.Context(), o) },
	}
	temporalFlag(cmd, &o.temporal, postgresServer)
	cmd.Flags().DurationVar(&o.time, "for", time.Hour, "how long")
	cmd.Flags().StringVar(&o.file, "file", "", "also write the report as JSON into this file, beside the others")
	return cmd
}

// crlInterval is how often devca publishes meanwhile, as CAs do at intervals: its CRL has
// all that was ever revoked, and grows by what the soak revokes.
const crlInterval = time.Minute

func (p *program) benchSoak(ctx context.Context, o benchSoakOptions) (err error) {
	if o.time < time.Minute {
		return fmt.Errorf("%w: --for must be at least 1m", errUsage)
	}
	s, err := p.benchStack(ctx, o.temporal, func(options *stack.Options) {
		settleForLocks(options)
		options.CRLInterval = crlInterval
		options.Serve = true
		options.ServeSettings = map[string]any{"address_header": pages.AddressHeader, "session_timeout": (o.time + time.Hour).String()}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	m, err := p.measuring(ctx, s)
	if err != nil {
		return err
	}
	defer m.close()
	invited := &guests{seed: m.seed, locks: m.locks(), sessions: m.sessions()}
	visitors, err := invited.invite(ctx, pageAskers, false)
	if err != nil {
		return err
	}
	locks := &soakLocks{seed: m.seed, temporal: m.temporal, queue: m.config.TaskQueue}
	report, err := soak.Run(ctx, soak.Options{
		For: o.time, Every: min(time.Minute, o.time/10), Measure: locks.most, Prepare: locks.prepare,
		Pages: pages.NewRota(s.ServeURL, visitors).Next, Watched: soakWatched(s), Out: p.out,
	})
	if err != nil {
		return err
	}
	report.Place = m.place()
	if err := report.Print(p.out); err != nil {
		return err
	}
	if o.file != "" {
		if err := writeReport(o.file, "soak/"+o.temporal, report); err != nil {
			return err
		}
	}
	if report.Grows() {
		return errGrows
	}
	return nil
}

// soakWatched are our own processes. devca keeps every certificate that it has issued in
// memory.
func soakWatched(s *stack.Stack) []soak.Watched {
	var all []soak.Watched
	for _, name := range []string{"worker", "serve", "devca"} {
		process, ok := s.Process(name)
		if !ok {
			continue
		}
		w := soak.Watched{Name: name, PID: process.Pid, Keeps: name == "devca"}
		if name == "worker" {
			w.Goroutines = func(ctx context.Context) (int, error) {
				text, err := fetch(ctx, "http://"+s.ProfileAddress+"/debug/pprof/goroutine?debug=1")
				if err != nil {
					return 0, err
				}
				var n int
				_, err = fmt.Sscanf(string(text), "goroutine profile: total %d", &n)
				return n, err
			}
		}
		all = append(all, w)
	}
	return all
}

// soakLocks runs locks of mobile IDs of its own.
type soakLocks struct {
	seed     *seeder
	temporal client.Client
	queue    string
}

// prepare makes mobile IDs.
func (l *soakLocks) prepare(ctx context.Context, n int) (func(context.Context, int) error, error) {
	ids, err := l.seed.mobileIDs(ctx, n, false)
	return func(ctx context.Context, i int) error {
		run, err := l.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.LockWorkflowID(ids[i]), TaskQueue: l.queue},
			workflows.Lock, workflows.LockRequest{MobileID: ids[i], UserID: benchOwner, Confirmed: true})
		if err != nil {
			return err
		}
		return run.Get(ctx, nil)
	}, err
}

// most is how many end a second with many at once, when new mobile IDs are made meanwhile,
// as they are while it soaks.
func (l *soakLocks) most(ctx context.Context) (float64, error) {
	const runs, atOnce = 300, 50
	if _, err := l.round(ctx, runs/3, atOnce); err != nil { // warm-up
		return 0, err
	}
	return l.round(ctx, runs, atOnce)
}

func (l *soakLocks) round(ctx context.Context, runs, atOnce int) (float64, error) {
	run, err := l.prepare(ctx, runs)
	if err != nil {
		return 0, err
	}
	return bench.Saturate(ctx, runs, atOnce, func(ctx context.Context, i int) error {
		if err := run(ctx, i); err != nil {
			return err
		}
		_, err := l.prepare(ctx, 1)
		return err
	})
}
