package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"mobileid"
	"mobileid/activities/ca/stepca"
	"mobileid/starter/client"
	"mobileid/starter/stack/smallstep"
	"mobileid/workflows"
)

// The cast of the scene with two CAs: the second one is the bystander.
const (
	dora      = "dora"
	doras     = "mid-2001"
	bystander = "mid-2002"
)

// StepCA is how configuration calls the second CA.
const StepCA = "step-ca"

// PlayCAs locks a mobile ID with a certificate of devca and one of a real step-ca,
// which is stopped meanwhile: its certificate waits, and the other one does not.
// Then it reads the end states back from both CAs.
func (d *Demo) PlayCAs(ctx context.Context, step *smallstep.Server) error {
	if err := d.prepareCAs(ctx, step); err != nil {
		return err
	}
	caller := d.Locks.User(dora)
	fmt.Fprintf(d.Out, "\n1. step-ca is stopped. Dora locks %s, which has a certificate of devca and one of step-ca\n", doras)
	if err := step.Stop(); err != nil {
		return err
	}
	if _, err := caller.Lock(ctx, doras, client.LockOptions{}); err != nil {
		return err
	}
	waiting, err := d.await(ctx, caller, func(s client.Status) bool {
		return revokedAt(s, "devca") && len(s.Steps) == 1 && s.Steps[0].Attempt > 1 && s.Steps[0].LastError != ""
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "   → locked %s after Next; the certificate of devca is revoked; %s is at try %d: %s\n",
		took(waiting.RequestedAt, waiting.LockedAt), waiting.Steps[0].ID, waiting.Steps[0].Attempt, brief(waiting.Steps[0].LastError))

	fmt.Fprintln(d.Out, "2. step-ca is started again")
	if err := step.Restart(ctx); err != nil {
		return err
	}
	if _, err := d.Locks.Operator("demo").Retry(ctx, doras); err != nil {
		return err
	}
	done, err := caller.WaitClosed(ctx, doras, nil)
	if err != nil {
		return err
	}
	if done.Outcome != workflows.OutcomeLocked {
		return fmt.Errorf("the outcome is %q", done.Outcome)
	}
	fmt.Fprintf(d.Out, "   → all revoked; visible to others %s after Next\n", took(done.RequestedAt, done.VisibleAt))
	return d.readBackCAs(ctx, step)
}

// brief is the end of an error, where its cause is.
func brief(text string) string {
	const most = 60
	if at := strings.LastIndex(text, ": "); at > 0 && len(text)-at < most {
		return text[at+2:]
	}
	return text
}

func revokedAt(s client.Status, ca string) bool {
	for _, c := range s.Certificates {
		if c.CA == ca && c.StateInIM == mobileid.CertificateRevoked {
			return true
		}
	}
	return false
}

func (d *Demo) await(ctx context.Context, caller *client.Caller, condition func(client.Status) bool) (client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, err := caller.Status(ctx, doras)
		if err == nil && condition(status) {
			return status, nil
		}
		select {
		case <-ctx.Done():
			return status, fmt.Errorf("it does not come so far: %w, %w", ctx.Err(), errOrNone(err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *Demo) prepareCAs(ctx context.Context, step *smallstep.Server) error {
	driver, err := stepca.New(step.Driver())
	if err != nil {
		return err
	}
	user := mobileid.User{ID: dora, Name: "Dora Dahl", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	if err := d.Store.PutUser(ctx, user, "dora@example.com"); err != nil {
		return err
	}
	for _, id := range []string{doras, bystander} {
		own, err := d.issue(ctx, person{id: dora, name: user.Name, mobileID: id}, authentication)
		if err != nil {
			return err
		}
		other, err := issueByStepCA(ctx, driver)
		if err != nil {
			return err
		}
		m := mobileid.MobileID{ID: id, Name: "MobileID " + user.Name, Owner: user, State: mobileid.Active}
		for _, certificate := range []*x509.Certificate{own.Leaf, other} {
			kept, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
			if err != nil {
				return err
			}
			m.Certificates = append(m.Certificates, kept)
		}
		if err := d.Store.CreateMobileID(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func issueByStepCA(ctx context.Context, driver *stepca.Driver) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "dora@example.com"}, EmailAddresses: []string{"dora@example.com"},
	}, key)
	if err != nil {
		return nil, err
	}
	return driver.Issue(ctx, csr)
}

// readBackCAs reads the end states from the store and from both CAs, never from a
// workflow's result.
func (d *Demo) readBackCAs(ctx context.Context, step *smallstep.Server) error {
	inDevca, _, err := d.readCRL()
	if err != nil {
		return err
	}
	inStepCA, err := readStepCRL(ctx, step)
	if err != nil {
		return err
	}
	fmt.Fprint(d.Out, "\nRead back from the store, and from the CRL and OCSP of each CA:\n\n")
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  MOBILE ID\tSTATE\tCA\tCERTIFICATE\tIN IM\tCRL\tOCSP\t")
	var different []error
	for _, id := range []string{doras, bystander} {
		m, err := d.Store.MobileID(ctx, id)
		if err != nil {
			return err
		}
		want := wanted(id == doras)
		for _, c := range m.Certificates {
			certificate, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return err
			}
			ca, list, byOCSP := StepCA, inStepCA, "-"
			if certificate.CheckSignatureFrom(d.issuer) == nil {
				ca, list = "devca", inDevca
				if byOCSP, err = askOCSP(ctx, certificate, d.issuer); err != nil {
					return err
				}
			}
			inCRL := good
			if list[certificate.SerialNumber.String()] {
				inCRL = revoked
			}
			mark := "✓"
			if m.State != want.state || c.State != want.certificate || inCRL != want.published || byOCSP != want.published && byOCSP != "-" {
				mark = "DIFFERS"
				different = append(different, fmt.Errorf("certificate %s of %s is not as it must be", c.Serial, id))
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t…%s\t%s\t%s\t%s\t%s\n", id, m.State, ca, c.Serial[max(0, len(c.Serial)-8):], c.State, inCRL, byOCSP, mark)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(different...)
}

func readStepCRL(ctx context.Context, step *smallstep.Server) (map[string]bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, step.CRLURL, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	der, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if err := crl.CheckSignatureFrom(step.Issuer); err != nil {
		return nil, err
	}
	revoked := map[string]bool{}
	for _, entry := range crl.RevokedCertificateEntries {
		revoked[entry.SerialNumber.String()] = true
	}
	return revoked, nil
}
