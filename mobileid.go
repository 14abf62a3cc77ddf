package mobileid

import (
	"strings"
	"time"
)

// maxIDLength is the longest id of a mobile ID, in characters.
const maxIDLength = 128

// SelfServiceRole is the role that lets a user run the self-service processes,
// by the name that Smart ID gives it in its examples.
const SelfServiceRole = "BaseRoleSelfServiceUser"

// MobileID is the credential: an id, an owner, a state, certificates.
type MobileID struct {
	ID           string
	Name         string
	Owner        User
	State        State
	RequestedAt  time.Time // when Next was accepted for its lock; zero if it is not locked by a process
	LockedAt     time.Time // zero unless locked
	Certificates []Certificate
}

// User is a person who can own mobile IDs.
type User struct {
	ID     string
	Name   string
	Active bool
	Roles  []string
}

// CheckID refuses, naming the field, an id that is not 1 to 128 of A-Z a-z 0-9
// . _ and -.
func CheckID(field, id string) error {
	switch {
	case id == "":
		return InvalidRequest(field, "is missing")
	case len(id) > maxIDLength:
		return InvalidRequest(field, "has more than 128 characters")
	}
	for _, c := range id {
		plain := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
		if !plain {
			return InvalidRequest(field, "may hold only A-Z a-z 0-9 . _ -")
		}
	}
	return nil
}

// Open returns the certificates that a lock still has to see revoked: those
// that are neither revoked nor expired in Identity Manager.
func (m MobileID) Open() []Certificate {
	var open []Certificate
	for _, c := range m.Certificates {
		if !c.State.Final() {
			open = append(open, c)
		}
	}
	return open
}

// AdmitLock decides whether a lock of m may be asked for by userID, or returns
// the refusal. With operator set, userID is the owner on whose behalf an
// operator acts: then the user need not be able to use Self-Service.
//
// A locked mobile ID with a certificate that is still open is admitted, because
// an earlier lock was cut short and must be finished. With resume set nothing
// but a locked one is admitted.
func AdmitLock(m MobileID, userID string, operator, resume bool) error {
	if m.Owner.ID != userID {
		return NotFound()
	}
	if m.State == Locked && (resume || len(m.Open()) > 0) {
		return nil
	}
	if !operator {
		if !m.Owner.Active {
			return NotEntitled("the user is not active")
		}
		if !m.Owner.HasRole(SelfServiceRole) {
			return NotEntitled("the user does not have the self-service role")
		}
	}
	if m.State != Active {
		return NotActive(m.State)
	}
	if resume {
		return NotLocked()
	}
	return nil
}

// HasRole reports whether the user holds the role.
func (u User) HasRole(role string) bool {
	for _, r := range u.Roles {
		if r == role {
			return true
		}
	}
	return false
}
