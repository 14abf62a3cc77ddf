package identitymanager

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestCreateUser(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		eva := mobileid.User{ID: "eva", Name: "Eva", Active: true, Roles: []string{mobileid.SelfServiceRole}}
		require.NoError(t, s.CreateUser(t.Context(), eva, "eva@example.com", "e@example.com"))
		require.ErrorIs(t, s.CreateUser(t.Context(), mobileid.User{ID: "eva"}, ""), ErrUserExists)
		a, err := s.Applicant(t.Context(), "eva")
		require.NoError(t, err)
		require.Equal(t, eva, a.User)
		require.Equal(t, []string{"eva@example.com", "e@example.com"}, a.Emails)
		for _, user := range []mobileid.User{{}, {ID: "a\x00"}, {ID: "a", Name: "\xff"}} {
			require.ErrorIs(t, s.CreateUser(t.Context(), user, ""), mobileid.ErrInvalidRequest)
		}
		require.ErrorIs(t, s.CreateUser(t.Context(), mobileid.User{ID: "a"}), mobileid.ErrInvalidRequest)
	})
}

// A user who is not active any more is out at once.
func TestSetUserActive(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		require.NoError(t, s.CreateUser(t.Context(), mobileid.User{ID: "eva", Active: true}, ""))
		session := Session{ID: hex.EncodeToString(make([]byte, sessionIDBytes)), User: mobileid.User{ID: "eva"}, Method: "password", ExpiresAt: db.clock.Now().Add(time.Hour)}
		require.NoError(t, s.StartSession(t.Context(), session, ""))
		require.NoError(t, s.SetUserActive(t.Context(), "eva", true))
		_, err := s.Session(t.Context(), session.ID, time.Hour)
		require.NoError(t, err)
		require.NoError(t, s.SetUserActive(t.Context(), "eva", false))
		_, err = s.Session(t.Context(), session.ID, time.Hour)
		require.ErrorIs(t, err, ErrNoSession)
		eva, err := s.User(t.Context(), "eva")
		require.NoError(t, err)
		require.False(t, eva.Active)
		for _, id := range []string{"nobody", ""} {
			require.ErrorIs(t, s.SetUserActive(t.Context(), id, true), ErrUserNotFound)
		}
	})
}

func TestUsers(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		for _, id := range []string{"zoe", "xenia", "yrsa"} {
			require.NoError(t, s.CreateUser(t.Context(), mobileid.User{ID: id, Roles: []string{"r"}}, ""))
		}
		users, err := s.Users(t.Context(), "x", 2)
		require.NoError(t, err)
		require.Equal(t, []mobileid.User{{ID: "xenia", Roles: []string{"r"}}, {ID: "yrsa", Roles: []string{"r"}}}, users)
		users, err = s.Users(t.Context(), "yrsa", 2)
		require.NoError(t, err)
		require.Equal(t, []mobileid.User{{ID: "zoe", Roles: []string{"r"}}}, users)
	})
}
