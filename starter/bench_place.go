package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/starter/bench"
	starter "mobileid/starter/client"
	"mobileid/starter/selfservice/session"
	"mobileid/starter/stack"
)

// benchStack starts what is measured on.
func (p *program) benchStack(ctx context.Context, temporal string, change func(*stack.Options)) (*stack.Stack, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	options := stack.Options{Dir: benchDir, Starter: self, Progress: p.out, Fresh: true, Setup: p.setupStack}
	if err := p.findTemporal(ctx, &options, temporal); err != nil {
		return nil, err
	}
	if options.Worker, err = stack.FindWorker(ctx, defaultBin, p.out); err != nil {
		return nil, err
	}
	change(&options)
	return stack.Start(ctx, options)
}

// benchProcesses are those of a stack whose use is measured, by name.
func benchProcesses(s *stack.Stack, names ...string) map[string]bench.Process {
	processes := map[string]bench.Process{}
	for _, name := range names {
		if process, ok := s.Process(name); ok {
			processes[name] = bench.Process{PID: process.Pid, Children: name == "postgres"} // which has a process per connection
		}
	}
	return processes
}

// settleForLocks has the CA wait for nothing: the wait for the next CRL is its own
// time, not ours. The no-op writes no mails, so locks write none.
func settleForLocks(o *stack.Options) {
	o.CA = map[string]any{"proof_wait": "0"}
	o.Lock = map[string]any{"notify": false}
}

// measuring is what a measurement has of a running stack.
type measuring struct {
	stack    *stack.Stack
	temporal client.Client
	config   config.Config
	store    *identitymanager.Store
	seed     *seeder
}

// measuring connects to a stack.
func (p *program) measuring(ctx context.Context, s *stack.Stack) (*measuring, error) {
	temporal, c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	m := &measuring{stack: s, temporal: temporal, config: c}
	if m.store, err = identitymanager.Configured(ctx, c); err != nil {
		temporal.Close()
		return nil, err
	}
	if m.seed, err = newSeeder(ctx, s, m.store); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *measuring) close() {
	_ = m.store.Close()
	m.temporal.Close()
}

func (m *measuring) locks() *starter.Client { return starter.New(m.temporal, m.config.TaskQueue) }

func (m *measuring) sessions() *session.Sessions {
	return session.New(session.Options{
		Store: m.store, Secure: m.config.Serve.Secure(), Idle: m.config.Serve.IdleTimeout, Lifetime: m.config.Serve.SessionTimeout,
	})
}

func (m *measuring) place() bench.Place {
	place := bench.Place{Store: m.config.Store.Driver}
	place.Server, place.Durability = m.stack.Describe()
	return place
}

// writeReport keeps the reports of other measurements that stand in the file.
func writeReport(file, name string, report any) error {
	all := map[string]json.RawMessage{}
	if text, err := os.ReadFile(file); err == nil { //nolint:gosec // named on the command line
		_ = json.Unmarshal(text, &all) // what is no report is replaced
	}
	own, err := json.Marshal(report)
	if err != nil {
		return err
	}
	all[name] = own
	all["at"], _ = json.Marshal(time.Now().UTC().Truncate(time.Second))
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}
