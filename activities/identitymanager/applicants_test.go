package identitymanager

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestApplicant(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		user := mobileid.User{ID: "anna", Name: "Anna B.", Active: true, Roles: []string{"other", mobileid.SelfServiceRole}}
		require.NoError(t, s.PutUser(t.Context(), user, "main@example.com", "z@example.com", "a@example.com", "z@example.com", "main@example.com"))
		create(t, s, "mid-2", mobileid.Locked, certificate("b1", mobileid.CertificateRevoked))
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		id := grant(t, s, "anna")

		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		user.Roles = []string{mobileid.SelfServiceRole, "other"}
		require.Equal(t, user, a.User)
		require.Equal(t, []string{"main@example.com", "a@example.com", "z@example.com"}, a.Emails)
		require.Equal(t, id, a.Grant.MobileID)
		require.Equal(t, []string{"mid-1", "mid-2"}, ids(a.MobileIDs))
		require.Equal(t, oneOfEach("a"), a.MobileIDs[0].Certificates)
		require.Equal(t, []string{"mid-1"}, ids(a.Live()))

		db.clock.advance(time.Hour - time.Microsecond)
		a, err = s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.NotNil(t, a.Grant)
		db.clock.advance(time.Microsecond)
		a, err = s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Nil(t, a.Grant, "expired")

		// A program from before there were further addresses changes the main one.
		change(t, s, `UPDATE users SET email = 'z@example.com' WHERE id = 'anna'`)
		a, err = s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, []string{"z@example.com", "a@example.com", "main@example.com"}, a.Emails)
	})
}

func TestApplicantWithNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna"}, "main@example.com", "a@example.com"))
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna"}, ""))
		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, mobileid.Applicant{User: mobileid.User{ID: "anna"}}, a, "addresses are replaced, too")
		for _, id := range []string{"nobody", "", "an\x00na", "anna\xff"} {
			a, err := s.Applicant(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, mobileid.Applicant{User: mobileid.User{ID: id}}, a, "an unknown user is one who is not active: %q", id)
		}
	})
}

func TestPutUserRefusesAddresses(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		expectNothingWritten(t, s, func() {
			user := mobileid.User{ID: "anna", Name: "other"}
			require.ErrorIs(t, s.PutUser(t.Context(), user), mobileid.ErrInvalidRequest)
			require.ErrorIs(t, s.PutUser(t.Context(), user, "main@example.com", ""), mobileid.ErrInvalidRequest)
		})
	})
}

func TestApplicantChain(t *testing.T) {
	// SHA-256 of "anna", by sha256sum.
	require.Equal(t, "get.55579b557896d0ce1764c47fed644f9b", mobileid.ApplicantChain("anna"))
	for _, user := range []string{"", "otto", "Jürgen/ß", "anna ", "\x00"} {
		require.NoError(t, mobileid.CheckID("mobileId", mobileid.ApplicantChain(user)))
		require.NotEqual(t, mobileid.ApplicantChain("anna"), mobileid.ApplicantChain(user))
	}
}

// A Get that is refused has a place in the audit, whether there is a grant or not,
// and once it has registered it does not exit as well.
func TestGetThatExitsIsRecorded(t *testing.T) {
	exit := func(id string, event mobileid.Event) mobileid.Record {
		return mobileid.Record{MobileID: id, Event: event, Process: getProcess("run-1"), Decision: mobileid.Decision{UserID: "anna"}}
	}
	for _, event := range []mobileid.Event{mobileid.EventRefused, mobileid.EventCancelled, mobileid.EventExpired} {
		t.Run(string(event), func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				_, err := s.Record(t.Context(), exit(mobileid.ApplicantChain("anna"), event))
				require.NoError(t, err)
				verify(t, s, mobileid.ApplicantChain("anna"), event)

				id := grant(t, s, "anna")
				mark, err := s.Record(t.Context(), exit(id, event))
				require.NoError(t, err)
				expectNothingWritten(t, s, func() {
					again, err := s.Record(t.Context(), exit(id, mobileid.EventRefused))
					require.NoError(t, err)
					require.Equal(t, mark, again)
				})

				_, err = s.Register(t.Context(), registration(id, "anna", "run-2"))
				require.NoError(t, err, "the grant is not used up by a process that exited")
				registered := verify(t, s, id, mobileid.EventGranted, event, mobileid.EventRegistered)[2]
				late := exit(id, event)
				late.Process = getProcess("run-2")
				expectNothingWritten(t, s, func() {
					mark, err := s.Record(t.Context(), late)
					require.NoError(t, err)
					require.Equal(t, registered.AuditMark, mark, "what stands is the answer")
				})
			})
		})
	}
}
