package mobileid

import (
	"fmt"
	"slices"
)

// State is the state of a mobile ID in Identity Manager.
type State string

// The states of a mobile ID. Locked is final.
const (
	Registered State = "registered" // being created; nothing on the phone yet
	Active     State = "active"     // usable
	Inactive   State = "inactive"   // deactivated by an operator; can be reactivated
	Locked     State = "locked"     // for good
)

// transitions lists, for each state, the states that may follow it. It is the
// only place that says so: Deactivate and Reactivate move between active and
// inactive, a lock and a failed Get lead to locked, and nothing leads back.
var transitions = map[State][]State{
	Registered: {Active, Locked},
	Active:     {Inactive, Locked},
	Inactive:   {Active, Locked},
	Locked:     {},
}

// Valid reports whether s is one of the four states.
func (s State) Valid() bool {
	_, ok := transitions[s]
	return ok
}

// Final reports whether no other state can follow s.
func (s State) Final() bool { return s.Valid() && len(transitions[s]) == 0 }

// CanBecome reports whether a mobile ID in state s may change to next.
func (s State) CanBecome(next State) bool { return slices.Contains(transitions[s], next) }

// CertificateState is what Identity Manager says about a certificate.
type CertificateState string

// The states of a certificate in Identity Manager. Expired and revoked are
// final.
const (
	CertificateIssued  CertificateState = "issued" // received from the CA, not yet confirmed on the phone
	CertificateValid   CertificateState = "valid"
	CertificateOnHold  CertificateState = "onHold"
	CertificateExpired CertificateState = "expired"
	CertificateRevoked CertificateState = "revoked"
)

var certificateTransitions = map[CertificateState][]CertificateState{
	CertificateIssued:  {CertificateValid, CertificateOnHold, CertificateExpired, CertificateRevoked},
	CertificateValid:   {CertificateOnHold, CertificateExpired, CertificateRevoked},
	CertificateOnHold:  {CertificateValid, CertificateExpired, CertificateRevoked},
	CertificateExpired: {},
	CertificateRevoked: {},
}

// Valid reports whether s is one of the five states.
func (s CertificateState) Valid() bool {
	_, ok := certificateTransitions[s]
	return ok
}

// Final reports whether no other state can follow s.
func (s CertificateState) Final() bool { return s.Valid() && len(certificateTransitions[s]) == 0 }

// CanBecome reports whether a certificate in state s may change to next.
func (s CertificateState) CanBecome(next CertificateState) bool {
	return slices.Contains(certificateTransitions[s], next)
}

// Status is what a CA says about a certificate.
type Status string

// The answers of a CA about a certificate. StatusOnHold is RFC 5280's reason
// certificateHold, which can be lifted and therefore is not StatusRevoked.
const (
	StatusGood    Status = "good"
	StatusOnHold  Status = "onHold"
	StatusRevoked Status = "revoked"
	StatusUnknown Status = "unknown"
)

// TransitionError reports a change of state that the domain forbids.
type TransitionError struct {
	What string // for example "mobile ID mid-1001"
	From string
	To   string
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("%s is %s and cannot become %s", e.What, e.From, e.To)
}
