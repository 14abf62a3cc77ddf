package identitymanager

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// The kinds of commands that are sent to messaging.
const (
	KindProvision   = "provision"   // answered with certificate requests
	KindCertificate = "certificate" // answered when the phone has the certificates
)

// MaxAnswerBytes is the size of the largest answer that is kept.
const MaxAnswerBytes = 64 << 10

// DeliveryOutcome is what an answer was to the store.
type DeliveryOutcome string

// The outcomes of a delivery. Messaging need not repeat any of them.
const (
	DeliveryNew       DeliveryOutcome = "New"       // it is kept; the process is to be told
	DeliveryDuplicate DeliveryOutcome = "Duplicate" // an answer stands, and stays; the process may be told again
	DeliveryLate      DeliveryOutcome = "Late"      // nobody waits for it any more; it is not kept
	DeliveryUnknown   DeliveryOutcome = "Unknown"   // there is no such command
)

// Delivery says what became of an answer, and whom it concerns.
type Delivery struct {
	Outcome    DeliveryOutcome `json:"outcome"`
	WorkflowID string          `json:"workflowId,omitempty"` // empty if Unknown
}

// PutCommand makes a command known, so that its answer can be told from one that
// nobody asked for. A repeat changes nothing but the expiry.
//
// A missing field is a mobileid.ErrInvalidRequest. A mobile ID that is not
// registered is a *mobileid.ConflictError, and the id of another command an
// *OrderError.
func (s *Store) PutCommand(ctx context.Context, c mobileid.Command) error {
	c.ExpiresAt = microseconds(c.ExpiresAt)
	if err := checkCommand(c); err != nil {
		return err
	}
	if c.Kind != KindCertificate {
		return mobileid.InvalidRequest("kind", "is "+KindProvision+", which goes with its provisioning")
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := s.takeRegistered(ctx, tx, c.MobileID); err != nil {
			return err
		}
		return writeCommand(ctx, tx, c)
	})
	if err != nil {
		return fmt.Errorf("put command for mobile ID %s: %w", c.MobileID, err)
	}
	return nil
}

// Installation reads the command that brings certificates to the phone of a mobile ID,
// the newest if there are several: an answer to one of them is an answer to all.
// Without any it is mobileid.ErrNoCommand.
func (s *Store) Installation(ctx context.Context, mobileID string) (mobileid.Command, error) {
	if mobileid.CheckID("mobileId", mobileID) != nil {
		return mobileid.Command{}, mobileid.ErrNoCommand
	}
	c := mobileid.Command{MobileID: mobileID, Kind: KindCertificate}
	const query = `SELECT command_id, workflow_id, expires_at FROM messages
		WHERE mobile_id = $1 AND kind = 'certificate' AND voided_at IS NULL ORDER BY expires_at DESC, command_id LIMIT 1`
	err := s.read.QueryRowContext(ctx, query, mobileID).Scan(&c.CommandID, &c.WorkflowID, timestamp{&c.ExpiresAt})
	if errors.Is(err, sql.ErrNoRows) {
		return mobileid.Command{}, mobileid.ErrNoCommand
	}
	if err != nil {
		return mobileid.Command{}, fmt.Errorf("read command for mobile ID %s: %w", mobileID, err)
	}
	return c, nil
}

func checkCommand(c mobileid.Command) error {
	if err := cmp.Or(mobileid.CheckID("mobileId", c.MobileID), checkText("commandId", c.CommandID), checkText("workflowId", c.WorkflowID)); err != nil {
		return err
	}
	if c.Kind != KindProvision && c.Kind != KindCertificate {
		return mobileid.InvalidRequest("kind", "must be "+KindProvision+" or "+KindCertificate)
	}
	if c.ExpiresAt.IsZero() {
		return mobileid.InvalidRequest("expiresAt", "is missing")
	}
	return nil
}

// message is a command with what has become of it.
type message struct {
	mobileid.Command
	voidedAt   time.Time
	receivedAt time.Time
}

func (m message) answered() bool { return !m.receivedAt.IsZero() }

// fits reports whether the message is of that command, and can be answered.
func (m message) fits(c mobileid.Command) bool {
	return m.voidedAt.IsZero() && m.MobileID == c.MobileID && m.WorkflowID == c.WorkflowID && m.Kind == c.Kind
}

// readCommand reads a command, or returns sql.ErrNoRows.
func readCommand(ctx context.Context, tx *sql.Tx, commandID string) (message, error) {
	m := message{Command: mobileid.Command{CommandID: commandID}}
	const query = `SELECT mobile_id, workflow_id, kind, expires_at, voided_at, received_at FROM messages WHERE command_id = $1`
	err := tx.QueryRowContext(ctx, query, commandID).Scan(
		&m.MobileID, &m.WorkflowID, &m.Kind, timestamp{&m.ExpiresAt}, timestamp{&m.voidedAt}, timestamp{&m.receivedAt})
	return m, err
}

// writeCommand makes a command known. The transaction has the mobile ID's row.
func writeCommand(ctx context.Context, tx *sql.Tx, c mobileid.Command) error {
	const put = `INSERT INTO messages (command_id, mobile_id, workflow_id, kind, expires_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (command_id) DO UPDATE SET expires_at = excluded.expires_at
		WHERE messages.mobile_id = excluded.mobile_id AND messages.workflow_id = excluded.workflow_id
			AND messages.kind = excluded.kind AND messages.voided_at IS NULL`
	rows, err := affected(tx.ExecContext(ctx, put, c.CommandID, c.MobileID, c.WorkflowID, c.Kind, stored(c.ExpiresAt)))
	if err != nil {
		return fmt.Errorf("write command: %w", err)
	}
	if rows == 0 {
		return &OrderError{MobileID: c.MobileID, Problem: "uses the id of another command, or of one that is void"}
	}
	return nil
}

// Deliver takes the answer to a command in, once, and says whom to tell. The
// answer is kept before anybody is told, so that a callback can be acknowledged as
// soon as Deliver returns, and Duplicate is the outcome if it is repeated because
// that acknowledgement, or the telling, was lost.
//
// An answer is late if its command is void or expired more than an hour ago, if
// its provisioning is deleted, or if the mobile ID is no longer being created. One
// of the wrong kind is unknown. A body of more than MaxAnswerBytes is a
// mobileid.ErrInvalidRequest.
func (s *Store) Deliver(ctx context.Context, commandID, kind string, body []byte) (Delivery, error) {
	if len(body) > MaxAnswerBytes {
		return Delivery{}, mobileid.InvalidRequest("body", fmt.Sprintf("has more than %d bytes", MaxAnswerBytes))
	}
	if checkText("commandId", commandID) != nil {
		return Delivery{Outcome: DeliveryUnknown}, nil
	}
	var delivery Delivery
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		delivery, err = s.deliver(ctx, tx, commandID, kind, body)
		return err
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("deliver an answer of kind %q: %w", kind, err)
	}
	return delivery, nil
}

func (s *Store) deliver(ctx context.Context, tx *sql.Tx, commandID, kind string, body []byte) (Delivery, error) {
	m, err := readCommand(ctx, tx, commandID)
	if errors.Is(err, sql.ErrNoRows) || err == nil && m.Kind != kind {
		return Delivery{Outcome: DeliveryUnknown}, nil
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("read command: %w", err)
	}
	delivery := Delivery{Outcome: DeliveryLate, WorkflowID: m.WorkflowID}
	_, err = s.takeRegistered(ctx, tx, m.MobileID)
	var conflict *mobileid.ConflictError
	if errors.As(err, &conflict) {
		return delivery, nil
	}
	if err != nil {
		return Delivery{}, err
	}
	// Only now that the mobile ID's row is taken the command does not change any more.
	if m, err = readCommand(ctx, tx, commandID); err != nil {
		return Delivery{}, fmt.Errorf("read command: %w", err)
	}
	expected, err := s.expected(ctx, tx, m)
	switch {
	case err != nil:
		return Delivery{}, err
	case !m.voidedAt.IsZero():
		return delivery, nil
	case m.answered():
		delivery.Outcome = DeliveryDuplicate
		return delivery, nil
	case !expected:
		return delivery, nil
	}
	if body == nil {
		body = []byte{} // an answer that says nothing is none the less one
	}
	const keep = `UPDATE messages SET body = $2, received_at = $3 WHERE command_id = $1`
	if _, err := tx.ExecContext(ctx, keep, commandID, body, stored(s.now())); err != nil {
		return Delivery{}, fmt.Errorf("keep answer: %w", err)
	}
	delivery.Outcome = DeliveryNew
	return delivery, nil
}

// expected reports whether an answer to the command could still be used.
func (s *Store) expected(ctx context.Context, tx *sql.Tx, m message) (bool, error) {
	if !s.now().Before(m.ExpiresAt.Add(answerGrace)) {
		return false, nil
	}
	if m.Kind != KindProvision {
		return true, nil
	}
	var there bool
	const query = `SELECT EXISTS (SELECT 1 FROM provisionings WHERE mobile_id = $1 AND command_id = $2)`
	if err := tx.QueryRowContext(ctx, query, m.MobileID, m.CommandID).Scan(&there); err != nil {
		return false, fmt.Errorf("look for provisioning: %w", err)
	}
	return there, nil
}

// Answer reads what was answered to a command. Without an answer, and after it was
// deleted, it is mobileid.ErrNoAnswer.
func (s *Store) Answer(ctx context.Context, commandID string) ([]byte, error) {
	if checkText("commandId", commandID) != nil {
		return nil, mobileid.ErrNoAnswer
	}
	var body []byte
	const query = `SELECT body FROM messages WHERE command_id = $1 AND body IS NOT NULL`
	err := s.read.QueryRowContext(ctx, query, commandID).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, mobileid.ErrNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return body, nil
}
