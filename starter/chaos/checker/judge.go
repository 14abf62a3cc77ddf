package checker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Words of states and outcomes.
const (
	stateRegistered  = "registered"
	stateActive      = "active"
	stateLocked      = "locked"
	statusRevoked    = "revoked"
	statusExpired    = "expired"
	outcomeCancelled = "cancelled"
)

func (m *mobileID) event(name string) bool {
	return slices.ContainsFunc(m.records, func(r *record) bool { return r.content.Event == name })
}

// judgeLocks: every accepted Next reached the three end states, and nothing reached
// them without.
func (c *check) judgeLocks() {
	for id, m := range c.mobileIDs {
		if m.state == "" {
			continue // a chain of the audit alone
		}
		accepted := slices.ContainsFunc(c.locks[id], (*run).accepts)
		if t := c.told[id]; t != nil && t.stored && !slices.ContainsFunc(c.locks[id], func(r *run) bool { return !r.next.IsZero() }) {
			c.wrong(Unfinished, id, "a client was told that Next is stored, and no process has it")
		}
		abandoned := m.event("abandoned") // by its Get, which then locks it without anybody's Next
		switch {
		case accepted:
			c.report.Accepted++
			c.mustBeFinished(m)
		case m.state == stateLocked && abandoned:
			c.report.TakenBack++
			c.mustBeFinished(m)
		case m.state == stateLocked:
			c.wrong(LockedWithoutNext, id, "it is locked")
		default:
			for _, x := range m.certificates {
				if _, revoked := c.revocationOf(x.certificateKey); revoked || x.state == statusRevoked {
					c.wrong(LockedWithoutNext, id, "its certificate %s is revoked", x.serial)
				}
			}
		}
		// In the journal is who asked; nobody else may have made the process do it.
		if accepted && !c.told[id].askedNext() && !abandoned {
			c.wrong(LockedWithoutNext, id, "a process has a Next, and no client sent one")
		}
		if m.event("activated") && m.state == stateActive {
			c.report.GotActive++
		}
	}
}

func (c *check) mustBeFinished(m *mobileID) {
	if m.state != stateLocked {
		c.wrong(Unfinished, m.id, "it is %s", m.state)
	}
	if len(m.certificates) == 0 && !m.event("abandoned") {
		c.wrong(Unfinished, m.id, "it has no certificates")
	}
	for _, x := range m.certificates {
		if x.state != statusRevoked && (x.state != statusExpired || time.Now().Before(x.notAfter)) {
			c.wrong(Unfinished, m.id, "its certificate %s is %s in Identity Manager", x.serial, x.state)
		}
		r, listed := c.revocationOf(x.certificateKey)
		switch {
		case x.state == statusExpired:
		case !listed:
			c.wrong(Unfinished, m.id, "its certificate %s is not revoked at its CA: the CRL does not list it", x.serial)
		case r.byOCSP != "" && r.byOCSP != statusRevoked:
			c.wrong(Unfinished, m.id, "its certificate %s is %s by OCSP", x.serial, r.byOCSP)
		}
	}
}

// judgeAhead: Identity Manager never said revoked before the CA did.
func (c *check) judgeAhead() {
	for key, x := range c.certificates {
		if x.state != statusRevoked {
			continue
		}
		if _, listed := c.revocationOf(key); !listed {
			c.wrong(AheadOfCA, x.mobileID, "certificate %s is revoked in Identity Manager, and not at its CA", x.serial)
			continue
		}
		asked, ok := c.requests[key]
		switch {
		case !ok:
			c.wrong(AheadOfCA, x.mobileID, "certificate %s is revoked, and no request went to its CA", x.serial)
		case x.committed == nil:
			c.wrong(AheadOfCA, x.mobileID, "when certificate %s became revoked is not known", x.serial)
		case x.committed.Before(asked):
			c.wrong(AheadOfCA, x.mobileID, "certificate %s was revoked in Identity Manager %s before its CA was asked", x.serial, asked.Sub(*x.committed))
		}
	}
}

// judgeOwners: nobody has two active mobile IDs, and nobody had: what a Get made became
// active after each other one was locked.
func (c *check) judgeOwners() {
	owned := map[string][]*mobileID{}
	for _, m := range c.mobileIDs {
		owned[m.owner] = append(owned[m.owner], m)
	}
	for owner, all := range owned {
		var active []*mobileID
		for _, m := range all {
			if m.state == stateActive {
				active = append(active, m)
			}
		}
		if len(active) > 1 {
			c.wrong(SecondActive, owner, "%d mobile IDs are active", len(active))
			continue
		}
		for _, m := range all {
			// A process that takes over a locked one writes the row anew.
			if len(active) == 0 || m.state != stateLocked || m.event("resumed") || m.committed == nil || active[0].committed == nil {
				continue
			}
			if m.committed.After(*active[0].committed) {
				c.wrong(SecondActive, owner, "%s was locked %s after %s became active", m.id, m.committed.Sub(*active[0].committed), active[0].id)
			}
		}
	}
}

// judgeOrphans: nothing is left that nothing leads on from.
func (c *check) judgeOrphans() {
	for _, r := range c.runs {
		if r.open {
			c.wrong(Orphan, r.id, "it is under way")
		}
	}
	for id, m := range c.mobileIDs {
		if m.state == stateRegistered {
			c.wrong(Orphan, id, "it is registered, and its Get has ended")
		}
	}
	for _, ca := range c.CAs {
		if ca.IssuedFile == "" {
			continue
		}
		serials, err := issued(ca.IssuedFile)
		if err != nil {
			c.wrong(Orphan, ca.Name, "what it issued cannot be read: %v", err)
		}
		for _, serial := range serials {
			key := certificateKey{NameOf(ca.Issuer), serial}
			_, known := c.certificates[key]
			if _, revoked := c.revocationOf(key); !known && !revoked {
				c.wrong(Orphan, serial, "%s issued it, no mobile ID has it, and it is good", ca.Name)
			}
		}
	}
}

// judgeAudit: each chain is whole, and says what happened.
func (c *check) judgeAudit() {
	for id, m := range c.mobileIDs {
		last := mark{}
		for _, r := range m.records {
			switch {
			case r.Number != last.Number+1:
				c.wrong(Audit, id, "record %d comes after %d", r.Number, last.Number)
			case r.MAC != c.mac(last.MAC, id, r.Number, r.stored):
				c.wrong(Audit, id, "record %d does not carry its MAC", r.Number)
			}
			if r.content.MobileID != id {
				c.wrong(Audit, id, "record %d is about %s", r.Number, r.content.MobileID)
			}
			last = r.mark
		}
		head := mark{}
		if m.head != nil {
			head = *m.head
		}
		if head != last {
			c.wrong(Audit, id, "its head is record %d, and its last one %d", head.Number, last.Number)
		}
		if m.state == stateLocked {
			c.mustBeRecorded(m)
		}
	}
}

// mustBeRecorded: the lock, by the process that the row names, and each revocation.
func (c *check) mustBeRecorded(m *mobileID) {
	locked := slices.ContainsFunc(m.records, func(r *record) bool {
		by := r.content.Process
		return slices.Contains([]string{"locked", "resumed", "abandoned"}, r.content.Event) &&
			(m.lockRun == "" || by.WorkflowID == m.lockWorkflow && by.RunID == m.lockRun)
	})
	if !locked {
		c.wrong(Audit, m.id, "no record says that it was locked by %s, run %s", m.lockWorkflow, m.lockRun)
	}
	for _, x := range m.certificates {
		if x.state == statusRevoked && !slices.ContainsFunc(m.records, func(r *record) bool {
			return r.content.Event == "revoked" && slices.ContainsFunc(r.content.Certificates, func(s result) bool {
				return s.Issuer == x.issuer && s.Serial == x.serial
			})
		}) {
			c.wrong(Audit, m.id, "no record says that certificate %s was revoked", x.serial)
		}
	}
}

// mac is the MAC of a record: HMAC-SHA256 over the domain, the MAC before, the mobile
// ID, the number and the record, each after its length as 64 bits, big-endian.
func (c *check) mac(before, id string, number int64, stored []byte) string {
	h := hmac.New(sha256.New, c.key)
	for _, field := range [][]byte{
		[]byte("mobileid/audit/v1"), []byte(before), []byte(id),
		binary.BigEndian.AppendUint64(nil, uint64(number)), stored, //nolint:gosec // numbers are positive in the table
	} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		h.Write(field)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// judgeReceipts: what processes ended with, and what the audit says, is so.
func (c *check) judgeReceipts() {
	for _, r := range c.runs {
		switch {
		case r.result == nil:
		case r.mobileID != "":
			c.mustBeTrue(r.mobileID, "the result of run "+r.runID, *r.result)
			c.mustBeMarked(r)
		case r.outcome(stateActive):
			c.mustBeActive(r.result.MobileID, "the result of "+r.id)
		}
	}
	for id, m := range c.mobileIDs {
		for _, record := range m.records {
			if record.content.Event == "revoked" {
				c.certificatesMustBeTrue(id, "the audit", record.content.Certificates)
			}
		}
	}
}

// mustBeMarked: the record that a result names as its last one is there.
func (c *check) mustBeMarked(r *run) {
	m, ok := c.mobileIDs[r.mobileID]
	if !ok || r.result.Audit.Number == 0 {
		return
	}
	if !slices.ContainsFunc(m.records, func(record *record) bool { return record.mark == r.result.Audit }) {
		c.wrong(Receipt, r.mobileID, "the result of run %s names record %d with a MAC that it does not have", r.runID, r.result.Audit.Number)
	}
	if r.outcome(stateLocked) && len(r.result.Certificates) != len(m.certificates) {
		c.wrong(Receipt, r.mobileID, "the result of run %s has %d certificates, and the mobile ID %d", r.runID, len(r.result.Certificates), len(m.certificates))
	}
}

// mustBeTrue compares a status or a result with what is.
func (c *check) mustBeTrue(id, who string, s status) {
	m, ok := c.mobileIDs[id]
	if !ok {
		c.wrong(Receipt, id, "%s is about a mobile ID that is not there", who)
		return
	}
	if s.Outcome == stateLocked || s.Revoked || !s.LockedAt.IsZero() {
		switch {
		case m.state != stateLocked:
			c.wrong(Receipt, id, "%s says locked, and it is %s", who, m.state)
		case m.lockedAt == nil || !s.LockedAt.IsZero() && !m.lockedAt.Equal(s.LockedAt):
			c.wrong(Receipt, id, "%s says locked at %s, and it was at %v", who, s.LockedAt, m.lockedAt)
		}
	}
	if s.Outcome == stateLocked || s.Revoked {
		for _, x := range s.Certificates {
			if x.StateInIM != statusRevoked && x.StateInIM != statusExpired {
				c.wrong(Receipt, id, "%s says all is revoked, and certificate %s is %s", who, x.Serial, x.StateInIM)
			}
		}
	}
	if s.Outcome == outcomeCancelled && !slices.ContainsFunc(c.locks[id], func(r *run) bool { return r.outcome(outcomeCancelled) }) {
		c.wrong(Receipt, id, "%s says cancelled, and no process ended so", who)
	}
	c.certificatesMustBeTrue(id, who, s.Certificates)
}

func (c *check) certificatesMustBeTrue(id, who string, all []result) {
	for _, said := range all {
		key := certificateKey{said.Issuer, said.Serial}
		x, known := c.certificates[key]
		if !known || x.mobileID != id {
			c.wrong(Receipt, id, "%s names certificate %s, which it does not have", who, said.Serial)
			continue
		}
		r, listed := c.revocationOf(key)
		switch {
		case said.StateInIM == statusRevoked && x.state != statusRevoked:
			c.wrong(Receipt, id, "%s says certificate %s is revoked in Identity Manager, and it is %s", who, said.Serial, x.state)
		case said.StatusAtCA == statusRevoked && !listed:
			c.wrong(Receipt, id, "%s says certificate %s is revoked at its CA, and it is not", who, said.Serial)
		case listed && !said.RevokedAt.IsZero() && !said.RevokedAt.Truncate(time.Second).Equal(r.at.Truncate(time.Second)):
			c.wrong(Receipt, id, "%s says certificate %s was revoked at %s, and the CRL says %s", who, said.Serial, said.RevokedAt, r.at)
		case said.StatusAtCA == statusRevoked && said.Outcome != "" && len(said.Proof) == 0:
			c.wrong(Receipt, id, "%s has no proof of certificate %s", who, said.Serial)
		}
	}
}

// mustBeActive: a mobile ID that somebody got was made active. It may have been
// locked since.
func (c *check) mustBeActive(id, who string) {
	m, ok := c.mobileIDs[id]
	if !ok || !m.event("activated") {
		c.wrong(Receipt, id, "%s says active, and it never was", who)
	}
}

// judgeTold: what clients were told is so.
func (c *check) judgeTold() {
	for _, l := range c.answers {
		who := "the answer to " + l.Call
		switch {
		case l.Refusal != "":
			c.refusalMustBeTrue(l)
		case l.Error != "" || len(l.Answer) == 0 || string(l.Answer) == "null":
		case l.Call == "receipt":
			c.paperMustBeTrue(l)
		case l.Call == "get-end":
			var s status
			if err := json.Unmarshal(l.Answer, &s); err == nil && s.Outcome == stateActive {
				c.mustBeActive(s.MobileID, who)
			}
		case l.Call == "start" || l.Call == "next" || l.Call == "cancel":
			var s status
			if err := json.Unmarshal(l.Answer, &s); err != nil {
				c.wrong(Receipt, l.MobileID, "%s cannot be read: %v", who, err)
				continue
			}
			c.mustBeTrue(l.MobileID, who, s)
			if l.Call == "next" && !s.Stored && s.LockedAt.IsZero() && s.Outcome == "" {
				c.wrong(Receipt, l.MobileID, "%s says neither that it is locked nor how it ended nor that it is stored", who)
			}
		}
	}
}

// refusalMustBeTrue: everybody in a run is entitled to what they ask for, so that
// only what was decided before can be a reason.
func (c *check) refusalMustBeTrue(l line) {
	m, ok := c.mobileIDs[l.MobileID]
	if !ok {
		return
	}
	someRun := func(is func(*run) bool) bool { return slices.ContainsFunc(c.locks[l.MobileID], is) }
	switch l.Refusal {
	case "MobileIDNotActive", "AlreadyConfirmed":
		if m.state != stateLocked {
			c.wrong(Receipt, l.MobileID, "%s was refused with %s, and it is %s", l.Call, l.Refusal, m.state)
		}
	case "MobileIDAlreadyActive":
		// To who gets another one. It must have been so when it was said.
		if m.state == stateLocked && m.committed != nil && m.committed.Before(l.began) {
			c.wrong(Receipt, l.MobileID, "%s was refused with %s, and it was locked %s before", l.Call, l.Refusal, l.began.Sub(*m.committed))
		}
	case "AlreadyCancelled":
		if !someRun(func(r *run) bool { return r.outcome(outcomeCancelled) }) {
			c.wrong(Receipt, l.MobileID, "%s was refused with %s, and no process ended so", l.Call, l.Refusal)
		}
	case "MobileIDNotFound":
		// To a message for a Get: there is none under way. One that was when the message was
		// sent may have ended before it came.
		message := l.Call == "get-lock" || l.Call == "get-next"
		if !message || slices.ContainsFunc(c.gets, func(r *run) bool { return r.id == getPrefix+l.UserID && r.during(l.began, l.At) }) {
			c.wrong(Receipt, l.MobileID, "%s was refused with %s", l.Call, l.Refusal)
		}
	default:
		c.wrong(Receipt, l.MobileID, "%s was refused with %s", l.Call, l.Refusal)
	}
}
