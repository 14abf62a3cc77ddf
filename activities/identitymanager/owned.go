package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// Owned is a mobile ID as its owner may see it, as it is at one moment.
type Owned struct {
	mobileid.MobileID // of the owner the id alone
	Trail             []AuditRecord
}

// Owned reads a mobile ID for its owner, with certificates and audit trail. One
// that does not exist and one of somebody else are mobileid.ErrMobileIDNotFound
// alike: the same statements are sent in the same order, and select nothing, so
// that not even the time tells which of the two it is.
func (s *Store) Owned(ctx context.Context, owner, id string) (Owned, error) {
	if mobileid.CheckID("mobileId", id) != nil || checkText("userId", owner) != nil {
		return Owned{}, fmt.Errorf("read mobile ID: %w", mobileid.NotFound())
	}
	const (
		which        = ` = (SELECT id FROM mobile_ids WHERE id = $1 AND owner = $2)`
		row          = `SELECT ` + mobileIDColumns + ` FROM mobile_ids WHERE id` + which
		certificates = `SELECT ` + certificateColumns + ` FROM certificates WHERE mobile_id` + which + ` ORDER BY issuer, aki, serial`
		trail        = `SELECT number, mac, record FROM audit WHERE mobile_id` + which + ` ORDER BY number`
	)
	var o Owned
	err := s.snapshot(ctx, func(tx *sql.Tx) (err error) {
		o.MobileID, err = scanMobileID(tx.QueryRowContext(ctx, row, id, owner))
		unknown := errors.Is(err, sql.ErrNoRows)
		if err != nil && !unknown {
			return err
		}
		o.Certificates, err = collect(ctx, tx, func(rows *sql.Rows) (mobileid.Certificate, error) { return scanCertificate(rows) }, certificates, id, owner)
		if err != nil {
			return fmt.Errorf("read certificates: %w", err)
		}
		if o.Trail, err = collect(ctx, tx, scanAuditRecord, trail, id, owner); err != nil {
			return fmt.Errorf("read audit: %w", err)
		}
		if unknown {
			return mobileid.NotFound()
		}
		return nil
	})
	if err != nil {
		return Owned{}, fmt.Errorf("read mobile ID: %w", err)
	}
	return o, nil
}
