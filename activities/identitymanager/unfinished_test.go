package identitymanager

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// lockAll locks a mobile ID of anna's that exists.
func lockAll(t *testing.T, s *Store, id string) {
	t.Helper()
	_, err := s.Lock(t.Context(), order(id, "run-"+id))
	require.NoError(t, err)
}

func TestUnfinished(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		create(t, s, "mid-active", mobileid.Active, certificate("a1", mobileid.CertificateValid))
		create(t, s, "mid-done", mobileid.Active, certificate("a2", mobileid.CertificateRevoked), certificate("a3", mobileid.CertificateExpired))
		create(t, s, "mid-held", mobileid.Active, certificate("a4", mobileid.CertificateRevoked), certificate("a5", mobileid.CertificateOnHold))
		create(t, s, "mid-none", mobileid.Active)
		for _, id := range []string{"mid-done", "mid-held", "mid-none"} {
			lockAll(t, s, id)
		}
		old := register(t, s, "otto")
		db.clock.advance(time.Hour)
		putUsers(t, s, "late")
		register(t, s, "late")

		found, next, err := s.Unfinished(t.Context(), "", start.Add(time.Minute))
		require.NoError(t, err)
		require.Empty(t, next)
		require.ElementsMatch(t, []mobileid.Unfinished{
			{MobileID: "mid-held", UserID: "anna", State: mobileid.Locked, Problem: mobileid.ProblemNotRevoked},
			{
				MobileID: old, UserID: "otto", State: mobileid.Registered, Problem: mobileid.ProblemNeverActive,
				WorkflowID: registration(old, "otto", "").Process.WorkflowID,
			},
		}, found)

		found, _, err = s.Unfinished(t.Context(), "mid-held", start)
		require.NoError(t, err)
		require.Empty(t, found, "it looks behind, and not at what is registered later")
	})
}

// It goes through any number of mobile IDs, in windows that miss none.
func TestUnfinishedGoesOn(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		const more = unfinishedWindow + 5
		_, err := s.write.ExecContext(t.Context(), `INSERT INTO mobile_ids (id, owner, name, state, created_at)
			WITH RECURSIVE n(i) AS (SELECT 100001 UNION ALL SELECT i + 1 FROM n WHERE i < 100000 + $1)
			SELECT 'n-' || i, 'anna', 'phone', 'active', $2 FROM n`, more, stored(start))
		require.NoError(t, err)
		// The last of the first window, the first of the next one, and the last of all.
		want := []string{"n-110000", "n-110001", "n-110005"}
		for n, id := range want {
			require.NoError(t, s.AddCertificates(t.Context(), id, certificate([]string{"b1", "b2", "b3"}[n], mobileid.CertificateValid)))
			lockAll(t, s, id)
		}
		var ids []string
		calls, after := 0, ""
		for {
			found, next, err := s.Unfinished(t.Context(), after, start)
			require.NoError(t, err)
			calls++
			for _, u := range found {
				ids = append(ids, u.MobileID)
			}
			if next == "" {
				break
			}
			after = next
		}
		require.Equal(t, want, ids)
		require.Equal(t, 2, calls)
	})
}
