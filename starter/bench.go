package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/worker"
	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/activities/ca/configured"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/bench"
	starter "mobileid/starter/client"
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
	if err != nil {
		return err
	}
	if err := report.Print(p.out); err != nil || o.file == "" {
		return err
	}
	return writeReport(o.file, o.temporal, report)
}

func (p *program) measure(ctx context.Context, s *stack.Stack, o benchOptions) (bench.Report, error) {
	temporal, c, err := p.connect(ctx)
	if err != nil {
		return bench.Report{}, err
	}
	defer temporal.Close()
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return bench.Report{}, err
	}
	defer func() { _ = store.Close() }()
	seed, err := newSeeder(ctx, s, store)
	if err != nil {
		return bench.Report{}, err
	}
	cas, err := configured.Authorities(c.CAs)
	if err != nil {
		return bench.Report{}, err
	}
	processes := benchProcesses(s, "worker", "bench-worker", "temporal", "devca", "postgres")
	processes["this"] = bench.Process{PID: os.Getpid()} // the client of all, and where bare runs
	report, err := bench.Run(ctx, bench.Options{
		Temporal: temporal, Locks: starter.New(temporal, c.TaskQueue), TaskQueue: c.TaskQueue, NoOpQueue: benchQueue,
		Seed: seed.mobileIDs, Owner: benchOwner, Processes: processes, Ready: s.MeasureWorkerStart,
		Bare: bench.Bare{Store: store, CAs: cas}, Databases: s.Databases(), Short: o.short,
		Rounds: o.rounds, Waiting: o.waiting, Out: p.out,
	})
	report.Server, report.Durability = s.Describe()
	report.Store = c.Store.Driver
	return report, err
}

// seeder makes mobile IDs with certificates of devca.
type seeder struct {
	store  *identitymanager.Store
	driver *devca.Driver
	csr    []byte
	made   atomic.Int64
}

func newSeeder(ctx context.Context, s *stack.Stack, store *identitymanager.Store) (*seeder, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: benchOwner}}, key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.Dir, "ca")
	driver, err := devca.NewDriver(devca.DriverOptions{
		URL: s.CA.APIURL, ClientCertFile: filepath.Join(dir, "client.pem"), ClientKeyFile: filepath.Join(dir, "client.key"),
		ServerCAFile: filepath.Join(dir, "tls-ca.pem"),
	})
	if err != nil {
		return nil, err
	}
	owner := mobileid.User{ID: benchOwner, Name: "Bench", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	return &seeder{store: store, driver: driver, csr: csr}, store.PutUser(ctx, owner, "bench@example.com")
}

// mobileIDs makes n active ones with two certificates each. Those that are only to
// wait share the shape of a certificate that was issued, with serial numbers of
// their own.
func (s *seeder) mobileIDs(ctx context.Context, n int, waiting bool) ([]string, error) {
	sample, err := s.driver.Issue(ctx, s.csr, string(devca.ProfileAuthentication), 365)
	if err != nil {
		return nil, err
	}
	ids := make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range ids {
		number := s.made.Add(1)
		ids[i] = fmt.Sprintf("bench-%d", number)
		group.Go(func() error {
			var two []*x509.Certificate
			for c := range 2 {
				certificate, err := s.certificate(ctx, sample, waiting, number<<8|int64(c))
				if err != nil {
					return err
				}
				two = append(two, certificate)
			}
			return s.create(ctx, ids[i], benchOwner, two...)
		})
	}
	return ids, group.Wait()
}

// create makes an active mobile ID.
func (s *seeder) create(ctx context.Context, id, owner string, certificates ...*x509.Certificate) error {
	m := mobileid.MobileID{ID: id, Name: id, Owner: mobileid.User{ID: owner}, State: mobileid.Active}
	for _, certificate := range certificates {
		kept, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
		if err != nil {
			return err
		}
		m.Certificates = append(m.Certificates, kept)
	}
	return s.store.CreateMobileID(ctx, m)
}

func (s *seeder) certificate(ctx context.Context, sample *x509.Certificate, waiting bool, serial int64) (*x509.Certificate, error) {
	if waiting {
		other := *sample
		other.SerialNumber = big.NewInt(serial)
		return &other, nil
	}
	return s.driver.Issue(ctx, s.csr, string(devca.ProfileAuthentication), 365)
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
