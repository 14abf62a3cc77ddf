package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"mobileid"
)

// CRLMark is the place of a CRL among those that a CA brings.
type CRLMark struct {
	Issuer     string   // as in mobileid.CertificateID
	AKI        string   // the CA's key, empty if its certificate names none
	Scope      string   // of CRLs that are numbered for themselves
	Number     *big.Int // of at most 20 bytes
	Base       *big.Int // of a delta CRL; nil: it is complete
	ThisUpdate time.Time
}

// StaleCRLError reports a CRL that is older than one that came before it.
type StaleCRLError struct{ Seen, Got string } // numbers in hex

func (e *StaleCRLError) Error() string {
	return fmt.Sprintf("the CRL has number %s and is older than the last one, which has %s", e.Got, e.Seen)
}

// CRLBaseError reports a delta CRL whose base was not taken over.
type CRLBaseError struct{ Base, Have string } // numbers in hex; Have is empty if there is none

func (e *CRLBaseError) Error() string {
	have := "none was taken over"
	if e.Have != "" {
		have = "what was taken over ends with " + e.Have
	}
	return fmt.Sprintf("the delta CRL builds on number %s, and %s: bring the complete one", e.Base, have)
}

const crlNumberDigits = 40

func paddedNumber(n *big.Int) string { return fmt.Sprintf("%0*x", crlNumberDigits, n) }

func shortNumber(padded string) string {
	short := strings.TrimLeft(padded, "0")
	if short == "" && padded != "" {
		return "0"
	}
	return short
}

// BeginCRL takes up a CRL, before any of its effect: from then on no older one is. A
// CRL of the same number is taken up once more, whatever became of it the first time.
// An older one is a *StaleCRLError, and a delta CRL whose base is not taken over in
// whole a *CRLBaseError.
func (s *Store) BeginCRL(ctx context.Context, mark CRLMark) error {
	number := paddedNumber(mark.Number)
	err := s.transact(ctx, func(tx *sql.Tx) error {
		// Inserted or not, the row is this transaction's.
		const take = `INSERT INTO crls (issuer, aki, scope, number, this_update, complete, received_at) VALUES ($1, $2, $3, $4, $5, '', $6)
			ON CONFLICT (issuer, aki, scope) DO UPDATE SET number = crls.number
			RETURNING number, this_update, complete`
		var seen, complete string
		var at time.Time
		err := tx.QueryRowContext(ctx, take, mark.Issuer, mark.AKI, mark.Scope, number, stored(mark.ThisUpdate), stored(s.now())).Scan(
			&seen, timestamp{&at}, &complete)
		if err != nil {
			return err
		}
		if number < seen || number == seen && mark.ThisUpdate.Before(at) {
			return &StaleCRLError{Seen: shortNumber(seen), Got: shortNumber(number)}
		}
		if mark.Base != nil && (complete == "" || complete < paddedNumber(mark.Base)) {
			return &CRLBaseError{Base: mark.Base.Text(16), Have: shortNumber(complete)}
		}
		const update = `UPDATE crls SET number = $4, this_update = $5, received_at = $6 WHERE issuer = $1 AND aki = $2 AND scope = $3`
		_, err = tx.ExecContext(ctx, update, mark.Issuer, mark.AKI, mark.Scope, number, stored(mark.ThisUpdate), stored(s.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("take up CRL: %w", err)
	}
	return nil
}

// FinishCRL notes that all of a CRL's effect stands, so that a delta CRL can build on
// it.
func (s *Store) FinishCRL(ctx context.Context, mark CRLMark) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const update = `UPDATE crls SET complete = $4 WHERE issuer = $1 AND aki = $2 AND scope = $3 AND complete < $4`
		_, err := tx.ExecContext(ctx, update, mark.Issuer, mark.AKI, mark.Scope, paddedNumber(mark.Number))
		return err
	})
	if err != nil {
		return fmt.Errorf("note that a CRL is taken over: %w", err)
	}
	return nil
}

// HoldOrder asks to take over from a CRL that certificates of a mobile ID are on hold
// at their CA, or not any more.
type HoldOrder struct {
	CRL          CRLMark
	MobileID     string
	CA           string // its configured name
	Process      mobileid.Process
	Certificates []mobileid.CertificateResult // StatusAtCA is onHold, or good for no longer
}

// RecordHolds makes valid certificates onHold, and valid again those that a CRL has put on
// hold or takes off it by removeFromCRL, in one transaction with the audit record. It changes nothing else: an issued
// certificate is not confirmed on its phone yet, revoked and expired are final, and of a
// mobile ID that is not active no certificate becomes valid. If a later CRL was taken up
// meanwhile it is a *StaleCRLError. It returns the certificates that have changed.
func (s *Store) RecordHolds(ctx context.Context, order HoldOrder) (changed []mobileid.CertificateResult, err error) {
	if err := checkProcess(order.MobileID, order.Process); err != nil {
		return nil, err
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		// First of all, and nobody takes it who has anything else: see BeginCRL.
		if err := s.newest(ctx, tx, order.CRL); err != nil {
			return err
		}
		chain, err := s.openChain(ctx, tx, order.MobileID)
		if err != nil {
			return err
		}
		m, err := s.takeMobileID(ctx, tx, order.MobileID)
		if err != nil {
			return err
		}
		held, err := s.heldByCRL(ctx, tx, order.MobileID)
		if err != nil {
			return err
		}
		var hold, release []mobileid.CertificateResult
		for _, c := range order.Certificates {
			now, known := held[c.CertificateID]
			switch {
			case !known:
			case c.StatusAtCA == mobileid.StatusOnHold && now.state == mobileid.CertificateValid:
				c.StateInIM = mobileid.CertificateOnHold
				hold = append(hold, c)
			case c.StatusAtCA == mobileid.StatusGood && now.state == mobileid.CertificateOnHold && m.State == mobileid.Active &&
				(now.byCRL || c.ReasonAtCA == mobileid.RemoveFromCRL):
				c.StateInIM, c.ReasonAtCA, c.RevokedAt = mobileid.CertificateValid, "", time.Time{}
				release = append(release, c)
			}
		}
		changed = slices.Concat(hold, release)
		if len(changed) == 0 {
			return nil
		}
		if err := s.writeRevocations(ctx, tx, changed); err != nil {
			return err
		}
		for _, event := range []mobileid.Event{mobileid.EventOnHold, mobileid.EventReleased} {
			certificates := hold
			if event == mobileid.EventReleased {
				certificates = release
			}
			if len(certificates) == 0 {
				continue
			}
			// What has changed decides, not what was recorded: it can be on hold again.
			once := idempotencyKey(string(event), order.Process, append(certificateSet(certificates), fmt.Sprint(chain.head.Number))...)
			if _, err := chain.append(ctx, once, mobileid.Record{
				MobileID: order.MobileID, Event: event, At: s.now(), Process: order.Process, CA: order.CA, Certificates: certificates,
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record holds at %s for mobile ID %s: %w", order.CA, order.MobileID, err)
	}
	return changed, nil
}

// newest refuses a CRL that is not the last one that was taken up, and lets no other be
// taken up before the transaction ends.
func (s *Store) newest(ctx context.Context, tx *sql.Tx, mark CRLMark) error {
	var seen string
	query := `SELECT number FROM crls WHERE issuer = $1 AND aki = $2 AND scope = $3` + s.dialect.forUpdate
	if err := tx.QueryRowContext(ctx, query, mark.Issuer, mark.AKI, mark.Scope).Scan(&seen); err != nil {
		return fmt.Errorf("read number of the last CRL: %w", err)
	}
	if number := paddedNumber(mark.Number); seen != number {
		return &StaleCRLError{Seen: shortNumber(seen), Got: shortNumber(number)}
	}
	return nil
}

// heldState is how a certificate stands, and whether a CRL has put it on hold.
type heldState struct {
	state mobileid.CertificateState
	byCRL bool
}

func (s *Store) heldByCRL(ctx context.Context, tx *sql.Tx, mobileID string) (map[mobileid.CertificateID]heldState, error) {
	const query = `SELECT issuer, aki, serial, state, coalesce(reason, '') FROM certificates WHERE mobile_id = $1`
	held := map[mobileid.CertificateID]heldState{}
	_, err := collect(ctx, tx, func(rows *sql.Rows) (struct{}, error) {
		var id mobileid.CertificateID
		var state, reason string
		err := rows.Scan(&id.Issuer, &id.AKI, &id.Serial, &state, &reason)
		held[id] = heldState{mobileid.CertificateState(state), reason == string(mobileid.CertificateHold)}
		return struct{}{}, err
	}, query, mobileID)
	if err != nil {
		return nil, fmt.Errorf("read states of certificates: %w", err)
	}
	return held, nil
}
