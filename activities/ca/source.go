package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// clockTolerance is by how much a CA's clock may run ahead of ours. It is also
// how long after a revocation a "good" is still explained by an answer that was
// under way (contract rule 8).
const clockTolerance = 5 * time.Minute

// Source is a place where others look for revocations.
type Source interface {
	// Check reads what the source says about one certificate. StatusUnknown
	// without an error means that it answered properly and that the answer says
	// nothing, for example because it is out of date. Errors are *Error: kind
	// Unavailable if it could not be reached or read, Unsupported if what it
	// says cannot be accepted.
	Check(ctx context.Context, cert Certificate) (Evidence, error)
}

// Publication is a Source that is renewed at intervals.
type Publication interface {
	Source

	// NextUpdate returns when the next issue of what was last read is due at the
	// latest; zero if nothing was read yet, or if it does not say.
	NextUpdate() time.Time
}

// checkIssuer refuses a CA certificate that cannot have issued others.
func checkIssuer(issuer *x509.Certificate) error {
	switch {
	case issuer == nil:
		return errors.New("no CA certificate")
	case issuer.BasicConstraintsValid && !issuer.IsCA, issuer.Version == 3 && !issuer.BasicConstraintsValid:
		return errors.New("the configured certificate is not a CA's (RFC 5280 section 4.2.1.9)")
	}
	return nil
}

// issuedBy refuses a certificate that another CA has issued, even one of the
// same name (RFC 5280 section 4.2.1.1).
func issuedBy(issuer *x509.Certificate, cert mobileid.CertificateID) error {
	if cert.Issuer != mobileid.HashName(issuer.RawSubject) {
		return errors.New("the certificate bears the name of another issuer")
	}
	if len(issuer.SubjectKeyId) > 0 && cert.AKI != "" && cert.AKI != hex.EncodeToString(issuer.SubjectKeyId) {
		return errors.New("the certificate was signed with another key of an issuer of this name")
	}
	return nil
}

// serialKey is a serial number as the 20 bytes that the longest one has.
type serialKey [20]byte

func newSerialKey(serial string) (key serialKey, err error) {
	number, err := mobileid.ParseSerial(serial)
	if err != nil {
		return key, err
	}
	number.FillBytes(key[:])
	return key, nil
}

// serialKeyOf reads the content of a DER INTEGER. Other than positive numbers of
// up to 20 bytes no certificate can have, so that they match none.
func serialKeyOf(integer []byte) (key serialKey, ok bool) {
	if len(integer) == 0 || integer[0]&0x80 != 0 {
		return key, false
	}
	integer = bytes.TrimLeft(integer, "\x00")
	if len(integer) == 0 || len(integer) > len(key) {
		return key, false
	}
	copy(key[len(key)-len(integer):], integer)
	return key, true
}

// noReason is the code of an entry that carries no reason.
const noReason = -1

// revocation says what being listed for a reason amounts to. A code that RFC
// 5280 does not define revokes all the same: only certificateHold can be lifted.
func revocation(code int) (mobileid.Status, mobileid.Reason) {
	if code == noReason {
		return mobileid.StatusRevoked, ""
	}
	reason, err := mobileid.ReasonFromCode(code)
	switch {
	case err != nil:
		return mobileid.StatusRevoked, ""
	case reason == mobileid.CertificateHold:
		return mobileid.StatusOnHold, reason
	case reason == mobileid.RemoveFromCRL:
		// Belongs into delta CRLs, where it lifts a hold. Elsewhere it says nothing.
		return mobileid.StatusUnknown, reason
	}
	return mobileid.StatusRevoked, reason
}

// early refuses a time that lies in the future by more than clocks differ.
func early(what string, at, now time.Time) error {
	if at.After(now.Add(clockTolerance)) {
		return fmt.Errorf("%s %s is in the future", what, at.Format(time.RFC3339))
	}
	return nil
}
