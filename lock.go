package mobileid

import (
	"fmt"
	"time"
)

// LockOrder asks Identity Manager to lock a mobile ID after Next.
type LockOrder struct {
	MobileID    string    `json:"mobileId"`
	Owner       string    `json:"owner"` // as validated; the transaction checks it again
	Process     Process   `json:"process"`
	Decision    Decision  `json:"decision"`
	RequestID   string    `json:"requestId,omitempty"` // of the Next that counts; empty: it had none
	RequestedAt time.Time `json:"requestedAt"`
	Reason      Reason    `json:"reason"`
	Resume      bool      `json:"resume,omitempty"` // report the certificates that are final, too
}

// LockReceipt is what the transaction of a lock brought about.
type LockReceipt struct {
	From         State         `json:"from"`        // the state before; Locked if the lock was taken over
	RequestedAt  time.Time     `json:"requestedAt"` // of the lock that stands: an earlier one's, if taken over
	LockedAt     time.Time     `json:"lockedAt"`    // of the lock that stands
	Reason       Reason        `json:"reason"`      // of the lock that stands: an earlier one's, unless this one's is keyCompromise
	Certificates []Certificate `json:"certificates"`
	Audit        AuditMark     `json:"audit"`
}

// RevocationOrder asks Identity Manager to take over what one CA has revoked.
type RevocationOrder struct {
	MobileID     string              `json:"mobileId"`
	Process      Process             `json:"process"`
	Decision     Decision            `json:"decision"`
	CA           string              `json:"ca"`
	Certificates []CertificateResult `json:"certificates"`
}

// RevocationReceipt is what Identity Manager says after a RevocationOrder.
type RevocationReceipt struct {
	Certificates []CertificateResult `json:"certificates"` // the same, with StateInIM as it now stands
	Audit        AuditMark           `json:"audit"`
	// Unlocked reports that the mobile ID is not locked: the store was set back to before
	// the lock.
	Unlocked bool `json:"unlocked,omitempty"`
	// Open counts the certificates of the mobile ID that are open after it. What a process
	// has seen taken over is open again in a store that was set back.
	Open int `json:"open,omitempty"`
}

// ConflictError reports that a mobile ID is no longer what was validated: gone,
// another owner's, or in a state that no lock takes over. Only an operator can
// say what shall become of it.
type ConflictError struct {
	MobileID string
	Problem  string // for example "belongs to another user by now"
}

func (e *ConflictError) Error() string { return fmt.Sprintf("mobile ID %s %s", e.MobileID, e.Problem) }
