package identitymanager

import (
	"context"
	"database/sql"
	"fmt"

	"mobileid"
)

// RecordIssued takes over certificates that a CA has issued for a mobile ID that
// is being created, as issued, in one transaction with the audit record. It does
// so once per process and set of certificates: a repeat writes nothing and answers
// the same.
//
// A locked mobile ID takes them as well: what its CA issued while it was being
// abandoned must be known here, or nobody would ever revoke it. Any other state but
// registered is a *mobileid.ConflictError. A certificate that the mobile ID has
// already stays as it is; one that another mobile ID has is a
// *mobileid.ConflictError, and an order that could never be carried out is an
// *OrderError.
func (s *Store) RecordIssued(ctx context.Context, order mobileid.IssueOrder) (mobileid.Receipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.Receipt{}, err
	}
	if err := checkIssued(order); err != nil {
		return mobileid.Receipt{}, err
	}
	var receipt mobileid.Receipt
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.recordIssued(ctx, tx, order)
		return err
	})
	if err != nil {
		return mobileid.Receipt{}, fmt.Errorf("record certificates of %s for mobile ID %s: %w", order.CA, order.MobileID, err)
	}
	return receipt, nil
}

// checkIssued refuses an order that could never be carried out.
func checkIssued(order mobileid.IssueOrder) error {
	refuse := func(problem string, about ...any) error {
		return &OrderError{MobileID: order.MobileID, Problem: fmt.Sprintf(problem, about...)}
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return err
	}
	if order.CA == "" {
		return refuse("does not name the CA")
	}
	if len(order.Certificates) == 0 {
		return refuse("lists no certificates")
	}
	seen := make(map[mobileid.CertificateID]bool, len(order.Certificates))
	for _, c := range order.Certificates {
		if err := checkCertificate(order.MobileID, c); err != nil {
			return err
		}
		if c.State != mobileid.CertificateIssued {
			return refuse("adds %s as %s, it must be issued", c.CertificateID, c.State)
		}
		if seen[c.CertificateID] {
			return refuse("lists %s twice", c.CertificateID)
		}
		seen[c.CertificateID] = true
	}
	return nil
}

func (s *Store) recordIssued(ctx context.Context, tx *sql.Tx, order mobileid.IssueOrder) (mobileid.Receipt, error) {
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	m, err := s.takeMobileID(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	results := certificateResults(order.Certificates, order.CA)
	once := idempotencyKey(string(mobileid.EventIssued), order.Process, append(certificateSet(results), order.CA)...)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	if repeated {
		return receiptOf(ctx, tx, written)
	}
	if m.State != mobileid.Registered && m.State != mobileid.Locked {
		return mobileid.Receipt{}, &mobileid.ConflictError{MobileID: m.ID, Problem: "is " + string(m.State) + " by now, and takes no new certificates"}
	}
	if err := s.insertCertificates(ctx, tx, order.MobileID, order.Certificates, keepKnown); err != nil {
		return mobileid.Receipt{}, err
	}
	states, err := certificateStates(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.Receipt{}, err
	}
	for i := range results {
		// Whatever was there already is in the state in which it was.
		certificate, own := states[results[i].CertificateID]
		if !own {
			return mobileid.Receipt{}, &mobileid.ConflictError{MobileID: m.ID, Problem: fmt.Sprintf("cannot have %s: another mobile ID has it", results[i].CertificateID)}
		}
		results[i].StateInIM = certificate.State
	}
	return conclude(ctx, chain, once, mobileid.Record{
		MobileID:     order.MobileID,
		Event:        mobileid.EventIssued,
		At:           s.now(),
		Process:      order.Process,
		Decision:     order.Decision,
		CA:           order.CA,
		Certificates: results,
	})
}

// certificateResults are certificates as the audit lists them: without DER.
func certificateResults(certificates []mobileid.Certificate, ca string) []mobileid.CertificateResult {
	results := make([]mobileid.CertificateResult, len(certificates))
	for i, c := range certificates {
		results[i] = mobileid.CertificateResult{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter, CA: ca, StateInIM: c.State}
	}
	return results
}

// certificates reads the certificates of the chain's mobile ID as the audit lists
// them. Which CA issued each is known from the audit alone: a certificate does not
// say by which name its CA is configured.
func (c *chain) certificates(ctx context.Context) ([]mobileid.CertificateResult, error) {
	certificates, err := certificatesOf(ctx, c.tx, c.mobileID)
	if err != nil {
		return nil, err
	}
	trail, err := readTrail(ctx, c.tx, c.mobileID)
	if err != nil {
		return nil, fmt.Errorf("look for the CAs in the audit: %w", err)
	}
	cas := map[mobileid.CertificateID]string{}
	for _, entry := range trail {
		if entry.Record.Event != mobileid.EventIssued {
			continue
		}
		for _, issued := range entry.Record.Certificates {
			cas[issued.CertificateID] = issued.CA
		}
	}
	results := certificateResults(certificates, "")
	for i := range results {
		results[i].CA = cas[results[i].CertificateID]
	}
	return results, nil
}
