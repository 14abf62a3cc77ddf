package activities

import (
	"time"

	"mobileid"
)

// Names of the activities, as they stand in histories.
const (
	ValidateLockName     = "ValidateLock"
	LockInIMName         = "LockInIdentityManager"
	RevokeAtCAName       = "RevokeAtCA"
	RevokeInIMName       = "RevokeInIdentityManager"
	AwaitPublicationName = "AwaitPublication"
	RecordExitName       = "RecordExit"
)

// Policy is the configuration that a lock runs under. It travels with the
// validation's result, so that the history holds it: workflow code reads no
// configuration, and a changed one applies to later starts.
type Policy struct {
	Deadline   time.Duration   `json:"deadline"` // for Next or Cancel
	Reason     mobileid.Reason `json:"reason"`   // where nobody gives one
	Attributes AttributePolicy `json:"attributes"`
	// GetWorkflowID is the workflow id of the owner's Get mobile ID, to go on to it;
	// empty where that is not configured.
	GetWorkflowID string `json:"getWorkflowId,omitempty"`
}

// AttributePolicy says which search attributes a process sets, with the values
// of the two that may be hashed.
type AttributePolicy struct {
	Enabled  bool   `json:"enabled"`
	MobileID string `json:"mobileId,omitempty"`
	User     string `json:"user,omitempty"`
}

// CAPolicy is how a lock treats one CA.
type CAPolicy struct {
	Name         string        `json:"name"`
	TaskQueue    string        `json:"taskQueue,omitempty"` // empty: the process's own
	CallTimeout  time.Duration `json:"callTimeout"`         // of one call to the CA
	Concurrency  int           `json:"concurrency"`         // certificates at once
	ProofWait    time.Duration `json:"proofWait"`           // how long others may take to see it; 0: not waited for; negative: until the next CRL
	ApprovalWait time.Duration `json:"approvalWait"`        // how long a request may be pending at the CA
}

// ValidateLockInput is what ValidateLock needs.
type ValidateLockInput struct {
	MobileID string           `json:"mobileId"`
	UserID   string           `json:"userId"`
	Operator bool             `json:"operator,omitempty"`
	Resume   bool             `json:"resume,omitempty"`
	By       string           `json:"by,omitempty"`
	Process  mobileid.Process `json:"process"`
}

// ValidateLockResult is what a lock knows before Next.
type ValidateLockResult struct {
	State        mobileid.State               `json:"state"`
	Certificates []mobileid.CertificateResult `json:"certificates"` // those that Next would revoke
	CAs          []CAPolicy                   `json:"cas"`          // of these certificates
	Policy       Policy                       `json:"policy"`
}

// LockInIMResult is what the lock's transaction brought about, and where each
// certificate goes.
type LockInIMResult struct {
	From         mobileid.State               `json:"from"`
	RequestedAt  time.Time                    `json:"requestedAt"`
	LockedAt     time.Time                    `json:"lockedAt"`
	Reason       mobileid.Reason              `json:"reason,omitempty"` // to send; empty: as ordered
	Certificates []mobileid.CertificateResult `json:"certificates"`
	CAs          []CAPolicy                   `json:"cas"`
	Audit        mobileid.AuditMark           `json:"audit"`
}

// RevokeAtCAInput is what RevokeAtCA needs.
type RevokeAtCAInput struct {
	CA           CAPolicy                     `json:"ca"`
	MobileID     string                       `json:"mobileId,omitempty"`
	Reason       mobileid.Reason              `json:"reason"`
	RequestedAt  time.Time                    `json:"requestedAt"`
	Asked        bool                         `json:"asked,omitempty"` // an earlier step may have reached the CA
	Certificates []mobileid.CertificateResult `json:"certificates"`
	// Pending are the requests for these certificates that an earlier step has found
	// waiting. It is empty if there is none, and nil only from a build that keeps none.
	Pending []PendingRequest `json:"pending"`
}

// PendingRequest is a request that waits for an approval at the CA: it is polled by
// status, and never sent a second time.
type PendingRequest struct {
	mobileid.CertificateID
	Since time.Time `json:"since"` // when it was first found waiting
}

// RevokeAtCAResult has the same certificates in the same order. Each has an
// Outcome (revoked, with the proof), or CannotRevoke (an operator must help), or
// neither (still open: others need an operator or have begun to wait for an
// approval, and this one must be tried again).
type RevokeAtCAResult struct {
	Certificates    []mobileid.CertificateResult `json:"certificates"`
	Pending         []PendingRequest             `json:"pending,omitempty"`        // those that wait for an approval
	NextPublication time.Time                    `json:"nextPublication,omitzero"` // when the CA's next CRL is due
}

// AwaitPublicationInput is what AwaitPublication needs.
type AwaitPublicationInput struct {
	CA           CAPolicy                     `json:"ca"`
	MobileID     string                       `json:"mobileId"`
	Process      mobileid.Process             `json:"process"`
	Decision     mobileid.Decision            `json:"decision"`
	Certificates []mobileid.CertificateResult `json:"certificates"`
}

// AwaitPublicationResult has the same certificates, with VisibleAt.
type AwaitPublicationResult struct {
	Certificates []mobileid.CertificateResult `json:"certificates"`
	// SetBack reports that the end states do not stand in Identity Manager, which was set
	// back. Then nothing was looked for.
	SetBack bool               `json:"setBack,omitempty"`
	Audit   mobileid.AuditMark `json:"audit"`
}
