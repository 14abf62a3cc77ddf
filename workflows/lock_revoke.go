package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// publicationMargin is added to a CRL's due time: CAs issue them a little late.
const publicationMargin = 5 * time.Minute

// branch is the part of a lock that one CA has to do with. Branches run in
// parallel, so that a CA that is down delays its own certificates alone.
type branch struct {
	ca    activities.CAPolicy
	certs []int // places in lock.Certificates
	asked bool  // a request may have reached the CA already
}

// revokeCertificates brings every certificate to its end at its CA and in
// Identity Manager.
func (l *lock) revokeCertificates() error {
	if l.RevokedAt.IsZero() {
		l.show(Revoking)
	}
	unsettled := func(c mobileid.CertificateResult) bool { return !settled(c) }
	for {
		l.receipts, l.noneOpen = 0, false
		if err := l.sideBySide(l.ctx, l.branches(l.mayHaveAsked(), unsettled), l.runBranch); err != nil {
			return err
		}
		// Each branch may be the last that Identity Manager takes over. If none was,
		// something is open there that was seen at its end, or that nobody knew.
		l.SetBack = l.SetBack || l.receipts > 0 && !l.noneOpen
		if !l.SetBack {
			break
		}
		if err := l.lockAgain(); err != nil {
			return err
		}
	}
	for _, c := range l.Certificates {
		if c.RevokedAt.After(l.RevokedAt) {
			l.RevokedAt = c.RevokedAt
		}
	}
	l.endStates = true
	return nil
}

// lockAgain locks in a store that was set back, as it is when a backup is restored: to
// before the lock, or to before some of its revocations. What was taken over there after
// that is open again.
func (l *lock) lockAgain() error {
	l.log.Warn("Identity Manager was set back under this lock, which locks again")
	fresh, err := l.lockInIM(l.ctx)
	if err != nil {
		return err
	}
	l.SetBack = false
	l.RequestedAt, l.LockedAt, l.Audit = fresh.RequestedAt, fresh.LockedAt, fresh.Audit
	l.learn(fresh.CAs)
	for _, f := range fresh.Certificates {
		i := slices.IndexFunc(l.Certificates, func(c mobileid.CertificateResult) bool { return c.CertificateID == f.CertificateID })
		if i < 0 {
			l.Certificates = append(l.Certificates, f)
			continue
		}
		l.Certificates[i].StateInIM = f.StateInIM
	}
	return nil
}

// mayHaveAsked reports that a request may have reached a CA before this run: a
// run before it rested, or an earlier process was cut short.
func (l *lock) mayHaveAsked() bool {
	return l.TakenOver || workflow.GetInfo(l.root).ContinuedExecutionRunID != ""
}

// branches groups certificates by CA, in the order of the certificates.
func (l *lock) branches(asked bool, of func(mobileid.CertificateResult) bool) []*branch {
	var branches []*branch
	byCA := map[string]*branch{}
	for i, c := range l.Certificates {
		if !of(c) {
			continue
		}
		b := byCA[c.CA]
		if b == nil {
			b = &branch{ca: l.caPolicy(c.CA), asked: asked}
			byCA[c.CA] = b
			branches = append(branches, b)
		}
		b.certs = append(b.certs, i)
	}
	return branches
}

// learn takes in how CAs are treated. What was learnt first stays: a changed
// configuration applies to later starts.
func (l *lock) learn(cas []activities.CAPolicy) {
	for _, ca := range cas {
		if !slices.ContainsFunc(l.CAs, func(known activities.CAPolicy) bool { return known.Name == ca.Name }) {
			l.CAs = append(l.CAs, ca)
		}
	}
}

func (l *lock) caPolicy(name string) activities.CAPolicy {
	for _, ca := range l.CAs {
		if ca.Name == name {
			return ca
		}
	}
	return activities.CAPolicy{Name: name}
}

// sideBySide runs branches in parallel until all are done, or all rest.
func (l *lock) sideBySide(ctx workflow.Context, branches []*branch, run func(workflow.Context, *branch) error) error {
	errs := make([]error, len(branches))
	open := len(branches)
	for i, b := range branches {
		workflow.Go(ctx, func(ctx workflow.Context) {
			errs[i] = run(ctx, b)
			open--
		})
	}
	await(ctx, func() bool { return open == 0 })
	return errors.Join(errs...)
}

// runBranch alternates the two steps of a CA until no certificate is left:
// revoke at the CA with proof, then revoke in Identity Manager, never the other
// way round.
func (l *lock) runBranch(ctx workflow.Context, b *branch) error {
	if b.ca.Name == "" {
		return l.runUnrouted(ctx, b)
	}
	for {
		// What the CA has revoked goes to Identity Manager first: after a rest
		// it may be all that is left to do.
		if err := l.revokeInIM(ctx, b); err != nil {
			return err
		}
		open, incurable := l.openOf(b)
		if len(open) > 0 {
			if err := l.revokeAtCA(ctx, b, open); err != nil {
				return err
			}
			continue
		}
		if len(incurable) == 0 {
			return nil
		}
		if l.restDue() {
			return errRest
		}
		l.awaitCure(ctx, b, incurable)
	}
}

// runUnrouted waits until the issuer of its certificates is configured, then
// goes on as the branches of their CAs.
func (l *lock) runUnrouted(ctx workflow.Context, b *branch) error {
	for _, i := range b.certs {
		c := &l.Certificates[i]
		c.CannotRevoke = "no CA is configured for the issuer " + c.IssuerDN
	}
	for len(b.certs) > 0 {
		if l.restDue() {
			return errRest
		}
		l.awaitCure(ctx, b, b.certs)
		if l.restDue() {
			return errRest
		}
		fresh, err := l.lockInIM(ctx)
		if err != nil {
			return err
		}
		if err := l.runRouted(ctx, b, fresh); err != nil {
			return err
		}
	}
	return nil
}

// runRouted takes the certificates of b that have a CA by now out of it, and
// runs them as a branch per CA.
func (l *lock) runRouted(ctx workflow.Context, b *branch, fresh activities.LockInIMResult) error {
	l.learn(fresh.CAs)
	var routed []*branch
	var left []int
	for _, i := range b.certs {
		name := ""
		for _, f := range fresh.Certificates {
			if f.CertificateID == l.Certificates[i].CertificateID {
				name = f.CA
			}
		}
		if name == "" {
			left = append(left, i)
			l.Certificates[i].CannotRevoke = "no CA is configured for the issuer " + l.Certificates[i].IssuerDN
			continue
		}
		l.Certificates[i].CA = name
		routed = append(routed, &branch{ca: l.caPolicy(name), certs: []int{i}})
	}
	b.certs = left
	return l.sideBySide(ctx, routed, l.runBranch)
}

// settled reports that a certificate is at its end at the CA and in Identity
// Manager.
func settled(c mobileid.CertificateResult) bool { return c.Outcome != "" && c.StateInIM.Final() }

// openOf sorts the certificates of a branch that the CA has not revoked into
// those to try and those that only an operator can cure.
func (l *lock) openOf(b *branch) (open, incurable []int) {
	for _, i := range b.certs {
		switch c := l.Certificates[i]; {
		case c.Outcome != "":
		case c.CannotRevoke != "":
			incurable = append(incurable, i)
		default:
			open = append(open, i)
		}
	}
	return open, incurable
}

// awaitCure waits for the operator's retry and then counts the incurable as open
// again.
func (l *lock) awaitCure(ctx workflow.Context, b *branch, incurable []int) {
	l.running++
	l.awaitOperator(ctx, "revoke-ca/"+b.id(l), fmt.Sprintf("%d of %d certificates cannot be revoked, see their cannotRevoke", len(incurable), len(b.certs)), nil)
	l.running--
	b.asked = true
	if l.resting {
		return
	}
	l.reopen(b)
}

// id tells a branch apart in activity ids. Certificates that got their CA late
// run beside the CA's first branch, so they are told apart by their place.
func (b *branch) id(l *lock) string {
	if b.ca.Name == "" {
		return "unknown"
	}
	for i, c := range l.Certificates {
		if c.CA == b.ca.Name {
			if i == b.certs[0] {
				return b.ca.Name
			}
			break
		}
	}
	return fmt.Sprintf("%s-%d", b.ca.Name, b.certs[0])
}

// revokeAtCA has the open certificates of a branch revoked at its CA, each with
// a proof. It returns early with what is done if some need an operator, or have
// begun to wait for an approval, which whatever is scheduled next must know.
func (l *lock) revokeAtCA(ctx workflow.Context, b *branch, open []int) error {
	in := activities.RevokeAtCAInput{CA: b.ca, MobileID: l.request.MobileID, Reason: l.Reason, RequestedAt: l.RequestedAt, Asked: b.asked,
		Pending: []activities.PendingRequest{}}
	for _, i := range open {
		in.Certificates = append(in.Certificates, l.Certificates[i])
	}
	asked := func(p activities.PendingRequest) bool {
		return slices.ContainsFunc(in.Certificates, func(c mobileid.CertificateResult) bool { return c.CertificateID == p.CertificateID })
	}
	for _, p := range l.Pending {
		if asked(p) {
			in.Pending = append(in.Pending, p)
		}
	}
	var result activities.RevokeAtCAResult
	err := l.attempt(ctx, step{
		id:      "revoke-ca/" + b.id(l),
		summary: fmt.Sprintf("Revoke %d certificates at %s", len(open), b.ca.Name),
		options: func(ctx workflow.Context, id, summary string) workflow.Context {
			return withCA(ctx, id, summary, b.ca, len(open))
		},
		name:  activities.RevokeAtCAName,
		input: in,
	}, &result)
	b.asked = true
	if errors.Is(err, errInterrupted) {
		// A retry: what waits for an operator is tried along.
		l.reopen(b)
		return nil
	}
	if err != nil {
		return err
	}
	for n, i := range open {
		l.Certificates[i] = result.Certificates[n]
	}
	l.Pending = append(slices.DeleteFunc(l.Pending, asked), result.Pending...)
	if !result.NextPublication.IsZero() {
		if l.NextCRL == nil {
			l.NextCRL = map[string]time.Time{}
		}
		l.NextCRL[b.ca.Name] = result.NextPublication
	}
	l.show(l.phase)
	return nil
}

// reopen counts the incurable certificates of a branch as open again.
func (l *lock) reopen(b *branch) {
	for _, i := range b.certs {
		l.Certificates[i].CannotRevoke = ""
	}
	l.show(l.phase)
}

// revokeInIM takes over in Identity Manager what the branch's CA has revoked.
func (l *lock) revokeInIM(ctx workflow.Context, b *branch) error {
	var done []int
	order := mobileid.RevocationOrder{
		MobileID: l.request.MobileID,
		Process:  l.process(),
		Decision: l.DecidedBy,
		CA:       b.ca.Name,
	}
	for _, i := range b.certs {
		if c := l.Certificates[i]; c.Outcome != "" && !settled(c) {
			done = append(done, i)
			order.Certificates = append(order.Certificates, c)
		}
	}
	if len(done) == 0 {
		return nil
	}
	var receipt mobileid.RevocationReceipt
	err := l.perform(ctx, step{
		id:      "revoke-im/" + b.id(l),
		summary: fmt.Sprintf("Revoke %d certificates of %s in Identity Manager", len(done), b.ca.Name),
		options: withIdentityManager,
		name:    activities.RevokeInIMName,
		input:   order,
	}, &receipt)
	if err != nil {
		return err
	}
	for n, i := range done {
		l.Certificates[i] = receipt.Certificates[n]
	}
	l.noteAudit(receipt.Audit)
	l.SetBack = l.SetBack || receipt.Unlocked
	l.receipts++
	l.noneOpen = l.noneOpen || receipt.Open == 0
	l.show(l.phase)
	return nil
}

// noteAudit keeps the mark of the last record.
func (l *lock) noteAudit(mark mobileid.AuditMark) {
	if mark.Number > l.Audit.Number {
		l.Audit = mark
	}
}

// publish waits, as long as configured, until others can see the revocations.
// The end states stand by now, so that whoever waits for them is answered. If
// Identity Manager is set back meanwhile they do not, and are brought about again.
func (l *lock) publish() error {
	for {
		l.describe()
		branches := l.branches(false, func(c mobileid.CertificateResult) bool {
			return c.VisibleAt.IsZero() && c.Outcome != mobileid.OutcomeExpiredNotRevoked && l.proofWait(l.caPolicy(c.CA)) > 0
		})
		if len(branches) > 0 {
			l.show(Publishing)
		}
		if err := l.sideBySide(l.ctx, branches, l.awaitPublication); err != nil {
			return err
		}
		if !l.SetBack {
			break
		}
		l.endStates, l.RevokedAt = false, time.Time{}
		if err := l.revokeCertificates(); err != nil {
			return err
		}
	}
	l.noteVisible()
	return nil
}

// proofWait is how long a CA's revocations may take to be visible, from now.
func (l *lock) proofWait(ca activities.CAPolicy) time.Duration {
	if ca.ProofWait >= 0 {
		return ca.ProofWait
	}
	return max(l.NextCRL[ca.Name].Sub(workflow.Now(l.ctx)), 0) + publicationMargin
}

// awaitPublication waits for one CA. That it takes too long is no failure: the
// certificates are revoked, and the result says that not everybody sees it yet,
// and why.
func (l *lock) awaitPublication(ctx workflow.Context, b *branch) error {
	in := activities.AwaitPublicationInput{
		CA:       b.ca,
		MobileID: l.request.MobileID,
		Process:  l.process(),
		Decision: l.DecidedBy,
	}
	for _, i := range b.certs {
		in.Certificates = append(in.Certificates, l.Certificates[i])
	}
	end := workflow.Now(l.ctx).Add(l.proofWait(b.ca))
	l.running++
	defer func() { l.running-- }()
	for {
		var result activities.AwaitPublicationResult
		left := end.Sub(workflow.Now(l.ctx))
		if left <= 0 {
			return nil
		}
		err := l.try(ctx, step{
			id:      "publish/" + b.id(l),
			summary: fmt.Sprintf("Wait until others see %d revocations of %s", len(b.certs), b.ca.Name),
			options: func(ctx workflow.Context, id, summary string) workflow.Context {
				return withPublication(ctx, id, summary, left)
			},
			name:  activities.AwaitPublicationName,
			input: in,
		}, &result)
		switch {
		case err == nil:
			l.SetBack = l.SetBack || result.SetBack
			for n, i := range b.certs {
				l.Certificates[i] = result.Certificates[n]
			}
			l.noteAudit(result.Audit)
			return nil
		case errors.Is(err, errInterrupted):
			if l.restDue() {
				return errRest
			}
		default:
			l.log.Warn("Revocation is not visible to others yet", "ca", b.ca.Name, "error", err)
			var said *temporal.ApplicationError
			if errors.As(err, &said) {
				l.unseen = said.Message()
			}
			return nil
		}
	}
}

// noteVisible dates the last certificate that became visible, or warns that one
// is not.
func (l *lock) noteVisible() {
	var last time.Time
	for _, c := range l.Certificates {
		switch {
		case c.Outcome == mobileid.OutcomeExpiredNotRevoked:
		case c.VisibleAt.IsZero():
			l.warning = "not everybody can see the revocation yet: " + cmp.Or(l.unseen, "it is not in what the CA publishes")
			return
		case c.VisibleAt.After(last):
			last = c.VisibleAt
		}
	}
	l.visibleAt = last
}
