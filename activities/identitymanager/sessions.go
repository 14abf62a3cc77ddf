package identitymanager

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"mobileid"
)

// sessionIDBytes is the length of the hash that names a session, SHA-256.
const sessionIDBytes = 32

// seenEvery is how often it is written down that a session is used: not at every
// request, because that would make each one a transaction.
const seenEvery = time.Minute

// ErrNoSession reports a session that does not exist, has ended or has timed out.
var ErrNoSession = errors.New("no such session")

// Session is a user who is signed in to Self-Service.
type Session struct {
	// ID is the lower-case hex SHA-256 of the token in the user's cookie. The token
	// itself is not kept.
	ID        string
	User      mobileid.User // of StartSession the id alone counts
	Method    string        // how the user signed in
	CreatedAt time.Time
	SeenAt    time.Time // to the minute
	ExpiresAt time.Time // whatever the user does
}

// ByMobileID is the Method of a session that began with a mobile ID, whichever of the
// user's. It ends with the lock of any, unless it was itself where Next was pressed.
const ByMobileID = "mobileID"

// RequestID makes an id for a request of this session. Lock knows by it that the request
// is the session's; to anybody else it is random.
func (s Session) RequestID() string {
	nonce := rand.Text()
	return nonce + "." + s.mark(nonce)
}

// made reports whether a RequestID is of this session.
func (s Session) made(requestID string) bool {
	nonce, mark, _ := strings.Cut(requestID, ".")
	return subtle.ConstantTimeCompare([]byte(mark), []byte(s.mark(nonce))) == 1
}

func (s Session) mark(nonce string) string {
	mac := hmac.New(sha256.New, []byte(s.ID))
	mac.Write([]byte(nonce))
	return hex.EncodeToString(mac.Sum(nil))
}

// StartSession begins a session until its ExpiresAt, in the place of another one:
// replaces is its id, or empty. An unknown user is ErrUserNotFound.
func (s *Store) StartSession(ctx context.Context, session Session, replaces string) error {
	if id, err := hex.DecodeString(session.ID); err != nil || len(id) != sessionIDBytes {
		return mobileid.InvalidRequest("id", "is not the hex SHA-256 of a token")
	}
	if err := cmp.Or(checkText("method", session.Method), checkText("userId", session.User.ID)); err != nil {
		return err
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := readUser(ctx, tx, session.User.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id = $1`, replaces); err != nil {
			return err
		}
		const insert = `INSERT INTO sessions (id, user_id, method, created_at, seen_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`
		now := stored(s.now())
		_, err := tx.ExecContext(ctx, insert, session.ID, session.User.ID, session.Method, now, now, stored(session.ExpiresAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("start session: %w", err)
	}
	return nil
}

// Session reads a session with its user as they are now. One that has ended, has
// expired, or was not used for idle is ErrNoSession. To read it is not to use it.
func (s *Store) Session(ctx context.Context, id string, idle time.Duration) (Session, error) {
	session := Session{ID: id}
	now := s.now()
	err := s.snapshot(ctx, func(tx *sql.Tx) error {
		const query = `SELECT user_id, method, created_at, seen_at, expires_at FROM sessions
			WHERE id = $1 AND expires_at > $2 AND seen_at > $3`
		err := tx.QueryRowContext(ctx, query, id, stored(now), stored(now.Add(-idle))).Scan(&session.User.ID, &session.Method,
			timestamp{&session.CreatedAt}, timestamp{&session.SeenAt}, timestamp{&session.ExpiresAt})
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoSession
		}
		if err != nil {
			return err
		}
		session.User, err = readUser(ctx, tx, session.User.ID)
		return err
	})
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	return session, nil
}

// UseSession notes that a session is used now, so that it does not time out. It returns
// the SeenAt that is stored afterwards.
func (s *Store) UseSession(ctx context.Context, session Session) (seenAt time.Time, err error) {
	now := s.now()
	if now.Sub(session.SeenAt) < seenEvery {
		return session.SeenAt, nil
	}
	if _, err := s.write.ExecContext(ctx, `UPDATE sessions SET seen_at = $2 WHERE id = $1`, session.ID, stored(now)); err != nil {
		return time.Time{}, fmt.Errorf("note that a session is used: %w", err)
	}
	return now, nil
}

// EndSession ends a session. To end none is no error.
func (s *Store) EndSession(ctx context.Context, id string) error {
	if _, err := s.write.ExecContext(ctx, `DELETE FROM sessions WHERE id = $1`, id); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndSessionsOf ends all sessions of the user of a session, it included. One that does not
// exist ends none.
func (s *Store) EndSessionsOf(ctx context.Context, id string) error {
	const end = `DELETE FROM sessions WHERE user_id = (SELECT user_id FROM sessions WHERE id = $1)`
	if _, err := s.write.ExecContext(ctx, end, id); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

// endSessionsByMobileID ends the owner's sessions that began with a mobile ID, because one
// is locked: whoever has the phone is out. The one where Next was pressed stays, because
// its user may have no other way to a new one.
func endSessionsByMobileID(ctx context.Context, tx *sql.Tx, order mobileid.LockOrder) error {
	const query = `SELECT id FROM sessions WHERE user_id = $1 AND method = $2`
	ids, err := collect(ctx, tx, scanText, query, order.Owner, ByMobileID)
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	for _, id := range ids {
		if (Session{ID: id}).made(order.RequestID) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id = $1`, id); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
	}
	return nil
}

// ForgetOldSessions deletes the sessions that have expired, and the tries to sign
// in that began longer ago than window. It is to be called now and then.
func (s *Store) ForgetOldSessions(ctx context.Context, window time.Duration) error {
	now := s.now()
	if _, err := s.write.ExecContext(ctx, `DELETE FROM sessions WHERE expires_at <= $1`, stored(now)); err != nil {
		return fmt.Errorf("forget expired sessions: %w", err)
	}
	if _, err := s.write.ExecContext(ctx, `DELETE FROM sign_in_tries WHERE since <= $1`, stored(now.Add(-window))); err != nil {
		return fmt.Errorf("forget tries to sign in: %w", err)
	}
	return nil
}
