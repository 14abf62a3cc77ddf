package mobileid

import "time"

// Unfinished is a mobile ID that a process has left between two states, as far as
// Identity Manager can tell: a process may still be at it.
type Unfinished struct {
	MobileID string  `json:"mobileId"`
	UserID   string  `json:"userId"` // the owner
	State    State   `json:"state"`
	Problem  Problem `json:"problem"`
	// WorkflowID is that of the process that should bring it to its end.
	WorkflowID string `json:"workflowId"`
}

// Problem is what is wrong with a mobile ID that was left unfinished.
type Problem string

// The problems that reconciliation finds.
const (
	// ProblemNotRevoked is a locked mobile ID with a certificate that is neither
	// revoked nor expired in Identity Manager.
	ProblemNotRevoked Problem = "notRevoked"
	// ProblemNotLocked is one whose lock has ended after Next, and that is not locked:
	// somebody terminated the process, or the store was restored to a time before.
	ProblemNotLocked Problem = "notLocked"
	// ProblemNeverActive is one that a Get mobile ID registered, and left so.
	ProblemNeverActive Problem = "neverActive"
	// ProblemForgotten is one with a certificate that is revoked in Identity Manager and
	// not at its CA: the CA was restored from a backup, or was believed too early.
	ProblemForgotten Problem = "forgottenByCA"
)

// KnownCertificate is a certificate with what Identity Manager knows of the mobile ID
// that it is of.
type KnownCertificate struct {
	Certificate
	RevokedAt     time.Time // on hold or revoked: the CA's date; zero if it is not known
	Reason        Reason    // the same
	MobileID      string
	Owner         string // the id of the user
	MobileIDState State
}
