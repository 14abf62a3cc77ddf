package identitymanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mobileid"
)

// Notices says which mails the transactions of a store leave behind in its outbox.
type Notices struct {
	Lock bool // to the owner, when a lock is requested and when it is finished
	Get  bool // to the user, when a Get mobile ID has succeeded or failed
	QR   bool // the QR code of a Get, to the main address
	// Operators are the addresses that are told of locks that take too long.
	Operators []string
}

// NoticeKind says what a notice is about. The kinds are those of package mail.
type NoticeKind string

// The kinds of notices.
const (
	NoticeLockRequested NoticeKind = "lockRequested"
	NoticeLockFinished  NoticeKind = "lockFinished"
	NoticeGetFinished   NoticeKind = "getFinished"
	NoticeGetFailed     NoticeKind = "getFailed"
	NoticeQR            NoticeKind = "getQR"
	NoticeLockOverdue   NoticeKind = "lockOverdue"
)

// NoticeFacts are what a notice tells, as it stood when it was written: each try of
// one mail says the same. They hold no one-time secret.
type NoticeFacts struct {
	UserName   string `json:"userName,omitempty"`
	MobileName string `json:"mobileName,omitempty"`
	WorkflowID string `json:"workflowId,omitempty"` // of the process that the notice tells of
	ByOwner    bool   `json:"byOwner,omitempty"`    // as far as anybody can tell; else an operator, or a script, decided

	RequestedAt time.Time       `json:"requestedAt,omitzero"`
	LockedAt    time.Time       `json:"lockedAt,omitzero"`
	RevokedAt   time.Time       `json:"revokedAt,omitzero"` // the last one's, by the CAs' dates
	VisibleAt   time.Time       `json:"visibleAt,omitzero"` // the last one's; zero unless all are visible
	EndedAt     time.Time       `json:"endedAt,omitzero"`   // getFinished: active; getFailed: given up
	ValidUntil  time.Time       `json:"validUntil,omitzero"`
	Reason      mobileid.Reason `json:"reason,omitempty"` // of the lock

	Failure   mobileid.FailureType `json:"failure,omitempty"`
	CleanedUp bool                 `json:"cleanedUp,omitempty"` // no certificate of what failed is open
	// NothingMade: there was no mobile ID yet, and so nothing to clean up.
	NothingMade bool `json:"nothingMade,omitempty"`
	OldLocked   bool `json:"oldLocked,omitempty"` // the user had a mobile ID, which is locked, and has none

	// CommandID is of the command whose code a getQR shows.
	CommandID string `json:"commandId,omitempty"`

	Overdue *OverdueFacts `json:"overdue,omitempty"` // of a lockOverdue

	// Certificates are those that the notice lists, with as much of each as it shows.
	Certificates []mobileid.CertificateResult `json:"certificates,omitempty"`
}

// cleanUpGrace is how long the word of a failed Get waits for what was issued to be
// revoked, so that one mail tells both. That usually takes seconds.
const cleanUpGrace = 2 * time.Minute

// visibleGrace is how long the word of a finished lock waits until others can see the
// revocation, so that one mail tells both. With OCSP that usually takes a second; with
// a CRL that is due in hours the mail says that it is not confirmed.
const visibleGrace = 30 * time.Second

// due is a notice to be written.
type due struct {
	kind    NoticeKind
	m       mobileid.MobileID // id, owner's id and name
	process mobileid.Process  // zero: once for the mobile ID, whatever process brings it about
	about   string            // tells notices of one process and kind apart
	at      time.Time
	facts   NoticeFacts
	main    bool // to the main address alone
}

// putNotice writes a notice for each address of the owner, in the transaction of
// what it tells of. A user without address gets none. One that stands already is
// left alone.
func (s *Store) putNotice(ctx context.Context, tx *sql.Tx, n due) error {
	name, addresses, err := addressee(ctx, tx, n.m.Owner.ID)
	if err != nil {
		return fmt.Errorf("read addresses for a notice: %w", err)
	}
	if n.main && len(addresses) > 1 {
		addresses = addresses[:1]
	}
	if len(addresses) == 0 {
		return nil
	}
	n.facts.UserName, n.facts.MobileName = name, n.m.Name
	facts, err := json.Marshal(n.facts)
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	now := stored(s.now())
	for batch := range slices.Chunk(addresses, maxRowsPerStatement) {
		var rows values
		for _, address := range batch {
			id := idempotencyKey("notice "+string(n.kind), n.process, n.m.ID, n.about, address)
			rows.add(id, string(n.kind), n.m.ID, address, string(facts), string(NoticePending), now, stored(n.at), 0, "")
		}
		insert := `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem) ` + rows.String() + keepKnown //nolint:gosec // placeholders
		if _, err := tx.ExecContext(ctx, insert, rows.args...); err != nil {
			return fmt.Errorf("write notice: %w", err)
		}
	}
	return nil
}

// addressee reads the name of a user and the addresses, the main one first, in one
// statement: a lock does not wait for more.
func addressee(ctx context.Context, tx *sql.Tx, userID string) (name string, addresses []string, err error) {
	type row struct {
		main          bool
		name, address string
	}
	const query = `SELECT 1, name, email FROM users WHERE id = $1 UNION ALL SELECT 0, '', email FROM user_emails WHERE user_id = $1`
	found, err := collect(ctx, tx, func(rows *sql.Rows) (row, error) {
		var r row
		err := rows.Scan(&r.main, &r.name, &r.address)
		return r, err
	}, query, userID)
	main, others := "", []string(nil)
	for _, r := range found {
		if r.main {
			name, main = r.name, r.address
			continue
		}
		others = append(others, r.address)
	}
	slices.Sort(others)
	for _, address := range append([]string{main}, others...) {
		if address != "" && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return name, addresses, err
}

// byOwner reports whether the owner decided, as far as the record tells: somebody who
// acted as the owner, and for nobody else. See mobileid.Decision.
func byOwner(d mobileid.Decision, owner string) bool {
	return d.UserID == owner && (d.By == "" || d.By == owner)
}

// noticeLocked tells the owner that this process has locked m, whose certificates are
// read. If none of them is open, it tells the end as well.
func (s *Store) noticeLocked(ctx context.Context, tx *sql.Tx, m mobileid.MobileID, order mobileid.LockOrder) error {
	if !s.notices.Lock {
		return nil
	}
	facts := NoticeFacts{
		WorkflowID: order.Process.WorkflowID, ByOwner: byOwner(order.Decision, m.Owner.ID), Reason: order.Reason,
		RequestedAt: m.RequestedAt, LockedAt: m.LockedAt,
	}
	facts.Certificates = listed(m.Open())
	err := s.putNotice(ctx, tx, due{kind: NoticeLockRequested, m: m, process: order.Process, at: s.now(), facts: facts})
	if err != nil || len(facts.Certificates) > 0 {
		return err
	}
	return s.putNotice(ctx, tx, due{kind: NoticeLockFinished, m: m, at: s.now(), facts: facts})
}

// listed is as much of certificates as a notice shows.
func listed(certificates []mobileid.Certificate) []mobileid.CertificateResult {
	results := make([]mobileid.CertificateResult, len(certificates))
	for i, c := range certificates {
		results[i] = mobileid.CertificateResult{CertificateID: mobileid.CertificateID{Serial: c.Serial}, NotAfter: c.NotAfter}
	}
	return results
}

// noticeEnd tells that no certificate of a locked mobile ID is open any more: the end
// of the lock, or of taking back what a Get began. It tells so once, whichever process
// brings it about.
func (s *Store) noticeEnd(ctx context.Context, chain *chain, m mobileid.MobileID) error {
	if !s.notices.Lock && !s.notices.Get {
		return nil
	}
	trail, err := readTrail(ctx, chain.tx, chain.mobileID)
	if err != nil {
		return fmt.Errorf("read audit for a notice: %w", err)
	}
	at := lockingRecord(trail)
	switch {
	case at < 0: // locked by another program, of which nothing is known
		return nil
	case trail[at].Record.Event == mobileid.EventAbandoned:
		return s.noticeCleanedUp(ctx, chain.tx, m)
	case !s.notices.Lock:
		return nil
	}
	var told bool
	const query = `SELECT EXISTS (SELECT 1 FROM outbox WHERE mobile_id = $1 AND kind = $2)`
	if err := chain.tx.QueryRowContext(ctx, query, m.ID, string(NoticeLockFinished)).Scan(&told); err != nil {
		return fmt.Errorf("look for a notice: %w", err)
	}
	if told {
		return nil
	}
	lock := trail[at].Record
	facts := NoticeFacts{
		WorkflowID: lock.Process.WorkflowID, ByOwner: byOwner(lock.Decision, m.Owner.ID), Reason: lock.Reason,
		RequestedAt: lock.RequestedAt, LockedAt: m.LockedAt,
	}
	facts.tellRevocations(trail[at:])
	when := s.now()
	if facts.VisibleAt.IsZero() && !facts.RevokedAt.IsZero() {
		when = when.Add(visibleGrace)
	}
	return s.putNotice(ctx, chain.tx, due{kind: NoticeLockFinished, m: m, at: when, facts: facts})
}

// lockingRecord is the place of the record that made the mobile ID locked, -1 if there
// is none.
func lockingRecord(trail []AuditRecord) int {
	return slices.IndexFunc(trail, func(entry AuditRecord) bool {
		return entry.Record.Event == mobileid.EventLocked ||
			entry.Record.Event == mobileid.EventAbandoned && entry.Record.From == mobileid.Registered
	})
}

// noticeVisible lets the word of a finished lock go once others can see all
// revocations, and say so.
func (s *Store) noticeVisible(ctx context.Context, chain *chain) error {
	if !s.notices.Lock {
		return nil
	}
	trail, err := readTrail(ctx, chain.tx, chain.mobileID)
	if err != nil {
		return fmt.Errorf("read audit for a notice: %w", err)
	}
	at := lockingRecord(trail)
	if at < 0 {
		return nil
	}
	var fresh NoticeFacts
	fresh.tellRevocations(trail[at:])
	if fresh.VisibleAt.IsZero() {
		return nil
	}
	return s.amendNotices(ctx, chain.tx, chain.mobileID, NoticeLockFinished, func(facts *NoticeFacts) {
		facts.Certificates, facts.VisibleAt = fresh.Certificates, fresh.VisibleAt
	})
}

// tellRevocations takes over what the audit says of the certificates since the lock.
func (f *NoticeFacts) tellRevocations(trail []AuditRecord) {
	place := map[mobileid.CertificateID]int{}
	for _, entry := range trail {
		if entry.Record.Event != mobileid.EventRevoked && entry.Record.Event != mobileid.EventVisible {
			continue
		}
		for _, c := range entry.Record.Certificates {
			i, known := place[c.CertificateID]
			if !known {
				i = len(f.Certificates)
				place[c.CertificateID] = i
				f.Certificates = append(f.Certificates, mobileid.CertificateResult{CertificateID: mobileid.CertificateID{Serial: c.Serial}})
			}
			shown := &f.Certificates[i]
			shown.NotAfter, shown.Outcome, shown.RevokedAt = c.NotAfter, c.Outcome, c.RevokedAt
			if !c.VisibleAt.IsZero() {
				shown.VisibleAt = c.VisibleAt
			}
		}
	}
	all := true
	for _, c := range f.Certificates {
		if c.RevokedAt.After(f.RevokedAt) {
			f.RevokedAt = c.RevokedAt
		}
		if c.VisibleAt.After(f.VisibleAt) {
			f.VisibleAt = c.VisibleAt
		}
		all = all && (!c.VisibleAt.IsZero() || c.Outcome == mobileid.OutcomeExpiredNotRevoked)
	}
	if !all {
		f.VisibleAt = time.Time{}
	}
}

// noticeActivated tells the user that a new mobile ID is active.
func (s *Store) noticeActivated(ctx context.Context, chain *chain, m mobileid.MobileID, order mobileid.ActivationOrder, results []mobileid.CertificateResult, now time.Time) error {
	if !s.notices.Get {
		return nil
	}
	facts := NoticeFacts{WorkflowID: order.Process.WorkflowID, ByOwner: byOwner(order.Decision, m.Owner.ID), EndedAt: now}
	for _, c := range results {
		if c.StateInIM != mobileid.CertificateValid {
			continue
		}
		facts.Certificates = append(facts.Certificates, mobileid.CertificateResult{
			CertificateID: mobileid.CertificateID{Serial: c.Serial}, NotAfter: c.NotAfter,
		})
		// Without any one of them it is no longer what it was.
		if facts.ValidUntil.IsZero() || c.NotAfter.Before(facts.ValidUntil) {
			facts.ValidUntil = c.NotAfter
		}
	}
	var err error
	if facts.RequestedAt, err = chain.requestedAt(ctx); err != nil {
		return err
	}
	return s.putNotice(ctx, chain.tx, due{kind: NoticeGetFinished, m: m, process: order.Process, at: now, facts: facts})
}

// noticeAbandoned tells the user that no new mobile ID came about. While something
// that was issued for it is not revoked, the word waits a little for that.
func (s *Store) noticeAbandoned(ctx context.Context, chain *chain, m mobileid.MobileID, order mobileid.AbandonOrder, results []mobileid.CertificateResult, now time.Time) error {
	if !s.notices.Get {
		return nil
	}
	facts := NoticeFacts{
		WorkflowID: order.Process.WorkflowID, ByOwner: byOwner(order.Decision, m.Owner.ID), EndedAt: now, Failure: order.Failure.Type,
		CleanedUp: !slices.ContainsFunc(results, func(c mobileid.CertificateResult) bool { return !c.StateInIM.Final() }),
	}
	var err error
	if facts.OldLocked, err = hasOnlyLocked(ctx, chain.tx, m, order.Process.Name); err != nil {
		return err
	}
	if facts.RequestedAt, err = chain.requestedAt(ctx); err != nil {
		return err
	}
	at := now
	if !facts.CleanedUp {
		at = now.Add(cleanUpGrace)
	}
	return s.putNotice(ctx, chain.tx, due{kind: NoticeGetFailed, m: m, process: order.Process, at: at, facts: facts})
}

// noticeGivenUp tells the user that a Get ended after Next, and before there was a
// mobile ID. What ended before Next, and a lock, have changed nothing, and nobody is
// told.
func (s *Store) noticeGivenUp(ctx context.Context, tx *sql.Tx, record mobileid.Record) error {
	if !s.notices.Get || record.Owner == "" || record.RequestedAt.IsZero() {
		return nil
	}
	m := mobileid.MobileID{ID: record.MobileID, Owner: mobileid.User{ID: record.Owner}}
	facts := NoticeFacts{
		WorkflowID: record.Process.WorkflowID, ByOwner: byOwner(record.Decision, record.Owner),
		RequestedAt: record.RequestedAt, EndedAt: record.At, Failure: mobileid.FailureCancelled, NothingMade: true,
	}
	if record.Refusal != nil {
		facts.Failure = mobileid.FailureType(record.Refusal.Type)
	}
	var err error
	if facts.OldLocked, err = hasOnlyLocked(ctx, tx, m, record.Process.Name); err != nil {
		return err
	}
	return s.putNotice(ctx, tx, due{kind: NoticeGetFailed, m: m, process: record.Process, at: s.now(), facts: facts})
}

// hasOnlyLocked reports whether the owner of m had a mobile ID before it that is locked,
// and has none. One that this process, a Get, has locked was never one.
func hasOnlyLocked(ctx context.Context, tx *sql.Tx, m mobileid.MobileID, process string) (only bool, err error) {
	const query = `SELECT EXISTS (SELECT 1 FROM mobile_ids WHERE owner = $1 AND id <> $2 AND state = 'locked' AND lock_process <> $3)
		AND NOT EXISTS (SELECT 1 FROM mobile_ids WHERE owner = $1 AND id <> $2 AND state IN ('active', 'inactive'))`
	if err := tx.QueryRowContext(ctx, query, m.Owner.ID, m.ID, process).Scan(&only); err != nil {
		return false, fmt.Errorf("look for a mobile ID of before: %w", err)
	}
	return only, nil
}

// noticeCleanedUp lets the word of a failed Get go, and say that all is revoked.
func (s *Store) noticeCleanedUp(ctx context.Context, tx *sql.Tx, m mobileid.MobileID) error {
	return s.amendNotices(ctx, tx, m.ID, NoticeGetFailed, func(facts *NoticeFacts) { facts.CleanedUp = true })
}

// amendNotices changes what notices say that wait for it, and lets them go. One that
// somebody has tried to send stays as it is: each try says the same.
func (s *Store) amendNotices(ctx context.Context, tx *sql.Tx, mobileID string, kind NoticeKind, change func(*NoticeFacts)) error {
	const condition = `mobile_id = $1 AND kind = $2 AND state = 'pending' AND attempts = 0`
	waiting, err := collect(ctx, tx, func(rows *sql.Rows) ([2]string, error) {
		var row [2]string
		err := rows.Scan(&row[0], &row[1])
		return row, err
	}, `SELECT id, facts FROM outbox WHERE `+condition+` ORDER BY id`, mobileID, string(kind))
	if err != nil {
		return fmt.Errorf("look for notices: %w", err)
	}
	for _, row := range waiting {
		var facts NoticeFacts
		if err := json.Unmarshal([]byte(row[1]), &facts); err != nil {
			return fmt.Errorf("notice %s is not one: %w", row[0], err)
		}
		change(&facts)
		text, err := json.Marshal(facts)
		if err != nil {
			return fmt.Errorf("encode notice: %w", err)
		}
		const update = `UPDATE outbox SET facts = $4, due_at = $5 WHERE id = $3 AND ` + condition
		if _, err := tx.ExecContext(ctx, update, mobileID, string(kind), row[0], string(text), stored(s.now())); err != nil {
			return fmt.Errorf("write notice: %w", err)
		}
	}
	return nil
}

// noticeQR has the code of a provisioning sent to the user. What it shows is read from
// the provisioning when it is sent, and stays nowhere else.
func (s *Store) noticeQR(ctx context.Context, tx *sql.Tx, m mobileid.MobileID, p mobileid.Provisioning) error {
	if !s.notices.QR {
		return nil
	}
	return s.putNotice(ctx, tx, due{
		kind: NoticeQR, m: m, about: p.CommandID, at: s.now(), main: true,
		facts: NoticeFacts{WorkflowID: p.WorkflowID, CommandID: p.CommandID},
	})
}

// requestedAt is when Next was pressed for the Get that registered the chain's mobile
// ID; zero if it was created otherwise.
func (c *chain) requestedAt(ctx context.Context) (time.Time, error) {
	trail, err := readTrail(ctx, c.tx, c.mobileID)
	if err != nil {
		return time.Time{}, fmt.Errorf("read audit for a notice: %w", err)
	}
	for _, entry := range trail {
		if entry.Record.Event == mobileid.EventRegistered {
			return entry.Record.RequestedAt, nil
		}
	}
	return time.Time{}, nil
}
