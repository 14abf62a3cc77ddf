package mobileid

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Grant lets a user get one mobile ID, once. A Self-Service backend writes it for
// its signed-in user, or an operator does; without one, write access to the
// namespace of the engine would be enough to obtain a mobile ID.
type Grant struct {
	// MobileID is the id of the mobile ID to come. The grant reserves it, so that
	// the audit chain of a mobile ID begins with who let it come into being.
	MobileID  string
	UserID    string
	By        string // who wrote it: a backend, or an operator
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Applicant is a user who asks for a mobile ID.
type Applicant struct {
	User      User
	Emails    []string   // all addresses, the main one first
	Grant     *Grant     // the newest that is neither used nor expired; nil if there is none
	MobileIDs []MobileID // all of the user's, with their certificates
}

// Live returns the mobile IDs that stand in the way of a new one: those that are
// active, and those with a certificate that is neither revoked nor expired. One
// that is still being created by another process counts, too.
func (a Applicant) Live() []MobileID {
	var live []MobileID
	for _, m := range a.MobileIDs {
		if m.State == Active || m.State == Registered || len(m.Open()) > 0 {
			live = append(live, m)
		}
	}
	return live
}

// AdmitGet decides whether a mobile ID may be asked for by the user, or returns the
// refusal. That another one is live is not looked at here: it can be locked first.
func AdmitGet(a Applicant) error {
	switch {
	case !a.User.Active:
		return NotEntitled("the user is not active")
	case !a.User.HasRole(SelfServiceRole):
		return NotEntitled("the user does not have the self-service role")
	case a.Grant == nil:
		return NotEntitled("nobody has granted the user a new mobile ID")
	}
	return nil
}

// RegistrationOrder asks Identity Manager to use up a grant and to create its
// mobile ID as registered.
type RegistrationOrder struct {
	MobileID    string    `json:"mobileId"` // of the grant
	UserID      string    `json:"userId"`
	Name        string    `json:"name"` // of the profile, for people
	Process     Process   `json:"process"`
	Decision    Decision  `json:"decision"`
	RequestedAt time.Time `json:"requestedAt"` // Next
}

// IssueOrder asks Identity Manager to take over what a CA has issued for a mobile
// ID that is being created.
type IssueOrder struct {
	MobileID     string        `json:"mobileId"`
	Process      Process       `json:"process"`
	Decision     Decision      `json:"decision"`
	CA           string        `json:"ca"`
	Certificates []Certificate `json:"certificates"` // in state issued
}

// ActivationOrder asks Identity Manager to make a registered mobile ID active, and
// its issued certificates valid.
type ActivationOrder struct {
	MobileID string   `json:"mobileId"`
	UserID   string   `json:"userId"`
	Process  Process  `json:"process"`
	Decision Decision `json:"decision"`
}

// AbandonOrder asks Identity Manager to make a registered mobile ID locked, because
// it will not come into being.
type AbandonOrder struct {
	MobileID string   `json:"mobileId"`
	Process  Process  `json:"process"`
	Decision Decision `json:"decision"`
	Failure  *Failure `json:"failure"`
}

// Receipt is what a transaction on a mobile ID brought about.
type Receipt struct {
	At           time.Time     `json:"at"`
	Certificates []Certificate `json:"certificates"` // all of the mobile ID's, without DER
	Audit        AuditMark     `json:"audit"`
}

// Failure is why a mobile ID did not come into being, with a type that a caller can
// test for.
type Failure struct {
	Type    FailureType `json:"type"`
	Message string      `json:"message"`
}

// FailureType is the type of a Failure.
type FailureType string

// The types of failures of Get mobile ID after Next.
const (
	FailureCancelled        FailureType = "Cancelled"             // by the user, or by a cancellation request
	FailurePhoneSilent      FailureType = "PhoneDidNotAnswer"     // the time to scan, or to take the certificates, is over
	FailurePhoneRefused     FailureType = "PhoneRefused"          // the user or the app declined
	FailureBadSignature     FailureType = "PhoneBadSignature"     // the product's HERMOD_ERROR_JWT_SIGNATURE
	FailureWrongNonce       FailureType = "PhoneWrongNonce"       // an answer to another request
	FailureBadRequest       FailureType = "PhoneBadRequest"       // a CSR is not what was asked for
	FailureCARefused        FailureType = "CARefused"             // the CA does not issue
	FailureMessagingRefused FailureType = "MessagingRefused"      // messaging does not take the command
	FailureNotEntitled      FailureType = "NotEntitled"           // the user lost the right in between
	FailureMobileIDActive   FailureType = "MobileIDAlreadyActive" // another mobile ID of the user is live by now
	FailureConflict         FailureType = "MobileIDConflict"      // the mobile ID is no longer what it was
)

func (f *Failure) Error() string { return f.Message }

// Errors of reading what a phone is reached by, and what it answered.
var (
	// ErrNoProvisioning means that nothing can be scanned: there is no provisioning,
	// or it has expired.
	ErrNoProvisioning = errors.New("no provisioning is waiting for a phone")
	// ErrNoAnswer means that a command is not answered, or that what was answered is
	// deleted.
	ErrNoAnswer = errors.New("the command has no answer")
	// ErrNoCommand means that no certificates are on their way to the phone, as far
	// as is known.
	ErrNoCommand = errors.New("no command is known that brings certificates to the phone")
)

// Provisioning is what one phone needs to take a mobile ID that is being created.
// Nonce and URI are one-time secrets: who has them gets the mobile ID. They are
// kept by Identity Manager and nowhere else, and no verb of package fmt, logger or
// encoder of JSON shows them.
type Provisioning struct {
	MobileID   string    `json:"mobileId"`
	UserID     string    `json:"userId"`     // the owner, to whom alone the URI is shown
	WorkflowID string    `json:"workflowId"` // of the process to be told
	Nonce      string    `json:"-"`          // comes back in the phone's answer
	URI        string    `json:"-"`          // in the QR
	ExpiresAt  time.Time `json:"expiresAt"`
	CommandID  string    `json:"commandId"` // of the command that the answer belongs to
}

// String says of what it is, and nothing that is secret.
func (p Provisioning) String() string { return "provisioning of mobile ID " + p.MobileID }

// GoString is String.
func (p Provisioning) GoString() string { return p.String() }

// Format is String for every verb: some would otherwise print the fields.
func (p Provisioning) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// LogValue is String.
func (p Provisioning) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Command is a command sent to messaging, for which an answer is expected.
type Command struct {
	CommandID  string    `json:"commandId"` // names it in the answer
	MobileID   string    `json:"mobileId"`
	WorkflowID string    `json:"workflowId"` // of the process to be told of the answer
	Kind       string    `json:"kind"`       // provision or certificate
	ExpiresAt  time.Time `json:"expiresAt"`
}

// ApplicantChain is the audit chain of what happens to a user who asks for a mobile
// ID that nobody has granted: there is no mobile ID whose chain could tell it. The
// user id does not show in it.
func ApplicantChain(userID string) string {
	sum := sha256.Sum256([]byte(userID))
	return "get." + hex.EncodeToString(sum[:16])
}
