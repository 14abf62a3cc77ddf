package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"
)

// fault is one kind of thing that goes wrong.
type fault struct {
	kind string
	// strike does it to a target of its own choice, holds it, and mends it before it
	// returns, also if ctx ends meanwhile. It returns what was the target.
	strike func(ctx context.Context, draw *rand.Rand) (target string, err error)
}

// lane is faults that strike one after the other, while those of other lanes do.
type lane struct {
	name    string
	faults  []fault
	between time.Duration // the longest pause between two
	// first, if not nil, is called before each fault.
	first func(context.Context) error
}

// Kinds of faults.
const (
	KindKill     = "kill"             // SIGKILL, and a restart
	KindStop     = "stop"             // SIGSTOP, and SIGCONT
	KindRestart  = "database-restart" // in order, by SIGINT
	KindClock    = "clock-offset"     // ten minutes either way
	KindDiskFull = "disk-full"        // of Identity Manager's store
	KindCut      = "network-cut"
	KindDelay    = "network-delay"
	KindHalfOpen = "network-half-open"
	kindCA       = "ca-" // and how it answers
	kindProof    = "proof-"
)

// mostHold is how long a fault stands, at most.
const mostHold = 3 * time.Second

func hold(ctx context.Context, draw *rand.Rand) {
	sleep(ctx, mostHold/4+time.Duration(draw.Int64N(int64(mostHold*3/4))))
}

// sleep returns when the time is over or ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func pick[T any](draw *rand.Rand, list []T) T { return list[draw.IntN(len(list))] }

// killed are the processes that die and stop.
var killed = []string{worker, worker2, serve, devcaName, messagingIs, temporalIs, database, imDatabase, stepCA}

// lanes are all faults that are possible here.
func (p *place) lanes() []lane {
	processes := []fault{
		{KindKill, p.kill(killed)}, {KindStop, p.stop(killed)}, {KindRestart, p.shutDown([]string{database, imDatabase})},
		{KindClock, p.shiftClock([]string{worker, worker2, serve, devcaName, messagingIs})},
		// Workers are what the promise hangs on: they die more often than others.
		{KindKill, p.kill([]string{worker, worker2})},
	}
	if p.disk.mounted {
		processes = append(processes, fault{KindDiskFull, p.fillDisk})
	}
	wrong := lane{name: "CAs", between: 1500 * time.Millisecond}
	for _, how := range []string{answer500, answer429, answerGarbage, answerSlow, answerCut, answerLie, answerTwice, answerReorder} {
		wrong.faults = append(wrong.faults, fault{kindCA + how, p.misbehave([]string{"devca-api", "step-ca-api"}, how)})
	}
	for _, how := range []string{answer500, answerGarbage, answerSlow} {
		wrong.faults = append(wrong.faults, fault{kindProof + how, p.misbehave([]string{"devca-public", "step-ca-crl"}, how)})
	}
	return []lane{
		{name: "processes", faults: processes, between: 2500 * time.Millisecond, first: p.supervise},
		{name: "network", between: 1500 * time.Millisecond, faults: []fault{
			{KindCut, p.cutEdge}, {KindDelay, p.delayEdge}, {KindHalfOpen, p.halfOpenEdge},
		}},
		wrong,
	}
}

func (p *place) signal(name string, signal syscall.Signal) error {
	process, ok := p.process(name)
	if !ok {
		return fmt.Errorf("%s does not run", name)
	}
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s to %s: %w", signal, name, err)
	}
	return nil
}

// restartTime is how long a process may take to be there again.
const restartTime = time.Minute

// revive starts a process that has ended, and waits until it answers.
func (p *place) revive(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTime)
	defer cancel()
	return p.restart(ctx, name)
}

func (p *place) kill(names []string) func(context.Context, *rand.Rand) (string, error) {
	return func(ctx context.Context, draw *rand.Rand) (string, error) {
		name := pick(draw, names)
		if err := p.killProcess(name); err != nil {
			return name, err
		}
		hold(ctx, draw)
		return name, p.revive(ctx, name)
	}
}

// killProcess ends one with SIGKILL. A database waits for its own.
func (p *place) killProcess(name string) error {
	switch name {
	case imDatabase:
		return p.im.Kill()
	case stepCA:
		return p.step.Stop()
	}
	return p.signal(name, syscall.SIGKILL)
}

func (p *place) stop(names []string) func(context.Context, *rand.Rand) (string, error) {
	return func(ctx context.Context, draw *rand.Rand) (string, error) {
		name := pick(draw, names)
		if err := p.signal(name, syscall.SIGSTOP); err != nil {
			return name, err
		}
		hold(ctx, draw)
		return name, p.signal(name, syscall.SIGCONT)
	}
}

// shutDown ends a database as an administrator does, and starts it again.
func (p *place) shutDown(names []string) func(context.Context, *rand.Rand) (string, error) {
	return func(ctx context.Context, draw *rand.Rand) (string, error) {
		name := pick(draw, names)
		if err := p.signal(name, syscall.SIGINT); err != nil {
			return name, err
		}
		hold(ctx, draw)
		return name, p.revive(ctx, name)
	}
}

// shiftClock has a process run with a wrong clock for a while.
func (p *place) shiftClock(names []string) func(context.Context, *rand.Rand) (string, error) {
	return func(ctx context.Context, draw *rand.Rand) (string, error) {
		name, offset := pick(draw, names), pick(draw, clockOffsets)
		target := fmt.Sprintf("%s %+d min", name, int(offset.Minutes()))
		for _, now := range []time.Duration{offset, 0} {
			p.offsets[name] = now
			if err := errors.Join(p.killProcess(name), p.revive(ctx, name)); err != nil {
				return target, err
			}
			if now != 0 {
				sleep(ctx, 2*mostHold)
			}
		}
		return target, nil
	}
}

// fillDisk lets Identity Manager's database find no space. It may end itself then:
// that is its way not to lose what it has promised.
func (p *place) fillDisk(ctx context.Context, draw *rand.Rand) (string, error) {
	if err := p.disk.fill(); err != nil {
		return imDatabase, errors.Join(err, p.disk.empty())
	}
	hold(ctx, draw)
	if err := p.disk.empty(); err != nil {
		return imDatabase, err
	}
	return imDatabase, p.im.Revive() //nolint:contextcheck // it bounds itself: see patience there
}

func (p *place) misbehave(services []string, how string) func(context.Context, *rand.Rand) (string, error) {
	return func(ctx context.Context, draw *rand.Rand) (string, error) {
		name := pick(draw, services)
		f := p.fronts[name]
		f.misbehave(how, 0.5+draw.Float64()/2)
		defer f.heal()
		hold(ctx, draw)
		return name, nil
	}
}

func (p *place) cutEdge(ctx context.Context, draw *rand.Rand) (string, error) {
	edge := pick(draw, p.network.names())
	p.network.cut(edge)
	hold(ctx, draw)
	return edge, p.network.mend(edge)
}

func (p *place) delayEdge(ctx context.Context, draw *rand.Rand) (string, error) {
	edge := pick(draw, p.network.names())
	defer p.network.cure(context.WithoutCancel(ctx), edge)
	delay := 50 + draw.IntN(700)
	for _, direction := range []string{"upstream", "downstream"} {
		if err := p.network.poison(edge, delayed, direction, map[string]int{"latency": delay, "jitter": delay / 2}); err != nil {
			return edge, err
		}
	}
	hold(ctx, draw)
	return edge, nil
}

// halfOpenEdge lets nothing come through in one direction, and ends the connections
// then: what was swallowed cannot come any more.
func (p *place) halfOpenEdge(ctx context.Context, draw *rand.Rand) (string, error) {
	edge, direction := pick(draw, p.network.names()), pick(draw, []string{"upstream", "downstream"})
	if err := p.network.poison(edge, halfOpen, direction, map[string]int{"timeout": 0}); err != nil {
		return edge, err
	}
	hold(ctx, draw)
	p.network.cure(context.WithoutCancel(ctx), edge)
	return edge + " " + direction, p.network.drop(edge)
}

// struck is a fault that has been.
type struck struct {
	Kind   string        `json:"kind"`
	Target string        `json:"target"`
	After  time.Duration `json:"afterNanoseconds"` // since the first
	Took   time.Duration `json:"tookNanoseconds"`
}

func (s struck) String() string {
	return fmt.Sprintf("%6.1fs  %-18s %s (%.1fs)", s.After.Seconds(), s.Kind, s.Target, s.Took.Seconds())
}

// run lets the faults of a lane strike, in rounds, each in an order of its own. The
// first round is whole; after it, the end of ctx is the end.
func (l lane) run(ctx context.Context, seed uint64, since time.Time, tell func(struck)) error {
	draw := rand.New(rand.NewPCG(seed, hashOf(l.name))) //nolint:gosec // a schedule that can be had again
	holding := context.WithoutCancel(ctx)
	for {
		for _, n := range draw.Perm(len(l.faults)) {
			if holding.Err() != nil {
				return nil
			}
			if l.first != nil {
				if err := l.first(ctx); err != nil {
					return err
				}
			}
			f := l.faults[n]
			start := time.Now()
			target, err := f.strike(holding, draw)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", f.kind, target, err)
			}
			tell(struck{Kind: f.kind, Target: target, After: start.Sub(since), Took: time.Since(start)})
			sleep(holding, l.between/4+time.Duration(draw.Int64N(int64(l.between*3/4))))
		}
		holding = ctx
	}
}

// hashOf makes lanes of one seed differ.
func hashOf(name string) uint64 {
	var h uint64 = 14695981039346656037
	for _, b := range []byte(strings.ToLower(name)) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}
