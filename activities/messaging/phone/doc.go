// Package phone simulates a phone with the Smart ID app, for development and tests:
// it reads a QR code, makes keys, answers, takes its certificates and keeps them in
// a folder, where other programs can sign with them.
//
// It speaks to package embedded alone (see package device); the protocol of the
// real app is not documented. It can also misbehave, to see what others make of it.
package phone
