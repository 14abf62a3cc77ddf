// Package activities holds the side effects of the processes: what they read
// and change in Identity Manager and at the CAs, and the interfaces that they
// need for it. Errors are translated for Temporal once, in errors.go.
package activities
