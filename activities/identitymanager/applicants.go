package identitymanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mobileid"
)

// Applicant reads what decides whether a user may have a new mobile ID: the user,
// their addresses, their open grant and all their mobile IDs with certificates, as
// they are at one moment. An unknown user is one who is not active and has nothing.
func (s *Store) Applicant(ctx context.Context, userID string) (mobileid.Applicant, error) {
	unknown := mobileid.Applicant{User: mobileid.User{ID: userID}}
	if checkText("userId", userID) != nil {
		return unknown, nil
	}
	var a mobileid.Applicant
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		var err error
		a, err = s.readApplicant(ctx, tx, userID)
		return err
	})
	if errors.Is(err, ErrUserNotFound) {
		return unknown, nil
	}
	if err != nil {
		return mobileid.Applicant{}, fmt.Errorf("read applicant %s: %w", userID, err)
	}
	return a, nil
}

func (s *Store) readApplicant(ctx context.Context, tx *sql.Tx, userID string) (a mobileid.Applicant, err error) {
	if a.User, err = readUser(ctx, tx, userID); err != nil {
		return a, err
	}
	if a.Emails, err = readEmails(ctx, tx, userID); err != nil {
		return a, fmt.Errorf("read addresses: %w", err)
	}
	if a.Grant, err = s.openGrant(ctx, tx, userID); err != nil {
		return a, err
	}
	if a.MobileIDs, err = readMobileIDs(ctx, tx, `owner = $1`, `ORDER BY id`, userID); err != nil {
		return a, fmt.Errorf("read mobile IDs: %w", err)
	}
	return a, nil
}
