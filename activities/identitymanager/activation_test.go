package identitymanager

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// readyToActivate registers a mobile ID of anna with two issued certificates, and
// secrets.
func readyToActivate(t testing.TB, s *Store) string {
	t.Helper()
	id := register(t, s, "anna")
	require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
	_, err := s.Deliver(t.Context(), "c-1", KindProvision, []byte(secretAnswer))
	require.NoError(t, err)
	_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a1", "a2"))
	require.NoError(t, err)
	return id
}

func TestActivate(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := readyToActivate(t, s)
		require.NoError(t, s.AddCertificates(t.Context(), id, certificate("a3", mobileid.CertificateRevoked)))
		db.clock.advance(time.Minute)
		at := microseconds(start.Add(time.Minute))
		o := activation(id, "anna", "run-1")

		receipt, err := s.Activate(t.Context(), o)

		require.NoError(t, err)
		require.Equal(t, at, receipt.At)
		require.Equal(t, []string{"a1", "a2", "a3"}, serials(receipt.Certificates))
		m, err := s.MobileID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mobileid.Active, m.State)
		var found []mobileid.CertificateState
		for _, c := range m.Certificates {
			found = append(found, c.State)
		}
		require.Equal(t, states("valid", "valid", "revoked"), found)
		expectNoSecrets(t, s)

		trail := verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued, mobileid.EventActivated)
		want := []mobileid.CertificateResult{issued("a1"), issued("a2"), issued("a3")}
		for i := range want {
			want[i].StateInIM = found[i]
		}
		want[2].CA = "" // nobody recorded who issued it
		require.Equal(t, mobileid.Record{
			MobileID: id, Event: mobileid.EventActivated, At: at, Process: o.Process, Decision: o.Decision, Certificates: want,
		}, trail[3].Record)
		require.Equal(t, receipt.Audit, trail[3].AuditMark)

		// Again, whatever has become of it.
		expectNothingWritten(t, s, func() {
			again, err := s.Activate(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, receipt, again)
		})
		_, err = s.Lock(t.Context(), order(id, "run-2"))
		require.NoError(t, err)
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna"}, ""))
		expectNothingWritten(t, s, func() {
			again, err := s.Activate(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, receipt, again)
			_, err = s.Activate(t.Context(), activation(id, "anna", "run-2"))
			isConflict(t, err, "is locked by now")
		})
	})
}

func TestActivateRefuses(t *testing.T) {
	tests := map[string]struct {
		prepare  func(*testing.T, *Store, *mobileid.ActivationOrder)
		is       error
		conflict string
	}{
		"user no longer active": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna", Roles: []string{mobileid.SelfServiceRole}}, ""))
		}, is: mobileid.ErrNotEntitled},
		"user no longer with the role": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna", Active: true}, ""))
		}, is: mobileid.ErrNotEntitled},
		"unknown user": {prepare: func(_ *testing.T, _ *Store, o *mobileid.ActivationOrder) { o.UserID = "nobody" }, is: mobileid.ErrNotEntitled},
		"another one active": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			create(t, s, "mid-1", mobileid.Active)
		}, is: mobileid.ErrMobileIDActive},
		"another one not yet revoked": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			create(t, s, "mid-1", mobileid.Locked, certificate("b1", "onHold"))
		}, is: mobileid.ErrMobileIDActive},
		"another user": {prepare: func(_ *testing.T, _ *Store, o *mobileid.ActivationOrder) { o.UserID = "otto" }, conflict: "belongs to another user by now"},
		"gone":         {prepare: func(_ *testing.T, _ *Store, o *mobileid.ActivationOrder) { o.MobileID = "mid-1" }, conflict: "is gone"},
		"abandoned": {prepare: func(t *testing.T, s *Store, o *mobileid.ActivationOrder) {
			_, err := s.Abandon(t.Context(), abandonment(o.MobileID, "run-1"))
			require.NoError(t, err)
		}, conflict: "is locked by now"},
		"active already": {prepare: func(t *testing.T, s *Store, o *mobileid.ActivationOrder) {
			_, err := s.Activate(t.Context(), activation(o.MobileID, "anna", "earlier"))
			require.NoError(t, err)
		}, conflict: "is active by now"},
		"no certificate left": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			change(t, s, `UPDATE certificates SET state = 'revoked'`)
		}, conflict: "has no issued certificate"},
		"no certificate at all": {prepare: func(t *testing.T, s *Store, _ *mobileid.ActivationOrder) {
			change(t, s, `DELETE FROM certificates`)
		}, conflict: "has no issued certificate"},
		"no user":    {prepare: func(_ *testing.T, _ *Store, o *mobileid.ActivationOrder) { o.UserID = "" }, is: mobileid.ErrInvalidRequest},
		"no process": {prepare: func(_ *testing.T, _ *Store, o *mobileid.ActivationOrder) { o.Process.RunID = "" }, conflict: "does not name its process"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				o := activation(readyToActivate(t, s), "anna", "run-1")
				test.prepare(t, s, &o)
				expectNothingWritten(t, s, func() {
					_, err := s.Activate(t.Context(), o)
					if test.is != nil {
						require.ErrorIs(t, err, test.is)
						return
					}
					isConflict(t, err, test.conflict)
				})
			})
		})
	}
}

// One that is locked and done does not stand in the way.
func TestActivateBesideALockedOne(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Locked, certificate("b1", "revoked"), certificate("b2", "expired"))
		_, err := s.Activate(t.Context(), activation(readyToActivate(t, s), "anna", "run-1"))
		require.NoError(t, err)
	})
}

func TestAbandon(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := readyToActivate(t, s)
		db.clock.advance(time.Minute)
		at := microseconds(start.Add(time.Minute))
		o := abandonment(id, "run-1")

		receipt, err := s.Abandon(t.Context(), o)

		require.NoError(t, err)
		require.Equal(t, at, receipt.At)
		require.Equal(t, []string{"a1", "a2"}, serials(receipt.Certificates), "they are to be revoked")
		m, err := s.MobileID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mobileid.Locked, m.State)
		require.Equal(t, at, m.LockedAt)
		require.Equal(t, at, m.RequestedAt)
		require.Len(t, m.Open(), 2)
		expectNoSecrets(t, s)

		trail := verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued, mobileid.EventAbandoned)
		require.Equal(t, receipt.Audit, trail[3].AuditMark)
		require.Equal(t, mobileid.Record{
			MobileID: id, Event: mobileid.EventAbandoned, At: at, Process: o.Process, Decision: o.Decision,
			From: mobileid.Registered, Failure: o.Failure, Certificates: []mobileid.CertificateResult{issued("a1"), issued("a2")},
		}, trail[3].Record)

		expectNothingWritten(t, s, func() {
			again, err := s.Abandon(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, receipt, again)
		})
		// Another process has a record of its own; the lock that stands is the first.
		_, err = s.Abandon(t.Context(), abandonment(id, "run-2"))
		require.NoError(t, err)
		taken, err := s.Lock(t.Context(), order(id, "run-3"))
		require.NoError(t, err)
		require.Equal(t, at, taken.LockedAt)
		trail = verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued,
			mobileid.EventAbandoned, mobileid.EventAbandoned, mobileid.EventResumed)
		require.Equal(t, mobileid.Locked, trail[4].Record.From)

		_, err = s.RecordRevocations(t.Context(), revocation(id, "run-3", revoked("a1"), revoked("a2")))
		require.NoError(t, err)
		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Empty(t, a.Live(), "the user can try again")
	})
}

func TestAbandonRefuses(t *testing.T) {
	tests := map[string]struct {
		prepare  func(*testing.T, *Store, *mobileid.AbandonOrder)
		conflict string
	}{
		"active": {func(t *testing.T, s *Store, o *mobileid.AbandonOrder) {
			_, err := s.Activate(t.Context(), activation(o.MobileID, "anna", "run-1"))
			require.NoError(t, err)
		}, "is active by now"},
		"inactive": {func(t *testing.T, s *Store, o *mobileid.AbandonOrder) {
			_, err := s.Activate(t.Context(), activation(o.MobileID, "anna", "run-1"))
			require.NoError(t, err)
			require.NoError(t, s.Deactivate(t.Context(), o.MobileID))
		}, "is inactive by now"},
		"gone":          {func(_ *testing.T, _ *Store, o *mobileid.AbandonOrder) { o.MobileID = "mid-1" }, "is gone"},
		"no failure":    {func(_ *testing.T, _ *Store, o *mobileid.AbandonOrder) { o.Failure = nil }, "does not say why"},
		"empty failure": {func(_ *testing.T, _ *Store, o *mobileid.AbandonOrder) { o.Failure = &mobileid.Failure{} }, "does not say why"},
		"no process":    {func(_ *testing.T, _ *Store, o *mobileid.AbandonOrder) { o.Process.WorkflowID = "" }, "does not name its process"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				o := abandonment(readyToActivate(t, s), "run-1")
				test.prepare(t, s, &o)
				expectNothingWritten(t, s, func() {
					_, err := s.Abandon(t.Context(), o)
					isConflict(t, err, test.conflict)
				})
			})
		})
	}
}
