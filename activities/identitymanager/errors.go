package identitymanager

import (
	"fmt"
	"strings"
	"unicode/utf8"

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

// checkText refuses, naming the field, what is missing or not text that both
// databases can keep. The words never repeat the value, which may be a secret.
func checkText(field, value string) error {
	if value == "" {
		return mobileid.InvalidRequest(field, "is missing")
	}
	if !storable(value) {
		return mobileid.InvalidRequest(field, "is not text in UTF-8 without NUL")
	}
	return nil
}

// checkName is checkText for a name for people, which may be missing.
func checkName(name string) error {
	if name == "" {
		return nil
	}
	return checkText("name", name)
}

func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// gone reports a mobile ID that was validated and exists no more.
func gone(mobileID string) error {
	return &mobileid.ConflictError{MobileID: mobileID, Problem: "is gone"}
}
