package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// HalfLoad is how long runs take at half of the throughput that their own kind has
// reached: from when each was due until it ended. They come at random, as people do, not
// one behind the other.
type HalfLoad struct {
	Subject   string      `json:"subject"`
	PerSecond float64     `json:"perSecond"`
	Runs      int         `json:"runs"`
	Took      Percentiles `json:"took"`
}

// halfLoad takes turns at half of what was reached with the most at once.
func (b *bench) halfLoad(ctx context.Context) error {
	saturated := b.report.Throughput[len(b.report.Throughput)-1]
	most := map[string]float64{subjectLock: saturated.Lock, subjectNoOp: saturated.NoOp, subjectBare: saturated.Bare}
	all := map[string][]time.Duration{}
	for n := range b.Rounds {
		for _, s := range b.turns(n) {
			took, err := b.halfLoadRound(ctx, s, most[s.name]/2, uint64(n))
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			all[s.name] = append(all[s.name], took...)
		}
	}
	for _, s := range b.subjects() {
		b.report.HalfLoad = append(b.report.HalfLoad, HalfLoad{s.name, most[s.name] / 2, len(all[s.name]), PercentilesOf(all[s.name])})
	}
	return nil
}

func (b *bench) halfLoadRound(ctx context.Context, s subject, perSecond float64, seed uint64) ([]time.Duration, error) {
	n := max(int(perSecond*b.size().halfLoad.Seconds()), 1)
	run, err := s.prepare(ctx, n)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same arrivals for all, and in every run
	var mu sync.Mutex
	var all []time.Duration
	err = OpenLoop(ctx, n,
		func(int) time.Duration { return time.Duration(random.ExpFloat64() / perSecond * float64(time.Second)) },
		func(ctx context.Context, i int, due time.Time) error {
			err := run(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, time.Since(due))
			return err
		})
	return all, err
}
