package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"golang.org/x/sync/errgroup"

	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging/embedded"
	"mobileid/config"
	"mobileid/starter/chaos/checker"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// Files of a run, in its folder.
const (
	clientsFile  = "clients.jsonl"     // what clients asked and were told
	requestsFile = "ca-requests.jsonl" // revocations on their way to a CA
	racesFile    = "races"             // and the process id: what the race detector found
)

// Options say what to run.
type Options struct {
	Dir      string // the folder of the run, which is made anew
	Programs Programs
	Seed     uint64
	Locks    int // mobile IDs for which somebody presses Next
	Gets     int
	AtOnce   int           // clients
	Pace     time.Duration // between two that begin; 0: as fast as they come
	Progress io.Writer     // a line per step and fault
	// Inspect, if not nil, is called when the checker has looked, while all still runs.
	Inspect func(ctx context.Context, o checker.Options, found checker.Report)
}

// settleTime is how long all processes may take to end when nothing is broken any
// more. Steps that wait for their next try are told to try now.
const settleTime = 10 * time.Minute

// Run starts the stack, lets faults strike while clients work, mends everything, waits
// until nothing is under way any more, and has the checker look. Its error says that
// the run could not be made; what the checker found is in the report.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := os.RemoveAll(o.Dir); err != nil {
		return report, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return report, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return report, err
	}
	p := &place{dir: o.Dir}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.start(ctx, o.Programs, o.Progress); err != nil {
		return report, err
	}
	r := &run{Options: o, place: p}
	return r.run(ctx)
}

// run is one run on a running place.
type run struct {
	Options

	place *place

	mu      sync.Mutex
	faults  []struck
	started time.Time
}

func (r *run) run(ctx context.Context) (Report, error) {
	crowd, closeCrowd, err := r.crowd(ctx)
	if err != nil {
		return Report{}, err
	}
	defer closeCrowd()
	people := cast(r.Seed, r.Locks, r.Gets)
	r.say("making %d people", len(people))
	seed, err := newSeeder(r.place, crowd.store)
	if err != nil {
		return Report{}, err
	}
	if err := seed.make(ctx, people); err != nil {
		return Report{}, err
	}
	r.say("%d locks, %d Gets, and the faults of seed %d", r.Locks, r.Gets, r.Seed)
	r.started = time.Now()
	if err := r.storm(ctx, crowd, people); err != nil {
		return Report{}, err
	}
	report := Report{Seed: r.Seed, Locks: r.Locks, Gets: r.Gets, People: len(people), Storm: time.Since(r.started), DiskFull: r.place.disk.mounted}
	r.say("all is mended after %s; waiting until nothing is under way", report.Storm.Round(time.Second))
	start := time.Now()
	open, err := r.settle(ctx, crowd)
	if err != nil {
		return report, err
	}
	report.Settle, report.Open = time.Since(start), open
	if err := r.receipts(ctx, crowd, people); err != nil {
		return report, err
	}
	if err := crowd.journal.close(); err != nil {
		return report, err
	}
	r.say("checking")
	start = time.Now()
	looked, closeLook, err := r.look(ctx)
	if err != nil {
		return report, err
	}
	defer closeLook()
	if report.Found, err = checker.Check(ctx, looked); err != nil {
		return report, err
	}
	report.Check, report.Faults, report.Ended = time.Since(start), r.faults, r.place.ended
	if r.Inspect != nil {
		r.Inspect(ctx, looked, report.Found)
	}
	report.Calls, report.FailedCalls = crowd.calls, crowd.wrong
	if report.Races, err = r.place.races(); err != nil {
		return report, err
	}
	for _, f := range r.place.fronts {
		report.WrongAnswers += f.met
	}
	return report, nil
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.Progress, "  … "+format+"\n", args...) }

// crowd connects the clients by their own ways.
func (r *run) crowd(ctx context.Context) (*crowd, func(), error) {
	flags := pflag.NewFlagSet("chaos", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Set(config.FileFlag, r.place.config(clients)); err != nil {
		return nil, nil, err
	}
	c, err := config.Load(flags)
	if err != nil {
		return nil, nil, err
	}
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	t, err := temporal.DialContext(ctx, temporal.Options{HostPort: r.place.temporalFor(clients), Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	j, err := newJournal(filepath.Join(r.Dir, clientsFile))
	if err != nil {
		t.Close()
		return nil, nil, errors.Join(err, store.Close())
	}
	key, err := config.GetHashKey(c)
	if err != nil {
		t.Close()
		return nil, nil, errors.Join(err, store.Close())
	}
	messaging := filepath.Join(r.place.stack.Dir, "messaging")
	return &crowd{
			temporal: t, queue: c.TaskQueue, locks: client.New(t, c.TaskQueue), gets: client.NewGets(t, c.TaskQueue, workflows.GetWorkflowIDs(key)),
			store: store, journal: j, shell: r.shell, pages: "http://" + r.place.network.address(clients+"→"+serve),
			phone: phoneOptions{
				Dir: filepath.Join(r.Dir, "phones"), AttestationKeyFile: filepath.Join(messaging, embedded.AttestationKeyFile),
				ServerCAFile: filepath.Join(messaging, embedded.ServerCAFile), Poll: 200 * time.Millisecond,
			},
		}, func() {
			t.Close()
			_ = store.Close()
		}, nil
}

// shell is the command line, which reaches the stack by the ways of the clients.
func (r *run) shell(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, r.place.starter, args...) //nolint:gosec // the program that the caller names
	command.Env = append(os.Environ(), r.place.raceReports(), "MOBILEID_CONFIG="+r.place.config(clients), "TEMPORAL_ADDRESS="+r.place.temporalFor(clients))
	return command
}

// storm lets faults strike until all people have played their stories, and each fault
// has struck.
func (r *run) storm(ctx context.Context, crowd *crowd, people []person) error {
	group, ctx := errgroup.WithContext(ctx)
	striking, calm := context.WithCancel(ctx)
	defer calm()
	for _, l := range r.place.lanes() {
		group.Go(func() error { return l.run(striking, r.Seed, r.started, r.tell) })
	}
	group.Go(func() error {
		r.operate(striking, crowd)
		return nil
	})
	group.Go(func() error {
		defer calm()
		return r.play(ctx, crowd, people)
	})
	return group.Wait()
}

// operatorEvery is how often an operator looks while faults strike.
const operatorEvery = 20 * time.Second

// operate is an operator, who has tried again what says that it waits for one.
func (r *run) operate(ctx context.Context, crowd *crowd) {
	for ctx.Err() == nil {
		sleep(ctx, operatorEvery)
		waiting, err := r.open(ctx, crowd.temporal, `ExecutionStatus = "Running" AND LockPhase = "needsOperator"`)
		if err == nil { // else the next look tells
			r.retry(ctx, crowd, waiting)
		}
	}
}

// play lets people begin one after the other, and returns when all have ended.
func (r *run) play(ctx context.Context, crowd *crowd, people []person) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.AtOnce)
	var done atomic.Int64
	for _, p := range people {
		group.Go(func() error {
			if err := crowd.play(ctx, p); err != nil {
				return fmt.Errorf("%s of %s: %w", p.story, p.mobileID, err)
			}
			if n := done.Add(1); n%100 == 0 {
				r.say("%d of %d people, after %s", n, len(people), time.Since(r.started).Round(time.Second))
			}
			return nil
		})
		sleep(ctx, r.Pace)
	}
	return group.Wait()
}

func (r *run) tell(s struck) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, s)
	fmt.Fprintf(r.Progress, "      %s\n", s)
}

// receipts has those who use pages take their receipts.
func (*run) receipts(ctx context.Context, crowd *crowd, people []person) error {
	for _, p := range people {
		if p.story != lockByPages {
			continue
		}
		if err := crowd.insist(ctx, p, callReceipt, crowd.receipt(p)); err != nil {
			return fmt.Errorf("receipt of %s: %w", p.mobileID, err)
		}
	}
	return nil
}

// settle waits until no process is under way, and tells those that wait to try again
// now, as an operator does when all is mended. It returns how many are left.
func (r *run) settle(ctx context.Context, crowd *crowd) (int, error) {
	waiting, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for round := 0; ; round++ {
		if err := r.place.supervise(ctx); err != nil {
			return 0, err
		}
		open, err := r.open(waiting, crowd.temporal, `ExecutionStatus = "Running"`)
		switch {
		case err == nil && len(open) == 0:
			return 0, nil
		case waiting.Err() != nil:
			return len(open), ctx.Err()
		case err == nil && round%5 == 4:
			r.retry(waiting, crowd, open)
		}
		if err == nil && round%10 == 9 {
			r.say("%d processes are under way", len(open))
		}
		sleep(waiting, time.Second)
	}
}

// open are the processes that a query finds, by id.
func (*run) open(ctx context.Context, t temporal.Client, query string) ([]string, error) {
	var ids []string
	var page []byte
	for {
		answer, err := t.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, NextPageToken: page})
		if err != nil {
			return nil, err
		}
		for _, e := range answer.GetExecutions() {
			ids = append(ids, e.GetExecution().GetWorkflowId())
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return ids, nil
		}
	}
}

// retry is what an operator sends, without waiting for answers.
func (*run) retry(ctx context.Context, crowd *crowd, ids []string) {
	for _, id := range ids {
		_ = crowd.temporal.SignalWorkflow(ctx, id, "", workflows.Retry, nil) // what has ended meanwhile needs none
	}
}

// look is where the checker looks, by ways of its own.
func (r *run) look(ctx context.Context) (checker.Options, func(), error) {
	t, err := temporal.DialContext(ctx, temporal.Options{HostPort: r.place.stack.TemporalAddress, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		return checker.Options{}, nil, err
	}
	devca, err := readCertificate(filepath.Join(r.place.stack.Dir, "ca", "ca.pem"))
	if err != nil {
		t.Close()
		return checker.Options{}, nil, err
	}
	public := r.place.stack.CA.PublicURL
	return checker.Options{
		StoreURL: r.place.im.URL(imName), AuditKeyFile: filepath.Join(r.place.stack.Dir, "audit.key"),
		ClientsFile: filepath.Join(r.Dir, clientsFile), RequestsFile: filepath.Join(r.Dir, requestsFile),
		History: t.WorkflowService(), Namespace: temporal.DefaultNamespace,
		CAs: []checker.CA{
			{
				Name: devcaName, Issuer: devca, CRLURL: public + "/crl.der", OCSPURL: public + "/ocsp",
				IssuedFile: filepath.Join(r.place.stack.Dir, "ca", "journal"),
			},
			{Name: stepCA, Issuer: r.place.step.Issuer, CRLURL: r.place.step.CRLURL},
		},
	}, t.Close, nil
}
