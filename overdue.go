package mobileid

import "time"

// OverdueLock is a lock that is longer under way than it should be, as operators are
// told of it. It names no person.
type OverdueLock struct {
	MobileID    string    `json:"mobileId"`
	RequestedAt time.Time `json:"requestedAt"`     // Next
	Phase       string    `json:"phase,omitempty"` // where it stands
	Why         string    `json:"why,omitempty"`   // what it waits for, in words; empty: not known
	// NeedsOperator: it goes on when an operator says so, and not before.
	NeedsOperator bool `json:"needsOperator,omitempty"`
}

// OverdueOrder asks for one word to operators about locks that have passed a threshold.
type OverdueOrder struct {
	// Thresholds are those that all of the locks have passed, in their order. Operators
	// are told of the last one; the others will not be told of these locks any more.
	Thresholds []time.Duration
	Locks      []OverdueLock
}
