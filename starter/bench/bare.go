package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/workflows"
)

// Bare is the same calls to Identity Manager and the CAs as those of a lock, in the same
// order and by the same code, without the engine: no history, no retry, and nothing goes
// on after a crash. It runs in the process that measures.
type Bare struct {
	Store activities.IdentityManager
	CAs   *ca.Authorities
}

// lock makes a mobile ID locked, and its certificates revoked at their CAs and then in
// Identity Manager.
func (b Bare) lock(ctx context.Context, id, owner string) error {
	if _, err := b.Store.MobileID(ctx, id); err != nil { // as the validation does
		return err
	}
	now := time.Now().UTC()
	process := mobileid.Process{Name: workflows.Lock, WorkflowID: workflows.LockWorkflowID(id), RunID: "bare/" + id}
	decision := mobileid.Decision{UserID: owner}
	receipt, err := b.Store.Lock(ctx, mobileid.LockOrder{
		MobileID: id, Owner: owner, Process: process, Decision: decision, RequestedAt: now, Reason: bareReason,
	})
	if err != nil {
		return err
	}
	byCA := map[string][]mobileid.Certificate{}
	for _, c := range receipt.Certificates {
		authority, ok := b.CAs.For(c.CertificateID)
		if !ok {
			return fmt.Errorf("no CA is configured for %s", c.CertificateID) //nolint:err113 // of a measurement
		}
		byCA[authority.Name] = append(byCA[authority.Name], c)
	}
	for name, certificates := range byCA {
		results, err := b.revoke(ctx, name, certificates, now)
		if err != nil {
			return err
		}
		if _, err := b.Store.RecordRevocations(ctx, mobileid.RevocationOrder{
			MobileID: id, Process: process, Decision: decision, CA: name, Certificates: results,
		}); err != nil {
			return err
		}
	}
	return nil
}

const (
	bareReason = mobileid.CessationOfOperation
	// bareConcurrency is the default of a CA's concurrency.
	bareConcurrency = 4
)

func (b Bare) revoke(ctx context.Context, name string, certificates []mobileid.Certificate, requestedAt time.Time) ([]mobileid.CertificateResult, error) {
	authority, _ := b.CAs.ByName(name)
	results := make([]mobileid.CertificateResult, len(certificates))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(bareConcurrency)
	for i, c := range certificates {
		group.Go(func() (err error) {
			results[i], err = authority.Revoke(ctx, ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter},
				bareReason, false, requestedAt)
			results[i].StateInIM = c.State
			return err
		})
	}
	return results, group.Wait()
}
