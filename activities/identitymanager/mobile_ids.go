package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mobileid"
)

// MobileID reads a mobile ID with its owner and all its certificates, sorted by
// identity. An unknown or malformed id is mobileid.ErrMobileIDNotFound.
func (s *Store) MobileID(ctx context.Context, id string) (mobileid.MobileID, error) {
	if mobileid.CheckID("mobileId", id) != nil {
		return mobileid.MobileID{}, fmt.Errorf("read mobile ID: %w", mobileid.NotFound())
	}
	var m mobileid.MobileID
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		var err error
		m, err = readMobileID(ctx, tx, id, "")
		if errors.Is(err, sql.ErrNoRows) {
			return mobileid.NotFound()
		}
		if err != nil {
			return err
		}
		m.Owner, err = readUser(ctx, tx, m.Owner.ID)
		if err != nil {
			return fmt.Errorf("read owner: %w", err)
		}
		m.Certificates, err = certificatesOf(ctx, tx, id)
		return err
	})
	if err != nil {
		return mobileid.MobileID{}, fmt.Errorf("read mobile ID %s: %w", id, err)
	}
	return m, nil
}

// MobileIDsOf reads the mobile IDs of a user, sorted by id. Of the owner they
// carry the id alone.
func (s *Store) MobileIDsOf(ctx context.Context, owner string) ([]mobileid.MobileID, error) {
	all, err := s.mobileIDs(ctx, `owner = $1`, `ORDER BY id`, owner)
	if err != nil {
		return nil, fmt.Errorf("read mobile IDs of %s: %w", owner, err)
	}
	return all, nil
}

// List reads at most limit mobile IDs, sorted by id, starting behind the id
// after. Of the owner they carry the id alone.
func (s *Store) List(ctx context.Context, after string, limit int) ([]mobileid.MobileID, error) {
	all, err := s.mobileIDs(ctx, `id > $1`, `ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list mobile IDs: %w", err)
	}
	return all, nil
}

// mobileIDs reads the mobile IDs that a condition selects, with their
// certificates.
func (s *Store) mobileIDs(ctx context.Context, condition, order string, args ...any) ([]mobileid.MobileID, error) {
	var all []mobileid.MobileID
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		var err error
		all, err = readMobileIDs(ctx, tx, condition, order, args...)
		return err
	})
	return all, err
}

// readMobileIDs reads them in a transaction. It asks for the certificates by the
// ids that it has read, and not by the condition again: outside a snapshot others
// may fulfil that by then, and PostgreSQL without fresh statistics reads all
// certificates to join them.
func readMobileIDs(ctx context.Context, tx *sql.Tx, condition, order string, args ...any) ([]mobileid.MobileID, error) {
	all, err := collect(ctx, tx, func(rows *sql.Rows) (mobileid.MobileID, error) { return scanMobileID(rows) },
		`SELECT `+mobileIDColumns+` FROM mobile_ids WHERE `+condition+` `+order, args...)
	if err != nil {
		return nil, err
	}
	for batch := range slices.Chunk(all, maxRowsPerStatement) {
		if err := readCertificates(ctx, tx, batch); err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
	}
	return all, nil
}

// readCertificates adds their certificates to mobile IDs.
func readCertificates(ctx context.Context, tx *sql.Tx, mobileIDs []mobileid.MobileID) error {
	index := make(map[string]*mobileid.MobileID, len(mobileIDs))
	places, ids := make([]string, len(mobileIDs)), make([]any, len(mobileIDs))
	for i := range mobileIDs {
		index[mobileIDs[i].ID] = &mobileIDs[i]
		places[i], ids[i] = fmt.Sprintf("$%d", i+1), mobileIDs[i].ID
	}
	query := `SELECT ` + certificateColumns + `, mobile_id FROM certificates
		WHERE mobile_id IN (` + strings.Join(places, ", ") + `) ORDER BY mobile_id, issuer, aki, serial`
	_, err := collect(ctx, tx, func(rows *sql.Rows) (struct{}, error) {
		var mobileID string
		c, err := scanCertificate(rows, &mobileID)
		if err != nil {
			return struct{}{}, err
		}
		m := index[mobileID]
		m.Certificates = append(m.Certificates, c)
		return struct{}{}, nil
	}, query, ids...)
	return err
}

// CreateMobileID creates a mobile ID with its certificates. Of the owner only the
// id counts, and the user must exist. The state must be registered or active.
func (s *Store) CreateMobileID(ctx context.Context, m mobileid.MobileID) error {
	if err := mobileid.CheckID("mobileId", m.ID); err != nil {
		return err
	}
	if m.State != mobileid.Registered && m.State != mobileid.Active {
		return &OrderError{MobileID: m.ID, Problem: fmt.Sprintf("creates it as %q, it must be registered or active", m.State)}
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := readUser(ctx, tx, m.Owner.ID); err != nil {
			return fmt.Errorf("read owner %s: %w", m.Owner.ID, err)
		}
		const insert = `INSERT INTO mobile_ids (id, owner, name, state, created_at) VALUES ($1, $2, $3, $4, $5)`
		if _, err := tx.ExecContext(ctx, insert, m.ID, m.Owner.ID, m.Name, string(m.State), stored(s.now())); err != nil {
			return err
		}
		return s.insertCertificates(ctx, tx, m.ID, m.Certificates, "")
	})
	if err != nil {
		return fmt.Errorf("create mobile ID %s: %w", m.ID, err)
	}
	return nil
}

// Deactivate makes an active mobile ID inactive, and its valid certificates
// onHold. Any other state is a *mobileid.TransitionError.
func (s *Store) Deactivate(ctx context.Context, id string) error {
	return s.change(ctx, "deactivate", id, func(tx *sql.Tx, m mobileid.MobileID) error {
		return move(ctx, tx, m, mobileid.Inactive, mobileid.CertificateValid, mobileid.CertificateOnHold)
	})
}

// Reactivate makes an inactive mobile ID active, and its certificates on hold
// valid. Any other state is a *mobileid.TransitionError. While its owner has another
// live one, which a Get can have brought about meanwhile, it is
// mobileid.ErrMobileIDActive: nobody has two.
func (s *Store) Reactivate(ctx context.Context, id string) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		m, err := s.takeWithOwner(ctx, tx, id)
		if err != nil {
			return err
		}
		// A registered one can become active too, but not by this way.
		if m.State == mobileid.Registered {
			return &mobileid.TransitionError{What: "mobile ID " + m.ID, From: string(m.State), To: string(mobileid.Active)}
		}
		if err := move(ctx, tx, m, mobileid.Active, mobileid.CertificateOnHold, mobileid.CertificateValid); err != nil {
			return err
		}
		a, err := s.readApplicant(ctx, tx, m.Owner.ID)
		if err != nil {
			return err
		}
		return aloneLive(a, id)
	})
	if err != nil {
		return fmt.Errorf("reactivate mobile ID %s: %w", id, err)
	}
	return nil
}

// takeWithOwner takes first the owner and then the mobile ID, as everything does that
// decides about what a user has: see the package comment. An unknown id is
// mobileid.ErrMobileIDNotFound, and one that changes hands meanwhile a
// *mobileid.ConflictError.
func (s *Store) takeWithOwner(ctx context.Context, tx *sql.Tx, id string) (mobileid.MobileID, error) {
	before, err := readMobileID(ctx, tx, id, "")
	if errors.Is(err, sql.ErrNoRows) {
		return mobileid.MobileID{}, mobileid.NotFound()
	}
	if err != nil {
		return mobileid.MobileID{}, err
	}
	if err := s.takeUser(ctx, tx, before.Owner.ID); err != nil {
		return mobileid.MobileID{}, err
	}
	m, err := s.takeMobileID(ctx, tx, id)
	if err == nil && m.Owner.ID != before.Owner.ID {
		err = &mobileid.ConflictError{MobileID: id, Problem: "belongs to another user by now"}
	}
	return m, err
}

// aloneLive refuses a live mobile ID beside the one that is meant.
func aloneLive(a mobileid.Applicant, id string) error {
	for _, live := range a.Live() {
		if live.ID != id {
			return mobileid.AlreadyActive()
		}
	}
	return nil
}

// ChangeOwner hands a mobile ID to another user, who must exist. Nothing in the
// processes does so; it stands for what other programs do to the database
// between validation and lock.
func (s *Store) ChangeOwner(ctx context.Context, id, owner string) error {
	return s.change(ctx, "change owner of", id, func(tx *sql.Tx, _ mobileid.MobileID) error {
		if _, err := readUser(ctx, tx, owner); err != nil {
			return fmt.Errorf("read user %s: %w", owner, err)
		}
		_, err := tx.ExecContext(ctx, `UPDATE mobile_ids SET owner = $2 WHERE id = $1`, id, owner)
		return err
	})
}

// DeleteMobileID removes a mobile ID with its certificates; its audit stays. A
// locked one cannot be removed: it could come back under its id.
func (s *Store) DeleteMobileID(ctx context.Context, id string) error {
	return s.change(ctx, "delete", id, func(tx *sql.Tx, m mobileid.MobileID) error {
		if m.State == mobileid.Locked {
			return &mobileid.TransitionError{What: "mobile ID " + id, From: string(m.State), To: "deleted"}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM certificates WHERE mobile_id = $1`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM mobile_ids WHERE id = $1`, id)
		return err
	})
}

// change runs fn on a mobile ID that no other transaction changes meanwhile. An
// unknown id is mobileid.ErrMobileIDNotFound.
func (s *Store) change(ctx context.Context, what, id string, fn func(tx *sql.Tx, m mobileid.MobileID) error) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		m, err := readMobileID(ctx, tx, id, s.dialect.forUpdate)
		if errors.Is(err, sql.ErrNoRows) {
			return mobileid.NotFound()
		}
		if err != nil {
			return err
		}
		return fn(tx, m)
	})
	if err != nil {
		return fmt.Errorf("%s mobile ID %s: %w", what, id, err)
	}
	return nil
}

// move changes the state of a mobile ID, and of those of its certificates that
// are in the state from.
func move(ctx context.Context, tx *sql.Tx, m mobileid.MobileID, next mobileid.State, from, to mobileid.CertificateState) error {
	if !m.State.CanBecome(next) {
		return &mobileid.TransitionError{What: "mobile ID " + m.ID, From: string(m.State), To: string(next)}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE mobile_ids SET state = $2 WHERE id = $1`, m.ID, string(next)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE certificates SET state = $3 WHERE mobile_id = $1 AND state = $2`, m.ID, string(from), string(to))
	return err
}

// takeMobileID reads a mobile ID that no other transaction can change before
// this one ends. One that does not exist is a *mobileid.ConflictError.
func (s *Store) takeMobileID(ctx context.Context, tx *sql.Tx, id string) (mobileid.MobileID, error) {
	m, err := readMobileID(ctx, tx, id, s.dialect.forUpdate)
	if errors.Is(err, sql.ErrNoRows) {
		return mobileid.MobileID{}, gone(id)
	}
	if err != nil {
		return mobileid.MobileID{}, fmt.Errorf("read mobile ID: %w", err)
	}
	return m, nil
}

// mobileIDColumns are what scanMobileID reads.
const mobileIDColumns = `id, owner, name, state, requested_at, locked_at`

func scanMobileID(row interface{ Scan(...any) error }) (mobileid.MobileID, error) {
	var m mobileid.MobileID
	err := row.Scan(&m.ID, &m.Owner.ID, &m.Name, &m.State, timestamp{&m.RequestedAt}, timestamp{&m.LockedAt})
	return m, err
}

// readMobileID reads the row of a mobile ID, without owner and certificates. The
// suffix ends the statement.
func readMobileID(ctx context.Context, tx *sql.Tx, id, suffix string) (mobileid.MobileID, error) {
	return scanMobileID(tx.QueryRowContext(ctx, `SELECT `+mobileIDColumns+` FROM mobile_ids WHERE id = $1`+suffix, id))
}
