package identitymanager

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// newMobileIDBytes is the length of the random part of a new mobile ID's id: as
// much as a UUID has, so that no two are ever the same, and nobody guesses one.
const newMobileIDBytes = 16

// PutGrant lets a user get one new mobile ID within ttl, on the word of by: a
// backend, or an operator. A user has one open grant: an earlier one that is not
// used yet becomes void. The grant is the first record of the new mobile ID's
// audit chain.
//
// An unknown user is ErrUserNotFound; a missing by, or a ttl that is not positive,
// is a mobileid.ErrInvalidRequest.
func (s *Store) PutGrant(ctx context.Context, userID, by string, ttl time.Duration) (mobileid.Grant, error) {
	return s.putGrant(ctx, userID, by, ttl, func(*mobileid.Grant) bool { return false })
}

// EnsureGrant is PutGrant, unless the user has an open grant that is still good for
// rest: then it answers with that one, and writes nothing. However often it is called at
// once, no grant that it has answered with becomes void by it.
func (s *Store) EnsureGrant(ctx context.Context, userID, by string, ttl, rest time.Duration) (mobileid.Grant, error) {
	return s.putGrant(ctx, userID, by, ttl, func(open *mobileid.Grant) bool { return open.ExpiresAt.Sub(s.now()) >= rest })
}

// putGrant writes a grant, unless the user has an open one that keep wants kept.
func (s *Store) putGrant(ctx context.Context, userID, by string, ttl time.Duration, keep func(open *mobileid.Grant) bool) (mobileid.Grant, error) {
	if err := checkText("by", by); err != nil {
		return mobileid.Grant{}, err
	}
	if ttl <= 0 {
		return mobileid.Grant{}, mobileid.InvalidRequest("ttl", "is "+ttl.String()+", it must be positive")
	}
	if checkText("userId", userID) != nil {
		return mobileid.Grant{}, fmt.Errorf("grant a mobile ID: %w", ErrUserNotFound)
	}
	var grant mobileid.Grant
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := s.takeUser(ctx, tx, userID); err != nil {
			return err
		}
		open, err := s.openGrant(ctx, tx, userID)
		if err != nil {
			return err
		}
		if open != nil && keep(open) {
			grant = *open
			return nil
		}
		now := s.now()
		grant = mobileid.Grant{MobileID: newMobileID(), UserID: userID, By: by, CreatedAt: now, ExpiresAt: microseconds(now.Add(ttl))}
		chain, err := s.openChain(ctx, tx, grant.MobileID)
		if err != nil {
			return err
		}
		if err := writeGrant(ctx, tx, grant); err != nil {
			return err
		}
		_, err = chain.append(ctx, idempotencyKey(string(mobileid.EventGranted), mobileid.Process{}), mobileid.Record{
			MobileID: grant.MobileID,
			Event:    mobileid.EventGranted,
			At:       now,
			Decision: mobileid.Decision{By: by},
			Owner:    userID,
		})
		return err
	})
	if err != nil {
		return mobileid.Grant{}, fmt.Errorf("grant user %s a mobile ID: %w", userID, err)
	}
	return grant, nil
}

// newMobileID makes up an id.
func newMobileID() string {
	random := make([]byte, newMobileIDBytes)
	_, _ = rand.Read(random) // never fails: it would end the program
	return "mid-" + hex.EncodeToString(random)
}

// writeGrant writes the grant instead of the user's earlier open ones, which
// expire with it.
func writeGrant(ctx context.Context, tx *sql.Tx, grant mobileid.Grant) error {
	const void = `UPDATE grants SET expires_at = $2 WHERE user_id = $1 AND used_at IS NULL AND expires_at > $2`
	if _, err := tx.ExecContext(ctx, void, grant.UserID, stored(grant.CreatedAt)); err != nil {
		return fmt.Errorf("void earlier grants: %w", err)
	}
	const insert = `INSERT INTO grants (mobile_id, user_id, granted_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`
	if _, err := tx.ExecContext(ctx, insert, grant.MobileID, grant.UserID, grant.By, stored(grant.CreatedAt), stored(grant.ExpiresAt)); err != nil {
		return fmt.Errorf("write grant: %w", err)
	}
	return nil
}

// openGrant reads the newest grant of a user that is neither used nor expired;
// nil if there is none.
func (s *Store) openGrant(ctx context.Context, tx *sql.Tx, userID string) (*mobileid.Grant, error) {
	const query = `SELECT mobile_id, user_id, granted_by, created_at, expires_at FROM grants
		WHERE user_id = $1 AND used_at IS NULL AND expires_at > $2 ORDER BY created_at DESC, mobile_id LIMIT 1`
	var grant mobileid.Grant
	err := tx.QueryRowContext(ctx, query, userID, stored(s.now())).Scan(
		&grant.MobileID, &grant.UserID, &grant.By, timestamp{&grant.CreatedAt}, timestamp{&grant.ExpiresAt})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", err)
	}
	return &grant, nil
}

// useGrant uses a grant up. The transaction has the user's row, and has found the
// grant open.
func useGrant(ctx context.Context, tx *sql.Tx, mobileID string, process mobileid.Process, now time.Time) error {
	const update = `UPDATE grants SET used_at = $2, used_workflow_id = $3, used_run_id = $4 WHERE mobile_id = $1`
	if _, err := tx.ExecContext(ctx, update, mobileID, stored(now), process.WorkflowID, process.RunID); err != nil {
		return fmt.Errorf("use grant up: %w", err)
	}
	return nil
}
