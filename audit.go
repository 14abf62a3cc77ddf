package mobileid

import "time"

// Event is what an audit record says happened.
type Event string

// The events of a lock, in the order in which they can follow each other.
const (
	EventRefused   Event = "refused"   // the process was refused; nothing changed
	EventCancelled Event = "cancelled" // Cancel, or Request Cancellation before Next; nothing changed
	EventExpired   Event = "expired"   // never answered; nothing changed
	EventLocked    Event = "locked"    // the mobile ID is locked
	EventResumed   Event = "resumed"   // a process took over a mobile ID that was locked already
	EventRevoked   Event = "revoked"   // certificates are revoked at one CA and in Identity Manager
	EventVisible   Event = "visible"   // others can see the revocation
)

// The events of Get mobile ID. The chain of a mobile ID begins with the grant.
const (
	EventGranted    Event = "granted"    // a backend or an operator let the user get it
	EventRegistered Event = "registered" // it is being created, and the grant is used up
	EventIssued     Event = "issued"     // a CA issued certificates for it
	EventActivated  Event = "activated"  // it is on the phone, and active
	EventAbandoned  Event = "abandoned"  // it did not come into being, and is locked
)

// The events that a CRL brings, which a CA has sent by itself.
const (
	EventOnHold   Event = "onHold"   // certificates are on hold at their CA and in Identity Manager
	EventReleased Event = "released" // they are not any more
)

// Process names the run of a process on whose behalf something is recorded.
// The three together are the idempotency key of what the process writes.
type Process struct {
	Name       string `json:"name"` // the symbolic name
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"` // the first run, stable over continue-as-new and reset
}

// Decision says who pressed Next or Cancel, as claimed by the message.
type Decision struct {
	UserID string `json:"userId,omitempty"` // the self-service user; empty: an operator or a script
	By     string `json:"by,omitempty"`     // who decided, for the audit
	Note   string `json:"note,omitempty"`
}

// Record is the content of one audit record. The store adds the number and the
// chain. It never holds keys, passwords or one-time secrets.
type Record struct {
	MobileID     string              `json:"mobileId"`
	Event        Event               `json:"event"`
	At           time.Time           `json:"at"`
	Process      Process             `json:"process"`
	Decision     Decision            `json:"decision,omitzero"`
	RequestedAt  time.Time           `json:"requestedAt,omitzero"`
	Reason       Reason              `json:"reason,omitempty"`
	From         State               `json:"from,omitempty"` // locked and resumed: the state before
	Refusal      *Refusal            `json:"refusal,omitempty"`
	Failure      *Failure            `json:"failure,omitempty"` // abandoned: why
	CA           string              `json:"ca,omitempty"`
	Certificates []CertificateResult `json:"certificates,omitempty"`
	Owner        string              `json:"owner,omitempty"` // granted, registered, and given up after Next: for whom
}

// AuditMark is the place of a record in the audit chain of its mobile ID.
type AuditMark struct {
	Number int64  `json:"number"` // from 1, without gaps per mobile ID
	MAC    string `json:"mac"`    // lower-case hex HMAC-SHA256 over the record and the MAC before it
}

// CertificateOutcome is how the revocation of one certificate ended at its CA.
type CertificateOutcome string

// The final outcomes for a certificate.
const (
	OutcomeRevoked           CertificateOutcome = "Revoked"
	OutcomeAlreadyRevoked    CertificateOutcome = "AlreadyRevoked"    // somebody else did it before
	OutcomeExpiredNotRevoked CertificateOutcome = "ExpiredNotRevoked" // past notAfter, and the CA keeps no revocation of it
)

// ProofSource is where a proof comes from.
type ProofSource string

// The sources of a proof.
const (
	ProofFromCA   ProofSource = "ca"   // the CA's own status, over its authenticated channel
	ProofFromOCSP ProofSource = "ocsp" // RFC 6960
	ProofFromCRL  ProofSource = "crl"  // RFC 5280 section 5
)

// Proof is a signed answer that lists a certificate as revoked for good.
type Proof struct {
	Source ProofSource `json:"source"`
	At     time.Time   `json:"at"`               // the answer's own time: thisUpdate, or the CA's clock
	Number string      `json:"number,omitempty"` // the CRL number, lower-case hex
	SHA256 string      `json:"sha256"`           // lower-case hex, over the bytes of the answer
}

// CertificateResult is what a lock reached for one certificate.
type CertificateResult struct {
	CertificateID
	IssuerDN     string             `json:"issuerDn"`
	NotAfter     time.Time          `json:"notAfter"`
	CA           string             `json:"ca"` // the configured name of the CA
	StateInIM    CertificateState   `json:"stateInIm"`
	StatusAtCA   Status             `json:"statusAtCa,omitempty"`
	Outcome      CertificateOutcome `json:"outcome,omitempty"`
	Reason       Reason             `json:"reason,omitempty"`     // as sent
	ReasonAtCA   Reason             `json:"reasonAtCa,omitempty"` // as read back; empty if the CA carries none
	RevokedAt    time.Time          `json:"revokedAt,omitzero"`   // the CA's date
	VisibleAt    time.Time          `json:"visibleAt,omitzero"`
	Proof        []Proof            `json:"proof,omitempty"`
	CannotRevoke string             `json:"cannotRevoke,omitempty"` // what only an operator can cure, in the CA's words
}
