package identitymanager

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// verify sees that the chain of a mobile ID is whole, and returns it. If events
// are given, it expects these.
func verify(t testing.TB, s *Store, id string, events ...mobileid.Event) []AuditRecord {
	t.Helper()
	report, err := s.VerifyAudit(t.Context(), id, nil, nil)
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	trail, err := s.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, trail, int(report.Records))
	if len(events) > 0 {
		var recorded []mobileid.Event
		for _, entry := range trail {
			recorded = append(recorded, entry.Record.Event)
		}
		require.Equal(t, events, recorded)
	}
	return trail
}

// The value was computed by other means from the format in the package comment,
// so that a change of the format does not go unnoticed.
func TestMAC(t *testing.T) {
	first := MAC(auditKey, "", "mid-1", 1, []byte(`{"a":1}`))
	require.Equal(t, firstMAC, first)
	require.Equal(t, secondMAC, MAC(auditKey, first, "mid-1", 2, []byte(`{"a":2}`)))

	for name, other := range map[string]string{
		"key":       MAC([]byte(strings.Repeat("x", 32)), "", "mid-1", 1, []byte(`{"a":1}`)),
		"previous":  MAC(auditKey, "00", "mid-1", 1, []byte(`{"a":1}`)),
		"mobile ID": MAC(auditKey, "", "mid-2", 1, []byte(`{"a":1}`)),
		"number":    MAC(auditKey, "", "mid-1", 2, []byte(`{"a":1}`)),
		"record":    MAC(auditKey, "", "mid-1", 1, []byte(`{"a":2}`)),
		// The same bytes one after the other, cut at another place.
		"border": MAC(auditKey, "m", "id-1", 1, []byte(`{"a":1}`)),
	} {
		require.NotEqual(t, first, other, name)
	}
}

// allowAuditChanges does what somebody with the rights of the schema's owner can
// do.
func allowAuditChanges(t testing.TB, s *Store) {
	t.Helper()
	statements := []string{`DROP TRIGGER audit_is_not_changed`, `DROP TRIGGER audit_is_not_removed`, `DROP TRIGGER locked_is_final`}
	if s.dialect.name == Postgres {
		statements = []string{`DROP TRIGGER audit_is_append_only ON audit`, `DROP TRIGGER locked_is_final ON mobile_ids`}
	}
	for _, statement := range statements {
		_, err := s.write.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

func TestAuditTrailOfNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		trail, err := s.AuditTrail(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Empty(t, trail)
	})
}

func TestAuditTrailReadsWhatWasRecorded(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		record := refusal("mid-1", "run-1")
		record.Decision.Note = "a \x00, a \u2028, <tags> & bad \xff bytes"
		mark, err := s.Record(t.Context(), record)
		require.NoError(t, err)
		trail := verify(t, s, "mid-1", mobileid.EventRefused)
		require.Equal(t, mark, trail[0].AuditMark)
		record.Decision.Note = strings.ToValidUTF8(record.Decision.Note, "\ufffd")
		require.Equal(t, record, trail[0].Record)
		want, err := json.Marshal(record)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(trail[0].Stored))
	})
}

// refusal is a record for a mobile ID that need not exist.
func refusal(id, run string) mobileid.Record {
	return mobileid.Record{
		MobileID: id,
		Event:    mobileid.EventRefused,
		At:       start.Truncate(time.Second),
		Process:  process(run),
		Decision: mobileid.Decision{UserID: "anna"},
		Refusal:  mobileid.NotFound(),
	}
}

func TestRecord(t *testing.T) {
	change := func(fn func(*mobileid.Record)) mobileid.Record {
		record := refusal("mid-1", "run-1")
		fn(&record)
		return record
	}
	visible := func(ca string, serials ...string) mobileid.Record {
		return change(func(r *mobileid.Record) {
			r.Event, r.CA, r.Refusal = mobileid.EventVisible, ca, nil
			for _, serial := range serials {
				r.Certificates = append(r.Certificates, revoked(serial))
			}
		})
	}
	tests := map[string]struct {
		second mobileid.Record
		same   bool
		first  *mobileid.Record // the refusal, if nil
	}{
		"again":                       {second: refusal("mid-1", "run-1"), same: true},
		"again, another time":         {second: change(func(r *mobileid.Record) { r.At = r.At.Add(time.Hour) }), same: true},
		"another run":                 {second: refusal("mid-1", "run-2")},
		"another workflow":            {second: change(func(r *mobileid.Record) { r.Process.WorkflowID = "other" })},
		"cancelled":                   {second: change(func(r *mobileid.Record) { r.Event = mobileid.EventCancelled }), same: true},
		"expired":                     {second: change(func(r *mobileid.Record) { r.Event = mobileid.EventExpired }), same: true},
		"visible":                     {second: visible("one", "a1")},
		"visible again":               {first: ptr(visible("one", "a1", "a2")), second: visible("one", "a2", "a1"), same: true},
		"visible, another CA":         {first: ptr(visible("one", "a1")), second: visible("two", "a1")},
		"visible, other certificates": {first: ptr(visible("one", "a1")), second: visible("one", "a2")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				first := refusal("mid-1", "run-1")
				if test.first != nil {
					first = *test.first
				}
				mark, err := s.Record(t.Context(), first)
				require.NoError(t, err)
				before := dump(t, s)
				second, err := s.Record(t.Context(), test.second)
				require.NoError(t, err)
				if test.same {
					require.Equal(t, mark, second)
					require.Equal(t, before, dump(t, s))
					verify(t, s, "mid-1", first.Event)
					return
				}
				require.Equal(t, int64(2), second.Number)
				verify(t, s, "mid-1", first.Event, test.second.Event)
			})
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestRecordHasTheStoresTimeIfItHasNone(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		record := refusal("mid-1", "run-1")
		record.At = time.Time{}
		_, err := s.Record(t.Context(), record)
		require.NoError(t, err)
		require.Equal(t, microseconds(start), verify(t, s, "mid-1")[0].Record.At)
	})
}

func TestRecordRefuses(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		before := dump(t, s)
		for _, event := range []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed, mobileid.EventRevoked, "other", ""} {
			record := refusal("mid-1", "run-1")
			record.Event = event
			_, err := s.Record(t.Context(), record)
			isOrderError(t, err)
		}
		record := refusal("mid-1", "")
		_, err := s.Record(t.Context(), record)
		isOrderError(t, err)
		for _, id := range []string{"", "mid 1", "mid\x001", strings.Repeat("m", 129)} {
			_, err := s.Record(t.Context(), refusal(id, "run-1"))
			require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
		}
		require.Equal(t, before, dump(t, s))
	})
}

func TestManyProcessesRecordAtOnce(t *testing.T) {
	const processes = 50
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		together(t, processes, func(i int) error {
			record := refusal("mid-1", string(rune('A'+i/2))) // each process twice
			_, err := stores[i%2].Record(t.Context(), record)
			return err
		})
		require.Len(t, verify(t, s, "mid-1"), processes/2)
	})
}

const (
	firstMAC  = "d4f8705744dd41c6dad45dde82e3ea83ad3737fdce8f1a4bd9958ea4d1a79ead"
	secondMAC = "69dcce0045d3d8eb0af8ecd14841e2a1a298d000905ec04c7cf5010db081a527"
)

// A worker that slept while another one locked finds the mobile ID locked, and
// would record a refusal of the very process that locked it.
func TestProcessThatLockedIsNotRefusedAsWell(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active)
		receipt, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		mark, err := s.Record(t.Context(), refusal("mid-1", "run-1"))
		require.NoError(t, err)
		require.Equal(t, receipt.Audit, mark, "what stands is the answer")
		verify(t, s, "mid-1", mobileid.EventLocked)

		_, err = s.Record(t.Context(), refusal("mid-1", "run-2"))
		require.NoError(t, err)
		verify(t, s, "mid-1", mobileid.EventLocked, mobileid.EventRefused)
	})
}

// A process exits once.
func TestProcessExitsOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		cancelled := refusal("mid-1", "run-1")
		cancelled.Event = mobileid.EventCancelled
		first, err := s.Record(t.Context(), cancelled)
		require.NoError(t, err)
		again, err := s.Record(t.Context(), refusal("mid-1", "run-1"))
		require.NoError(t, err)
		require.Equal(t, first, again)
		verify(t, s, "mid-1", mobileid.EventCancelled)
	})
}
