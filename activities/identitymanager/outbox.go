package identitymanager

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mobileid"
)

// NoticeState is how far a notice got.
type NoticeState string

// The states of a notice. Pending is the only one that another can follow by itself.
const (
	NoticePending NoticeState = "pending"
	NoticeSent    NoticeState = "sent"
	NoticeDropped NoticeState = "dropped" // what it was to say is of no use any more
	NoticeFailed  NoticeState = "failed"  // given up; an operator can have it tried again
)

// Notice is a mail to one address that is claimed by a sender. It shows whom it is
// for to nobody but the sender: no verb of package fmt and no logger prints that.
type Notice struct {
	ID        string // 64 hex digits; tells nothing, and is the same for each try
	Kind      NoticeKind
	MobileID  string
	Address   string
	Facts     NoticeFacts
	CreatedAt time.Time
	Attempts  int // with this one

	claim string
}

// String says what it is about, and not for whom.
func (n Notice) String() string { return "notice " + n.ID + " of " + n.MobileID }

// GoString is String.
func (n Notice) GoString() string { return n.String() }

// Format is String for every verb: some would otherwise print the fields.
func (n Notice) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(n.String())) }

// LogValue is String.
func (n Notice) LogValue() slog.Value { return slog.StringValue(n.String()) }

// maxProblem is how much is kept of why a try failed, in bytes.
const maxProblem = 500

// ClaimNotice takes a notice that is due, for a sender that ends with it within lease.
// Nobody else gets it meanwhile; if the sender dies, the next one does, after the lease.
// It returns false if none is due.
//
// The lease is measured by the clocks of the processes. They must not differ by more
// than what is left of it when the sender is done.
func (s *Store) ClaimNotice(ctx context.Context, lease time.Duration) (Notice, bool, error) {
	// Most of the time there is none: a look writes nothing, and waits for nobody.
	var there bool
	const look = `SELECT EXISTS (SELECT 1 FROM outbox WHERE state = 'pending' AND due_at <= $1)`
	if err := s.read.QueryRowContext(ctx, look, stored(s.now())).Scan(&there); err != nil {
		return Notice{}, false, fmt.Errorf("look for notices: %w", err)
	}
	if !there {
		return Notice{}, false, nil
	}
	n := Notice{claim: rand.Text()}
	var facts []byte
	err := s.transact(ctx, func(tx *sql.Tx) error {
		now := s.now()
		return tx.QueryRowContext(ctx, claimNotice(s.dialect), stored(now), n.claim, stored(now.Add(lease))).Scan(
			&n.ID, &n.Kind, &n.MobileID, &n.Address, &facts, timestamp{&n.CreatedAt}, &n.Attempts)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Notice{}, false, nil // another one was faster
	}
	if err != nil {
		return Notice{}, false, fmt.Errorf("claim a notice: %w", err)
	}
	if err := json.Unmarshal(facts, &n.Facts); err != nil {
		return Notice{}, false, fmt.Errorf("notice %s is not one: %w", n.ID, err)
	}
	return n, true, nil
}

// claimNotice takes the notice that is due for longest, of those that nobody is just
// taking.
func claimNotice(d dialect) string {
	return `UPDATE outbox SET claim = $2, due_at = $3, attempts = attempts + 1
		WHERE id = (SELECT id FROM outbox WHERE state = 'pending' AND due_at <= $1 ORDER BY due_at LIMIT 1` + d.skipTaken + `)
		RETURNING id, kind, mobile_id, address, facts, created_at, attempts`
}

// NoticeIsSent notes that a claimed notice is sent, and deletes whom it was for and
// what it said. Like the other ends of a claim it returns false, and changes nothing,
// if the lease is over and another sender has the notice.
func (s *Store) NoticeIsSent(ctx context.Context, n Notice) (bool, error) {
	return s.endNotice(ctx, n, NoticeSent, "")
}

// DropNotice notes that a claimed notice is of no use any more, and deletes its
// content as NoticeIsSent does.
func (s *Store) DropNotice(ctx context.Context, n Notice, why string) (bool, error) {
	return s.endNotice(ctx, n, NoticeDropped, why)
}

// FailNotice gives a claimed notice up. It stays as it is, for an operator: see
// Notices and RequeueNotice.
func (s *Store) FailNotice(ctx context.Context, n Notice, why string) (bool, error) {
	return s.endNotice(ctx, n, NoticeFailed, why)
}

func (s *Store) endNotice(ctx context.Context, n Notice, state NoticeState, why string) (bool, error) {
	update := `UPDATE outbox SET state = $3, ended_at = $4, problem = $5, claim = NULL`
	if state != NoticeFailed {
		update += `, address = '', facts = ''`
	}
	return s.settleNotice(ctx, n, update+` WHERE id = $1 AND claim = $2`, string(state), stored(s.now()), problem(why))
}

// RetryNotice lets a claimed notice be tried again, from a time on.
func (s *Store) RetryNotice(ctx context.Context, n Notice, at time.Time, why string) (bool, error) {
	return s.settleNotice(ctx, n, `UPDATE outbox SET due_at = $3, problem = $4, claim = NULL WHERE id = $1 AND claim = $2`, stored(at), problem(why))
}

func (s *Store) settleNotice(ctx context.Context, n Notice, update string, args ...any) (bool, error) {
	var own bool
	err := s.transact(ctx, func(tx *sql.Tx) error {
		rows, err := affected(tx.ExecContext(ctx, update, append([]any{n.ID, n.claim}, args...)...))
		own = rows == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note what became of %s: %w", n, err)
	}
	return own, nil
}

// problem makes words fit for the table.
func problem(words string) string {
	words = strings.ReplaceAll(strings.ToValidUTF8(words, "�"), "\x00", "�")
	if len(words) > maxProblem {
		words = strings.ToValidUTF8(words[:maxProblem], "") + "…"
	}
	return words
}

// OpenNotice is a notice that is not sent, as an operator sees it: without the person.
type OpenNotice struct {
	ID        string      `json:"id"`
	Kind      NoticeKind  `json:"kind"`
	MobileID  string      `json:"mobileId"`
	State     NoticeState `json:"state"` // pending or failed
	CreatedAt time.Time   `json:"createdAt"`
	DueAt     time.Time   `json:"dueAt"` // of the next try; failed: of no meaning
	Attempts  int         `json:"attempts"`
	Problem   string      `json:"problem,omitempty"` // of the last try
}

// OpenNotices reads at most limit notices that are pending or failed, the oldest first.
func (s *Store) OpenNotices(ctx context.Context, limit int) ([]OpenNotice, error) {
	const query = `SELECT id, kind, mobile_id, state, created_at, due_at, attempts, problem FROM outbox
		WHERE state IN ('pending', 'failed') ORDER BY created_at LIMIT $1`
	all, err := collect(ctx, s.read, func(rows *sql.Rows) (OpenNotice, error) {
		var n OpenNotice
		err := rows.Scan(&n.ID, &n.Kind, &n.MobileID, &n.State, timestamp{&n.CreatedAt}, timestamp{&n.DueAt}, &n.Attempts, &n.Problem)
		return n, err
	}, query, limit)
	if err != nil {
		return nil, fmt.Errorf("read notices: %w", err)
	}
	return all, nil
}

// RequeueNotice has a failed notice tried again at once, once more. It returns false
// if there is no such failed notice.
func (s *Store) RequeueNotice(ctx context.Context, id string) (bool, error) {
	const update = `UPDATE outbox SET state = 'pending', due_at = $2, ended_at = NULL WHERE id = $1 AND state = 'failed'`
	var rows int64
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		rows, err = affected(tx.ExecContext(ctx, update, id, stored(s.now())))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("have a notice tried again: %w", err)
	}
	return rows == 1, nil
}

// Scannable reads the provisioning of a command for the mail with its code. If the
// code is of no use any more it is mobileid.ErrNoProvisioning: it has expired, the
// phone has answered, another command has taken its place, or all is deleted.
func (s *Store) Scannable(ctx context.Context, mobileID, commandID string) (mobileid.Provisioning, error) {
	p, answered, err := s.provisioning(ctx, `provisionings.mobile_id = $1`, mobileID)
	if err == nil && (answered || p.CommandID != commandID) {
		err = mobileid.ErrNoProvisioning
	}
	if err == nil {
		err = s.unexpired(ctx, p.MobileID, p.ExpiresAt)
	}
	if err != nil {
		return mobileid.Provisioning{}, fmt.Errorf("read provisioning of mobile ID %s: %w", mobileID, err)
	}
	return p, nil
}
