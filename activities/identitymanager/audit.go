package identitymanager

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"

	"mobileid"
)

// macDomain keeps MACs under this key apart from any other use of it, and names
// the format.
const macDomain = "mobileid/audit/v1"

// MAC returns the MAC of one audit record, as the package comment defines it.
// Previous is the MAC of the record before, empty for the first; record is the
// record as it is stored.
func MAC(key []byte, previous, mobileID string, number int64, record []byte) string {
	mac := hmac.New(sha256.New, key)
	writeField(mac, []byte(macDomain))
	writeField(mac, []byte(previous))
	writeField(mac, []byte(mobileID))
	writeField(mac, binary.BigEndian.AppendUint64(nil, uint64(number))) //nolint:gosec // numbers start at 1
	writeField(mac, record)
	return hex.EncodeToString(mac.Sum(nil))
}

// writeField writes a field after its length, so that no two lists of fields are
// the same bytes.
func writeField(h hash.Hash, field []byte) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
	h.Write(field)
}

// AuditRecord is a record as it stands in the audit.
type AuditRecord struct {
	mobileid.AuditMark
	Record mobileid.Record
	Stored []byte // what the MAC is over
}

// AuditTrail reads the audit chain of a mobile ID, in order. A mobile ID of which
// nothing is recorded has an empty one. The chain is not verified.
func (s *Store) AuditTrail(ctx context.Context, mobileID string) ([]AuditRecord, error) {
	trail, err := readTrail(ctx, s.read, mobileID)
	if err != nil {
		return nil, fmt.Errorf("read audit of mobile ID %s: %w", mobileID, err)
	}
	return trail, nil
}

func readTrail(ctx context.Context, q querier, mobileID string) ([]AuditRecord, error) {
	const query = `SELECT number, mac, record FROM audit WHERE mobile_id = $1 ORDER BY number`
	return collect(ctx, q, scanAuditRecord, query, mobileID)
}

// scanAuditRecord scans number, mac and record.
func scanAuditRecord(rows *sql.Rows) (AuditRecord, error) {
	var entry AuditRecord
	if err := rows.Scan(&entry.Number, &entry.MAC, &entry.Stored); err != nil {
		return AuditRecord{}, err
	}
	if err := json.Unmarshal(entry.Stored, &entry.Record); err != nil {
		return AuditRecord{}, fmt.Errorf("record %d is not a record: %w", entry.Number, err)
	}
	return entry, nil
}

// Record appends to the audit what changed nothing: refused, cancelled, expired,
// visible. The other events are recorded by the method that brings them about. A
// mobile ID need not exist, but its id must be well-formed, else the error is an
// InvalidRequest. A record without At gets the store's time.
//
// A process records visible once per CA and set of certificates. It exits once,
// as refused, cancelled or expired, and not at all if it has locked or registered:
// a worker that slept through that would otherwise record what it then finds.
// Whatever stands already, its mark is the answer. The word of a finished lock waits
// a little for visible: see visibleGrace.
//
// A Get that ends before it has a mobile ID is recorded in the chain of the one
// that its grant reserves, or in the user's [ApplicantChain] if there is no grant. If
// that was after Next, and the store writes notices, the user is told.
func (s *Store) Record(ctx context.Context, record mobileid.Record) (mobileid.AuditMark, error) {
	if err := mobileid.CheckID("mobileId", record.MobileID); err != nil {
		return mobileid.AuditMark{}, err
	}
	if err := checkProcess(record.MobileID, record.Process); err != nil {
		return mobileid.AuditMark{}, err
	}
	var once string
	var instead []string // keys of records that make this one void
	switch record.Event {
	case mobileid.EventRefused, mobileid.EventCancelled, mobileid.EventExpired:
		once = idempotencyKey(exitOnce, record.Process)
		instead = []string{idempotencyKey(lockOnce, record.Process), idempotencyKey(registerOnce, record.Process)}
	case mobileid.EventVisible:
		once = idempotencyKey(string(record.Event), record.Process, append(certificateSet(record.Certificates), record.CA)...)
	default:
		return mobileid.AuditMark{}, &OrderError{MobileID: record.MobileID, Problem: fmt.Sprintf("asks to record %q, which is not recorded by itself", record.Event)}
	}
	if record.At.IsZero() {
		record.At = s.now()
	}
	var mark mobileid.AuditMark
	var reached []Milestone
	err := s.transact(ctx, func(tx *sql.Tx) error {
		reached = nil
		chain, err := s.openChain(ctx, tx, record.MobileID)
		if err != nil {
			return err
		}
		for _, key := range append(instead, once) {
			written, found, err := chain.find(ctx, key)
			if err != nil {
				return err
			}
			if found {
				mark = written.AuditMark
				return nil
			}
		}
		if mark, err = chain.append(ctx, once, record); err != nil {
			return err
		}
		if record.Event != mobileid.EventVisible {
			return s.noticeGivenUp(ctx, tx, record)
		}
		// A process looks for what is published after its last revocation.
		if reached, err = s.recordMilestones(ctx, tx, record.MobileID, false); err != nil {
			return err
		}
		return s.noticeVisible(ctx, chain)
	})
	if err != nil {
		return mobileid.AuditMark{}, fmt.Errorf("record that mobile ID %s is %s: %w", record.MobileID, record.Event, err)
	}
	s.tell(reached)
	return mark, nil
}

// chain is the audit chain of one mobile ID inside a transaction. No other
// transaction can append to it before this one ends.
type chain struct {
	tx       *sql.Tx
	key      []byte
	mobileID string
	head     mobileid.AuditMark
}

// openChain takes the head of the chain. It must be what a transaction does
// first: see the package comment.
func (s *Store) openChain(ctx context.Context, tx *sql.Tx, mobileID string) (*chain, error) {
	c := &chain{tx: tx, key: s.key, mobileID: mobileID}
	// The update changes nothing but locks the row, in the same step that makes
	// sure that there is one to lock.
	const take = `INSERT INTO audit_heads (mobile_id, number, mac) VALUES ($1, 0, '')
		ON CONFLICT (mobile_id) DO UPDATE SET number = audit_heads.number
		RETURNING number, mac`
	if err := tx.QueryRowContext(ctx, take, mobileID).Scan(&c.head.Number, &c.head.MAC); err != nil {
		return nil, fmt.Errorf("take head of audit chain: %w", err)
	}
	return c, nil
}

// find looks for the record that was written under an idempotency key.
func (c *chain) find(ctx context.Context, once string) (AuditRecord, bool, error) {
	var entry AuditRecord
	const query = `SELECT number, mac, record FROM audit WHERE mobile_id = $1 AND idempotency = $2`
	err := c.tx.QueryRowContext(ctx, query, c.mobileID, once).Scan(&entry.Number, &entry.MAC, &entry.Stored)
	if errors.Is(err, sql.ErrNoRows) {
		return AuditRecord{}, false, nil
	}
	if err != nil {
		return AuditRecord{}, false, fmt.Errorf("look for audit record: %w", err)
	}
	if err := json.Unmarshal(entry.Stored, &entry.Record); err != nil {
		return AuditRecord{}, false, fmt.Errorf("audit record %d is not a record: %w", entry.Number, err)
	}
	return entry, true, nil
}

// append adds a record at the end of the chain.
func (c *chain) append(ctx context.Context, once string, record mobileid.Record) (mobileid.AuditMark, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return mobileid.AuditMark{}, fmt.Errorf("encode audit record: %w", err)
	}
	number := c.head.Number + 1
	mark := mobileid.AuditMark{Number: number, MAC: MAC(c.key, c.head.MAC, c.mobileID, number, text)}
	const insert = `INSERT INTO audit (mobile_id, number, record, mac, idempotency) VALUES ($1, $2, $3, $4, $5)`
	if _, err := c.tx.ExecContext(ctx, insert, c.mobileID, mark.Number, string(text), mark.MAC, once); err != nil {
		return mobileid.AuditMark{}, fmt.Errorf("append audit record %d: %w", number, err)
	}
	const move = `UPDATE audit_heads SET number = $2, mac = $3 WHERE mobile_id = $1`
	if _, err := c.tx.ExecContext(ctx, move, c.mobileID, mark.Number, mark.MAC); err != nil {
		return mobileid.AuditMark{}, fmt.Errorf("move head of audit chain: %w", err)
	}
	c.head = mark
	return mark, nil
}

// What a process does once, whatever event records it.
const (
	lockOnce = "lock" // locked or resumed
	exitOnce = "exit" // refused, cancelled or expired
)

// idempotencyKey names what a process writes once. The workflow id and the first
// run's id tell processes apart; the parts are hashed with their lengths, so that
// no two lists of them share a key.
func idempotencyKey(what string, process mobileid.Process, about ...string) string {
	h := sha256.New()
	for _, part := range slices.Concat([]string{what, process.WorkflowID, process.RunID}, about) {
		writeField(h, []byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// certificateSet lists identities in an order of their own, so that the order in
// which certificates are reported makes no difference.
func certificateSet(certificates []mobileid.CertificateResult) []string {
	set := make([]string, len(certificates))
	for i, c := range certificates {
		set[i] = c.Issuer + "/" + c.AKI + "/" + c.Serial
	}
	slices.Sort(set)
	return slices.Compact(set)
}
