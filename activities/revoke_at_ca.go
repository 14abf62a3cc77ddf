package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/ca"
)

// ledger is what an attempt has reached so far. It is the heartbeat's details,
// so that the next attempt goes on from it: what is done is not done again, and
// what may have been asked is read first.
type ledger struct {
	Done []mobileid.CertificateResult `json:"done,omitempty"`
	// PendingSince is when a request was first found waiting for an approval at
	// the CA, by "issuer/aki/serial".
	PendingSince map[string]time.Time `json:"pendingSince,omitempty"`
}

// RevokeAtCA tries every open certificate of one CA once. It succeeds when all
// are revoked with proof, when some need an operator, or when a request is found
// waiting for an approval of which the process does not know yet: then the curable
// rest stays open in its result, for the process to go on with. Otherwise it
// fails, and the engine tries again later.
//
// That a request waits is told at once, even if the step was cancelled meanwhile:
// a ledger is lost with its step, and the next step would send a second request.
func (a *Activities) RevokeAtCA(ctx context.Context, in RevokeAtCAInput) (*RevokeAtCAResult, error) {
	authority, ok := a.CAs.ByName(in.CA.Name)
	if !ok {
		return nil, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("CA %q is not in the configuration of this worker", in.CA.Name), string(ca.Unsupported), nil)
	}
	if authority.Driver == nil {
		return nil, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("this worker has no driver for CA %q, and the lock began before the CA had a task queue: configure one until such locks have ended", in.CA.Name), string(ca.Unsupported), nil)
	}
	encoded, err := a.encoded(ctx, authority, in.MobileID)
	if err != nil {
		return nil, translate(err)
	}
	attempt := &revocation{
		authority: authority,
		in:        in,
		asked:     in.Asked || activity.GetInfo(ctx).Attempt > 1,
		results:   slices.Clone(in.Certificates),
		encoded:   encoded,
		pending:   map[string]time.Time{},
	}
	for _, p := range in.Pending {
		attempt.pending[key(p.CertificateID)] = p.Since
	}
	attempt.resume(ctx)
	stop := heartbeat(ctx, attempt.ledger)
	worst := attempt.run(ctx)
	stop()
	if attempt.foundPending() {
		return attempt.result(), nil
	}
	if ctx.Err() != nil {
		return nil, translate(ctx.Err())
	}
	if worst != nil && !attempt.needsOperator() {
		// Recorded once more, so that the next attempt finds all of it.
		activity.RecordHeartbeat(ctx, attempt.ledger())
		return nil, translate(worst)
	}
	return attempt.result(), nil
}

// encoded reads the certificates themselves for a driver that takes them. They are
// read anew instead of travelling with the step, where they would make up most of
// every history. A worker that serves only CAs has nowhere to read them.
func (a *Activities) encoded(ctx context.Context, authority *ca.Authority, mobileID string) (map[mobileid.CertificateID][]byte, error) {
	can := authority.Driver.Capabilities()
	if !can.NeedsDER && !can.TakesDER || a.IM == nil || mobileID == "" {
		return nil, nil
	}
	m, err := a.IM.MobileID(ctx, mobileID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return nil, nil // deleted since: its certificates are to be revoked all the same
	}
	if err != nil {
		return nil, err
	}
	encoded := make(map[mobileid.CertificateID][]byte, len(m.Certificates))
	for _, c := range m.Certificates {
		encoded[c.CertificateID] = c.DER
	}
	return encoded, nil
}

// revocation is one attempt at the certificates of one CA.
type revocation struct {
	authority *ca.Authority
	in        RevokeAtCAInput
	asked     bool
	encoded   map[mobileid.CertificateID][]byte // DER, where the driver takes it

	mu      sync.Mutex
	results []mobileid.CertificateResult
	pending map[string]time.Time
}

func key(id mobileid.CertificateID) string { return id.Issuer + "/" + id.AKI + "/" + id.Serial }

// resume takes over what an earlier attempt has reached. A ledger that cannot be
// read is none: the status at the CA is the truth.
func (r *revocation) resume(ctx context.Context) {
	if !activity.HasHeartbeatDetails(ctx) {
		return
	}
	var before ledger
	if err := activity.GetHeartbeatDetails(ctx, &before); err != nil {
		activity.GetLogger(ctx).Warn("Ledger of the attempt before cannot be read", "error", err)
		return
	}
	for i, c := range r.results {
		for _, done := range before.Done {
			if done.CertificateID == c.CertificateID {
				r.results[i] = done
			}
		}
	}
	for k, since := range before.PendingSince {
		r.pending[k] = since
	}
}

// ledger is what the next attempt needs to know.
func (r *revocation) ledger() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	var now ledger
	for _, c := range r.results {
		if c.Outcome != "" {
			now.Done = append(now.Done, c)
		}
	}
	now.PendingSince = map[string]time.Time{}
	for k, since := range r.pending {
		now.PendingSince[k] = since
	}
	return now
}

// result is what the process is told.
func (r *revocation) result() *RevokeAtCAResult {
	result := &RevokeAtCAResult{Certificates: r.results, NextPublication: r.authority.NextPublication()}
	for _, c := range r.results {
		if since, waits := r.pending[key(c.CertificateID)]; waits && c.Outcome == "" {
			result.Pending = append(result.Pending, PendingRequest{c.CertificateID, since})
		}
	}
	return result
}

// foundPending reports whether a request waits for an approval of which the process
// does not know. One of a build that keeps none is not told: it would send the step
// again at once, for ever.
func (r *revocation) foundPending() bool {
	if r.in.Pending == nil {
		return false
	}
	return slices.ContainsFunc(r.result().Pending, func(p PendingRequest) bool {
		return !slices.ContainsFunc(r.in.Pending, func(known PendingRequest) bool { return known.CertificateID == p.CertificateID })
	})
}

// run tries every open certificate once, some at a time, and returns the failure
// that asks to wait longest, or nil.
func (r *revocation) run(ctx context.Context) error {
	var (
		group sync.WaitGroup
		slots = make(chan struct{}, max(r.in.CA.Concurrency, 1))
		worst error
	)
	for i, c := range r.results {
		if c.Outcome != "" {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			group.Wait()
			return ctx.Err()
		}
		group.Add(1)
		go func() {
			defer func() {
				<-slots
				group.Done()
			}()
			result, err := r.revoke(ctx, c)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results[i] = result
			if err != nil && waits(err) >= waits(worst) {
				worst = err
			}
		}()
	}
	group.Wait()
	return worst
}

// revoke tries one certificate. Its error is curable; what is not stands in the
// result.
func (r *revocation) revoke(ctx context.Context, c mobileid.CertificateResult) (mobileid.CertificateResult, error) {
	cert := ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter, DER: r.encoded[c.CertificateID]}
	result, err := r.ask(ctx, cert)
	if err == nil {
		result.StateInIM = c.StateInIM
		return result, nil
	}
	if ca.IsPending(err) {
		err = r.stillPending(ctx, c.CertificateID, err)
	}
	if ca.Curable(err) {
		return c, err
	}
	if isKind(err, ca.Unsupported) {
		// Not approved in time, or rejected: after the operator's retry it may be
		// asked again. With any other failure it waits on.
		r.mu.Lock()
		delete(r.pending, key(c.CertificateID))
		r.mu.Unlock()
	}
	c.CannotRevoke = err.Error()
	activity.GetLogger(ctx).Warn("Certificate cannot be revoked without an operator",
		"ca", r.authority.Name, "serial", c.Serial, "error", err)
	return c, nil
}

// ask asks the CA to revoke, or only reads the status of a request that waits for
// an approval there: a second request would be a second approval.
func (r *revocation) ask(ctx context.Context, cert ca.Certificate) (mobileid.CertificateResult, error) {
	r.mu.Lock()
	_, pending := r.pending[key(cert.CertificateID)]
	r.mu.Unlock()
	if pending {
		return r.authority.Poll(ctx, cert, r.in.Reason, r.in.RequestedAt)
	}
	return r.authority.Revoke(ctx, cert, r.in.Reason, r.asked, r.in.RequestedAt)
}

// stillPending lets a request wait for its approval at the CA, up to the
// configured time from when it was first found waiting.
func (r *revocation) stillPending(ctx context.Context, id mobileid.CertificateID, err error) error {
	r.mu.Lock()
	since, known := r.pending[key(id)]
	if !known {
		since = time.Now().UTC()
		r.pending[key(id)] = since
	}
	r.mu.Unlock()
	if !known {
		activity.RecordHeartbeat(ctx, r.ledger()) // should this worker die before it can tell
	}
	if wait := r.in.CA.ApprovalWait; wait > 0 && time.Since(since) > wait {
		return &ca.Error{Kind: ca.Unsupported, Op: "revoke " + id.String(),
			Words: fmt.Sprintf("not approved at the CA within %s", wait), Err: err}
	}
	return err
}

// needsOperator reports whether a certificate can be cured by an operator alone.
func (r *revocation) needsOperator() bool {
	return slices.ContainsFunc(r.results, func(c mobileid.CertificateResult) bool { return c.CannotRevoke != "" })
}

func isKind(err error, kind ca.Kind) bool {
	var atCA *ca.Error
	return errors.As(err, &atCA) && atCA.Kind == kind
}

// waits is how long a failure asks to wait.
func waits(err error) time.Duration {
	var atCA *ca.Error
	if errors.As(err, &atCA) {
		return atCA.RetryAfter
	}
	return 0
}
