// Package mobileid is the domain of the mobile ID processes: states and their
// transitions, revocation reasons, the identity of a certificate, the refusals
// that a caller can test for, and the audit record.
//
// It knows no Temporal, no database and no network. Everything else in this
// module depends on it, and it depends on nothing but the standard library.
//
// The vocabulary follows Nexus Smart ID for mobile IDs and RFC 5280 for
// certificates.
package mobileid
