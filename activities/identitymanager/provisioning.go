package identitymanager

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// answerGrace is for how long after the expiry of a command its answer is still
// taken, and what is needed to check it is kept. Clocks differ, messaging repeats
// a callback that was not received, and a worker may be down when it comes. The
// process has timers of its own.
const answerGrace = time.Hour

// PutProvisioning keeps the secrets of a command to messaging, and the command for
// its answer. It takes the place of an earlier provisioning of the mobile ID, whose
// command becomes void: what still answers it comes late. A repeat changes nothing,
// nor does anything more under the id of a command that the phone has answered. If the
// store writes notices of it, the code is sent to the user.
//
// A missing field is a mobileid.ErrInvalidRequest. A mobile ID that is not
// registered, or not the user's, is a *mobileid.ConflictError, and the id of
// another command an *OrderError.
func (s *Store) PutProvisioning(ctx context.Context, p mobileid.Provisioning) error {
	p.ExpiresAt = microseconds(p.ExpiresAt)
	command := mobileid.Command{CommandID: p.CommandID, MobileID: p.MobileID, WorkflowID: p.WorkflowID, Kind: KindProvision, ExpiresAt: p.ExpiresAt}
	if err := cmp.Or(checkCommand(command), checkText("userId", p.UserID), checkText("nonce", p.Nonce), checkText("uri", p.URI)); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		m, err := s.takeRegistered(ctx, tx, p.MobileID)
		if err != nil {
			return err
		}
		if m.Owner.ID != p.UserID {
			return &mobileid.ConflictError{MobileID: p.MobileID, Problem: "belongs to another user by now"}
		}
		known, err := readCommand(ctx, tx, p.CommandID)
		if err == nil && known.answered() && known.fits(command) {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := s.voidProvisioning(ctx, tx, p); err != nil {
			return err
		}
		if err := writeCommand(ctx, tx, command); err != nil {
			return err
		}
		if err := s.writeProvisioning(ctx, tx, p); err != nil {
			return err
		}
		return s.noticeQR(ctx, tx, m, p)
	})
	if err != nil {
		return fmt.Errorf("put provisioning of mobile ID %s: %w", p.MobileID, err)
	}
	return nil
}

// takeRegistered takes a mobile ID that is being created. In any other state it is
// a *mobileid.ConflictError.
func (s *Store) takeRegistered(ctx context.Context, tx *sql.Tx, id string) (mobileid.MobileID, error) {
	m, err := s.takeMobileID(ctx, tx, id)
	if err == nil && m.State != mobileid.Registered {
		err = &mobileid.ConflictError{MobileID: id, Problem: "is " + string(m.State) + " by now, and no longer being created"}
	}
	return m, err
}

// voidProvisioning makes the commands void that p takes the place of, and deletes
// what was answered to them.
func (s *Store) voidProvisioning(ctx context.Context, tx *sql.Tx, p mobileid.Provisioning) error {
	const void = `UPDATE messages SET voided_at = $3, body = NULL
		WHERE mobile_id = $1 AND kind = 'provision' AND command_id <> $2 AND voided_at IS NULL`
	if _, err := tx.ExecContext(ctx, void, p.MobileID, p.CommandID, stored(s.now())); err != nil {
		return fmt.Errorf("void earlier commands: %w", err)
	}
	return nil
}

func (s *Store) writeProvisioning(ctx context.Context, tx *sql.Tx, p mobileid.Provisioning) error {
	const put = `INSERT INTO provisionings (mobile_id, user_id, workflow_id, command_id, nonce, uri, expires_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (mobile_id) DO UPDATE SET user_id = excluded.user_id, workflow_id = excluded.workflow_id,
			command_id = excluded.command_id, nonce = excluded.nonce, uri = excluded.uri, expires_at = excluded.expires_at,
			created_at = CASE WHEN provisionings.command_id = excluded.command_id THEN provisionings.created_at ELSE excluded.created_at END`
	_, err := tx.ExecContext(ctx, put, p.MobileID, p.UserID, p.WorkflowID, p.CommandID, p.Nonce, p.URI, stored(p.ExpiresAt), stored(s.now()))
	if err != nil {
		return fmt.Errorf("write provisioning: %w", err)
	}
	return nil
}

// Provisioning reads the provisioning of a mobile ID, for its process. An expired
// one is mobileid.ErrNoProvisioning, and deleted; but if the phone has answered it, it is
// kept for another hour, so that the process can check the answer.
func (s *Store) Provisioning(ctx context.Context, mobileID string) (mobileid.Provisioning, error) {
	if mobileid.CheckID("mobileId", mobileID) != nil {
		return mobileid.Provisioning{}, mobileid.ErrNoProvisioning
	}
	const condition = `provisionings.mobile_id = $1`
	p, answered, err := s.provisioning(ctx, condition, mobileID)
	until := p.ExpiresAt
	if answered {
		until = until.Add(answerGrace)
	}
	if err == nil {
		err = s.unexpired(ctx, p.MobileID, until)
	}
	if err != nil {
		return mobileid.Provisioning{}, fmt.Errorf("read provisioning of mobile ID %s: %w", mobileID, err)
	}
	return p, nil
}

// ProvisioningOf reads what a user can scan now, for the page of the signed-in
// user. An expired one is mobileid.ErrNoProvisioning, and deleted once no process needs it
// to check an answer.
func (s *Store) ProvisioningOf(ctx context.Context, userID string) (mobileid.Provisioning, error) {
	if checkText("userId", userID) != nil {
		return mobileid.Provisioning{}, mobileid.ErrNoProvisioning
	}
	const condition = `provisionings.user_id = $1 AND EXISTS (SELECT 1 FROM mobile_ids
		WHERE mobile_ids.id = provisionings.mobile_id AND owner = $1 AND state = 'registered')`
	p, _, err := s.provisioning(ctx, condition, userID)
	if err == nil {
		err = s.unexpired(ctx, p.MobileID, p.ExpiresAt)
	}
	if err != nil {
		return mobileid.Provisioning{}, fmt.Errorf("read provisioning of user %s: %w", userID, err)
	}
	return p, nil
}

// provisioning reads the newest one that a condition selects, and whether the
// phone has answered it.
func (s *Store) provisioning(ctx context.Context, condition string, arg string) (p mobileid.Provisioning, answered bool, err error) {
	query := `SELECT mobile_id, user_id, workflow_id, command_id, nonce, uri, expires_at,
		EXISTS (SELECT 1 FROM messages WHERE messages.command_id = provisionings.command_id AND received_at IS NOT NULL)
		FROM provisionings WHERE ` + condition + ` ORDER BY created_at DESC, mobile_id LIMIT 1`
	err = s.read.QueryRowContext(ctx, query, arg).Scan(&p.MobileID, &p.UserID, &p.WorkflowID, &p.CommandID, &p.Nonce, &p.URI, timestamp{&p.ExpiresAt}, &answered)
	if errors.Is(err, sql.ErrNoRows) {
		err = mobileid.ErrNoProvisioning
	}
	return p, answered, err
}

// unexpired returns mobileid.ErrNoProvisioning from a time on, and then deletes what has
// expired.
func (s *Store) unexpired(ctx context.Context, mobileID string, until time.Time) error {
	if s.now().Before(until) {
		return nil
	}
	if _, err := s.forgetExpired(ctx, mobileID); err != nil {
		return err
	}
	return mobileid.ErrNoProvisioning
}
