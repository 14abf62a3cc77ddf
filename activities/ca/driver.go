// Package ca revokes certificates at certificate authorities and reads the
// proof back.
//
// A [Driver] speaks to one product; each lives in a folder of its own. An
// [Authority] is a configured CA: a driver, the CA's certificate, and the places
// where others look for its revocations (OCSP responder, CRL). [Authorities]
// finds the one that issued a certificate.
//
// Two facts are kept apart throughout: that a CA answered, and that the
// certificate is revoked. Only a signed answer that lists the certificate as
// revoked for good is proof of the second.
package ca

import (
	"context"
	"slices"
	"time"

	"mobileid"
)

// Driver speaks to one CA. Implementations are safe for concurrent use, honour
// the context, do not retry by themselves, and use fresh credentials (nonces,
// one-time tokens) in every call.
type Driver interface {
	// Capabilities says what the CA's interface can do. It does not change.
	Capabilities() Capabilities

	// Revoke asks the CA to revoke one certificate for good. A certificate on
	// hold is revoked for good too. It returns an *Error that says what the
	// failure means for the next try; after an error of kind Ambiguous the
	// caller reads Status before it asks again.
	Revoke(ctx context.Context, cert Certificate, reason mobileid.Reason) (Answer, error)

	// Status reads what the CA itself says about the certificate. A certificate
	// that the CA does not know is StatusUnknown and no error. A driver that can
	// tell that a request waits for an approval returns an *Error of kind
	// PendingApproval while the certificate is not revoked, and of kind Unsupported
	// once the approval is refused: a worker that forgot having asked would
	// otherwise send a second request.
	Status(ctx context.Context, cert Certificate) (Evidence, error)
}

// Capabilities are the differences between CA interfaces that callers must know.
type Capabilities struct {
	CarriesReason bool // the reason reaches the CA and can be read back
	HasStatus     bool // Status has a source other than OCSP and CRL
	NeedsDER      bool // Revoke needs Certificate.DER
	TakesDER      bool // Revoke can do more with Certificate.DER than without
	// Reasons are those that Revoke takes beside unspecified; nil is every one that
	// revokes for good. All others it refuses as BadReason. Where no reason is
	// carried, they are those that it lets pass without.
	Reasons []mobileid.Reason
}

// Takes reports whether Revoke takes the reason.
func (c Capabilities) Takes(reason mobileid.Reason) bool {
	return reason.Final() && (c.Reasons == nil || reason == mobileid.Unspecified || slices.Contains(c.Reasons, reason))
}

// Certificate names the certificate to a driver.
type Certificate struct {
	mobileid.CertificateID
	IssuerDN string    `json:"issuerDn"`
	NotAfter time.Time `json:"notAfter"`
	DER      []byte    `json:"der,omitempty"` // only where the driver takes it
}

// Outcome is how a CA answered a request to revoke. None of them is proof.
type Outcome string

// The answers of a CA.
const (
	Revoked           Outcome = "Revoked"
	AlreadyRevoked    Outcome = "AlreadyRevoked"
	OnHold            Outcome = "OnHold"            // still only on hold
	Pending           Outcome = "Pending"           // waits for an approval at the CA
	ExpiredNotRevoked Outcome = "ExpiredNotRevoked" // past notAfter, and the CA keeps no revocation
)

// Answer is a CA's answer to a request to revoke.
type Answer struct {
	Outcome   Outcome
	RevokedAt time.Time // the CA's date, zero if the answer has none
}

// Evidence is what one source says about one certificate at one time.
type Evidence struct {
	Status    mobileid.Status
	Reason    mobileid.Reason // of the revocation; empty if the source carries none
	RevokedAt time.Time       // the CA's date of the revocation
	Proof     mobileid.Proof  // identifies the answer; it proves a revocation only with StatusRevoked
}
