package devca

import (
	"errors"
	"fmt"
	"math/big"
	"time"

	"mobileid"
)

// The answers to a change of a certificate that changed nothing.
var (
	ErrUnknownSerial  = errors.New("the CA has issued no certificate with this serial number")
	ErrAlreadyRevoked = errors.New("the certificate is revoked already")
	ErrNotOnHold      = errors.New("the certificate is not on hold")
	ErrBadReason      = errors.New("the CA does not revoke for this reason")
	ErrSerialTaken    = errors.New("the CA has issued a certificate with this serial number already")
)

// serialNumber is the serial number of a certificate, big-endian and padded
// with zeros. As an array it is a map key without a pointer, which keeps an
// index of a million certificates out of the garbage collector's way.
type serialNumber [20]byte

// serialOf returns false for what is no serial number (RFC 5280 section 4.1.2.2).
func serialOf(integer *big.Int) (serialNumber, bool) {
	var serial serialNumber
	if integer == nil || integer.Sign() <= 0 || integer.BitLen() > 8*len(serial) {
		return serial, false
	}
	integer.FillBytes(serial[:])
	return serial, true
}

func (s serialNumber) integer() *big.Int { return new(big.Int).SetBytes(s[:]) }

// String returns the serial number in the form that certificate identities use.
func (s serialNumber) String() string { return s.integer().Text(16) }

// certificate is what the CA holds in memory of one that it issued.
type certificate struct {
	record    uint64 // the journal record that made it so; zero for those read at start
	revokedAt int64  // Unix seconds
	reason    int8   // RFC 5280 number
	revoked   bool   // for good, or on hold
}

// holdCode is the number of mobileid.CertificateHold.
const holdCode = 6

func (c certificate) onHold() bool { return c.revoked && c.reason == holdCode }

// revoke returns the certificate after a revocation. For good is for good: the
// first date and reason stay. A hold can become final, with a date and reason of
// its own, because only from then on is the certificate surely dead.
func (c certificate) revoke(reason int8, at time.Time) (certificate, error) {
	if c.revoked && !c.onHold() {
		return c, ErrAlreadyRevoked
	}
	if c.revoked && c.reason == reason {
		return c, nil
	}
	c.revoked, c.reason, c.revokedAt = true, reason, at.Unix()
	return c, nil
}

// release returns the certificate after the end of a hold.
func (c certificate) release() (certificate, error) {
	if !c.onHold() {
		return c, ErrNotOnHold
	}
	return certificate{record: c.record}, nil
}

// CertificateStatus is what the CA says about one certificate at one time. It
// is also the JSON body of the API.
type CertificateStatus struct {
	// Serial is lower-case hex without leading zeros.
	Serial string          `json:"serial"`
	Status mobileid.Status `json:"status"`
	// Reason and RevokedAt are those of the revocation or of the hold.
	Reason    mobileid.Reason `json:"reason,omitempty"`
	RevokedAt time.Time       `json:"revokedAt,omitzero"`
	// At is the time of this answer by the CA's clock, to the second.
	At time.Time `json:"at"`
}

func (c certificate) status(serial serialNumber, at time.Time) CertificateStatus {
	status := CertificateStatus{Serial: serial.String(), Status: mobileid.StatusGood, At: at}
	if !c.revoked {
		return status
	}
	status.Status = mobileid.StatusRevoked
	if c.onHold() {
		status.Status = mobileid.StatusOnHold
	}
	status.Reason = reasonName(c.reason)
	status.RevokedAt = time.Unix(c.revokedAt, 0).UTC()
	return status
}

// reasonName is for numbers that came from a name.
func reasonName(code int8) mobileid.Reason {
	reason, _ := mobileid.ReasonFromCode(int(code))
	return reason
}

// revocationCode returns the number of a reason that a certificate can be
// revoked for: any of RFC 5280 section 5.3.1 but removeFromCRL, which ends a hold.
func revocationCode(reason mobileid.Reason) (int8, error) {
	code, known := reason.Code()
	if !known || reason == mobileid.RemoveFromCRL {
		return 0, fmt.Errorf("%w: %q", ErrBadReason, string(reason))
	}
	return int8(code), nil //nolint:gosec // RFC 5280 ends at 10
}
