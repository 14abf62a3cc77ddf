package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/ca"
)

const (
	// publicationLook is how long one try looks for what a CA is about to
	// publish, so that a CA that publishes within a second costs no retry.
	publicationLook = 2 * time.Second
	// publicationPause is the time between two looks of one try.
	publicationPause = 200 * time.Millisecond
)

// AwaitPublication succeeds when others can see the revocations of one CA, and
// records that in the audit. Until then it fails, and the engine tries again,
// which costs no history.
func (a *Activities) AwaitPublication(ctx context.Context, in AwaitPublicationInput) (*AwaitPublicationResult, error) {
	defer heartbeat(ctx, nothing)()
	authority, ok := a.CAs.ByName(in.CA.Name)
	if !ok {
		return nil, temporal.NewApplicationError(
			fmt.Sprintf("CA %q is not in the configuration of this worker", in.CA.Name), string(ca.Unsupported))
	}
	certificates, err := a.look(ctx, authority, in.Certificates)
	if err != nil {
		return nil, translate(err)
	}
	mark, err := a.IM.Record(ctx, mobileid.Record{
		MobileID:     in.MobileID,
		Event:        mobileid.EventVisible,
		At:           time.Now().UTC(),
		Process:      in.Process,
		Decision:     in.Decision,
		CA:           in.CA.Name,
		Certificates: certificates,
	})
	if err != nil {
		return nil, translate(err)
	}
	return &AwaitPublicationResult{Certificates: certificates, Audit: mark}, nil
}

// look repeats for a moment until every certificate is visible.
func (a *Activities) look(ctx context.Context, authority *ca.Authority, certificates []mobileid.CertificateResult) ([]mobileid.CertificateResult, error) {
	end := time.Now().Add(publicationLook)
	for {
		seen, missing, err := lookOnce(ctx, authority, certificates)
		if missing == 0 && err == nil {
			return seen, nil
		}
		if time.Now().After(end) {
			if err != nil {
				return nil, err
			}
			return nil, temporal.NewApplicationError(
				fmt.Sprintf("%d of %d revocations of %s are not published yet", missing, len(certificates), authority.Name), TypeNotVisible)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(publicationPause):
		}
	}
}

func lookOnce(ctx context.Context, authority *ca.Authority, certificates []mobileid.CertificateResult) (seen []mobileid.CertificateResult, missing int, err error) {
	for _, c := range certificates {
		cert := ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter}
		if !authority.Publishes(cert) {
			// Nobody can see it anywhere: nothing to wait for.
			seen = append(seen, c)
			continue
		}
		finding, err := authority.Visible(ctx, cert, c.RevokedAt)
		if err != nil {
			return nil, 0, err
		}
		if finding.VisibleAt.IsZero() {
			missing++
			continue
		}
		c.VisibleAt = finding.VisibleAt
		c.Proof = finding.Proofs
		seen = append(seen, c)
	}
	return seen, missing, nil
}
