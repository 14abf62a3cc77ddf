package ca

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// dateGranularity is the unit in which CAs note the date of a revocation: one
// made in the very second of the request may seem to precede it.
const dateGranularity = time.Second

var (
	errPending = errors.New("the request waits for an approval at the CA")
	errNoProof = errors.New("no source shows the revocation yet")
)

// Revoke is one try to have a certificate revoked for good, with proof (contract
// rules 6, 7 and 9). asked says that an earlier try may have reached the CA:
// then the status is read first, and the CA is not asked again if it shows the
// revocation. requestedAt is when the lock was asked for; by it the result tells
// whether somebody else had revoked the certificate before.
//
// Order matters. The request goes before the proof, and a request is never
// repeated without a look at the status in between, because an answer may get
// lost and another may be wrong.
//
// The result without an error is final, with Outcome set; StateInIM is left to
// Identity Manager. With an error the result holds what is known, and the *Error
// says what the next try is good for:
//   - Unavailable: the request had no effect;
//   - Ambiguous: it may have had its effect, or the CA says so and nothing proves
//     it yet;
//   - PendingApproval: it waits for an approval, see [Authority.Poll];
//   - any other kind: only an operator can help.
func (a *Authority) Revoke(ctx context.Context, cert Certificate, reason mobileid.Reason, asked bool, requestedAt time.Time) (mobileid.CertificateResult, error) {
	t := a.newAttempt(cert, reason, requestedAt)
	err := t.revoke(ctx, asked)
	return t.result, err
}

// Poll is a try that asks the CA for nothing: it reads whether a request that
// waits for an approval has become a revocation. While it has not, the error
// satisfies [IsPending]; how long that may go on is for the caller to say.
func (a *Authority) Poll(ctx context.Context, cert Certificate, reason mobileid.Reason, requestedAt time.Time) (mobileid.CertificateResult, error) {
	t := a.newAttempt(cert, reason, requestedAt)
	done, err := t.look(ctx)
	if err == nil && !done {
		err = t.pending()
	}
	return t.result, err
}

// attempt is one try at one certificate.
type attempt struct {
	authority   *Authority
	cert        Certificate
	reason      mobileid.Reason
	requestedAt time.Time
	expired     bool // past notAfter when the try began
	sent        bool // a request went to the driver
	op          string
	result      mobileid.CertificateResult
}

func (a *Authority) newAttempt(cert Certificate, reason mobileid.Reason, requestedAt time.Time) *attempt {
	reason = a.reason(reason)
	return &attempt{
		authority:   a,
		cert:        cert,
		reason:      reason,
		requestedAt: requestedAt,
		expired:     cert.expired(a.clock()),
		op:          "revoke " + cert.CertificateID.String(),
		result: mobileid.CertificateResult{
			CertificateID: cert.CertificateID,
			IssuerDN:      cert.IssuerDN,
			NotAfter:      cert.NotAfter,
			CA:            a.Name,
			Reason:        reason,
		},
	}
}

func (t *attempt) revoke(ctx context.Context, asked bool) error {
	if err := issuedBy(t.authority.Issuer, t.cert.CertificateID); err != nil {
		return t.error(Unsupported, err) // drivers may know their certificates by serial number alone
	}
	if asked {
		done, err := t.look(ctx)
		if t.expired && errors.Is(err, errNoSource) {
			err = nil // there is nothing to look at, and the answer will do
		}
		if done || err != nil {
			return err
		}
	}
	answer, err := t.request(ctx)
	if err == nil && answer.Outcome == OnHold && !t.expired {
		// The driver has read that it is on hold; a hold is not a lock.
		answer, err = t.request(ctx)
	}
	if err != nil {
		return t.failed(ctx, err)
	}
	switch answer.Outcome {
	case Revoked, AlreadyRevoked:
		return t.confirm(ctx, answer, asked)
	case Pending:
		return t.pending()
	case OnHold:
		if t.expired {
			return t.concludeExpired(ctx, nil)
		}
		return t.error(Unsupported, errors.New("the CA leaves the certificate on hold"))
	case ExpiredNotRevoked:
		if t.expired {
			return t.concludeExpired(ctx, nil)
		}
		return t.error(Contradiction, fmt.Errorf("the CA takes the certificate for expired, which is valid until %s", t.cert.NotAfter.UTC().Format(time.RFC3339)))
	}
	return t.error(Contradiction, fmt.Errorf("the driver answers %q, which means nothing", answer.Outcome))
}

// look reads the status without asking for anything, and reports whether the
// certificate is revoked for good. That the CA itself says no counts whatever a
// public source says, which knows of no request.
func (t *attempt) look(ctx context.Context) (done bool, err error) {
	finding, err := t.authority.Prove(ctx, t.cert, time.Time{})
	t.result.StatusAtCA = finding.Status
	if !finding.Revoked {
		return false, cmp.Or(err, finding.refusal)
	}
	t.settle(finding, t.outcomeByDate(finding.RevokedAt))
	return true, err
}

// request sends one request, within the time-out of one, so that time is left to
// read the status if it passes.
func (t *attempt) request(ctx context.Context) (Answer, error) {
	driver := t.authority.Driver
	if !t.reason.Final() {
		return Answer{}, t.error(BadReason, fmt.Errorf("%q does not revoke for good", string(t.reason)))
	}
	if driver.Capabilities().NeedsDER && len(t.cert.DER) == 0 {
		return Answer{}, t.error(Unsupported, errors.New("the driver needs the certificate itself, which is not at hand"))
	}
	if err := t.authority.turn(ctx); err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.authority.requestTimeout())
	defer cancel()
	t.sent = true
	answer, err := observed(ctx, t.authority, CallRevoke, func(ctx context.Context) (Answer, error) {
		return driver.Revoke(ctx, t.cert, t.reason)
	}, outcomeClass)
	if err != nil {
		return Answer{}, asError(err, t.op)
	}
	return answer, nil
}

// failed decides what is left of a request that failed. Unless it surely had no
// effect the status is read in the same try: CAs have answered with a failure
// and revoked all the same.
func (t *attempt) failed(ctx context.Context, failure error) error {
	var e *Error
	if errors.As(failure, &e) && e.Kind == Unavailable || ctx.Err() != nil {
		return failure
	}
	if t.expired && t.sent && refuses(failure) {
		return t.concludeExpired(ctx, failure)
	}
	if done, err := t.look(ctx); done || IsPending(err) {
		return err
	}
	return failure
}

// refuses reports whether the CA refuses to revoke the certificate, which for an
// expired one is an answer (contract rule 9). Neither a reason that it does not
// take nor answers that contradict each other say anything about the certificate.
func refuses(failure error) bool {
	var e *Error
	return errors.As(failure, &e) && (e.Kind == NotFound || e.Kind == Denied || e.Kind == Unsupported)
}

// confirm looks for the proof of what the CA answered.
func (t *attempt) confirm(ctx context.Context, answer Answer, asked bool) error {
	since := answer.RevokedAt
	if since.IsZero() {
		since = t.authority.clock()
	}
	finding, err := t.authority.Prove(ctx, t.cert, since)
	t.result.StatusAtCA = finding.Status
	if finding.Revoked {
		outcome := mobileid.OutcomeRevoked
		switch {
		case asked:
			outcome = t.outcomeByDate(finding.RevokedAt)
		case answer.Outcome == AlreadyRevoked:
			outcome = mobileid.OutcomeAlreadyRevoked
		}
		t.settle(finding, outcome)
		if t.result.RevokedAt.IsZero() && !answer.RevokedAt.IsZero() {
			t.result.RevokedAt = answer.RevokedAt.UTC()
		}
		return err
	}
	if t.expired {
		return t.settleExpired(finding, err, nil)
	}
	if err != nil && !Curable(err) {
		return err
	}
	unproven := fmt.Errorf("the CA answers %s, but %w", answer.Outcome, errNoProof)
	if err == nil {
		return t.error(Ambiguous, unproven)
	}
	var e *Error
	errors.As(err, &e) // Prove returns no other
	return &Error{Kind: Ambiguous, Op: t.op, RetryAfter: e.RetryAfter, Err: fmt.Errorf("%w: %w", unproven, err)}
}

// concludeExpired ends the try at an expired certificate after a refusal, or
// after an answer that changed nothing (contract rule 9).
func (t *attempt) concludeExpired(ctx context.Context, refusal error) error {
	finding, err := t.authority.Prove(ctx, t.cert, time.Time{})
	t.result.StatusAtCA = finding.Status
	if finding.Revoked {
		t.settle(finding, t.outcomeByDate(finding.RevokedAt))
		return err
	}
	return t.settleExpired(finding, err, refusal)
}

// settleExpired takes an expired certificate that is not revoked for done. The
// proof is the CA's own status, so that a worker whose credentials are wrong,
// which can neither revoke nor read, does not take that for an answer. A CA whose
// interface has no status is taken at its word.
func (t *attempt) settleExpired(finding Finding, unread, refusal error) error {
	hasStatus := t.authority.Driver.Capabilities().HasStatus
	if unread != nil && Curable(unread) {
		return unread
	}
	t.result.StatusAtCA = finding.Status
	for _, e := range finding.Evidence {
		if hasStatus && e.Proof.Source != mobileid.ProofFromCA {
			continue
		}
		t.result.StatusAtCA = e.Status
		if e.Proof.SHA256 != "" {
			t.result.Proof = []mobileid.Proof{e.Proof}
		}
		t.result.Outcome = mobileid.OutcomeExpiredNotRevoked
		return nil
	}
	if !hasStatus {
		t.result.Outcome = mobileid.OutcomeExpiredNotRevoked
		return nil
	}
	if refusal != nil {
		return refusal
	}
	return errors.Join(finding.Failures...)
}

// settle writes down what was found of a certificate that is revoked for good.
func (t *attempt) settle(finding Finding, outcome mobileid.CertificateOutcome) {
	t.result.StatusAtCA = mobileid.StatusRevoked
	t.result.Outcome = outcome
	t.result.ReasonAtCA = finding.ReasonAtCA
	t.result.RevokedAt = finding.RevokedAt
	t.result.VisibleAt = finding.VisibleAt
	t.result.Proof = finding.Proofs
}

// outcomeByDate tells whose revocation it is when an earlier request may have
// done it: not ours, if the CA dates it before the lock was asked for.
func (t *attempt) outcomeByDate(revokedAt time.Time) mobileid.CertificateOutcome {
	earliest := t.requestedAt.Truncate(dateGranularity).Add(-dateGranularity)
	if !revokedAt.IsZero() && revokedAt.Before(earliest) {
		return mobileid.OutcomeAlreadyRevoked
	}
	return mobileid.OutcomeRevoked
}

func (t *attempt) pending() error { return t.error(PendingApproval, errPending) }

func (t *attempt) error(kind Kind, err error) error {
	return &Error{Kind: kind, Op: t.op, Err: err}
}
