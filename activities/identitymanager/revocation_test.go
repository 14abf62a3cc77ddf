package identitymanager

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func result(serial string, outcome mobileid.CertificateOutcome) mobileid.CertificateResult {
	c := certificate(serial, mobileid.CertificateValid)
	return mobileid.CertificateResult{
		CertificateID: c.CertificateID,
		IssuerDN:      c.IssuerDN,
		NotAfter:      c.NotAfter,
		CA:            "issuing",
		StateInIM:     c.State,
		Outcome:       outcome,
	}
}

// revoked is what a lock reaches for a certificate as a rule.
func revoked(serial string) mobileid.CertificateResult {
	r := result(serial, mobileid.OutcomeRevoked)
	r.StatusAtCA = mobileid.StatusRevoked
	r.Reason, r.ReasonAtCA = mobileid.Superseded, mobileid.Superseded
	r.RevokedAt = time.Date(2031, time.March, 4, 5, 7, 0, 0, time.UTC)
	r.Proof = []mobileid.Proof{{Source: mobileid.ProofFromOCSP, At: r.RevokedAt, SHA256: "00ff"}}
	return r
}

func revocation(id, run string, results ...mobileid.CertificateResult) mobileid.RevocationOrder {
	return mobileid.RevocationOrder{
		MobileID:     id,
		Process:      process(run),
		Decision:     mobileid.Decision{By: "operator"},
		CA:           "issuing",
		Certificates: results,
	}
}

// Whoever has locked a mobile ID is told if it is not locked any more.
func TestRecordRevocationsOfAnUnlockedOne(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		for range 2 { // a repeat has the same answer
			receipt, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a2")))
			require.NoError(t, err)
			require.True(t, receipt.Unlocked)
		}
	})
}

// Whoever has seen the others taken over learns that they are open again.
func TestRecordRevocationsCountsWhatIsOpen(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...) // two of the five are final
		for _, step := range []struct {
			certificate string
			open        int
		}{{"a2", 2}, {"a1", 1}, {"a3", 0}} {
			for range 2 {
				receipt, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked(step.certificate)))
				require.NoError(t, err)
				require.Equal(t, step.open, receipt.Open, step.certificate)
			}
		}
	})
}

func TestRecordRevocations(t *testing.T) {
	already := func(serial string) mobileid.CertificateResult {
		r := revoked(serial)
		r.Outcome = mobileid.OutcomeAlreadyRevoked
		r.RevokedAt = time.Time{}
		return r
	}
	expired := func(serial string) mobileid.CertificateResult {
		return result(serial, mobileid.OutcomeExpiredNotRevoked)
	}
	past := certificate("1", mobileid.CertificateValid).NotAfter.Add(time.Microsecond)
	tests := map[string]struct {
		now     time.Time
		results []mobileid.CertificateResult
		states  []mobileid.CertificateState
	}{
		"issued":                               {results: some(revoked("a1")), states: states("revoked")},
		"valid":                                {results: some(revoked("a2")), states: states("revoked")},
		"on hold":                              {results: some(revoked("a3")), states: states("revoked")},
		"somebody else was first":              {results: some(already("a2")), states: states("revoked")},
		"expired in Identity Manager stays so": {results: some(revoked("a4")), states: states("expired")},
		"revoked in Identity Manager stays so": {results: some(already("a5")), states: states("revoked")},
		"past notAfter":                        {now: past, results: some(expired("a2")), states: states("expired")},
		"past notAfter, but revoked all the same": {now: past, results: some(revoked("a2")), states: states("revoked")},
		"past notAfter, revoked stays so":         {now: past, results: some(expired("a5")), states: states("revoked")},
		"several, answered in their order": {
			now:     past,
			results: some(revoked("a3"), expired("a1"), revoked("a5"), already("a2"), expired("a4")),
			states:  states("revoked", "expired", "revoked", "revoked", "expired"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, db database) {
				create(t, s, "mid-1", mobileid.Locked, oneOfEach("a")...)
				if !test.now.IsZero() {
					db.clock.now = test.now
				}
				given := slices.Clone(test.results)

				receipt, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", test.results...))

				require.NoError(t, err)
				require.Equal(t, given, test.results, "the order is not written to")
				want := slices.Clone(given)
				for i := range want {
					want[i].StateInIM = test.states[i]
				}
				require.Equal(t, want, receipt.Certificates)
				require.False(t, receipt.Unlocked)
				trail := verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventRevoked)
				require.Equal(t, receipt.Audit, trail[1].AuditMark)
				require.Equal(t, want, trail[1].Record.Certificates)
				require.Equal(t, "issuing", trail[1].Record.CA)
				require.Equal(t, "operator", trail[1].Record.Decision.By)
				m, err := s.MobileID(t.Context(), "mid-1")
				require.NoError(t, err)
				inIM := map[string]mobileid.CertificateState{}
				for _, c := range m.Certificates {
					inIM[c.Serial] = c.State
				}
				for i, r := range want {
					require.Equal(t, test.states[i], inIM[r.Serial])
				}
			})
		})
	}
}

func some(results ...mobileid.CertificateResult) []mobileid.CertificateResult { return results }

func states(all ...mobileid.CertificateState) []mobileid.CertificateState { return all }

func TestRecordRevocationsKeepsTheCAsDateAndReason(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Locked, oneOfEach("a")...)
		undated := revoked("a1")
		undated.RevokedAt, undated.ReasonAtCA = time.Time{}, ""
		_, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", undated, revoked("a2")))
		require.NoError(t, err)
		for serial, want := range map[string]mobileid.CertificateResult{"a1": undated, "a2": revoked("a2")} {
			var at time.Time
			var reason string
			require.NoError(t, s.read.QueryRowContext(t.Context(), `SELECT revoked_at, reason FROM certificates WHERE serial = $1`, serial).
				Scan(timestamp{&at}, &reason))
			require.Equal(t, want.RevokedAt, at)
			require.Equal(t, string(want.ReasonAtCA), reason)
		}
	})
}

func TestRecordRevocationsRefusesAndWritesNothing(t *testing.T) {
	change := func(serial string, fn func(*mobileid.CertificateResult)) mobileid.CertificateResult {
		r := revoked(serial)
		fn(&r)
		return r
	}
	tests := map[string]struct {
		results  []mobileid.CertificateResult
		process  *mobileid.Process
		conflict bool // of the mobile ID's and not of the order's making
	}{
		"no certificates": {results: nil},
		"no proof":        {results: some(change("a2", func(r *mobileid.CertificateResult) { r.Proof = nil }))},
		"no proof for somebody else's revocation": {results: some(change("a2", func(r *mobileid.CertificateResult) {
			r.Outcome, r.Proof = mobileid.OutcomeAlreadyRevoked, nil
		}))},
		"good at the CA":       {results: some(change("a2", func(r *mobileid.CertificateResult) { r.StatusAtCA = mobileid.StatusGood }))},
		"on hold at the CA":    {results: some(change("a2", func(r *mobileid.CertificateResult) { r.StatusAtCA = mobileid.StatusOnHold }))},
		"no status at the CA":  {results: some(change("a2", func(r *mobileid.CertificateResult) { r.StatusAtCA = "" }))},
		"no outcome":           {results: some(change("a2", func(r *mobileid.CertificateResult) { r.Outcome = "" }))},
		"unknown outcome":      {results: some(change("a2", func(r *mobileid.CertificateResult) { r.Outcome = "Pending" }))},
		"twice":                {results: some(revoked("a2"), revoked("a2"))},
		"second without proof": {results: some(revoked("a1"), change("a2", func(r *mobileid.CertificateResult) { r.Proof = nil }))},
		"no process":           {results: some(revoked("a2")), process: &mobileid.Process{}},
		"not past notAfter":    {results: some(result("a2", mobileid.OutcomeExpiredNotRevoked))},
		"not past notAfter, whatever the result says": {results: some(change("a2", func(r *mobileid.CertificateResult) {
			r.Outcome, r.NotAfter = mobileid.OutcomeExpiredNotRevoked, start.Add(-time.Hour)
		}))},
		"unknown certificate":           {results: some(revoked("a1"), revoked("ffff")), conflict: true},
		"certificate of another one":    {results: some(revoked("a1"), revoked("b2")), conflict: true},
		"same serial of another issuer": {results: some(change("a2", func(r *mobileid.CertificateResult) { r.Issuer = "00" })), conflict: true},
		"same serial of another key":    {results: some(change("a2", func(r *mobileid.CertificateResult) { r.AKI = "00" })), conflict: true},
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Locked, oneOfEach("a")...)
		create(t, s, "mid-2", mobileid.Locked, oneOfEach("b")...)
		before := dump(t, s)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				o := revocation("mid-1", "run-1", test.results...)
				if test.process != nil {
					o.Process = *test.process
				}
				_, err := s.RecordRevocations(t.Context(), o)
				require.Equal(t, before, dump(t, s))
				if !test.conflict {
					isOrderError(t, err)
					return
				}
				var conflict *mobileid.ConflictError
				require.ErrorAs(t, err, &conflict)
				require.Contains(t, conflict.Problem, "does not have certificate")
			})
		}
		t.Run("unknown mobile ID", func(t *testing.T) {
			_, err := s.RecordRevocations(t.Context(), revocation("mid-3", "run-1", revoked("a2")))
			var conflict *mobileid.ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, before, dump(t, s))
		})
	})
}

func TestRecordRevocationsIsIdempotent(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		create(t, s, "mid-1", mobileid.Locked, oneOfEach("a")...)
		both := revocation("mid-1", "run-1", revoked("a1"), revoked("a2"))
		first, err := s.RecordRevocations(t.Context(), both)
		require.NoError(t, err)
		db.clock.advance(time.Hour)
		before := dump(t, s)

		again, err := s.RecordRevocations(t.Context(), both)
		require.NoError(t, err)
		require.Equal(t, first, again)

		turned, err := s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a2"), revoked("a1")))
		require.NoError(t, err)
		require.Equal(t, first.Audit, turned.Audit, "the order of certificates makes no difference")
		require.Equal(t, "a2", turned.Certificates[0].Serial, "but the answer keeps it")
		require.Equal(t, before, dump(t, s))

		for name, other := range map[string]mobileid.RevocationOrder{
			"other certificates": revocation("mid-1", "run-1", revoked("a3")),
			"more certificates":  revocation("mid-1", "run-1", revoked("a1"), revoked("a2"), revoked("a3")),
			"another process":    revocation("mid-1", "run-2", revoked("a1"), revoked("a2")),
		} {
			receipt, err := s.RecordRevocations(t.Context(), other)
			require.NoError(t, err, name)
			require.NotEqual(t, first.Audit, receipt.Audit, name)
		}
		require.Len(t, verify(t, s, "mid-1"), 5)
	})
}

func TestOneProcessRecordsRevocationsManyTimesAtOnce(t *testing.T) {
	const calls = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		create(t, s, "mid-1", mobileid.Locked, oneOfEach("a")...)
		receipts := make([]mobileid.RevocationReceipt, calls)
		together(t, calls, func(i int) (err error) {
			receipts[i], err = stores[i%2].RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a1"), revoked("a2")))
			return err
		})
		verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventRevoked)
		for _, receipt := range receipts {
			require.Equal(t, receipts[0], receipt)
		}
	})
}

// More certificates than one statement takes.
func TestRecordRevocationsOfManyCertificates(t *testing.T) {
	const many = maxRowsPerStatement + 1
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		var certificates []mobileid.Certificate
		var results []mobileid.CertificateResult
		for i := range many {
			serial := fmt.Sprintf("%x", i+1)
			certificates = append(certificates, certificate(serial, mobileid.CertificateValid))
			results = append(results, revoked(serial))
		}
		create(t, s, "mid-1", mobileid.Active, certificates...)
		receipt, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		require.Len(t, receipt.Certificates, many)
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", results...))
		require.NoError(t, err)
		m, err := s.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Empty(t, m.Open())
		verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventRevoked)
	})
}
