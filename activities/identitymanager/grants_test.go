package identitymanager

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// However often it is pressed, one grant is written, and none becomes void.
func TestEnsureGrant(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		grants := make([]mobileid.Grant, 5)
		together(t, len(grants), func(i int) (err error) {
			grants[i], err = s.EnsureGrant(t.Context(), "anna", "self-service", time.Hour, 5*time.Minute)
			return err
		})
		for _, g := range grants {
			require.Equal(t, grants[0], g)
		}
		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, grants[0].MobileID, a.Grant.MobileID)

		db.clock.advance(56 * time.Minute)
		later, err := s.EnsureGrant(t.Context(), "anna", "self-service", time.Hour, 5*time.Minute)
		require.NoError(t, err)
		require.NotEqual(t, grants[0].MobileID, later.MobileID, "it would not have been good for long enough")
	})
}

func TestPutGrant(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		g, err := s.PutGrant(t.Context(), "anna", "portal", time.Hour)
		require.NoError(t, err)
		require.Regexp(t, `^mid-[0-9a-f]{32}$`, g.MobileID)
		require.NoError(t, mobileid.CheckID("mobileId", g.MobileID))
		require.Equal(t, mobileid.Grant{
			MobileID: g.MobileID, UserID: "anna", By: "portal", CreatedAt: microseconds(start), ExpiresAt: microseconds(start.Add(time.Hour)),
		}, g)
		trail := verify(t, s, g.MobileID, mobileid.EventGranted)
		require.Equal(t, int64(1), trail[0].Number)
		require.Equal(t, mobileid.Record{
			MobileID: g.MobileID, Event: mobileid.EventGranted, At: microseconds(start), Decision: mobileid.Decision{By: "portal"}, Owner: "anna",
		}, trail[0].Record)

		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, &g, a.Grant)
		require.NoError(t, mobileid.AdmitGet(a))
		_, err = s.MobileID(t.Context(), g.MobileID)
		require.ErrorIs(t, err, mobileid.ErrMobileIDNotFound, "a grant is no mobile ID yet")
	})
}

func TestPutGrantRefuses(t *testing.T) {
	tests := map[string]struct {
		user, by string
		ttl      time.Duration
		is       error
		names    string
	}{
		"unknown user":   {"nobody", "portal", time.Hour, ErrUserNotFound, "nobody"},
		"no user":        {"", "portal", time.Hour, ErrUserNotFound, ""},
		"user with NUL":  {"an\x00na", "portal", time.Hour, ErrUserNotFound, ""},
		"nobody":         {"anna", "", time.Hour, mobileid.ErrInvalidRequest, `"by"`},
		"by with NUL":    {"anna", "x\x00", time.Hour, mobileid.ErrInvalidRequest, `"by"`},
		"by not UTF-8":   {"anna", "x\xff", time.Hour, mobileid.ErrInvalidRequest, `"by"`},
		"for no time":    {"anna", "portal", 0, mobileid.ErrInvalidRequest, `"ttl"`},
		"until the past": {"anna", "portal", -time.Second, mobileid.ErrInvalidRequest, `"ttl"`},
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				expectNothingWritten(t, s, func() {
					_, err := s.PutGrant(t.Context(), test.user, test.by, test.ttl)
					require.ErrorIs(t, err, test.is)
					require.ErrorContains(t, err, test.names)
				})
			})
		}
	})
}

func TestUserHasOneOpenGrant(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		ottos := grant(t, s, "otto")
		first := grant(t, s, "anna")
		db.clock.advance(time.Minute)
		second := grant(t, s, "anna")
		require.NotEqual(t, first, second)

		_, err := s.Register(t.Context(), registration(first, "anna", "run-1"))
		require.ErrorIs(t, err, mobileid.ErrNotEntitled)
		_, err = s.Register(t.Context(), registration(second, "anna", "run-1"))
		require.NoError(t, err)
		_, err = s.Register(t.Context(), registration(ottos, "otto", "run-1"))
		require.NoError(t, err)

		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Nil(t, a.Grant, "the void one does not come back")
	})
}

func TestManyGrantsAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		var ids [20]string
		together(t, len(ids), func(i int) error {
			g, err := stores[i%2].PutGrant(t.Context(), "anna", "portal", time.Hour)
			ids[i] = g.MobileID
			return err
		})
		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		registered := 0
		for _, id := range ids {
			_, err := s.Register(t.Context(), registration(id, "anna", "run-1"))
			if err == nil {
				registered++
				require.Equal(t, a.Grant.MobileID, id)
				continue
			}
			require.ErrorIs(t, err, mobileid.ErrNotEntitled)
			verify(t, s, id, mobileid.EventGranted)
		}
		require.Equal(t, 1, registered)
	})
}
