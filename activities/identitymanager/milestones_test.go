package identitymanager

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// eachWatchedStore runs a test on stores that tell what locks have reached.
func eachWatchedStore(t *testing.T, test func(t *testing.T, s *Store, db database, reached func() []Milestone)) {
	eachDatabase(t, func(t *testing.T, db database) {
		var mu sync.Mutex
		var told []Milestone
		db.Reached = func(m Milestone) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, m)
		}
		s := db.open(t)
		require.NoError(t, s.Migrate(t.Context()))
		putUsers(t, s)
		test(t, s, db, func() []Milestone {
			mu.Lock()
			defer mu.Unlock()
			now := told
			told = nil
			return now
		})
	})
}

// ofOther makes a certificate, or what a lock reached for it, another CA's.
func ofOther[T mobileid.Certificate | mobileid.CertificateResult](c T) T {
	other := strings.Repeat("cd", 32)
	switch c := any(&c).(type) {
	case *mobileid.Certificate:
		c.Issuer = other
	case *mobileid.CertificateResult:
		c.Issuer = other
	}
	return c
}

func seenAt(r mobileid.CertificateResult, at time.Time) mobileid.CertificateResult {
	r.VisibleAt = at
	return r
}

func visible(id, run string, results ...mobileid.CertificateResult) mobileid.Record {
	return mobileid.Record{MobileID: id, Event: mobileid.EventVisible, Process: process(run), CA: results[0].Issuer, Certificates: results}
}

// A lock comes to each stage once, whatever is repeated, resumed or taken over.
func TestMilestones(t *testing.T) {
	eachWatchedStore(t, func(t *testing.T, s *Store, db database, reached func() []Milestone) {
		ctx := t.Context()
		create(t, s, "mid-1", mobileid.Active, certificate("a1", mobileid.CertificateValid), certificate("a2", mobileid.CertificateIssued),
			ofOther(certificate("a3", mobileid.CertificateValid)), certificate("a4", mobileid.CertificateRevoked))
		requested := db.clock.Now().Add(-time.Minute)
		steps := []struct {
			name string
			do   func() error
			want []Milestone
		}{
			{"locked", func() error { _, err := s.Lock(ctx, order("mid-1", "first")); return err }, []Milestone{{StageLocked, 2 * time.Minute}}},
			{"the step is repeated", func() error { _, err := s.Lock(ctx, order("mid-1", "first")); return err }, nil},
			{"another process takes it over", func() error { _, err := s.Lock(ctx, order("mid-1", "second")); return err }, nil},
			{"one of a CA is revoked", func() error {
				_, err := s.RecordRevocations(ctx, revocation("mid-1", "first", seenAt(revoked("a1"), requested.Add(5*time.Minute))))
				return err
			}, nil},
			{"the other one, which is not visible", func() error {
				_, err := s.RecordRevocations(ctx, revocation("mid-1", "first", revoked("a2")))
				return err
			}, nil},
			{"the last one, at another CA", func() error {
				_, err := s.RecordRevocations(ctx, revocation("mid-1", "first", seenAt(ofOther(revoked("a3")), requested.Add(6*time.Minute))))
				return err
			}, []Milestone{{StageRevoked, 7 * time.Minute}}},
			{"the step is repeated", func() error {
				_, err := s.RecordRevocations(ctx, revocation("mid-1", "first", seenAt(ofOther(revoked("a3")), requested.Add(6*time.Minute))))
				return err
			}, nil},
			{"the last one is visible", func() error {
				_, err := s.Record(ctx, visible("mid-1", "first", seenAt(revoked("a2"), requested.Add(8*time.Minute))))
				return err
			}, []Milestone{{StageVisible, 8 * time.Minute}}},
			{"the step is repeated", func() error {
				_, err := s.Record(ctx, visible("mid-1", "first", seenAt(revoked("a2"), requested.Add(8*time.Minute))))
				return err
			}, nil},
			{"an operator has all of it checked again", func() error {
				_, err := s.RecordRevocations(ctx, revocation("mid-1", "third", seenAt(revoked("a1"), requested.Add(time.Hour)), seenAt(revoked("a2"), requested.Add(time.Hour))))
				return err
			}, nil},
		}
		for _, step := range steps {
			db.clock.advance(time.Minute)
			require.NoError(t, step.do(), step.name)
			got := reached()
			want := step.want
			if want == nil {
				require.Empty(t, got, step.name)
				continue
			}
			require.Equal(t, stages(want), stages(got), step.name)
			require.InDelta(t, want[0].After, got[0].After, float64(2*time.Second), step.name)
		}
	})
}

func stages(list []Milestone) (stages []Stage) {
	for _, m := range list {
		stages = append(stages, m.Stage)
	}
	return stages
}

func TestMilestonesAtOnce(t *testing.T) {
	eachWatchedStore(t, func(t *testing.T, s *Store, db database, reached func() []Milestone) {
		create(t, s, "mid-1", mobileid.Active, certificate("a1", mobileid.CertificateValid))
		create(t, s, "mid-2", mobileid.Inactive)
		create(t, s, "mid-3", mobileid.Active, certificate("a3", mobileid.CertificateValid))
		late := order("mid-1", "run")
		late.RequestedAt = db.clock.Now().Add(time.Hour) // the clock of another machine
		_, err := s.Lock(t.Context(), late)
		require.NoError(t, err)
		require.Equal(t, []Milestone{{StageLocked, 0}}, reached())

		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run", seenAt(revoked("a1"), db.clock.Now().Add(time.Hour))))
		require.NoError(t, err)
		require.Equal(t, []Stage{StageRevoked, StageVisible}, stages(reached()))

		_, err = s.Lock(t.Context(), order("mid-2", "run"))
		require.NoError(t, err)
		require.Equal(t, []Stage{StageLocked, StageRevoked}, stages(reached()), "there is nothing to revoke")

		_, err = s.Lock(t.Context(), order("mid-3", "run"))
		require.NoError(t, err)
		db.clock.advance(3 * 365 * 24 * time.Hour)
		reached()
		_, err = s.RecordRevocations(t.Context(), revocation("mid-3", "run", result("a3", mobileid.OutcomeExpiredNotRevoked)))
		require.NoError(t, err)
		require.Equal(t, []Stage{StageRevoked}, stages(reached()), "nobody publishes that it expired")
	})
}

// What Get mobile ID takes back was never asked to be locked.
func TestMilestonesOfAnAbandonedMobileID(t *testing.T) {
	eachWatchedStore(t, func(t *testing.T, s *Store, _ database, reached func() []Milestone) {
		id := register(t, s, "anna")
		_, err := s.RecordIssued(t.Context(), issue(id, "get", "b1"))
		require.NoError(t, err)
		_, err = s.Abandon(t.Context(), abandonment(id, "get"))
		require.NoError(t, err)
		order := revocation(id, "get", revoked("b1"))
		order.Process = getProcess("get")
		_, err = s.RecordRevocations(t.Context(), order)
		require.NoError(t, err)
		require.Empty(t, reached())
	})
}

// Of many that record at once, one brings the lock to its stage.
func TestMilestonesOfManyProcesses(t *testing.T) {
	eachWatchedStore(t, func(t *testing.T, s *Store, _ database, reached func() []Milestone) {
		create(t, s, "mid-1", mobileid.Active, certificate("a1", mobileid.CertificateValid))
		var group sync.WaitGroup
		for _, run := range []string{"a", "b", "c", "d"} {
			group.Go(func() {
				_, err := s.Lock(t.Context(), order("mid-1", run))
				if err == nil {
					_, err = s.RecordRevocations(t.Context(), revocation("mid-1", run, seenAt(revoked("a1"), start)))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		got := stages(reached())
		slices.Sort(got)
		require.Equal(t, []Stage{StageLocked, StageRevoked, StageVisible}, got)
	})
}
