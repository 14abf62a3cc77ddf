package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"mobileid"
)

// AddCertificates adds certificates to a mobile ID. To a locked one only issued
// ones can be added: a certificate that its CA issued while the mobile ID was
// being locked must be known here, or nobody would ever revoke it, but it must
// not look usable.
//
// A certificate that is known already, of this mobile ID or another one, is an
// error, and none is added.
func (s *Store) AddCertificates(ctx context.Context, mobileID string, certificates ...mobileid.Certificate) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		m, err := s.takeMobileID(ctx, tx, mobileID)
		if err != nil {
			return err
		}
		for _, c := range certificates {
			if m.State == mobileid.Locked && c.State != mobileid.CertificateIssued {
				return &OrderError{MobileID: mobileID, Problem: fmt.Sprintf("adds %s as %s to a locked mobile ID", c.CertificateID, c.State)}
			}
		}
		return s.insertCertificates(ctx, tx, mobileID, certificates, "")
	})
	if err != nil {
		return fmt.Errorf("add %d certificates to mobile ID %s: %w", len(certificates), mobileID, err)
	}
	return nil
}

// keepKnown ends an INSERT that leaves rows alone that are there already.
const keepKnown = ` ON CONFLICT DO NOTHING`

// insertCertificates adds certificates. The suffix ends the statement: keepKnown,
// or nothing.
func (s *Store) insertCertificates(ctx context.Context, tx *sql.Tx, mobileID string, certificates []mobileid.Certificate, suffix string) error {
	for _, c := range certificates {
		if err := checkCertificate(mobileID, c); err != nil {
			return err
		}
	}
	now := stored(s.now())
	for batch := range slices.Chunk(certificates, maxRowsPerStatement) {
		var rows values
		for _, c := range batch {
			rows.add(c.Issuer, c.AKI, c.Serial, mobileID, string(c.State), c.IssuerDN, stored(c.NotBefore), stored(c.NotAfter), c.DER, now)
		}
		insert := `INSERT INTO certificates (issuer, aki, serial, mobile_id, state, issuer_dn, not_before, not_after, der, created_at) ` + rows.String() + suffix //nolint:gosec // placeholders
		if _, err := tx.ExecContext(ctx, insert, rows.args...); err != nil {
			return fmt.Errorf("insert certificates: %w", err)
		}
	}
	return nil
}

// checkCertificate refuses what no later step could use: a lock finds the CA by
// the issuer, sends the serial, and compares notAfter with the clock.
func checkCertificate(mobileID string, c mobileid.Certificate) error {
	problem := ""
	switch _, err := mobileid.ParseSerial(c.Serial); {
	case c.Issuer == "":
		problem = "adds a certificate without issuer"
	case err != nil:
		problem = "adds a certificate that cannot be: " + err.Error()
	case !c.State.Valid():
		problem = fmt.Sprintf("adds %s in the unknown state %q", c.CertificateID, c.State)
	case c.NotBefore.IsZero(), c.NotAfter.IsZero():
		problem = fmt.Sprintf("adds %s without notBefore or notAfter", c.CertificateID)
	default:
		return nil
	}
	return &OrderError{MobileID: mobileID, Problem: problem}
}

// certificateColumns are what scanCertificate reads.
const certificateColumns = `issuer, aki, serial, state, issuer_dn, not_before, not_after, der`

func scanCertificate(rows *sql.Rows, more ...any) (mobileid.Certificate, error) {
	var c mobileid.Certificate
	into := append([]any{&c.Issuer, &c.AKI, &c.Serial, &c.State, &c.IssuerDN, timestamp{&c.NotBefore}, timestamp{&c.NotAfter}, &c.DER}, more...)
	err := rows.Scan(into...)
	return c, err
}

// certificatesOf reads the certificates of a mobile ID, sorted by identity.
func certificatesOf(ctx context.Context, tx *sql.Tx, mobileID string) ([]mobileid.Certificate, error) {
	const query = `SELECT ` + certificateColumns + ` FROM certificates WHERE mobile_id = $1 ORDER BY issuer, aki, serial`
	certificates, err := collect(ctx, tx, func(rows *sql.Rows) (mobileid.Certificate, error) { return scanCertificate(rows) }, query, mobileID)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return certificates, nil
}

// certificateStates reads of the certificates of a mobile ID what decides about
// their states. The rows cannot change meanwhile, because every transaction that
// changes them takes the mobile ID's row first.
func certificateStates(ctx context.Context, tx *sql.Tx, mobileID string) (map[mobileid.CertificateID]mobileid.Certificate, error) {
	const query = `SELECT issuer, aki, serial, state, not_after FROM certificates WHERE mobile_id = $1`
	certificates, err := collect(ctx, tx, func(rows *sql.Rows) (mobileid.Certificate, error) {
		var c mobileid.Certificate
		err := rows.Scan(&c.Issuer, &c.AKI, &c.Serial, &c.State, timestamp{&c.NotAfter})
		return c, err
	}, query, mobileID)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	states := make(map[mobileid.CertificateID]mobileid.Certificate, len(certificates))
	for _, c := range certificates {
		states[c.CertificateID] = c
	}
	return states, nil
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells what went wrong
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
