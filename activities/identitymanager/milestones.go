package identitymanager

import (
	"context"
	"database/sql"
	"time"

	"mobileid"
)

// Stage is a point that a lock comes to once.
type Stage string

// The stages of a lock. A mobile ID without a certificate to revoke is revoked
// when it is locked, and never visible.
const (
	StageLocked  Stage = "locked"  // the mobile ID is locked
	StageRevoked Stage = "revoked" // the last of its certificates is revoked, at its CA and here
	StageVisible Stage = "visible" // others were seen to be shown the last revocation
)

// Milestone says that a lock has come to a stage.
type Milestone struct {
	Stage Stage
	After time.Duration // since Next; never negative, however clocks differ
}

// tell tells the observer of the store, after the transaction, what it has brought a
// lock to. It is told at most once of each stage of a lock: a repeat of a step writes
// nothing and reaches nothing, and a program that dies right after the transaction
// does not make up for it.
func (s *Store) tell(reached []Milestone) {
	if s.reached == nil {
		return
	}
	for _, m := range reached {
		s.reached(m)
	}
}

// lockedMilestones is for a transaction that has locked m.
func lockedMilestones(m mobileid.MobileID) []Milestone {
	if m.RequestedAt.IsZero() {
		return nil
	}
	locked := Milestone{StageLocked, after(m.RequestedAt, m.LockedAt)}
	if len(m.Open()) > 0 {
		return []Milestone{locked}
	}
	return []Milestone{locked, {StageRevoked, locked.After}}
}

// revokedMilestones is for a transaction that has recorded revocations: states are
// those of all certificates of the mobile ID before it, changed what it made final.
func (s *Store) revokedMilestones(ctx context.Context, tx *sql.Tx, mobileID string, states map[mobileid.CertificateID]mobileid.Certificate, changed []mobileid.CertificateResult) ([]Milestone, error) {
	if s.reached == nil || !noneOpen(states, changed) {
		return nil, nil
	}
	return s.recordMilestones(ctx, tx, mobileID, len(changed) > 0)
}

// recordMilestones is for a transaction that has appended a record to the chain and
// leaves no certificate open. last says that it has made the last ones final.
func (s *Store) recordMilestones(ctx context.Context, tx *sql.Tx, mobileID string, last bool) ([]Milestone, error) {
	if s.reached == nil {
		return nil, nil
	}
	trail, err := readTrail(ctx, tx, mobileID)
	if err != nil {
		return nil, err
	}
	return reachedBy(trail, last), nil
}

// reachedBy says what the last record of a chain has brought the lock to.
func reachedBy(trail []AuditRecord, last bool) []Milestone {
	var requestedAt time.Time
	for _, entry := range trail {
		if entry.Record.Event == mobileid.EventLocked {
			requestedAt = entry.Record.RequestedAt
			break
		}
	}
	if requestedAt.IsZero() {
		return nil // what Get mobile ID takes back is no lock
	}
	var reached []Milestone
	if last {
		reached = append(reached, Milestone{StageRevoked, after(requestedAt, trail[len(trail)-1].Record.At)})
	}
	at, visible := visibleAt(trail)
	if visible && !last {
		_, before := visibleAt(trail[:len(trail)-1])
		visible = !before
	}
	if visible {
		reached = append(reached, Milestone{StageVisible, after(requestedAt, at)})
	}
	return reached
}

// visibleAt is when the last revocation of a chain was seen in all public sources,
// and whether every one was.
func visibleAt(trail []AuditRecord) (last time.Time, all bool) {
	seen := map[mobileid.CertificateID]bool{}
	for _, entry := range trail {
		for _, c := range entry.Record.Certificates {
			if c.Outcome != mobileid.OutcomeRevoked && c.Outcome != mobileid.OutcomeAlreadyRevoked {
				continue // nobody publishes it
			}
			seen[c.CertificateID] = seen[c.CertificateID] || !c.VisibleAt.IsZero()
			if c.VisibleAt.After(last) {
				last = c.VisibleAt
			}
		}
	}
	for _, visible := range seen {
		if !visible {
			return last, false
		}
	}
	return last, len(seen) > 0
}

func after(from, to time.Time) time.Duration { return max(to.Sub(from), 0) }
