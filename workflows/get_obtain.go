package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// obtain brings the new mobile ID to the phone. Its errors are a refusal, if nothing
// was begun, and a failure otherwise.
func (g *get) obtain() error {
	for _, step := range []func() error{
		g.clearTheWay, g.register, g.awaitKeys, g.issue, g.install, g.activate,
	} {
		if failure := g.given(); failure != nil {
			return failure
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// register uses up the grant and creates the mobile ID as registered.
func (g *get) register() error {
	g.show(Provisioning)
	var receipt mobileid.Receipt
	err := g.perform(g.ctx, step{
		id: "register", summary: "Create " + g.mobileID + " as registered", options: withIdentityManager,
		name: activities.RegisterMobileIDName,
		input: mobileid.RegistrationOrder{
			MobileID: g.mobileID, UserID: g.request.UserID, Name: g.policy.ProfileName,
			Process: g.process(), Decision: g.decidedBy, RequestedAt: g.requestedAt,
		},
	}, &receipt)
	if err != nil {
		return err
	}
	g.audit = receipt.Audit
	return nil
}

// registered reports whether the mobile ID was created.
func (g *get) registered() bool { return g.audit.Number != 0 }

// awaitKeys has a phone reached, and waits for the keys that it makes.
func (g *get) awaitKeys() error {
	var sent activities.CommandSent
	err := g.bounded(step{
		id: "provision", summary: "Ask messaging to reach a phone", name: activities.ProvisionName,
		input: activities.ProvisionInput{
			MobileID: g.mobileID, UserID: g.request.UserID, WorkflowID: g.process().WorkflowID, Policy: g.policy,
		},
	}, g.policy.StepWait, mobileid.FailureMessagingRefused, &sent)
	if err != nil {
		return err
	}
	g.shown = true
	g.show(AwaitingPhone)
	if err := g.awaitAnswer(sent, "Wait for the phone to scan the code"); err != nil {
		return err
	}
	return g.bounded(step{
		id: "read-keys", summary: "Verify the phone's answer", name: activities.ReadKeysName,
		input: activities.ReadKeysInput{MobileID: g.mobileID, Command: sent},
	}, g.policy.StepWait, mobileid.FailureConflict, &g.made)
}

// answerGrace is how long after the phone's time is over an answer may still come in
// that was given in time.
const answerGrace = 30 * time.Second

// awaitAnswer waits until messaging has answered a command, its time is over, or the
// Get is given up. Whether there is an answer is read from the store, so a word that
// got lost is no harm.
func (g *get) awaitAnswer(sent activities.CommandSent, summary string) error {
	g.deadline = sent.ExpiresAt
	g.describe()
	timerCtx, stopTimer := workflow.WithCancel(g.ctx)
	defer stopTimer()
	wait := max(sent.ExpiresAt.Sub(workflow.Now(g.ctx)), 0) + answerGrace
	timer := workflow.NewTimerWithOptions(timerCtx, wait, workflow.TimerOptions{Summary: summary})
	await(g.ctx, func() bool { return g.answered[sent.CommandID] || timer.IsReady() || g.given() != nil })
	g.deadline = time.Time{}
	if failure := g.given(); failure != nil {
		return failure
	}
	return nil
}

// issue has the CA issue for the phone's keys, and Identity Manager take it over.
func (g *get) issue() error {
	g.shown = true
	g.show(Issuing)
	g.askedCA = true
	end := workflow.Now(g.ctx).Add(g.policy.StepWait)
	attempt := min(boundedAttempt, time.Duration(len(g.made.Keys))*g.policy.CA.CallTimeout+turnWait)
	var issued activities.IssueResult
	err := g.bounded(step{
		id: "issue/" + g.policy.CA.Name, summary: fmt.Sprintf("Issue %d certificates at %s", len(g.made.Keys), g.policy.CA.Name),
		name: activities.IssueAtCAName, input: g.issueInput(), queue: g.policy.CA.TaskQueue, attempt: attempt,
	}, g.policy.StepWait, mobileid.FailureCARefused, &issued)
	if err != nil && activities.FailureOf(err) == nil {
		// A try that the engine has given up may sleep until its own time is over,
		// and what it sent may be with the CA for as long as a call takes.
		g.issuedBy = earlier(end, workflow.Now(g.ctx).Add(attempt)).Add(g.policy.CA.CallTimeout)
	}
	if err != nil {
		return err
	}
	if err := g.recordIssued(issued.Certificates); err != nil {
		return err
	}
	g.issued = issued
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (g *get) issueInput() activities.IssueInput {
	return activities.IssueInput{CA: g.policy.CA, Policies: g.policy.Keys, Keys: g.made.Keys, NotAfter: g.policy.NotAfter}
}

// recordIssued tells Identity Manager of certificates, so that they are revoked
// whatever happens next.
func (g *get) recordIssued(certificates []activities.IssuedCertificate) error {
	order := mobileid.IssueOrder{MobileID: g.mobileID, Process: g.process(), Decision: g.decidedBy, CA: g.policy.CA.Name}
	for _, c := range certificates {
		order.Certificates = append(order.Certificates, c.Certificate)
	}
	var receipt mobileid.Receipt
	err := g.perform(g.ctx, step{
		id: "record-issued", summary: fmt.Sprintf("Record %d certificates in Identity Manager", len(certificates)),
		options: withIdentityManager, name: activities.RecordIssuedName, input: order,
	}, &receipt)
	if err != nil {
		return err
	}
	g.take(receipt)
	return nil
}

// take notes what a transaction brought about.
func (g *get) take(receipt mobileid.Receipt) {
	g.audit = receipt.Audit
	g.certificates = nil
	for _, c := range receipt.Certificates {
		g.certificates = append(g.certificates, mobileid.CertificateResult{
			CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter, CA: g.policy.CA.Name, StateInIM: c.State,
		})
	}
}

// install sends the certificates to the phone, and waits until it has them.
func (g *get) install() error {
	g.show(Installing)
	var sent activities.CommandSent
	err := g.bounded(step{
		id: "install", summary: "Send the certificates to the phone", name: activities.InstallCertificatesName,
		input: activities.InstallInput{
			MobileID: g.mobileID, UserID: g.request.UserID, WorkflowID: g.process().WorkflowID, ProfileID: g.made.ProfileID,
			Certificates: g.issued.Certificates, Chain: g.issued.Chain, Wait: g.policy.InstallWait,
		},
	}, g.policy.StepWait, mobileid.FailureMessagingRefused, &sent)
	if err != nil {
		return err
	}
	if err := g.awaitAnswer(sent, "Wait for the phone to install the certificates"); err != nil {
		return err
	}
	in := activities.ReadInstallationInput{MobileID: g.mobileID, Command: sent.CommandID}
	for _, key := range g.made.Keys {
		in.Keys = append(in.Keys, key.ID)
	}
	return g.bounded(step{
		id: "read-installation", summary: "See what the phone has installed", name: activities.ReadInstallationName, input: in,
	}, g.policy.StepWait, mobileid.FailureConflict, nil)
}

// activate makes the mobile ID active. From here on Cancel comes too late.
func (g *get) activate() error {
	g.committed = true
	g.show(Activating)
	var receipt mobileid.Receipt
	err := g.perform(g.ctx, step{
		id: "activate", summary: "Make " + g.mobileID + " active", options: withIdentityManager,
		name: activities.ActivateMobileIDName,
		input: mobileid.ActivationOrder{
			MobileID: g.mobileID, UserID: g.request.UserID, Process: g.process(), Decision: g.decidedBy,
		},
	}, &receipt)
	if err != nil {
		return err
	}
	g.activatedAt = receipt.At
	g.take(receipt)
	return nil
}

// bounded performs a step of which a person waits for the end: what does not succeed
// in time is a failure of the given type, and no operator is asked. Cancel ends it.
func (g *get) bounded(s step, wait time.Duration, kind mobileid.FailureType, out any) error {
	end := workflow.Now(g.ctx).Add(wait)
	s.unless = func() bool { return g.given() != nil }
	s.options = func(ctx workflow.Context, id, summary string) workflow.Context {
		return withinTime(ctx, id, summary, s.queue, end.Sub(workflow.Now(g.ctx)), cmp.Or(s.attempt, boundedAttempt))
	}
	g.running++
	defer func() { g.running-- }()
	for {
		err := g.try(g.ctx, s, out)
		switch {
		case err == nil:
			return nil
		case g.given() != nil:
			return g.given()
		case asRefusal(err) != nil, activities.FailureOf(err) != nil:
			return err
		case errors.Is(err, errInterrupted) && end.After(workflow.Now(g.ctx)):
			continue // a retry
		}
		return &mobileid.Failure{Type: kind, Message: s.summary + ": " + words(err)}
	}
}

// takeBack leaves nothing behind: the mobile ID becomes locked, and every
// certificate that was or may have been issued is revoked, by the machinery of the
// lock. It ends when that is done, however long it takes.
func (g *get) takeBack() {
	if !g.registered() {
		return // there is nothing
	}
	// An answer may be lost of what the CA has issued all the same.
	unheard := g.askedCA && len(g.made.Keys) > 0 && len(g.issued.Certificates) == 0
	early := workflow.Now(g.ctx).Before(g.issuedBy)
	if unheard {
		g.must(g.findIssued)
	}
	g.must(func() error { return g.abandon(g.mobileID, g.failure) })
	g.revoke()
	if unheard && early && len(g.certificates) < len(g.made.Keys) {
		// What was not there yet may have come since, or may still come.
		wait := max(g.issuedBy.Sub(workflow.Now(g.ctx)), 0)
		_ = workflow.NewTimerWithOptions(g.ctx, wait, workflow.TimerOptions{Summary: "Wait until the CA issues no more"}).Get(g.ctx, nil)
		before := len(g.certificates)
		g.must(g.findIssued)
		if len(g.certificates) > before {
			g.revoke()
		}
	}
	for i := range g.certificates {
		g.certificates[i].StateInIM = mobileid.CertificateRevoked
	}
}

// revoke has what was issued revoked, and waits for it.
func (g *get) revoke() {
	if len(g.certificates) == 0 {
		return
	}
	joined := false
	g.must(func() (err error) {
		joined, err = g.resumeLock(g.ctx, g.mobileID)
		return err
	})
	if joined {
		defer g.insist(func(ctx workflow.Context) (bool, error) { return g.resumeLock(ctx, g.mobileID) })()
	}
	g.must(func() error {
		return g.perform(g.ctx, step{
			id: "await-none-live", summary: "Wait until what was issued is revoked", options: withIdentityManager,
			name: activities.AwaitNoneLiveName, input: activities.AwaitNoneLiveInput{UserID: g.request.UserID, MobileID: g.mobileID},
		}, nil)
	})
}

// must performs what has to be, and shows an operator what keeps it from being.
func (g *get) must(act func() error) {
	for {
		err := act()
		if err == nil {
			return
		}
		g.running++
		g.awaitOperator(g.ctx, "take-back", words(err), nil)
		g.running--
	}
}

// findIssued looks for what was issued for the phone's keys.
func (g *get) findIssued() error {
	var found activities.IssueResult
	err := g.perform(g.ctx, step{
		id: "find-issued/" + g.policy.CA.Name, summary: "Look for what " + g.policy.CA.Name + " has issued",
		options: func(ctx workflow.Context, id, summary string) workflow.Context {
			return withCA(ctx, id, summary, g.policy.CA, len(g.made.Keys))
		},
		name: activities.FindIssuedName, input: g.issueInput(),
	}, &found)
	if err != nil || len(found.Certificates) == 0 {
		return err
	}
	return g.recordIssued(found.Certificates)
}

// abandon makes a registered mobile ID locked.
func (g *get) abandon(mobileID string, why *mobileid.Failure) error {
	var receipt mobileid.Receipt
	err := g.perform(g.ctx, step{
		id: "abandon/" + mobileID, summary: "Lock " + mobileID + ", which does not come into being", options: withIdentityManager,
		name:  activities.AbandonMobileIDName,
		input: mobileid.AbandonOrder{MobileID: mobileID, Process: g.process(), Decision: g.decidedBy, Failure: why},
	}, &receipt)
	if err == nil && mobileID == g.mobileID {
		g.take(receipt)
	}
	return err
}
