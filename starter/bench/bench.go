// Package bench measures what a lock costs beside what the engine itself costs:
// a no-op workflow of the same shape, on the same server, in the same run. Rounds
// of the two take turns, because single runs on a busy machine differ by a third;
// what is quoted is the median of the rounds' ratios.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// Options say what to measure on.
type Options struct {
	Temporal  client.Client
	Locks     *starter.Client
	TaskQueue string // of the locks
	NoOpQueue string // of the no-op workflows
	// Seed makes active mobile IDs with two certificates each, and returns their ids.
	// Those that are only to wait need no certificates at the CA.
	Seed func(ctx context.Context, n int, waiting bool) ([]string, error)
	// Owner is the user who owns them.
	Owner string
	// Processes are those whose processor time is told, by name.
	Processes map[string]Process
	// Ready starts another worker, measures how long it takes to be ready, and stops it.
	Ready func(ctx context.Context) (time.Duration, error)

	// Bare is the third contestant.
	Bare Bare
	// Databases are those of PostgreSQL in which rows are counted, by name. None: rows are
	// not counted.
	Databases map[string]string

	Short   bool      // smaller rounds, to try it
	Rounds  int       // of each subject; at least 5 for figures that are quoted
	Waiting int       // locks that wait for Next while the worker's memory is read
	Out     io.Writer // a line per step
}

// Process is one whose use is measured.
type Process struct {
	PID      int
	Children bool // count its children too
}

// size is how much is run.
type size struct {
	rounds    []atOnce
	latency   int           // runs in a round of latencies
	halfLoad  time.Duration // of a round at half load
	footprint int           // runs of each for what they leave
}

// atOnce is a round of throughput.
type atOnce struct{ atOnce, runs int }

func (b *bench) size() size {
	if b.Short {
		return size{rounds: []atOnce{{1, 10}, {20, 60}, {100, 100}}, latency: 8, halfLoad: 3 * time.Second, footprint: 50}
	}
	return size{rounds: []atOnce{{1, 20}, {20, 200}, {100, 300}}, latency: 20, halfLoad: 10 * time.Second, footprint: 500}
}

// settleTime is how long waiting locks may take to be validated, and settleEach how much
// longer for each of them.
const (
	settleTime = 5 * time.Minute
	settleEach = 50 * time.Millisecond
)

// Report is what was measured.
type Report struct {
	Place

	Rounds     int           `json:"rounds"`
	Throughput []Throughput  `json:"throughput"`
	Latency    []Latency     `json:"latency"`
	HalfLoad   []HalfLoad    `json:"halfLoad"`
	Footprints []Footprint   `json:"footprints,omitempty"` // PostgreSQL alone
	Cost       Cost          `json:"cost"`
	NoOpCost   Cost          `json:"noOpCost"`
	BareCost   Cost          `json:"bareCost"` // of which the processor time counts alone
	Waiting    Waiting       `json:"waiting"`
	Ready      time.Duration `json:"readyNanoseconds"` // from start to ready, the median
}

// Throughput is how many ended per second, the medians.
type Throughput struct {
	AtOnce int     `json:"atOnce"`
	Lock   float64 `json:"lock"`
	NoOp   float64 `json:"noOp"`
	Bare   float64 `json:"bare"`
	Ratio  float64 `json:"ratio"`  // lock to no-op, the median of the rounds' ratios
	OfBare float64 `json:"ofBare"` // lock to bare, the same
}

// Latency is how long it takes from Next.
type Latency struct {
	WayIn      string      `json:"wayIn"`
	Locked     Percentiles `json:"locked"`     // until the mobile ID is locked
	AllRevoked Percentiles `json:"allRevoked"` // until all certificates are revoked, and the process ends
	NoOp       Percentiles `json:"noOp"`       // until the one activity of the no-op has ended
	Ratio      float64     `json:"ratio"`      // of the medians of locked, the median of the rounds
}

// Cost is what one run costs.
type Cost struct {
	Events      int64                    `json:"events"`
	Transitions int64                    `json:"stateTransitions"`
	Bytes       int64                    `json:"bytes"`
	CPU         map[string]time.Duration `json:"cpuNanoseconds"` // per process, at 20 at once
}

// Waiting is the memory that locks take which wait for Next.
type Waiting struct {
	Locks  int   `json:"locks"`
	Bytes  int64 `json:"bytes"`  // of the worker, with all of them in its cache
	Before int64 `json:"before"` // of the worker, without
}

// Run measures. It takes some minutes.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Rounds: o.Rounds}
	b := &bench{Options: o, report: &r}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"start to ready", b.ready},
		{"warm-up", b.warmUp},
		{"throughput and cost", b.throughput},
		{"latency", b.latency},
		{"latency at half load", b.halfLoad},
		{"rows", b.footprint},
		{fmt.Sprintf("memory with %d waiting", o.Waiting), b.waiting},
	} {
		fmt.Fprintf(o.Out, "  … %s\n", step.name)
		if err := step.run(ctx); err != nil {
			return r, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return r, nil
}

type bench struct {
	Options

	report   *Report
	runs     atomic.Int64
	lastLock string // workflow id of one of the last locks
}

func (b *bench) ready(ctx context.Context) error {
	var all []time.Duration
	for range b.Rounds {
		took, err := b.Ready(ctx)
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	b.report.Ready = Median(all)
	return nil
}

func (b *bench) warmUp(ctx context.Context) error {
	for _, subject := range b.subjects() {
		if _, err := b.saturate(ctx, subject, atOnce{20, 40}); err != nil {
			return err
		}
	}
	return nil
}

// round is one round of one subject.
type round struct {
	perSecond float64
	cpu       map[string]time.Duration // per run
}

// measure runs a round and takes what it used.
func (b *bench) measure(runs int, act func() error) (round, error) {
	before, err := Used(b.Processes)
	if err != nil {
		return round{}, err
	}
	start := time.Now()
	if err := act(); err != nil {
		return round{}, err
	}
	took := time.Since(start)
	after, err := Used(b.Processes)
	for name := range after {
		after[name] = (after[name] - before[name]) / time.Duration(runs)
	}
	return round{perSecond: float64(runs) / took.Seconds(), cpu: after}, err
}

// saturate runs so many of one subject, some at once all the time.
func (b *bench) saturate(ctx context.Context, s subject, size atOnce) (round, error) {
	run, err := s.prepare(ctx, size.runs)
	if err != nil {
		return round{}, err
	}
	return b.measure(size.runs, func() error { return atATime(ctx, size.runs, size.atOnce, run) })
}

// turns is the order of the subjects in a round: each is first, last and in the middle
// equally often.
func (b *bench) turns(round int) []subject {
	all := b.subjects()
	first := round % len(all)
	all = append(all[first:], all[:first]...)
	if round/len(all)%2 == 1 {
		slices.Reverse(all)
	}
	return all
}

func (b *bench) name() string { return fmt.Sprintf("no-op/%d", b.runs.Add(1)) }

func (b *bench) throughput(ctx context.Context) error {
	for _, size := range b.size().rounds {
		perSecond := map[string][]float64{}
		used := map[string][]map[string]time.Duration{}
		var ratios, ofBare []float64
		for n := range b.Rounds {
			now := map[string]float64{}
			for _, s := range b.turns(n) {
				one, err := b.saturate(ctx, s, size)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				now[s.name] = one.perSecond
				perSecond[s.name] = append(perSecond[s.name], one.perSecond)
				used[s.name] = append(used[s.name], one.cpu)
			}
			ratios, ofBare = append(ratios, now[subjectLock]/now[subjectNoOp]), append(ofBare, now[subjectLock]/now[subjectBare])
			fmt.Fprintf(b.Out, "    %3d at once: %6.1f locks/s, %6.1f no-ops/s, %6.1f bare/s, ratio to no-op %.2f, to bare %.2f\n",
				size.atOnce, now[subjectLock], now[subjectNoOp], now[subjectBare], ratios[n], ofBare[n])
		}
		b.report.Throughput = append(b.report.Throughput, Throughput{
			AtOnce: size.atOnce, Lock: Median(perSecond[subjectLock]), NoOp: Median(perSecond[subjectNoOp]), Bare: Median(perSecond[subjectBare]),
			Ratio: Median(ratios), OfBare: Median(ofBare),
		})
		if size.atOnce != 20 {
			continue
		}
		var err, noOpErr error
		b.report.Cost, err = b.cost(ctx, b.lastLock, used[subjectLock])
		b.report.NoOpCost, noOpErr = b.cost(ctx, fmt.Sprintf("no-op/%d", b.runs.Load()), used[subjectNoOp])
		if err := errors.Join(err, noOpErr); err != nil {
			return err
		}
		b.report.BareCost = Cost{CPU: b.medians(used[subjectBare])}
	}
	return nil
}

// cost is what a run cost the engine, and the medians of processor time.
func (b *bench) cost(ctx context.Context, id string, rounds []map[string]time.Duration) (Cost, error) {
	description, err := b.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return Cost{}, err
	}
	info := description.GetWorkflowExecutionInfo()
	c := Cost{
		Events: info.GetHistoryLength(), Transitions: info.GetStateTransitionCount(), Bytes: info.GetHistorySizeBytes(),
		CPU: b.medians(rounds),
	}
	return c, nil
}

// medians are those of the processor time of each process.
func (b *bench) medians(rounds []map[string]time.Duration) map[string]time.Duration {
	medians := map[string]time.Duration{}
	for name := range b.Processes {
		var all []time.Duration
		for _, round := range rounds {
			all = append(all, round[name])
		}
		medians[name] = Median(all)
	}
	return medians
}

// latencies of one round.
type latencies struct{ locked, revoked, noOp []time.Duration }

// wayIn is a way for Next to get in, for the lock and for the no-op.
type wayIn struct {
	name    string
	started bool // the process waits already
	lock    func(ctx context.Context, mobileID string) error
	noOp    func(ctx context.Context, id string) error
}

func (b *bench) ways() []wayIn {
	caller := b.Locks.User(b.Owner)
	update := func(id string) client.UpdateWorkflowOptions {
		return client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: nextName, WaitForStage: client.WorkflowUpdateStageCompleted}
	}
	get := func(ctx context.Context, handle client.WorkflowUpdateHandle, err error) error {
		if err != nil {
			return err
		}
		return handle.Get(ctx, nil)
	}
	return []wayIn{
		{
			"update", true,
			func(ctx context.Context, id string) error {
				_, err := caller.Next(ctx, id, starter.LockOptions{})
				return err
			},
			func(ctx context.Context, id string) error {
				handle, err := b.Temporal.UpdateWorkflow(ctx, update(id))
				return get(ctx, handle, err)
			},
		},
		{
			"signal", true,
			func(ctx context.Context, id string) error {
				return b.Temporal.SignalWorkflow(ctx, workflows.LockWorkflowID(id), "", workflows.Next, nil)
			},
			func(ctx context.Context, id string) error {
				return b.Temporal.SignalWorkflow(ctx, id, "", nextName, nil)
			},
		},
		{
			"update with start", false,
			func(ctx context.Context, id string) error {
				_, err := caller.Lock(ctx, id, starter.LockOptions{})
				return err
			},
			func(ctx context.Context, id string) error {
				start := b.Temporal.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
					ID: id, TaskQueue: b.NoOpQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
				}, NoOpStep)
				handle, err := b.Temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{StartWorkflowOperation: start, UpdateOptions: update(id)})
				return get(ctx, handle, err)
			},
		},
	}
}

func (b *bench) latency(ctx context.Context) error {
	for _, way := range b.ways() {
		var all latencies
		var ratios []float64
		for range b.Rounds {
			one, err := b.latencyRound(ctx, way)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			ratios = append(ratios, float64(Median(one.locked))/float64(Median(one.noOp)))
			all.locked, all.revoked, all.noOp = append(all.locked, one.locked...), append(all.revoked, one.revoked...), append(all.noOp, one.noOp...)
		}
		b.report.Latency = append(b.report.Latency, Latency{
			WayIn: way.name, Locked: PercentilesOf(all.locked), AllRevoked: PercentilesOf(all.revoked), NoOp: PercentilesOf(all.noOp), Ratio: Median(ratios),
		})
	}
	return nil
}

// latencyRound takes turns between the two, one at a time.
func (b *bench) latencyRound(ctx context.Context, way wayIn) (latencies, error) {
	ids, err := b.Seed(ctx, b.size().latency, false)
	if err != nil {
		return latencies{}, err
	}
	var all latencies
	for _, id := range ids {
		if way.started {
			if _, err := b.Locks.User(b.Owner).Start(ctx, id, starter.LockOptions{}); err != nil {
				return all, err
			}
		}
		if err := way.lock(ctx, id); err != nil {
			return all, err
		}
		locked, ended, err := SinceNext(ctx, b.Temporal, workflows.LockWorkflowID(id))
		if err != nil {
			return all, err
		}
		all.locked, all.revoked = append(all.locked, locked), append(all.revoked, ended)

		name := b.name()
		if way.started {
			if err := b.startNoOp(ctx, name); err != nil {
				return all, err
			}
		}
		if err := way.noOp(ctx, name); err != nil {
			return all, err
		}
		done, _, err := SinceNext(ctx, b.Temporal, name)
		if err != nil {
			return all, err
		}
		all.noOp = append(all.noOp, done)
	}
	return all, nil
}

// startNoOp starts a no-op, and returns when it waits.
func (b *bench) startNoOp(ctx context.Context, id string) error {
	if _, err := b.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: b.NoOpQueue}, NoOpStep); err != nil {
		return err
	}
	for {
		description, err := b.Temporal.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			return err
		}
		if description.GetWorkflowExecutionInfo().GetHistoryLength() >= 4 && description.GetPendingWorkflowTask() == nil {
			return nil
		}
	}
}

// SinceNext reads from the history how long it took from Next until the first
// activity had ended, and until the process ended. The times are the server's, and
// all ways in are measured alike. Next is the signal, the accepted update, or the
// start that it came with.
func SinceNext(ctx context.Context, temporal client.Client, id string) (first, ended time.Duration, err error) {
	if err := temporal.GetWorkflow(ctx, id, "").Get(ctx, nil); err != nil {
		return 0, 0, err
	}
	var next, started time.Time
	iterator := temporal.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		if err != nil {
			return 0, 0, err
		}
		at := event.GetEventTime().AsTime()
		switch {
		case event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			started = at
		case isNext(event) && (next.IsZero() || event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED):
			next = at
		case event.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED && first == 0:
			first = at.Sub(since(next, started))
		case event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
			ended = at.Sub(since(next, started))
		}
	}
	return first, ended, nil
}

// since is when Next came: with the start if by no message.
func since(next, started time.Time) time.Time {
	if next.IsZero() {
		return started
	}
	return next
}

func isNext(event *historypb.HistoryEvent) bool {
	switch event.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		return true
	}
	return false
}

func (b *bench) waiting(ctx context.Context) error {
	worker := b.Processes["worker"].PID
	before, err := memory(worker)
	if err != nil {
		return err
	}
	ids, err := b.Seed(ctx, b.Waiting, true)
	if err != nil {
		return err
	}
	var started atomic.Int64
	if err := atATime(ctx, len(ids), 50, func(ctx context.Context, n int) error {
		_, err := b.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.LockWorkflowID(ids[n]), TaskQueue: b.TaskQueue},
			workflows.Lock, workflows.LockRequest{MobileID: ids[n], UserID: b.Owner})
		if done := started.Add(1); done%2000 == 0 {
			fmt.Fprintf(b.Out, "    %d of %d wait\n", done, len(ids))
		}
		return err
	}); err != nil {
		return err
	}
	// The last ones are validated when a query of each says so. A worker that has its
	// hands full answers none for a while.
	ctx, cancel := context.WithTimeout(ctx, settleTime+time.Duration(len(ids))*settleEach)
	defer cancel()
	for _, id := range ids[max(0, len(ids)-200):] {
		if err := b.awaitNext(ctx, id); err != nil {
			return err
		}
	}
	now, err := memory(worker)
	b.report.Waiting = Waiting{Locks: len(ids), Bytes: now, Before: before}
	return err
}

// awaitNext returns when a lock waits for Next.
func (b *bench) awaitNext(ctx context.Context, id string) error {
	look := b.Locks.User(b.Owner).Look(id)
	for {
		status, err := look.Status(ctx)
		if status.Phase == workflows.AwaitingConfirmation {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%s is in phase %q: %w", id, status.Phase, errors.Join(ctx.Err(), err))
		}
	}
}

// Saturate runs n calls, so many at once, and returns how many ended a second.
func Saturate(ctx context.Context, n, atOnce int, call func(ctx context.Context, i int) error) (float64, error) {
	start := time.Now()
	err := atATime(ctx, n, atOnce, call)
	return float64(n) / time.Since(start).Seconds(), err
}

// atATime runs n calls, so many at once, and returns the first error.
func atATime(ctx context.Context, n, atOnce int, call func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(atOnce, n) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := call(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
