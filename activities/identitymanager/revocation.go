package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"mobileid"
)

// RecordRevocations takes over what one CA has revoked, in one transaction with
// the audit record: certificates become revoked, which takes a proof, or expired
// where that is the outcome, which takes a certificate past its notAfter. What is
// final stays as it is.
//
// An order that asks for anything else is an *OrderError, and a certificate that
// is not the mobile ID's a *mobileid.ConflictError; then nothing is written.
//
// It happens once per process and set of certificates; a repeat writes nothing
// and answers the same.
//
// If the store writes notices, the owner is told once when no certificate of a locked
// mobile ID is open any more.
func (s *Store) RecordRevocations(ctx context.Context, order mobileid.RevocationOrder) (mobileid.RevocationReceipt, error) {
	if err := mobileid.CheckID("mobileId", order.MobileID); err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	if err := checkRevocations(order); err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	var receipt mobileid.RevocationReceipt
	var reached []Milestone
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		receipt, err = s.recordRevocations(ctx, tx, order, &reached)
		return err
	})
	if err != nil {
		return mobileid.RevocationReceipt{}, fmt.Errorf("record revocations at %s for mobile ID %s: %w", order.CA, order.MobileID, err)
	}
	s.tell(reached)
	return receipt, nil
}

// checkRevocations refuses an order that could never be carried out.
func checkRevocations(order mobileid.RevocationOrder) error {
	refuse := func(problem string, about ...any) error {
		return &OrderError{MobileID: order.MobileID, Problem: fmt.Sprintf(problem, about...)}
	}
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return err
	}
	if len(order.Certificates) == 0 {
		return refuse("lists no certificates")
	}
	seen := make(map[mobileid.CertificateID]bool, len(order.Certificates))
	for _, c := range order.Certificates {
		if seen[c.CertificateID] {
			return refuse("lists %s twice", c.CertificateID)
		}
		seen[c.CertificateID] = true
		switch c.Outcome {
		case mobileid.OutcomeRevoked, mobileid.OutcomeAlreadyRevoked:
			if c.StatusAtCA != mobileid.StatusRevoked {
				return refuse("calls %s revoked, but at the CA it is %q", c.CertificateID, c.StatusAtCA)
			}
			if len(c.Proof) == 0 {
				return refuse("calls %s revoked without a proof", c.CertificateID)
			}
		case mobileid.OutcomeExpiredNotRevoked:
		default:
			return refuse("has no outcome for %s that Identity Manager can take over: %q", c.CertificateID, c.Outcome)
		}
	}
	return nil
}

func (s *Store) recordRevocations(ctx context.Context, tx *sql.Tx, order mobileid.RevocationOrder, reached *[]Milestone) (mobileid.RevocationReceipt, error) {
	chain, err := s.openChain(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	m, err := s.takeMobileID(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	states, err := certificateStates(ctx, tx, order.MobileID)
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	once := idempotencyKey(string(mobileid.EventRevoked), order.Process, certificateSet(order.Certificates)...)
	written, repeated, err := chain.find(ctx, once)
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	results, changed, err := s.settle(order, states)
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	receipt := mobileid.RevocationReceipt{
		Certificates: results, Audit: written.AuditMark, Unlocked: m.State != mobileid.Locked, Open: countOpen(states) - len(changed),
	}
	if repeated {
		*reached = nil
		return receipt, nil
	}
	for batch := range slices.Chunk(changed, maxRowsPerStatement) {
		if err = s.writeRevocations(ctx, tx, batch); err != nil {
			return mobileid.RevocationReceipt{}, err
		}
	}
	receipt.Audit, err = chain.append(ctx, once, mobileid.Record{
		MobileID:     order.MobileID,
		Event:        mobileid.EventRevoked,
		At:           s.now(),
		Process:      order.Process,
		Decision:     order.Decision,
		CA:           order.CA,
		Certificates: results,
	})
	if err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	if *reached, err = s.revokedMilestones(ctx, tx, order.MobileID, states, changed); err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	if m.State == mobileid.Locked && len(changed) > 0 && noneOpen(states, changed) {
		if err := s.noticeEnd(ctx, chain, m); err != nil {
			return mobileid.RevocationReceipt{}, err
		}
	}
	return receipt, nil
}

// noneOpen reports whether no certificate is open once those that change have changed.
func noneOpen(states map[mobileid.CertificateID]mobileid.Certificate, changed []mobileid.CertificateResult) bool {
	return countOpen(states) == len(changed) // only what is open changes, and to its end
}

func countOpen(states map[mobileid.CertificateID]mobileid.Certificate) int {
	open := 0
	for _, c := range states {
		if !c.State.Final() {
			open++
		}
	}
	return open
}

// settle returns the results with the states that the order brings about, and
// apart from them those that change.
func (s *Store) settle(order mobileid.RevocationOrder, states map[mobileid.CertificateID]mobileid.Certificate) (results, changed []mobileid.CertificateResult, err error) {
	now := s.now()
	results = slices.Clone(order.Certificates)
	for i := range results {
		result := &results[i]
		certificate, known := states[result.CertificateID]
		if !known {
			return nil, nil, &mobileid.ConflictError{MobileID: order.MobileID, Problem: fmt.Sprintf("does not have certificate %s", result.CertificateID)}
		}
		next := mobileid.CertificateRevoked
		if result.Outcome == mobileid.OutcomeExpiredNotRevoked {
			next = mobileid.CertificateExpired
			// The result's own notAfter is a copy and could only weaken the check.
			if !certificate.Expired(now) {
				return nil, nil, &OrderError{MobileID: order.MobileID, Problem: fmt.Sprintf("calls %s expired, but it is valid until %s", result.CertificateID, certificate.NotAfter)}
			}
		}
		result.StateInIM = certificate.State
		if certificate.State.CanBecome(next) {
			result.StateInIM = next
			changed = append(changed, *result)
		}
	}
	return results, changed, nil
}

// writeRevocations writes state, date and reason of many certificates at once.
func (s *Store) writeRevocations(ctx context.Context, tx *sql.Tx, changed []mobileid.CertificateResult) error {
	var rows values
	for _, c := range changed {
		rows.add(c.Issuer, c.AKI, c.Serial, string(c.StateInIM), stored(c.RevokedAt), string(c.ReasonAtCA))
	}
	//nolint:gosec // placeholders are joined, and constants
	update := `WITH changed (issuer, aki, serial, state, revoked_at, reason) AS (` + rows.String() + `)
		UPDATE certificates
		SET state = changed.state, revoked_at = changed.revoked_at` + s.dialect.castTimestamp + `, reason = changed.reason
		FROM changed
		WHERE certificates.issuer = changed.issuer AND certificates.aki = changed.aki AND certificates.serial = changed.serial`
	result, err := tx.ExecContext(ctx, update, rows.args...)
	if err != nil {
		return fmt.Errorf("write states of %d certificates: %w", len(changed), err)
	}
	written, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("write states of %d certificates: %w", len(changed), err)
	}
	if written != int64(len(changed)) {
		return fmt.Errorf("write states of %d certificates: %d rows changed", len(changed), written)
	}
	return nil
}
