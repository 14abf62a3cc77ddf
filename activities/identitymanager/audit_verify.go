package identitymanager

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"encoding/json"
	"fmt"

	"mobileid"
)

// AuditFaultKind says what is wrong at a place of the audit.
type AuditFaultKind string

// The kinds of faults. Who can write to the database but does not have the key
// cannot change it without at least one of them, as long as the heads are known
// from elsewhere: see [Store.Checkpoint].
const (
	// AuditAltered: the record does not carry the MAC of its content, its place and
	// the record before: it was altered, moved or put there. Or the mobile ID was:
	// it is not in a state to which the record led.
	AuditAltered AuditFaultKind = "altered"
	// AuditRemoved: records are missing before this one, or a whole chain.
	AuditRemoved AuditFaultKind = "removed"
	// AuditInserted: the record stands after the head of its chain.
	AuditInserted AuditFaultKind = "inserted"
	// AuditCutOff: the chain ends before its head, before what a checkpoint saw of
	// it, or before what the mobile ID has: a lock, or another state.
	AuditCutOff AuditFaultKind = "cutOff"
)

// AuditFault is one thing that is wrong with the audit.
type AuditFault struct {
	MobileID string         `json:"mobileId"`
	Number   int64          `json:"number"` // of the record at the place
	Kind     AuditFaultKind `json:"kind"`
	Text     string         `json:"text"`
}

func (f AuditFault) String() string {
	return fmt.Sprintf("mobile ID %s, record %d: %s: %s", f.MobileID, f.Number, f.Kind, f.Text)
}

// maxAuditFaults is how many faults a report lists. A wrong key makes one of
// every record.
const maxAuditFaults = 1000

// AuditReport is what a verification found.
type AuditReport struct {
	Chains  int64        `json:"chains"`  // mobile IDs with records
	Records int64        `json:"records"` // of all of them
	Faults  []AuditFault `json:"faults"`  // the first thousand, in the order of mobile IDs
	Total   int64        `json:"total"`   // how many faults there are
}

func (r *AuditReport) add(fault AuditFault) {
	r.Total++
	if len(r.Faults) < maxAuditFaults {
		r.Faults = append(r.Faults, fault)
	}
}

// VerifyAudit recomputes the audit chains, of one mobile ID or, if that is empty,
// of all. It compares each with its head, with what the mobile ID's own row says
// of its state and its lock, and with the marks of a checkpoint: see [Checkpoints.Marks]; nil
// for none. It reads one snapshot in order, so it needs no memory for the records,
// and locks keep being recorded meanwhile.
//
// progress, if not nil, is called now and then. A fault of the audit is in the
// report; the error is that it could not be read.
func (s *Store) VerifyAudit(ctx context.Context, mobileID string, marks map[string]mobileid.AuditMark, progress func(AuditReport)) (AuditReport, error) {
	var report AuditReport
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		v := &auditVerifier{key: s.key, marks: marks, progress: progress}
		if err := v.chains(ctx, tx, mobileID); err != nil {
			return err
		}
		if err := v.withoutRecords(ctx, tx, mobileID); err != nil {
			return err
		}
		v.unseen(mobileID)
		report = v.report
		return nil
	})
	if err != nil {
		return AuditReport{}, fmt.Errorf("verify audit: %w", err)
	}
	return report, nil
}

// auditVerifier goes through the chains one after the other.
type auditVerifier struct {
	key      []byte
	marks    map[string]mobileid.AuditMark
	progress func(AuditReport)
	report   AuditReport
	seen     map[string]bool // marks whose chain was there

	id       string // of the chain under way
	last     mobileid.AuditMark
	head     mobileid.AuditMark
	hasHead  bool
	state    mobileid.State   // of the mobile ID; empty if there is none
	lock     mobileid.Process // by which the mobile ID is locked; zero if it is not
	lockSeen bool
	events   map[mobileid.Event]int64 // the number of the last record of each
}

const progressEvery = 10_000

// chains reads the records with the heads and the locks that they must fit.
func (v *auditVerifier) chains(ctx context.Context, tx *sql.Tx, mobileID string) error {
	const query = `SELECT a.mobile_id, a.number, a.mac, a.record, h.number, h.mac, m.state, m.lock_workflow_id, m.lock_run_id
		FROM audit a LEFT JOIN audit_heads h ON h.mobile_id = a.mobile_id LEFT JOIN mobile_ids m ON m.id = a.mobile_id
		WHERE $1 = '' OR a.mobile_id = $1 ORDER BY a.mobile_id, a.number`
	rows, err := tx.QueryContext(ctx, query, mobileID)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells what went wrong
	for rows.Next() {
		var id, mac string
		var number int64
		var stored []byte
		var headNumber sql.NullInt64
		var headMAC, state, workflowID, runID sql.NullString
		if err := rows.Scan(&id, &number, &mac, &stored, &headNumber, &headMAC, &state, &workflowID, &runID); err != nil {
			return err
		}
		if id != v.id || v.report.Chains == 0 {
			v.end()
			v.begin(id, mobileid.AuditMark{Number: headNumber.Int64, MAC: headMAC.String}, headNumber.Valid)
			v.state = mobileid.State(state.String)
			v.lock = mobileid.Process{WorkflowID: workflowID.String, RunID: runID.String}
		}
		v.record(mobileid.AuditMark{Number: number, MAC: mac}, stored)
	}
	v.end()
	return rows.Err()
}

func (v *auditVerifier) begin(id string, head mobileid.AuditMark, hasHead bool) {
	v.report.Chains++
	v.id, v.head, v.hasHead = id, head, hasHead
	v.last, v.lockSeen = mobileid.AuditMark{}, false
	v.events = map[mobileid.Event]int64{}
}

func (v *auditVerifier) fault(number int64, kind AuditFaultKind, text string, args ...any) {
	v.report.add(AuditFault{MobileID: v.id, Number: number, Kind: kind, Text: fmt.Sprintf(text, args...)})
}

func (v *auditVerifier) record(mark mobileid.AuditMark, stored []byte) {
	v.report.Records++
	if v.progress != nil && v.report.Records%progressEvery == 0 {
		v.progress(v.report)
	}
	gap := mark.Number != v.last.Number+1
	if gap {
		v.fault(mark.Number, AuditRemoved, "%d record(s) before this one are missing", mark.Number-v.last.Number-1)
	}
	switch {
	case v.hasHead && mark.Number > v.head.Number:
		v.fault(mark.Number, AuditInserted, "the chain ends with record %d", v.head.Number)
	case gap:
		// Without the record before, its MAC cannot be checked.
	case !hmac.Equal([]byte(mark.MAC), []byte(MAC(v.key, v.last.MAC, v.id, mark.Number, stored))):
		v.fault(mark.Number, AuditAltered, "it does not carry the MAC of its content, its place and the record before")
	}
	var record mobileid.Record
	switch err := json.Unmarshal(stored, &record); {
	case err != nil:
		v.fault(mark.Number, AuditAltered, "it is not a record")
	case record.MobileID != v.id:
		v.fault(mark.Number, AuditAltered, "it is about mobile ID %q", record.MobileID)
	default:
		v.event(mark.Number, record)
	}
	if seen, ok := v.marks[v.id]; ok && seen.Number == mark.Number && seen.MAC != mark.MAC {
		v.fault(mark.Number, AuditAltered, "a checkpoint saw another record here")
	}
	v.last = mark
}

// event notes what a record says of the mobile ID.
func (v *auditVerifier) event(number int64, record mobileid.Record) {
	v.events[record.Event] = number
	switch record.Event {
	case mobileid.EventLocked, mobileid.EventResumed, mobileid.EventAbandoned:
		v.lockSeen = v.lockSeen || record.Process.WorkflowID == v.lock.WorkflowID && record.Process.RunID == v.lock.RunID
	}
}

// end looks at a chain as a whole.
func (v *auditVerifier) end() {
	if v.report.Chains == 0 {
		return
	}
	switch {
	case !v.hasHead:
		v.fault(v.last.Number, AuditRemoved, "the head of the chain is missing")
	case v.last.Number < v.head.Number:
		v.fault(v.last.Number, AuditCutOff, "the head of the chain is record %d", v.head.Number)
	case v.last.Number == v.head.Number && v.last.MAC != v.head.MAC:
		v.fault(v.last.Number, AuditAltered, "the head of the chain has another MAC")
	}
	if mark, ok := v.marks[v.id]; ok {
		if v.seen == nil {
			v.seen = map[string]bool{}
		}
		v.seen[v.id] = true
		if v.last.Number < mark.Number {
			v.fault(v.last.Number, AuditCutOff, "a checkpoint saw record %d", mark.Number)
		}
	}
	if v.lock.RunID != "" && !v.lockSeen {
		v.fault(v.last.Number, AuditCutOff, "the mobile ID is locked by %s (run %s), and no record says so", v.lock.WorkflowID, v.lock.RunID)
	}
	v.altered()
	v.unrecorded()
}

// altered finds a mobile ID whose state is not one to which a record led.
func (v *auditVerifier) altered() {
	if v.state == "" {
		return // it was deleted, or never came into being
	}
	for _, event := range []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed, mobileid.EventAbandoned} {
		if number, ok := v.events[event]; ok && v.state != mobileid.Locked {
			v.fault(number, AuditAltered, "it says %s, and the mobile ID is %s", event, v.state)
		}
	}
	if number, ok := v.events[mobileid.EventActivated]; ok && v.state == mobileid.Registered {
		v.fault(number, AuditAltered, "it says %s, and the mobile ID is %s", mobileid.EventActivated, v.state)
	}
}

// unrecorded finds a mobile ID in a state to which no record led. It can tell for
// those that begin with a grant: of the others Identity Manager was told, and the
// audit knows nothing but their lock.
func (v *auditVerifier) unrecorded() {
	recorded := func(event mobileid.Event) bool { return v.events[event] > 0 }
	if v.state == "" || !recorded(mobileid.EventGranted) && !recorded(mobileid.EventRegistered) {
		return
	}
	usable := v.state == mobileid.Active || v.state == mobileid.Inactive
	locked := recorded(mobileid.EventLocked) || recorded(mobileid.EventAbandoned)
	switch {
	case !recorded(mobileid.EventRegistered):
		v.fault(v.last.Number, AuditCutOff, "the mobile ID is %s, and no record says that it was registered", v.state)
	case usable && !recorded(mobileid.EventActivated):
		v.fault(v.last.Number, AuditCutOff, "the mobile ID is %s, and no record says that it was activated", v.state)
	case v.state == mobileid.Locked && v.lock.RunID == "" && !locked:
		v.fault(v.last.Number, AuditCutOff, "the mobile ID is locked, and no record says so")
	}
}

// withoutRecords finds chains of which nothing is left but their head, the lock,
// or the grant.
func (v *auditVerifier) withoutRecords(ctx context.Context, tx *sql.Tx, mobileID string) error {
	const query = `SELECT h.mobile_id, 'the head of the chain is left' FROM audit_heads h
			WHERE h.number > 0 AND ($1 = '' OR h.mobile_id = $1) AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.mobile_id = h.mobile_id)
		UNION ALL SELECT m.id, 'the mobile ID is locked, and no record says so' FROM mobile_ids m
			WHERE m.lock_run_id IS NOT NULL AND ($1 = '' OR m.id = $1) AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.mobile_id = m.id)
		UNION ALL SELECT g.mobile_id, 'the grant of the mobile ID is left' FROM grants g
			WHERE ($1 = '' OR g.mobile_id = $1) AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.mobile_id = g.mobile_id)
		ORDER BY 1, 2`
	gone, err := collect(ctx, tx, func(rows *sql.Rows) (AuditFault, error) {
		fault := AuditFault{Kind: AuditRemoved}
		var left string
		err := rows.Scan(&fault.MobileID, &left)
		fault.Text = "all records are missing: " + left
		return fault, err
	}, query, mobileID)
	for _, fault := range gone {
		v.report.add(fault)
	}
	return err
}

// unseen finds chains that a checkpoint saw and that have no record any more.
func (v *auditVerifier) unseen(mobileID string) {
	for id, mark := range v.marks {
		if !v.seen[id] && (mobileID == "" || mobileID == id) {
			v.report.add(AuditFault{MobileID: id, Kind: AuditRemoved, Text: fmt.Sprintf("all records are missing: a checkpoint saw %d", mark.Number)})
		}
	}
}
