package identitymanager

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

const idle = 30 * time.Minute

// sessionID is a session's id made of one digit.
func sessionID(digit string) string { return strings.Repeat(digit, 64) }

func startSession(t *testing.T, s *Store, db database, digit, user, replaces string) {
	t.Helper()
	require.NoError(t, s.StartSession(t.Context(), Session{
		ID: sessionID(digit), User: mobileid.User{ID: user}, Method: "password", ExpiresAt: db.clock.Now().Add(8 * time.Hour),
	}, replaces))
}

func TestSessionTimesOut(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		startSession(t, s, db, "a", "anna", "")
		other := db.open(t)
		found, err := other.Session(t.Context(), sessionID("a"), idle)
		require.NoError(t, err, "any instance knows it")
		require.Equal(t, "anna", found.User.ID)
		require.True(t, found.User.HasRole(mobileid.SelfServiceRole))
		require.Equal(t, "password", found.Method)

		db.clock.advance(idle - time.Second)
		found, err = s.Session(t.Context(), sessionID("a"), idle)
		require.NoError(t, err)
		seenAt, err := s.UseSession(t.Context(), found)
		require.NoError(t, err)
		found, err = s.Session(t.Context(), sessionID("a"), idle)
		require.NoError(t, err)
		require.True(t, found.SeenAt.Equal(seenAt))
		db.clock.advance(idle - time.Second)
		_, err = s.Session(t.Context(), sessionID("a"), idle)
		require.NoError(t, err, "it was used, and so goes on")
		db.clock.advance(time.Second)
		_, err = s.Session(t.Context(), sessionID("a"), idle)
		require.ErrorIs(t, err, ErrNoSession, "to read it is not to use it")

		startSession(t, s, db, "b", "anna", "")
		for range 8*60/20 - 1 {
			db.clock.advance(20 * time.Minute)
			found, err = s.Session(t.Context(), sessionID("b"), idle)
			require.NoError(t, err)
			_, err = s.UseSession(t.Context(), found)
			require.NoError(t, err)
		}
		db.clock.advance(20 * time.Minute)
		_, err = s.Session(t.Context(), sessionID("b"), idle)
		require.ErrorIs(t, err, ErrNoSession, "used or not, its time is over")

		require.Len(t, dump(t, s)["sessions"], 2)
		require.NoError(t, s.ForgetOldSessions(t.Context(), time.Minute))
		require.Len(t, dump(t, s)["sessions"], 0)
	})
}

func TestSessionEnds(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		gone := func(digit string) {
			t.Helper()
			_, err := s.Session(t.Context(), sessionID(digit), idle)
			require.ErrorIs(t, err, ErrNoSession)
		}
		gone("a")
		startSession(t, s, db, "a", "anna", "")
		startSession(t, s, db, "b", "otto", sessionID("a"))
		gone("a")
		require.NoError(t, s.EndSession(t.Context(), sessionID("b")))
		require.NoError(t, s.EndSession(t.Context(), sessionID("b")), "to end none is no error")
		gone("b")

		startSession(t, s, db, "a", "anna", "")
		startSession(t, s, db, "b", "anna", "")
		startSession(t, s, db, "e", "otto", "")
		require.NoError(t, s.EndSessionsOf(t.Context(), ""))
		require.NoError(t, s.EndSessionsOf(t.Context(), sessionID("f")), "of nobody")
		require.Len(t, dump(t, s)["sessions"], 3)
		require.NoError(t, s.EndSessionsOf(t.Context(), sessionID("a")))
		gone("a")
		gone("b")
		_, err := s.Session(t.Context(), sessionID("e"), idle)
		require.NoError(t, err, "another user's")

		startSession(t, s, db, "c", "anna", "")
		require.NoError(t, s.PutPassword(t.Context(), "anna", "hash"))
		gone("c")

		err = s.StartSession(t.Context(), Session{ID: sessionID("d"), User: mobileid.User{ID: "nobody"}, Method: "x", ExpiresAt: db.clock.Now()}, "")
		require.ErrorIs(t, err, ErrUserNotFound)
		err = s.StartSession(t.Context(), Session{ID: "token", User: mobileid.User{ID: "anna"}, Method: "x"}, "")
		require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
	})
}

// Whoever has the phone is out when it is locked, whoever locks it. Where the owner has
// pressed Next, they stay.
func TestLockEndsSessionsByMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		begin := func(digit, user, method string) Session {
			t.Helper()
			session := Session{ID: sessionID(digit), User: mobileid.User{ID: user}, Method: method, ExpiresAt: db.clock.Now().Add(time.Hour)}
			require.NoError(t, s.StartSession(t.Context(), session, ""))
			return session
		}
		left := func() (digits []string) {
			t.Helper()
			for _, digit := range []string{"a", "b", "c", "d", "e", "f"} {
				_, err := s.Session(t.Context(), sessionID(digit), idle)
				if err == nil {
					digits = append(digits, digit)
					continue
				}
				require.ErrorIs(t, err, ErrNoSession)
			}
			return digits
		}
		create(t, s, "mid-1", mobileid.Active)
		create(t, s, "mid-2", mobileid.Active)
		owners := begin("a", "anna", ByMobileID)
		thiefs := begin("b", "anna", ByMobileID)
		begin("c", "anna", "password")
		begin("d", "anna", "openid")
		begin("e", "otto", ByMobileID)

		pressed := order("mid-1", "run-1")
		pressed.RequestID = owners.RequestID()
		require.NotEqual(t, pressed.RequestID, owners.RequestID())
		require.NotContains(t, pressed.RequestID, owners.ID)
		_, err := s.Lock(t.Context(), pressed)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "c", "d", "e"}, left())

		begin("f", "anna", ByMobileID)
		for _, run := range []string{"run-1", "run-2"} {
			_, err = s.Lock(t.Context(), order("mid-1", run))
			require.NoError(t, err)
			require.Equal(t, []string{"a", "c", "d", "e", "f"}, left(), "a repeat, and a lock that is taken over, end none")
		}

		foreign := order("mid-2", "run-3")
		foreign.RequestID = thiefs.RequestID()
		foreign.Owner = "otto"
		_, err = s.Lock(t.Context(), foreign)
		require.Error(t, err)
		require.Equal(t, []string{"a", "c", "d", "e", "f"}, left(), "what is not locked ends none")

		for _, requestID := range []string{"", ".", "x", "operator.x", thiefs.RequestID()} {
			if len(left()) < 5 {
				begin("a", "anna", ByMobileID)
				begin("f", "anna", ByMobileID)
			}
			id := "mid-of-" + requestID[:min(len(requestID), 8)]
			create(t, s, id, mobileid.Active)
			by := order(id, "run-4")
			by.Decision, by.RequestID = mobileid.Decision{}, requestID
			_, err = s.Lock(t.Context(), by)
			require.NoError(t, err)
			require.Equal(t, []string{"c", "d", "e"}, left(), "of an operator, say: %q", requestID)
		}
	})
}

func TestPasswordHash(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		hash := func(user string) string {
			t.Helper()
			hash, err := s.PasswordHash(t.Context(), user)
			require.NoError(t, err)
			return hash
		}
		require.Empty(t, hash("anna"))
		require.NoError(t, s.PutPassword(t.Context(), "anna", "one"))
		require.NoError(t, s.PutPassword(t.Context(), "anna", "two"))
		require.Equal(t, "two", hash("anna"))
		require.Empty(t, hash("otto"))
		require.Empty(t, hash("nobody"))
		require.Empty(t, hash("a\x00b"))
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna", Active: false}, "a@example.com"))
		require.Empty(t, hash("anna"), "who is not active has none")
		require.ErrorIs(t, s.PutPassword(t.Context(), "nobody", "x"), ErrUserNotFound)
	})
}

func TestTriesAreCounted(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		count := func(key string) int {
			t.Helper()
			tries, err := s.CountTry(t.Context(), key, 15*time.Minute)
			require.NoError(t, err)
			return tries
		}
		require.Equal(t, 1, count("user:a"))
		db.clock.advance(10 * time.Minute)
		require.Equal(t, 2, count("user:a"))
		require.Equal(t, 1, count("user:b"))
		db.clock.advance(5 * time.Minute)
		require.Equal(t, 1, count("user:a"), "the time of the first one is over")
		require.NoError(t, s.ForgetTries(t.Context(), "user:b"))
		require.Equal(t, 1, count("user:b"))
		together(t, 8, func(int) error {
			_, err := s.CountTry(t.Context(), "user:c", time.Minute)
			return err
		})
		require.Equal(t, 9, count("user:c"), "none is lost")
		require.NoError(t, s.TakeBackTry(t.Context(), "user:c"))
		require.Equal(t, 9, count("user:c"), "this one, and all but the one that was taken back")
		require.Equal(t, 1, count("user:d"))
		require.NoError(t, s.TakeBackTry(t.Context(), "user:d"))
		require.NoError(t, s.TakeBackTry(t.Context(), "user:d"), "to take back none is no error")
		require.Equal(t, 1, count("user:d"))
	})
}

// What is somebody else's cannot be told from what is not there: not by the answer, and
// not by what the database is asked.
func TestOwned(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		o, err := s.Owned(t.Context(), "anna", "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.Locked, o.State)
		require.Len(t, o.Certificates, len(oneOfEach("a")))
		require.Len(t, o.Trail, 1)
		for _, test := range [][2]string{{"otto", "mid-1"}, {"anna", "mid-2"}, {"anna", "../x"}, {"a\x00", "mid-1"}} {
			_, err := s.Owned(t.Context(), test[0], test[1])
			require.ErrorIs(t, err, mobileid.ErrMobileIDNotFound)
			require.EqualError(t, err, "read mobile ID: "+mobileid.NotFound().Message)
		}
	})
	t.Run("statements", func(t *testing.T) {
		db := sqliteDatabase(t)
		s := db.open(t)
		require.NoError(t, s.Migrate(t.Context()))
		putUsers(t, s)
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		watched, noted := watch(t, s, db)
		asked := map[string][]string{}
		for _, id := range []string{"mid-1", "mid-2"} {
			noted.all = nil
			_, err := watched.Owned(t.Context(), "otto", id)
			require.ErrorIs(t, err, mobileid.ErrMobileIDNotFound)
			for _, statement := range noted.all {
				asked[id] = append(asked[id], statement.query)
			}
		}
		require.Len(t, asked["mid-1"], 3)
		require.Equal(t, asked["mid-1"], asked["mid-2"])
	})
}
