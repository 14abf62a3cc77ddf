package desk

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// Stage is how far a lock is, as far as can be known.
type Stage string

// The stages of a lock.
const (
	StageNone      Stage = "none"      // no lock runs, and none has been
	StageWaiting   Stage = "waiting"   // a process waits for Next or Cancel
	StageRequested Stage = "requested" // Next is accepted; the mobile ID is not locked yet
	StageUnknown   Stage = "unknown"   // a process is there, and nobody can tell what it does
	StageLocked    Stage = "locked"    // the mobile ID is locked; a certificate is open
	StageRevoked   Stage = "revoked"   // the three end states stand; others may not see it yet, or there was nothing to revoke
	StageVisible   Stage = "visible"   // others can see it
	StageUnchanged Stage = "unchanged" // cancelled, or never answered: nothing was changed
	StageRefused   Stage = "refused"   // the process was refused: nothing was changed
	StageStopped   Stage = "stopped"   // the process was ended from outside before the mobile ID was locked: nothing runs
	StageElsewhere Stage = "elsewhere" // Temporal does not answer, and Identity Manager knows of no lock
)

// Progress is where the lock of a mobile ID stands. Times are four honest states,
// never one for another, and zero while the state does not stand.
type Progress struct {
	MobileID     mobileid.MobileID
	Stage        Stage
	RequestedAt  time.Time
	LockedAt     time.Time
	RevokedAt    time.Time
	VisibleAt    time.Time
	Certificates []mobileid.CertificateResult
	By           mobileid.Decision
	Number       int64              // of the audit record of the lock; 0: none
	Audit        mobileid.AuditMark // the last audit record about it
	NeedsHelp    bool               // an operator is waited for
	NextTry      time.Time          // of what does not answer now; zero: nothing waits
	Tries        int                // of that
	CAIsAsked    bool               // what does not answer is a CA
	Silent       bool               // locked, and nobody can tell now what is under way: Temporal, or every worker, is away
	Idle         bool               // locked, and no process works on it: it has ended, however, or there is none
	ThenGet      bool               // goes on to Get mobile ID
	GetStarted   bool
}

// Finished reports that nothing more is to come that a page would show.
func (p Progress) Finished() bool {
	switch p.Stage {
	case StageVisible, StageUnchanged, StageRefused, StageStopped, StageNone, StageWaiting:
		return true
	case StageRevoked:
		return p.Idle || p.NothingToRevoke()
	}
	return false
}

// NothingToRevoke reports that the end states stand and nothing had to be revoked: every
// certificate was past its notAfter, or there was none. Then there is no time at which
// it was, nor one since when others see it.
func (p Progress) NothingToRevoke() bool {
	return p.Stage == StageRevoked && !slices.ContainsFunc(p.Certificates, func(c mobileid.CertificateResult) bool {
		return c.Outcome != mobileid.OutcomeExpiredNotRevoked
	})
}

// Revoked counts the certificates that are done.
func (p Progress) Revoked() int {
	done := 0
	for _, c := range p.Certificates {
		if c.StateInIM.Final() {
			done++
		}
	}
	return done
}

// Progress tells where the lock of one of the user's mobile IDs stands.
func (d *Desk) Progress(ctx context.Context, userID, id string) (Progress, error) {
	return d.Look(userID, id)(ctx)
}

// Look returns what tells Progress again and again, to one goroutine, and asks the process
// only if there may be something new (client.Look).
func (d *Desk) Look(userID, id string) func(context.Context) (Progress, error) {
	look := d.Locks.User(userID).Look(id)
	return func(ctx context.Context) (Progress, error) {
		owned, err := d.Store.Owned(ctx, userID, id)
		if err != nil {
			return Progress{}, err
		}
		p := Recorded(owned)
		if p.Stage == StageVisible || p.NothingToRevoke() {
			return p, nil
		}
		asking, cancel := context.WithTimeout(ctx, askWait)
		defer cancel()
		status, asked := look.Status(asking)
		p.add(status, asked)
		if !p.Idle && (asked != nil || p.Stage != StageNone && p.Stage != StageStopped) {
			return p, nil
		}
		// Nothing runs any more. What was done last may be recorded since it was read.
		if owned, err = d.Store.Owned(ctx, userID, id); err != nil {
			return Progress{}, err
		}
		if p = Recorded(owned); p.Stage != StageVisible && !p.NothingToRevoke() {
			p.add(status, asked)
		}
		return p, nil
	}
}

// Recorded tells what Identity Manager and its audit know of the lock of a mobile ID.
func Recorded(o identitymanager.Owned) Progress {
	p := Progress{MobileID: o.MobileID, Stage: StageNone, RequestedAt: o.RequestedAt, LockedAt: o.LockedAt}
	results := map[mobileid.CertificateID]mobileid.CertificateResult{}
	for _, entry := range o.Trail {
		switch entry.Record.Event {
		case mobileid.EventLocked, mobileid.EventAbandoned:
			p.By, p.Number = entry.Record.Decision, entry.Number
		case mobileid.EventResumed:
		case mobileid.EventRevoked:
			for _, c := range entry.Record.Certificates {
				results[c.CertificateID] = c
			}
		case mobileid.EventVisible:
			for _, c := range entry.Record.Certificates {
				// What was revoked is told by the record of that, with its proofs.
				if known, ok := results[c.CertificateID]; ok {
					known.VisibleAt = c.VisibleAt
					if known.VisibleAt.IsZero() {
						known.VisibleAt = entry.Record.At
					}
					known.Proof = c.Proof
					results[c.CertificateID] = known
				}
			}
		default:
			continue
		}
		p.Audit = entry.AuditMark
	}
	for _, c := range o.Certificates {
		result, ok := results[c.CertificateID]
		if !ok {
			if c.State.Final() && o.State == mobileid.Locked {
				continue // it was so before the lock
			}
			result = mobileid.CertificateResult{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter}
		}
		result.StateInIM = c.State
		p.Certificates = append(p.Certificates, result)
	}
	if o.State == mobileid.Locked {
		p.Stage = StageLocked
		p.settle(len(o.Open()) == 0)
	}
	return p
}

// settle dates what stands once all certificates are done.
func (p *Progress) settle(done bool) {
	if !done {
		return
	}
	p.Stage = StageRevoked
	visible := !p.NothingToRevoke()
	var last time.Time
	for _, c := range p.Certificates {
		if c.RevokedAt.After(p.RevokedAt) {
			p.RevokedAt = c.RevokedAt
		}
		if c.Outcome == mobileid.OutcomeExpiredNotRevoked {
			continue
		}
		visible = visible && !c.VisibleAt.IsZero()
		if c.VisibleAt.After(last) {
			last = c.VisibleAt
		}
	}
	if visible {
		p.Stage, p.VisibleAt = StageVisible, last
	}
}

// add adds what the process tells, or that it cannot be asked.
func (p *Progress) add(status client.Status, err error) {
	var refusal *mobileid.Refusal
	switch locked := p.MobileID.State == mobileid.Locked; {
	case errors.Is(err, mobileid.ErrMobileIDNotFound) || errors.Is(err, mobileid.ErrMobileIDNotActive):
		p.Idle = locked
		return // no process, or one that found it locked: what is recorded is all there is
	case errors.As(err, &refusal):
		if p.Idle = locked; !locked {
			p.Stage = StageRefused
		}
		return
	case err != nil && locked:
		p.Silent = true
		return
	case errors.Is(err, client.ErrNoWorker):
		p.Stage = StageUnknown
		return
	case err != nil:
		p.Stage = StageElsewhere
		return
	case locked:
		p.addSteps(status)
		if status.Phase == workflows.Closed && p.Stage == StageRevoked && !status.VisibleAt.IsZero() {
			p.Stage, p.VisibleAt = StageVisible, status.VisibleAt
		}
		if p.Idle = status.Phase == workflows.Closed || status.Stopped; p.Idle {
			p.NeedsHelp = false
		}
		return
	}
	switch {
	case status.Stopped:
		p.Stage, p.RequestedAt = StageStopped, status.RequestedAt
	case ended(status.Outcome):
		p.Stage = StageUnchanged
	case status.Phase == workflows.AwaitingConfirmation || status.Phase == workflows.Validating && status.RequestedAt.IsZero():
		p.Stage = StageWaiting
		if status.Phase == workflows.Validating {
			p.Stage = StageUnknown
		}
	case status.Phase == workflows.Closed:
		p.Stage = StageNone // an earlier one of a mobile ID that came back
	default:
		p.Stage = StageRequested
		p.RequestedAt = status.RequestedAt
		p.addSteps(status)
	}
}

// addSteps adds what is under way. What the CA answered is not for users.
func (p *Progress) addSteps(status client.Status) {
	p.ThenGet = status.ThenGet
	p.GetStarted = status.Get != nil
	p.NeedsHelp = status.Phase == workflows.NeedsOperator
	for _, step := range status.Steps {
		if step.LastError == "" || int(step.Attempt) < p.Tries {
			continue
		}
		p.Tries = int(step.Attempt)
		p.CAIsAsked = strings.HasPrefix(step.ID, "revoke-ca/") || strings.HasPrefix(step.ID, "publish/")
		if p.NextTry.IsZero() || !step.NextTry.IsZero() && step.NextTry.Before(p.NextTry) {
			p.NextTry = step.NextTry
		}
	}
}

// Entry is one line of the history of the user's locks.
type Entry struct {
	MobileID mobileid.MobileID
	Event    mobileid.Event
	At       time.Time
	By       mobileid.Decision
	Finished bool // of a lock: all certificates are done
}

// History lists the user's locks, cancelled ones included, the newest first, from the
// audit.
func (d *Desk) History(ctx context.Context, userID string) ([]Entry, error) {
	all, err := d.Store.MobileIDsOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, m := range all {
		trail, err := d.Store.AuditTrail(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		for _, r := range trail {
			switch r.Record.Event {
			case mobileid.EventLocked, mobileid.EventCancelled, mobileid.EventExpired:
				// A Get that was cancelled is recorded in the chain of its grant.
				if r.Record.Process.Name == workflows.Get {
					continue
				}
				entries = append(entries, Entry{MobileID: m, Event: r.Record.Event, At: r.Record.At, By: r.Record.Decision, Finished: len(m.Open()) == 0})
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.At.Compare(a.At) })
	return entries, nil
}
