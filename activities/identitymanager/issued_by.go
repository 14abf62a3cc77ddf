package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// issuedWindow is how many certificates one call of OpenOf and RevokedOf looks at, so
// that none takes long, however many there are.
const issuedWindow = 5_000

// knownColumns are what scanKnown reads. The DER is not among them: it makes up most of
// the table.
const knownColumns = `c.issuer, c.aki, c.serial, c.state, c.issuer_dn, c.not_before, c.not_after, c.revoked_at, coalesce(c.reason, ''), m.id, m.owner, m.state`

func scanKnown(rows *sql.Rows) (k mobileid.KnownCertificate, err error) {
	err = rows.Scan(&k.Issuer, &k.AKI, &k.Serial, &k.State, &k.IssuerDN, timestamp{&k.NotBefore}, timestamp{&k.NotAfter},
		timestamp{&k.RevokedAt}, &k.Reason, &k.MobileID, &k.Owner, &k.MobileIDState)
	return k, err
}

// RevokedOf looks at the next certificates of an issuer, by AKI and serial, behind one,
// and returns those that are revoked here and not past their notAfter. More says that
// there are others behind next; without it next is the end.
func (s *Store) RevokedOf(ctx context.Context, issuer string, after mobileid.CertificateID) (found []mobileid.KnownCertificate, next mobileid.CertificateID, more bool, err error) {
	found, next, more, err = s.issuedBy(ctx, `c.state = 'revoked' AND c.not_after > $4`, issuer, after, stored(s.now()))
	if err != nil {
		err = fmt.Errorf("look for revoked certificates: %w", err)
	}
	return found, next, more, err
}

// OpenOf looks at the next certificates as RevokedOf does, and returns those that are
// neither revoked nor expired here.
func (s *Store) OpenOf(ctx context.Context, issuer string, after mobileid.CertificateID) (found []mobileid.KnownCertificate, next mobileid.CertificateID, more bool, err error) {
	found, next, more, err = s.issuedBy(ctx, `c.state NOT IN ('expired', 'revoked')`, issuer, after)
	if err != nil {
		err = fmt.Errorf("look for open certificates: %w", err)
	}
	return found, next, more, err
}

func (s *Store) issuedBy(ctx context.Context, condition, issuer string, after mobileid.CertificateID, args ...any) (found []mobileid.KnownCertificate, next mobileid.CertificateID, more bool, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		next, more = mobileid.CertificateID{Issuer: issuer}, true
		const end = `SELECT aki, serial FROM certificates WHERE issuer = $1 AND (aki, serial) > ($2, $3) ORDER BY aki, serial LIMIT 1 OFFSET $4`
		err := tx.QueryRowContext(ctx, end, issuer, after.AKI, after.Serial, issuedWindow-1).Scan(&next.AKI, &next.Serial)
		query := `SELECT ` + knownColumns + ` FROM certificates c JOIN mobile_ids m ON m.id = c.mobile_id
			WHERE c.issuer = $1 AND (c.aki, c.serial) > ($2, $3) AND ` + condition
		all := append([]any{issuer, after.AKI, after.Serial}, args...)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			more = false
		case err != nil:
			return err
		default:
			query += fmt.Sprintf(` AND (c.aki, c.serial) <= ($%d, $%d)`, len(all)+1, len(all)+2)
			all = append(all, next.AKI, next.Serial)
		}
		found, err = collect(ctx, tx, scanKnown, query+` ORDER BY c.aki, c.serial`, all...)
		return err
	})
	return found, next, more, err
}

// Place reads where the comparison with a CA goes on that looks at a part each time;
// zero is the beginning.
func (s *Store) Place(ctx context.Context, ca string) (after mobileid.CertificateID, err error) {
	const query = `SELECT aki, serial FROM comparisons WHERE ca = $1`
	err = s.read.QueryRowContext(ctx, query, ca).Scan(&after.AKI, &after.Serial)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return after, fmt.Errorf("read place of the comparison with %s: %w", ca, err)
	}
	return after, nil
}

// SetPlace keeps it.
func (s *Store) SetPlace(ctx context.Context, ca string, after mobileid.CertificateID) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		const put = `INSERT INTO comparisons (ca, aki, serial, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (ca) DO UPDATE SET aki = excluded.aki, serial = excluded.serial, at = excluded.at`
		_, err := tx.ExecContext(ctx, put, ca, after.AKI, after.Serial, stored(s.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep place of the comparison with %s: %w", ca, err)
	}
	return nil
}
