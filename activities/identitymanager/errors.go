package identitymanager

import (
	"fmt"

	"mobileid"
)

// OrderError reports an order that the store refuses for what it says: a
// revocation without proof, say, or a certificate that is not the mobile ID's.
// Nothing was written. Sending the same again cannot help, so that to a process
// it is what a mobileid.ConflictError is, and errors.As finds one in it.
type OrderError struct {
	MobileID string
	Problem  string // for example "lists no certificates"
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("order for mobile ID %s %s", e.MobileID, e.Problem)
}

// Unwrap returns the conflict.
func (e *OrderError) Unwrap() error {
	return &mobileid.ConflictError{MobileID: e.MobileID, Problem: "cannot be changed as ordered: the order " + e.Problem}
}

// checkProcess refuses a process that could not be told from another one.
func checkProcess(mobileID string, process mobileid.Process) error {
	if process.WorkflowID == "" || process.RunID == "" {
		return &OrderError{MobileID: mobileID, Problem: "does not name its process by workflow id and run id"}
	}
	return nil
}

// gone reports a mobile ID that was validated and exists no more.
func gone(mobileID string) error {
	return &mobileid.ConflictError{MobileID: mobileID, Problem: "is gone"}
}
