package ca

import (
	"context"
	"errors"
	"time"

	"mobileid"
)

// Verdict is what a comparison of a revocation with the CA comes to.
type Verdict string

// The verdicts.
const (
	// StillRevoked: a signed answer lists it.
	StillRevoked Verdict = "revoked"
	// Forgotten: what the CA says now is later than the revocation, and it is none.
	Forgotten Verdict = "forgotten"
	// NotKnown: nothing says it either way, for example because what the CA published
	// is older than the revocation.
	NotKnown Verdict = "unknown"
)

// Snapshotter is a source that can be read once and asked about many certificates.
type Snapshotter interface {
	// Snapshot reads the newest that there is. The source that it returns asks nobody.
	// The error is as that of Source.Check.
	Snapshot(ctx context.Context) (Source, error)
}

var _ Snapshotter = (*CRL)(nil)

// Snapshot implements [Snapshotter].
func (c *CRL) Snapshot(ctx context.Context) (Source, error) {
	list, err := c.refresh(ctx)
	if err != nil {
		return nil, err
	}
	return snapshot{c, list}, nil
}

type snapshot struct {
	crl  *CRL
	list *revocationList
}

// Check implements [Source].
func (s snapshot) Check(_ context.Context, cert Certificate) (Evidence, error) {
	return s.crl.look(s.list, cert)
}

// Verify says whether a certificate that was revoked at a time is so at its CA still, by
// all of its sources. The driver's turn is waited for. An error is that of the sources,
// with NotKnown.
func (a *Authority) Verify(ctx context.Context, cert Certificate, revokedAt time.Time) (Verdict, error) {
	finding, err := a.Prove(ctx, cert, revokedAt)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Kind == Contradiction:
		return Forgotten, nil
	case err != nil:
		return NotKnown, err
	case finding.Revoked:
		return StillRevoked, nil
	}
	for _, evidence := range finding.Evidence {
		if suspect(evidence, revokedAt) {
			return Forgotten, nil
		}
	}
	return NotKnown, nil
}

// Suspect says whether one source alone, which was read before, leaves a doubt about a
// revocation: Forgotten is only that, and for Verify to decide.
func Suspect(ctx context.Context, source Source, cert Certificate, revokedAt time.Time) Verdict {
	evidence, err := source.Check(ctx, cert)
	if err == nil {
		evidence, err = read(mobileid.ProofFromCRL, evidence)
	}
	switch {
	case err != nil:
		return NotKnown
	case evidence.Status == mobileid.StatusRevoked:
		return StillRevoked
	case suspect(evidence, revokedAt):
		return Forgotten
	}
	return NotKnown
}

// suspect reports a word that is later than a revocation, by more than clocks differ,
// and says that there is none.
func suspect(e Evidence, revokedAt time.Time) bool {
	return (e.Status == mobileid.StatusGood || e.Status == mobileid.StatusOnHold) && e.Proof.At.After(revokedAt.Add(clockTolerance))
}
