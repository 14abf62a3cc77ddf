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

func TestRegister(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := grant(t, s, "anna")
		db.clock.advance(time.Minute)
		at := microseconds(start.Add(time.Minute))
		o := registration(id, "anna", "run-1")

		receipt, err := s.Register(t.Context(), o)

		require.NoError(t, err)
		require.Equal(t, at, receipt.At)
		require.Empty(t, receipt.Certificates)
		trail := verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered)
		require.Equal(t, receipt.Audit, trail[1].AuditMark)
		require.Equal(t, mobileid.Record{
			MobileID: id, Event: mobileid.EventRegistered, At: at, Process: o.Process, Decision: o.Decision,
			RequestedAt: microseconds(o.RequestedAt), Owner: "anna",
		}, trail[1].Record)
		m, err := s.MobileID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mobileid.Registered, m.State)
		require.Equal(t, "anna", m.Owner.ID)
		require.Equal(t, "MobileID of anna", m.Name)

		// Again, although by now nobody could begin it, nor could the user.
		db.clock.advance(2 * time.Hour)
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna"}, ""))
		expectNothingWritten(t, s, func() {
			again, err := s.Register(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, receipt, again)
		})
		expectNothingWritten(t, s, func() {
			_, err := s.Register(t.Context(), registration(id, "anna", "run-2"))
			require.ErrorIs(t, err, mobileid.ErrNotEntitled, "another process")
		})
	})
}

func TestRegisterRefuses(t *testing.T) {
	put := func(user mobileid.User) func(*testing.T, *Store, database, *mobileid.RegistrationOrder) {
		return func(t *testing.T, s *Store, _ database, _ *mobileid.RegistrationOrder) {
			require.NoError(t, s.PutUser(t.Context(), user, ""))
		}
	}
	have := func(state mobileid.State, certificates ...mobileid.Certificate) func(*testing.T, *Store, database, *mobileid.RegistrationOrder) {
		return func(t *testing.T, s *Store, _ database, _ *mobileid.RegistrationOrder) {
			create(t, s, "mid-old", state, certificates...)
		}
	}
	tests := map[string]struct {
		prepare func(*testing.T, *Store, database, *mobileid.RegistrationOrder)
		is      error // nil: it is registered
	}{
		"nothing is in the way": {have(mobileid.Locked, certificate("a4", "expired"), certificate("a5", "revoked")), nil},
		"user not active":       {put(mobileid.User{ID: "anna", Roles: []string{mobileid.SelfServiceRole}}), mobileid.ErrNotEntitled},
		"user without the role": {put(mobileid.User{ID: "anna", Active: true, Roles: []string{"other"}}), mobileid.ErrNotEntitled},
		"unknown user": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.UserID = "nobody"
		}, mobileid.ErrNotEntitled},
		"another user's grant": {func(t *testing.T, s *Store, _ database, o *mobileid.RegistrationOrder) {
			o.MobileID = grant(t, s, "otto")
		}, mobileid.ErrNotEntitled},
		"grant for another user": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.UserID = "otto"
		}, mobileid.ErrNotEntitled},
		"no such grant": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.MobileID = "mid-1"
		}, mobileid.ErrNotEntitled},
		"grant expired": {func(_ *testing.T, _ *Store, db database, _ *mobileid.RegistrationOrder) {
			db.clock.advance(time.Hour)
		}, mobileid.ErrNotEntitled},
		"active mobile ID":                      {have(mobileid.Active), mobileid.ErrMobileIDActive},
		"registered mobile ID":                  {have(mobileid.Registered), mobileid.ErrMobileIDActive},
		"inactive one with a certificate":       {have(mobileid.Inactive, certificate("a2", "valid")), mobileid.ErrMobileIDActive},
		"locked one with a certificate":         {have(mobileid.Locked, certificate("a2", "valid")), mobileid.ErrMobileIDActive},
		"locked one with an issued certificate": {have(mobileid.Locked, certificate("a2", "issued")), mobileid.ErrMobileIDActive},
		"no workflow id": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.Process.WorkflowID = ""
		}, &OrderError{}},
		"no user": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.UserID = ""
		}, mobileid.ErrInvalidRequest},
		"name with NUL": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.Name = "x\x00"
		}, mobileid.ErrInvalidRequest},
		"malformed mobile ID": {func(_ *testing.T, _ *Store, _ database, o *mobileid.RegistrationOrder) {
			o.MobileID = "mid 1"
		}, mobileid.ErrInvalidRequest},
		"the id is taken": {func(t *testing.T, s *Store, _ database, o *mobileid.RegistrationOrder) {
			require.NoError(t, s.CreateMobileID(t.Context(), mobileid.MobileID{ID: o.MobileID, Owner: mobileid.User{ID: "otto"}, State: mobileid.Active}))
		}, &mobileid.ConflictError{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, db database) {
				o := registration(grant(t, s, "anna"), "anna", "run-1")
				test.prepare(t, s, db, &o)
				var refused *OrderError
				var conflict *mobileid.ConflictError
				if test.is == nil {
					_, err := s.Register(t.Context(), o)
					require.NoError(t, err)
					return
				}
				expectNothingWritten(t, s, func() {
					_, err := s.Register(t.Context(), o)
					switch {
					case errors.As(test.is, &refused):
						isOrderError(t, err)
					case errors.As(test.is, &conflict):
						isConflict(t, err, "exists already")
					default:
						require.ErrorIs(t, err, test.is)
					}
				})
			})
		})
	}
}

func TestManyProcessesRegisterAtOnce(t *testing.T) {
	const processes = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		id := grant(t, s, "anna")
		var won atomic.Int64
		together(t, processes, func(i int) error {
			_, err := stores[i%2].Register(t.Context(), registration(id, "anna", fmt.Sprintf("run-%d", i)))
			if errors.Is(err, mobileid.ErrNotEntitled) {
				return nil
			}
			won.Add(1)
			return err
		})
		require.Equal(t, int64(1), won.Load())
		verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered)
	})
}

func TestOneProcessRegistersManyTimesAtOnce(t *testing.T) {
	const calls = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		id := grant(t, s, "anna")
		var receipts [calls]mobileid.Receipt
		together(t, calls, func(i int) (err error) {
			receipts[i], err = stores[i%2].Register(t.Context(), registration(id, "anna", "run-1"))
			return err
		})
		for _, receipt := range receipts {
			require.Equal(t, receipts[0], receipt)
		}
		verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered)
	})
}

// The user is looked at after whoever changes them meanwhile.
func TestRegisterAndPutUserAtOnce(t *testing.T) {
	const rounds = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		other := db.open(t)
		var ids [rounds]string
		user := func(i int) string { return "user-" + strings.Repeat("x", i+1) }
		for i := range rounds {
			putUsers(t, s, user(i))
			ids[i] = grant(t, s, user(i))
		}
		var refused [rounds]bool
		together(t, 2*rounds, func(n int) error {
			i := n / 2
			if n%2 == 0 {
				return other.PutUser(t.Context(), mobileid.User{ID: user(i)}, "")
			}
			_, err := s.Register(t.Context(), registration(ids[i], user(i), "run-1"))
			if errors.Is(err, mobileid.ErrNotEntitled) {
				refused[i] = true
				return nil
			}
			return err
		})
		for i := range rounds {
			events := []mobileid.Event{mobileid.EventGranted, mobileid.EventRegistered}
			if refused[i] {
				events = events[:1]
			}
			verify(t, s, ids[i], events...)
			_, err := s.Activate(t.Context(), activation(ids[i], user(i), "run-1"))
			require.Error(t, err)
		}
	})
}
