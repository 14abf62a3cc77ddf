package identitymanager

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestRecordIssued(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := register(t, s, "anna")
		db.clock.advance(time.Minute)
		at := microseconds(start.Add(time.Minute))
		o := issue(id, "run-1", "a2", "a1")

		receipt, err := s.RecordIssued(t.Context(), o)

		require.NoError(t, err)
		require.Equal(t, at, receipt.At)
		require.Equal(t, []string{"a1", "a2"}, serials(receipt.Certificates))
		for _, c := range receipt.Certificates {
			require.Equal(t, mobileid.CertificateIssued, c.State)
			require.Nil(t, c.DER)
		}
		m, err := s.MobileID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mobileid.Registered, m.State)
		require.Equal(t, []mobileid.Certificate{o.Certificates[1], o.Certificates[0]}, m.Certificates, "with DER")

		last := verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued)[2]
		require.Equal(t, receipt.Audit, last.AuditMark)
		require.Equal(t, mobileid.Record{
			MobileID: id, Event: mobileid.EventIssued, At: at, Process: o.Process, Decision: o.Decision, CA: "issuing",
			Certificates: []mobileid.CertificateResult{issued("a2"), issued("a1")},
		}, last.Record)

		// Again, in another order, whatever the mobile ID has become.
		_, err = s.Activate(t.Context(), activation(id, "anna", "run-1"))
		require.NoError(t, err)
		expectNothingWritten(t, s, func() {
			again, err := s.RecordIssued(t.Context(), issue(id, "run-1", "a1", "a2"))
			require.NoError(t, err)
			require.Equal(t, receipt.Audit, again.Audit)
			require.Equal(t, receipt.At, again.At)
			require.Equal(t, mobileid.CertificateValid, again.Certificates[0].State, "as they are by then")
		})
	})
}

// issued is what the audit says of a certificate that RecordIssued took over.
func issued(serial string) mobileid.CertificateResult {
	r := result(serial, "")
	r.StateInIM = mobileid.CertificateIssued
	return r
}

// What is known already is no error, and stays what it is.
func TestRecordIssuedOfWhatIsKnown(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		require.NoError(t, s.AddCertificates(t.Context(), id, certificate("a5", mobileid.CertificateRevoked)))
		receipt, err := s.RecordIssued(t.Context(), issue(id, "run-1", "a5", "a6"))
		require.NoError(t, err)
		require.Equal(t, mobileid.CertificateRevoked, receipt.Certificates[0].State)
		require.Equal(t, mobileid.CertificateIssued, receipt.Certificates[1].State)
		// Another set, and another process, have records of their own.
		_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a6"))
		require.NoError(t, err)
		_, err = s.RecordIssued(t.Context(), issue(id, "run-2", "a6"))
		require.NoError(t, err)
		trail := verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued, mobileid.EventIssued, mobileid.EventIssued)
		require.Equal(t, mobileid.CertificateRevoked, trail[2].Record.Certificates[0].StateInIM)
	})
}

// A certificate that came while Get was being abandoned is known, and open.
func TestRecordIssuedOfAnAbandonedMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		_, err := s.Abandon(t.Context(), abandonment(id, "run-1"))
		require.NoError(t, err)
		_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a1"))
		require.NoError(t, err)
		receipt, err := s.Lock(t.Context(), order(id, "run-2"))
		require.NoError(t, err)
		require.Equal(t, []string{"a1"}, serials(receipt.Certificates))
		verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventAbandoned, mobileid.EventIssued, mobileid.EventResumed)
	})
}

func TestRecordIssuedRefuses(t *testing.T) {
	state := func(state mobileid.State) func(*testing.T, *Store, *mobileid.IssueOrder) {
		return func(t *testing.T, s *Store, o *mobileid.IssueOrder) {
			o.MobileID = "mid-1"
			create(t, s, o.MobileID, state)
		}
	}
	order := func(change func(*mobileid.IssueOrder)) func(*testing.T, *Store, *mobileid.IssueOrder) {
		return func(_ *testing.T, _ *Store, o *mobileid.IssueOrder) { change(o) }
	}
	tests := map[string]struct {
		change   func(*testing.T, *Store, *mobileid.IssueOrder)
		conflict string // empty: an OrderError
	}{
		"gone":     {order(func(o *mobileid.IssueOrder) { o.MobileID = "mid-1" }), "is gone"},
		"active":   {state(mobileid.Active), "is active by now"},
		"inactive": {state(mobileid.Inactive), "is inactive by now"},
		"another one's certificate": {func(t *testing.T, s *Store, _ *mobileid.IssueOrder) {
			create(t, s, "mid-1", mobileid.Active, certificate("a1", "valid"))
		}, "another mobile ID has it"},
		"no certificates":        {order(func(o *mobileid.IssueOrder) { o.Certificates = nil }), ""},
		"no CA":                  {order(func(o *mobileid.IssueOrder) { o.CA = "" }), ""},
		"no process":             {order(func(o *mobileid.IssueOrder) { o.Process.RunID = "" }), ""},
		"valid":                  {order(func(o *mobileid.IssueOrder) { o.Certificates[1].State = "valid" }), ""},
		"serial that is none":    {order(func(o *mobileid.IssueOrder) { o.Certificates[1].Serial = "0a" }), ""},
		"one certificate, twice": {order(func(o *mobileid.IssueOrder) { o.Certificates[1] = o.Certificates[0] }), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				o := issue(register(t, s, "anna"), "run-1", "a1", "a2")
				test.change(t, s, &o)
				expectNothingWritten(t, s, func() {
					_, err := s.RecordIssued(t.Context(), o)
					if test.conflict == "" {
						isOrderError(t, err)
						return
					}
					isConflict(t, err, test.conflict)
				})
			})
		})
	}
}

// Two mobile IDs are told of one certificate at once: one has it, and the other
// one's process learns that it is a conflict and no outage.
func TestOneCertificateForTwoMobileIDsAtOnce(t *testing.T) {
	const rounds = 10
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		mobileIDs := []string{register(t, s, "anna"), register(t, s, "otto")}
		for round := range rounds {
			var errs [2]error
			together(t, 2, func(i int) error {
				_, errs[i] = stores[i].RecordIssued(t.Context(), issue(mobileIDs[i], "run-1", fmt.Sprintf("a%x", round)))
				return nil
			})
			lost := errs[0]
			if lost == nil {
				lost = errs[1]
			} else {
				require.NoError(t, errs[1])
			}
			isConflict(t, lost, "another mobile ID has it")
		}
	})
}
