package activities

import (
	"context"
	"errors"
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
//
// Whatever a source says meanwhile is waited out, a refusal or a contradiction too:
// the revocations are proven, how long is waited is for the process to say, and the
// words stand in the step's last failure.
//
// Every try looks first whether the end states still stand in Identity Manager: the
// wait may be long, and a backup be restored meanwhile.
func (a *Activities) AwaitPublication(ctx context.Context, in AwaitPublicationInput) (*AwaitPublicationResult, error) {
	defer heartbeat(ctx, nothing)()
	authority, ok := a.CAs.ByName(in.CA.Name)
	if !ok {
		return nil, temporal.NewApplicationError(
			fmt.Sprintf("CA %q is not in the configuration of this worker", in.CA.Name), string(ca.Unsupported))
	}
	m, err := a.IM.MobileID(ctx, in.MobileID)
	if err != nil && !errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return nil, translate(err)
	}
	if err != nil || m.State != mobileid.Locked || len(m.Open()) > 0 {
		return &AwaitPublicationResult{Certificates: in.Certificates, SetBack: true}, nil
	}
	certificates, err := look(ctx, authority, in.Certificates)
	if err != nil {
		return nil, waitedOut(err)
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

// waitedOut is translate for what a CA or its public sources say: all of it is
// tried again.
func waitedOut(err error) error {
	var atCA *ca.Error
	if !errors.As(err, &atCA) {
		return translate(err)
	}
	return temporal.NewApplicationErrorWithOptions(atCA.Error(), string(atCA.Kind), temporal.ApplicationErrorOptions{NextRetryDelay: atCA.RetryAfter})
}

// look repeats for a moment until every certificate is visible.
func look(ctx context.Context, authority *ca.Authority, certificates []mobileid.CertificateResult) ([]mobileid.CertificateResult, error) {
	end := time.Now().Add(publicationLook)
	for {
		seen, err := lookOnce(ctx, authority, certificates)
		if err == nil {
			return seen, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(publicationPause):
		}
	}
}

// lookOnce fails with what a source says, or with how many certificates are not
// visible, and why, if a source failed.
func lookOnce(ctx context.Context, authority *ca.Authority, certificates []mobileid.CertificateResult) ([]mobileid.CertificateResult, error) {
	var seen []mobileid.CertificateResult
	var failures []error
	for _, c := range certificates {
		cert := ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter}
		if !authority.Publishes(cert) {
			// Nobody can see it anywhere: nothing to wait for.
			seen = append(seen, c)
			continue
		}
		finding, err := authority.Visible(ctx, cert, c.RevokedAt)
		if err != nil {
			return nil, err
		}
		if finding.VisibleAt.IsZero() {
			failures = append(failures, finding.Failures...)
			continue
		}
		c.VisibleAt = finding.VisibleAt
		c.Proof = finding.Proofs
		seen = append(seen, c)
	}
	if missing := len(certificates) - len(seen); missing > 0 {
		words := fmt.Sprintf("%d of %d revocations of %s are not published yet", missing, len(certificates), authority.Name)
		if len(failures) > 0 {
			words += ": " + failures[0].Error()
		}
		return nil, temporal.NewApplicationError(words, TypeNotVisible)
	}
	return seen, nil
}
