package mobileid

import (
	"fmt"
	"slices"
	"strings"
)

// Reason is a revocation reason by its RFC 5280 name (section 5.3.1, CRLReason).
// The empty Reason means that none was given.
type Reason string

// The reasons of RFC 5280 section 5.3.1. The value 7 is not used there.
const (
	Unspecified          Reason = "unspecified"
	KeyCompromise        Reason = "keyCompromise"
	CACompromise         Reason = "cACompromise"
	AffiliationChanged   Reason = "affiliationChanged"
	Superseded           Reason = "superseded"
	CessationOfOperation Reason = "cessationOfOperation"
	CertificateHold      Reason = "certificateHold"
	RemoveFromCRL        Reason = "removeFromCRL"
	PrivilegeWithdrawn   Reason = "privilegeWithdrawn"
	AACompromise         Reason = "aACompromise"
)

var reasonCodes = map[Reason]int{
	Unspecified:          0,
	KeyCompromise:        1,
	CACompromise:         2,
	AffiliationChanged:   3,
	Superseded:           4,
	CessationOfOperation: 5,
	CertificateHold:      6,
	RemoveFromCRL:        8,
	PrivilegeWithdrawn:   9,
	AACompromise:         10,
}

// lockReasons are the reasons that a lock may send: those that the CA of a
// personal certificate accepts for good. They are the ones that Nexus
// Certificate Manager offers, certificateHold excepted because a lock is final.
var lockReasons = []Reason{Unspecified, KeyCompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn}

// LockReasons returns the reasons that a lock may send.
func LockReasons() []Reason { return slices.Clone(lockReasons) }

// userLockReasons leaves out privilegeWithdrawn, which is the issuer's
// judgement and not the user's (CA/B Forum Baseline Requirements 7.2.2).
var userLockReasons = lockReasons[:len(lockReasons)-1]

// ReasonFromCode returns the reason with the number that RFC 5280 gives it.
func ReasonFromCode(code int) (Reason, error) {
	for reason, c := range reasonCodes {
		if c == code {
			return reason, nil
		}
	}
	return "", fmt.Errorf("revocation reason %d is not defined by RFC 5280", code)
}

// Code returns the number that RFC 5280 gives the reason, and false if the
// reason is not one of RFC 5280's names.
func (r Reason) Code() (int, bool) {
	code, ok := reasonCodes[r]
	return code, ok
}

// Final reports whether a revocation for this reason is for good:
// certificateHold can be lifted, and removeFromCRL lifts it.
func (r Reason) Final() bool {
	_, known := reasonCodes[r]
	return known && r != CertificateHold && r != RemoveFromCRL
}

// CheckLockReason refuses, as InvalidRequest naming the field "reason", what a
// lock may not send. A self-service user has a shorter list than an operator.
// The empty reason is accepted: it stands for the configured default.
func CheckLockReason(r Reason, operator bool) error {
	allowed := userLockReasons
	if operator {
		allowed = lockReasons
	}
	if r == "" || slices.Contains(allowed, r) {
		return nil
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return InvalidRequest("reason", "must be empty or one of "+strings.Join(names, ", "))
}
