package crlpush

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
)

// Process is how a CRL that was brought stands in the audit.
const Process = "CRLPush"

// Taken is what became of a CRL, in numbers of certificates of mobile IDs.
type Taken struct {
	CA       string `json:"ca"`
	Number   string `json:"number"` // in hex
	Delta    bool   `json:"delta"`
	Entries  int    `json:"entries"`  // that the CRL has
	Revoked  int    `json:"revoked"`  // that it made revoked
	OnHold   int    `json:"onHold"`   // that it put on hold
	Released int    `json:"released"` // that it took off hold
}

// Take checks a CRL and brings what it says into Identity Manager, mobile ID by mobile
// ID, each in one transaction with its audit record. That it was taken up is kept first
// and that it is done last: one that is brought again, or that was left in the middle, is
// taken once more, and changes what is left to change.
func (r *Receiver) Take(ctx context.Context, document []byte) (Taken, error) {
	crl, err := r.cas.ReadPushed(document, r.options.Now())
	if err != nil {
		return Taken{}, err
	}
	t := &taking{
		Receiver: r, crl: crl, issuer: mobileid.HashName(crl.Authority.Issuer.RawSubject),
		taken:   Taken{CA: crl.Authority.Name, Number: crl.Number.Text(16), Delta: crl.Delta(), Entries: crl.Entries()},
		process: mobileid.Process{Name: Process, WorkflowID: Process + "/" + crl.Authority.Name, RunID: crl.SHA256()},
	}
	t.mark = identitymanager.CRLMark{
		Issuer: t.issuer, AKI: hex.EncodeToString(crl.Authority.Issuer.SubjectKeyId), Scope: crl.Scope,
		Number: crl.Number, Base: crl.Base, ThisUpdate: crl.ThisUpdate,
	}
	if err := r.store.BeginCRL(ctx, t.mark); err != nil {
		return Taken{}, err
	}
	if err := t.run(ctx); err != nil {
		return Taken{}, err
	}
	if err := r.store.FinishCRL(ctx, t.mark); err != nil {
		return Taken{}, err
	}
	r.log.Info("CRL is taken over", "ca", t.taken.CA, "number", t.taken.Number, "delta", t.taken.Delta, "entries", t.taken.Entries,
		"revoked", t.taken.Revoked, "onHold", t.taken.OnHold, "released", t.taken.Released)
	return t.taken, nil
}

// taking is a CRL that is being taken over.
type taking struct {
	*Receiver
	crl     *ca.PushedCRL
	issuer  string
	mark    identitymanager.CRLMark
	process mobileid.Process
	taken   Taken
}

// news is what a CRL says that may change something, of one mobile ID.
type news struct {
	state   mobileid.State
	revoked []mobileid.CertificateResult
	holds   []mobileid.CertificateResult
}

// run looks all certificates of the CA up that are open in Identity Manager: there are
// fewer of them than of those that a CA has revoked in all its years.
func (t *taking) run(ctx context.Context) error {
	var after mobileid.CertificateID
	for more := true; more; {
		var open []mobileid.KnownCertificate
		var err error
		if open, after, more, err = t.store.OpenOf(ctx, t.issuer, after); err != nil {
			return err
		}
		all := map[string]*news{}
		for _, k := range open {
			if authority, ok := t.cas.For(k.CertificateID); !ok || authority != t.crl.Authority {
				continue // of another CA of this name
			}
			if err := t.look(ctx, k, all); err != nil {
				return err
			}
		}
		for _, id := range slices.Sorted(maps.Keys(all)) {
			if err := t.change(ctx, id, all[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// look adds what the CRL says of a certificate to the news of its mobile ID.
func (t *taking) look(ctx context.Context, k mobileid.KnownCertificate, all map[string]*news) error {
	cert := ca.Certificate{CertificateID: k.CertificateID, IssuerDN: k.IssuerDN, NotAfter: k.NotAfter}
	if t.crl.Partial() {
		var err error
		if cert.DER, err = t.encoded(ctx, k); err != nil {
			return err
		}
	}
	said := t.crl.Look(cert)
	var list func(n *news) *[]mobileid.CertificateResult
	switch {
	case said.Status == mobileid.StatusRevoked:
		list = func(n *news) *[]mobileid.CertificateResult { return &n.revoked }
	case said.Status == mobileid.StatusOnHold && k.State == mobileid.CertificateValid,
		said.Status == mobileid.StatusGood && k.State == mobileid.CertificateOnHold:
		list = func(n *news) *[]mobileid.CertificateResult { return &n.holds }
	default:
		return nil
	}
	n := all[k.MobileID]
	if n == nil {
		n = &news{state: k.MobileIDState}
		all[k.MobileID] = n
	}
	result := mobileid.CertificateResult{
		CertificateID: k.CertificateID, IssuerDN: k.IssuerDN, NotAfter: k.NotAfter, CA: t.crl.Authority.Name, StateInIM: k.State,
		StatusAtCA: said.Status, ReasonAtCA: said.Reason, RevokedAt: said.RevokedAt, Proof: []mobileid.Proof{said.Proof},
	}
	if said.Status == mobileid.StatusRevoked {
		result.Outcome = mobileid.OutcomeAlreadyRevoked // somebody else did it
	}
	*list(n) = append(*list(n), result)
	return nil
}

// encoded is the certificate itself, which names its distribution points.
func (t *taking) encoded(ctx context.Context, k mobileid.KnownCertificate) ([]byte, error) {
	m, err := t.store.MobileID(ctx, k.MobileID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, c := range m.Certificates {
		if c.CertificateID == k.CertificateID {
			return c.DER, nil
		}
	}
	return nil, nil
}

// change writes the news of one mobile ID. One that is gone meanwhile has none.
func (t *taking) change(ctx context.Context, mobileID string, n *news) error {
	var conflict *mobileid.ConflictError
	if len(n.revoked) > 0 {
		receipt, err := t.store.RecordRevocations(ctx, mobileid.RevocationOrder{
			MobileID: mobileID, CA: t.crl.Authority.Name, Process: t.process, Certificates: n.revoked,
		})
		if errors.As(err, &conflict) {
			return nil
		}
		if err != nil {
			return err
		}
		t.taken.Revoked += len(receipt.Certificates)
		if n.state != mobileid.Locked {
			t.log.Warn("The CA has revoked certificates of a mobile ID that is not locked", "mobileId", mobileID, "state", string(n.state), "ca", t.crl.Authority.Name)
		}
	}
	if len(n.holds) == 0 {
		return nil
	}
	changed, err := t.store.RecordHolds(ctx, identitymanager.HoldOrder{
		CRL: t.mark, MobileID: mobileID, CA: t.crl.Authority.Name, Process: t.process, Certificates: n.holds,
	})
	if errors.As(err, &conflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mobile ID %s: %w", mobileID, err)
	}
	for _, c := range changed {
		if c.StateInIM == mobileid.CertificateOnHold {
			t.taken.OnHold++
		} else {
			t.taken.Released++
		}
	}
	return nil
}
