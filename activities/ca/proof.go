package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mobileid"
)

// crlGrace is how long a revocation that is proven waits for the CRL to show it, too.
const crlGrace = time.Second

// errNoSource: for example an expired certificate of a CA that has only a CRL.
var errNoSource = errors.New("no source can tell the status of the certificate")

// Finding is what all sources together say about one certificate.
type Finding struct {
	// Status is the gravest that a source says; StatusUnknown if none says
	// anything. The sources may differ: see Evidence.
	Status mobileid.Status
	// Revoked reports whether a signed answer lists the certificate as revoked
	// for good. It is the only proof that there is.
	Revoked bool
	// RevokedAt is the CA's date of the revocation for good, zero if it has none.
	RevokedAt time.Time
	// ReasonAtCA is the reason as read back, empty if no source carries one.
	ReasonAtCA mobileid.Reason
	// Proofs are the answers that list the certificate as revoked for good: the
	// CA's own first, then OCSP, then the CRL.
	Proofs []mobileid.Proof
	// VisibleAt is when every public source was seen to show the revocation; zero
	// if one does not yet. It is also zero if the CA has no public source that
	// shows this certificate: see [Authority.Publishes].
	VisibleAt time.Time
	// Evidence is what the sources that answered say, in the order of Proofs.
	Evidence []Evidence
	// Failures are the errors of the sources that did not.
	Failures []error
	// refusal is the CA's own status if it says that nothing will come of the request.
	refusal error
}

// testimony is what one source said.
type testimony struct {
	source   mobileid.ProofSource
	evidence Evidence
	err      error
}

// revoked reports that the source lists the certificate as revoked for good.
func (t testimony) revoked() bool { return t.err == nil && t.evidence.Status == mobileid.StatusRevoked }

// Prove asks every source about a certificate at the same time: the CA's own
// status, OCSP, and the CRL, except that the CRL is not asked about an expired
// certificate, which it need not list (contract rule 9; RFC 5280 section 3.3). A
// source that fails does not spoil the others, and one signed answer proves a
// revocation for good.
//
// The CRL of a revocation that the others prove is waited for a second at most, once it
// is known when the next one is due: it can add nothing to the proof, nor contradict it,
// and people wait for the revocation. Whether everybody can see it, [Authority.Visible]
// asks.
//
// revokedAt is the date of the revocation as far as it is known from elsewhere,
// for example the CA's answer to the request; zero if it is not.
//
// The error is nil if the certificate is proven revoked, or if it is not and the
// status could be read. Otherwise it is an *Error:
//   - of kind Contradiction, with all that was found, if the CA or its OCSP
//     responder says "good" more than five minutes after the revocation, or if
//     nothing proves a revocation and a CRL that is as late does not list it
//     (contract rule 8);
//   - the failure of the sources, if the CA's own status cannot be read now, or
//     if none of them answered.
func (a *Authority) Prove(ctx context.Context, cert Certificate, revokedAt time.Time) (Finding, error) {
	return a.prove(ctx, cert, revokedAt, crlGrace)
}

// Visible is Prove, and waits for every public source as long as the request time-out
// allows.
func (a *Authority) Visible(ctx context.Context, cert Certificate, revokedAt time.Time) (Finding, error) {
	return a.prove(ctx, cert, revokedAt, a.requestTimeout())
}

func (a *Authority) prove(ctx context.Context, cert Certificate, revokedAt time.Time, crlGrace time.Duration) (Finding, error) {
	said := a.ask(ctx, cert, crlGrace)
	now := a.clock()
	finding := a.weigh(said, cert, now)
	if finding.Revoked && !finding.RevokedAt.IsZero() {
		revokedAt = finding.RevokedAt
	}
	if !cert.expired(now) {
		if err := contradiction(said, finding.Revoked, revokedAt); err != nil {
			return finding, &Error{Kind: Contradiction, Op: "prove revocation of " + cert.CertificateID.String(), Err: err}
		}
	}
	if finding.Revoked {
		return finding, nil
	}
	return finding, unread(said, "read status of "+cert.CertificateID.String())
}

// Publishes reports whether others can see at all whether the certificate is
// revoked. If not, nothing is to be waited for after its revocation.
func (a *Authority) Publishes(cert Certificate) bool {
	return a.OCSP != nil || a.CRL != nil && !cert.expired(a.clock())
}

// NextPublication returns when the next CRL is due at the latest, as far as the
// CRLs read until now say; zero if nothing does.
func (a *Authority) NextPublication() time.Time {
	if a.CRL == nil {
		return time.Time{}
	}
	return a.CRL.NextUpdate()
}

// expired reports whether the certificate is past its notAfter. One whose end is
// not known is treated as a live one.
func (c Certificate) expired(now time.Time) bool {
	return !c.NotAfter.IsZero() && now.After(c.NotAfter)
}

// question is what one source is asked.
type question struct {
	source mobileid.ProofSource
	call   Call
	check  func(context.Context, Certificate) (Evidence, error)
}

// questions are those about a certificate, that about the CRL last.
func (a *Authority) questions(cert Certificate) []question {
	var questions []question
	if a.Driver != nil && a.Driver.Capabilities().HasStatus {
		questions = append(questions, question{mobileid.ProofFromCA, CallStatus, a.Driver.Status})
	}
	if a.OCSP != nil {
		questions = append(questions, question{mobileid.ProofFromOCSP, CallOCSP, a.OCSP.Check})
	}
	if a.CRL != nil && !cert.expired(a.clock()) {
		questions = append(questions, question{mobileid.ProofFromCRL, CallCRL, a.CRL.Check})
	}
	return questions
}

// ask asks the sources, each within the request time-out, and the CRL within crlGrace
// once the others prove a revocation. [Authority.NextPublication] is known then: it says
// how long the publication is waited for.
func (a *Authority) ask(ctx context.Context, cert Certificate, crlGrace time.Duration) []testimony {
	questions := a.questions(cert)
	said := make([]testimony, len(questions))
	forCRL, forget := context.WithCancel(ctx)
	defer forget()
	var others, crl sync.WaitGroup
	before := 0 // the CRL
	for i, q := range questions {
		if q.source == mobileid.ProofFromCRL {
			crl.Go(func() { said[i] = a.put(forCRL, q, cert) })
			continue
		}
		before++
		others.Go(func() { said[i] = a.put(ctx, q, cert) })
	}
	others.Wait()
	hasty := crlGrace < a.requestTimeout() && a.NextPublication().After(a.clock())
	if hasty && slices.ContainsFunc(said[:before], testimony.revoked) {
		defer time.AfterFunc(crlGrace, forget).Stop()
	}
	crl.Wait()
	return said
}

// put puts a question to its source.
func (a *Authority) put(ctx context.Context, q question, cert Certificate) testimony {
	if q.source == mobileid.ProofFromCA {
		if err := a.turn(ctx); err != nil {
			return testimony{source: q.source, err: err}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTimeout())
	defer cancel()
	evidence, err := observed(ctx, a, q.call, func(ctx context.Context) (Evidence, error) { return q.check(ctx, cert) }, statusClass)
	if err == nil {
		evidence, err = read(q.source, evidence)
	}
	return testimony{q.source, evidence, err}
}

// read takes the words of a source for what they amount to: a revocation for a
// reason that is not for good is none, and one without the answer's time and
// hash cannot be shown to anybody.
func read(source mobileid.ProofSource, e Evidence) (Evidence, error) {
	e.Proof.Source = source
	if e.Status != mobileid.StatusRevoked {
		return e, nil
	}
	switch {
	case e.Reason == mobileid.CertificateHold:
		e.Status = mobileid.StatusOnHold
	case e.Reason == mobileid.RemoveFromCRL:
		e.Status = mobileid.StatusUnknown
	case e.Proof.SHA256 == "" || e.Proof.At.IsZero():
		return e, &Error{Kind: Unsupported, Op: "read proof from " + string(source), Err: errors.New("the answer bears no time or no hash")}
	}
	return e, nil
}

// gravity orders what sources say.
var gravity = map[mobileid.Status]int{
	mobileid.StatusUnknown: 0,
	mobileid.StatusGood:    1,
	mobileid.StatusOnHold:  2,
	mobileid.StatusRevoked: 3,
}

// weigh puts together what the sources said.
func (a *Authority) weigh(said []testimony, cert Certificate, now time.Time) Finding {
	f := Finding{Status: mobileid.StatusUnknown}
	visible := a.Publishes(cert)
	for _, t := range said {
		if t.source != mobileid.ProofFromCA {
			visible = visible && t.revoked()
		}
		if t.err != nil {
			f.Failures = append(f.Failures, t.err)
			var e *Error
			if t.source == mobileid.ProofFromCA && errors.As(t.err, &e) && e.Kind == Unsupported {
				f.refusal = t.err
			}
			continue
		}
		f.Evidence = append(f.Evidence, t.evidence)
		if gravity[t.evidence.Status] > gravity[f.Status] {
			f.Status = t.evidence.Status
		}
		if !t.revoked() {
			continue
		}
		f.Revoked = true
		f.Proofs = append(f.Proofs, t.evidence.Proof)
		if f.RevokedAt.IsZero() {
			f.RevokedAt = t.evidence.RevokedAt.UTC()
		}
		if f.ReasonAtCA == "" {
			f.ReasonAtCA = t.evidence.Reason
		}
	}
	if visible {
		f.VisibleAt = now.UTC()
	}
	return f
}

// contradiction looks for a "good" that is too late to be explained by an answer
// that was under way. Being absent from a CRL is weaker, because a CRL may be
// made from what was known a while ago; it counts if nothing else is known.
func contradiction(said []testimony, proven bool, revokedAt time.Time) error {
	if revokedAt.IsZero() {
		return nil
	}
	for _, t := range said {
		if t.err != nil || t.evidence.Status != mobileid.StatusGood || t.source == mobileid.ProofFromCRL && proven {
			continue
		}
		if at := t.evidence.Proof.At; at.After(revokedAt.Add(clockTolerance)) {
			return fmt.Errorf("%s says good at %s, after the revocation at %s",
				t.source, at.UTC().Format(time.RFC3339), revokedAt.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// unread returns why the status of a certificate that nothing proves revoked is
// not known well enough to ask the CA again, or nil. The CA's own status comes
// first: if it will be readable later, nothing else stands for it. If only an
// operator could make it readable, the public sources do.
func unread(said []testimony, op string) error {
	if len(said) == 0 {
		return &Error{Kind: Unsupported, Op: op, Err: errNoSource}
	}
	answered := false
	var worst error
	for _, t := range said {
		switch {
		case t.err == nil:
			answered = true
		case t.source == mobileid.ProofFromCA && Curable(t.err):
			return asError(t.err, op)
		case worst == nil || Curable(t.err) && !Curable(worst):
			worst = t.err
		}
	}
	if answered {
		return nil
	}
	return asError(worst, op)
}

// maxRetryAfter is the longest that a CA can put off the next try. Tries are
// minutes apart at most (contract rule 10), and the word of a public source comes
// over plain HTTP: whoever is on the line could put off a lock for years.
const maxRetryAfter = 15 * time.Minute

// asError classifies a failure that nobody has: it may have had any effect.
func asError(err error, op string) error {
	var classified *Error
	if !errors.As(err, &classified) {
		return &Error{Kind: Ambiguous, Op: op, Err: err}
	}
	if classified.RetryAfter <= maxRetryAfter {
		return err
	}
	sooner := *classified
	sooner.RetryAfter = maxRetryAfter
	return &sooner
}
