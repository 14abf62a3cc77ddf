package identitymanager

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestLock(t *testing.T) {
	lockedAt := microseconds(start.Add(time.Hour))
	requestedAt := microseconds(start.Add(-time.Minute))
	earlierLockedAt := microseconds(start)
	tests := map[string]struct {
		state       mobileid.State // empty: no such mobile ID
		owner       string         // by now; empty: as validated
		resume      bool
		from        mobileid.State
		lockedAt    time.Time
		event       mobileid.Event
		open        []string // serials in the receipt
		conflict    string
		recorded    []mobileid.Event
		requestedAt time.Time
	}{
		"active": {
			state: mobileid.Active, from: mobileid.Active, lockedAt: lockedAt,
			open: []string{"a1", "a2", "a3"}, recorded: []mobileid.Event{mobileid.EventLocked},
		},
		"inactive": {
			state: mobileid.Inactive, from: mobileid.Inactive, lockedAt: lockedAt,
			open: []string{"a1", "a2", "a3"}, recorded: []mobileid.Event{mobileid.EventLocked},
		},
		"locked by another process": {
			state: mobileid.Locked, from: mobileid.Locked, lockedAt: earlierLockedAt,
			open: []string{"a1", "a2", "a3"}, recorded: []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed},
		},
		"every certificate again": {
			state: mobileid.Locked, resume: true, from: mobileid.Locked, lockedAt: earlierLockedAt,
			open: []string{"a1", "a2", "a3", "a4", "a5"}, recorded: []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed},
		},
		"registered":                      {state: mobileid.Registered, conflict: "is registered by now"},
		"gone":                            {conflict: "is gone"},
		"another owner":                   {state: mobileid.Active, owner: "otto", conflict: "belongs to another user by now"},
		"another owner, locked":           {state: mobileid.Locked, owner: "otto", conflict: "belongs to another user by now"},
		"another owner, inactive":         {state: mobileid.Inactive, owner: "otto", conflict: "belongs to another user by now"},
		"another owner, still registered": {state: mobileid.Registered, owner: "otto", conflict: "belongs to another user by now"},
	}
	eachStore(t, func(t *testing.T, s *Store, db database) {
		n := 0
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				db.clock.now = start
				n++
				id := fmt.Sprintf("mid-%d", n)
				certificates := oneOfEach("a")
				for i := range certificates {
					certificates[i].AKI = fmt.Sprintf("%04x", n)
				}
				if test.state != "" {
					create(t, s, id, test.state, certificates...)
				}
				if test.owner != "" {
					require.NoError(t, s.ChangeOwner(t.Context(), id, test.owner))
				}
				before := dump(t, s)
				db.clock.advance(time.Hour)
				o := order(id, "run-1")
				o.Resume = test.resume

				receipt, err := s.Lock(t.Context(), o)

				if test.conflict != "" {
					var conflict *mobileid.ConflictError
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, id, conflict.MobileID)
					require.Contains(t, conflict.Problem, test.conflict)
					require.Equal(t, before, dump(t, s), "nothing is written")
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.from, receipt.From)
				require.Equal(t, requestedAt, receipt.RequestedAt)
				require.Equal(t, test.lockedAt, receipt.LockedAt)
				require.Equal(t, test.open, serials(receipt.Certificates))
				require.Equal(t, certificates[0].DER, receipt.Certificates[0].DER)

				trail := verify(t, s, id, test.recorded...)
				last := trail[len(trail)-1]
				require.Equal(t, receipt.Audit, last.AuditMark)
				require.Equal(t, mobileid.Record{
					MobileID: id, Event: last.Record.Event, At: lockedAt, Process: o.Process, Decision: o.Decision,
					RequestedAt: requestedAt, Reason: o.Reason, From: test.from,
				}, last.Record)

				m, err := s.MobileID(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, mobileid.Locked, m.State)
				require.Equal(t, test.lockedAt, m.LockedAt)
				require.Equal(t, requestedAt, m.RequestedAt)
			})
		}
	})
}

func serials(certificates []mobileid.Certificate) []string {
	var all []string
	for _, c := range certificates {
		all = append(all, c.Serial)
	}
	return all
}

// The standing times are those of the lock that stands, and not of the process
// that takes it over.
func TestLockTakesOverTheStandingTimes(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		create(t, s, "mid-1", mobileid.Active)
		first, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		db.clock.advance(24 * time.Hour)
		later := order("mid-1", "run-2")
		later.RequestedAt = start.Add(23 * time.Hour)
		second, err := s.Lock(t.Context(), later)
		require.NoError(t, err)
		require.Equal(t, first.RequestedAt, second.RequestedAt)
		require.Equal(t, first.LockedAt, second.LockedAt)
		require.NotEqual(t, first.Audit, second.Audit)
		trail := verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventResumed)
		require.Equal(t, microseconds(later.RequestedAt), trail[1].Record.RequestedAt, "the record says when this process was asked")
	})
}

// What a CA may have been sent already is sent again, and a key that somebody else has
// is not forgotten.
func TestLockTakesOverTheStandingReason(t *testing.T) {
	for name, test := range map[string]struct{ first, then, stands mobileid.Reason }{
		"the default":             {mobileid.KeyCompromise, mobileid.Unspecified, mobileid.KeyCompromise},
		"another one":             {mobileid.Superseded, mobileid.CessationOfOperation, mobileid.Superseded},
		"the same":                {mobileid.Superseded, mobileid.Superseded, mobileid.Superseded},
		"keyCompromise by now":    {mobileid.Superseded, mobileid.KeyCompromise, mobileid.KeyCompromise},
		"the first that names it": {"", mobileid.Superseded, mobileid.Superseded},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				create(t, s, "mid-1", mobileid.Active)
				first := order("mid-1", "run-1")
				first.Reason = test.first
				receipt, err := s.Lock(t.Context(), first)
				require.NoError(t, err)
				require.Equal(t, test.first, receipt.Reason)
				later := order("mid-1", "run-2")
				later.Reason = test.then
				for range 2 { // a repeat answers the same
					receipt, err := s.Lock(t.Context(), later)
					require.NoError(t, err)
					require.Equal(t, test.stands, receipt.Reason)
				}
				receipt, err = s.Lock(t.Context(), order("mid-1", "run-3"))
				require.NoError(t, err)
				require.Equal(t, test.stands, receipt.Reason)
				trail := verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventResumed, mobileid.EventResumed)
				require.Equal(t, test.stands, trail[1].Record.Reason, "the record says what is sent")
			})
		})
	}
}

func TestLockIsIdempotent(t *testing.T) {
	tests := map[string]struct {
		state     mobileid.State
		meanwhile func(t *testing.T, s *Store)
		open      []string
	}{
		"at once":           {state: mobileid.Active, open: []string{"a1", "a2", "a3"}},
		"of a resumed lock": {state: mobileid.Locked, open: []string{"a1", "a2", "a3"}},
		"another process resumed meanwhile": {
			state: mobileid.Active, open: []string{"a1", "a2", "a3"},
			meanwhile: func(t *testing.T, s *Store) {
				_, err := s.Lock(t.Context(), order("mid-1", "run-2"))
				require.NoError(t, err)
			},
		},
		"a certificate was revoked meanwhile": {
			state: mobileid.Active, open: []string{"a1", "a3"},
			meanwhile: func(t *testing.T, s *Store) {
				_, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a2")))
				require.NoError(t, err)
			},
		},
		// The lock stands, and whose it was then does not change it.
		"another owner meanwhile": {
			state: mobileid.Active, open: []string{"a1", "a2", "a3"},
			meanwhile: func(t *testing.T, s *Store) { require.NoError(t, s.ChangeOwner(t.Context(), "mid-1", "otto")) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, db database) {
				create(t, s, "mid-1", test.state, oneOfEach("a")...)
				first, err := s.Lock(t.Context(), order("mid-1", "run-1"))
				require.NoError(t, err)
				db.clock.advance(time.Hour)
				if test.meanwhile != nil {
					test.meanwhile(t, s)
				}
				before := dump(t, s)

				second, err := s.Lock(t.Context(), order("mid-1", "run-1"))

				require.NoError(t, err)
				require.Equal(t, before, dump(t, s), "nothing is written")
				require.Equal(t, test.open, serials(second.Certificates))
				first.Certificates, second.Certificates = nil, nil
				require.Equal(t, first, second)
			})
		})
	}
}

func TestLockRefusesOrder(t *testing.T) {
	tests := map[string]struct {
		change func(*mobileid.LockOrder)
		is     func(t *testing.T, err error)
	}{
		"no workflow id": {func(o *mobileid.LockOrder) { o.Process.WorkflowID = "" }, isOrderError},
		"no run id":      {func(o *mobileid.LockOrder) { o.Process.RunID = "" }, isOrderError},
		"malformed mobile ID": {func(o *mobileid.LockOrder) { o.MobileID = "mid\x001" }, func(t *testing.T, err error) {
			require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
		}},
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active)
		before := dump(t, s)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				o := order("mid-1", "run-1")
				test.change(&o)
				_, err := s.Lock(t.Context(), o)
				test.is(t, err)
				require.Equal(t, before, dump(t, s))
			})
		}
	})
}

// isOrderError expects an order that the store refuses, which to a process is a
// conflict.
func isOrderError(t *testing.T, err error) {
	t.Helper()
	var refused *OrderError
	require.ErrorAs(t, err, &refused)
	require.NotEmpty(t, refused.MobileID)
	var conflict *mobileid.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Contains(t, conflict.Error(), refused.Problem)
}

func TestManyProcessesLockAtOnce(t *testing.T) {
	const processes = 100
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		receipts := make([]mobileid.LockReceipt, processes)
		together(t, processes, func(i int) (err error) {
			receipts[i], err = stores[i%2].Lock(t.Context(), order("mid-1", fmt.Sprintf("run-%d", i)))
			return err
		})
		trail := verify(t, s, "mid-1")
		require.Len(t, trail, processes)
		marks := map[mobileid.AuditMark]bool{}
		first := 0
		for _, receipt := range receipts {
			marks[receipt.Audit] = true
			if receipt.From == mobileid.Active {
				first++
				require.Equal(t, int64(1), receipt.Audit.Number)
			}
			require.Equal(t, receipts[0].LockedAt, receipt.LockedAt)
		}
		require.Len(t, marks, processes, "each process has its own record")
		require.Equal(t, 1, first, "one process has locked")
		require.Equal(t, mobileid.EventLocked, trail[0].Record.Event)
		for _, entry := range trail[1:] {
			require.Equal(t, mobileid.EventResumed, entry.Record.Event)
		}
	})
}

func TestOneProcessLocksManyTimesAtOnce(t *testing.T) {
	const calls = 100
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		receipts := make([]mobileid.LockReceipt, calls)
		together(t, calls, func(i int) (err error) {
			receipts[i], err = stores[i%2].Lock(t.Context(), order("mid-1", "run-1"))
			return err
		})
		verify(t, s, "mid-1", mobileid.EventLocked)
		for _, receipt := range receipts {
			require.Equal(t, receipts[0], receipt)
		}
	})
}

// Whoever comes first, the mobile ID ends locked, and the receipt says what the
// lock met.
func TestLockAndDeactivateAtOnce(t *testing.T) {
	const pairs = 30
	eachStore(t, func(t *testing.T, s *Store, db database) {
		other := db.open(t)
		for i := range pairs {
			create(t, s, fmt.Sprintf("mid-%d", i), mobileid.Active, certificate(fmt.Sprintf("a%x", i), mobileid.CertificateValid))
		}
		var deactivated [pairs]atomic.Bool
		var receipts [pairs]mobileid.LockReceipt
		together(t, 2*pairs, func(n int) (err error) {
			i := n / 2
			id := fmt.Sprintf("mid-%d", i)
			if n%2 == 0 {
				receipts[i], err = s.Lock(t.Context(), order(id, "run-1"))
				return err
			}
			err = other.Deactivate(t.Context(), id)
			deactivated[i].Store(err == nil)
			var transition *mobileid.TransitionError
			if errors.As(err, &transition) && transition.From == string(mobileid.Locked) {
				return nil
			}
			return err
		})
		for i := range pairs {
			id := fmt.Sprintf("mid-%d", i)
			m, err := s.MobileID(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, mobileid.Locked, m.State)
			from, state := mobileid.Active, mobileid.CertificateValid
			if deactivated[i].Load() {
				from, state = mobileid.Inactive, mobileid.CertificateOnHold
			}
			require.Equal(t, from, receipts[i].From)
			require.Equal(t, state, receipts[i].Certificates[0].State)
			require.Equal(t, state, m.Certificates[0].State)
			verify(t, s, id, mobileid.EventLocked)
		}
	})
}

// Two CAs of one name, and two serials that only the CA tells apart, are
// different certificates; and a serial keeps every bit.
func TestLockTellsCertificatesApart(t *testing.T) {
	twentyBytes := "ff" + strings.Repeat("0", 36) + "01"
	plain := certificate("1", mobileid.CertificateValid)
	long := certificate(twentyBytes, mobileid.CertificateValid)
	otherIssuer := certificate("1", mobileid.CertificateOnHold)
	otherIssuer.Issuer = strings.Repeat("cd", 32)
	otherKey := certificate("1", mobileid.CertificateIssued)
	otherKey.AKI = "ffff"
	noKey := certificate("1", mobileid.CertificateValid)
	noKey.AKI = ""
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, otherIssuer, long, otherKey, plain, noKey)
		receipt, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		require.Equal(t, []mobileid.Certificate{noKey, plain, long, otherKey, otherIssuer}, receipt.Certificates)

		result := revoked("1")
		result.AKI = "ffff"
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", result))
		require.NoError(t, err)
		receipt, err = s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		require.Equal(t, []mobileid.Certificate{noKey, plain, long, otherIssuer}, receipt.Certificates)
	})
}
