package devca

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"mobileid"
)

// prefillBatch is how many records wait for the disk together.
const prefillBatch = 10_000

// Prefill adds count certificates to the CA of a folder, with serial numbers from first
// on, all of them revoked: for measurements with a long CRL. They are one certificate many
// times over, because to sign a million would take longer than what is measured. No
// process may own the folder meanwhile; else it is [ErrInUse].
func Prefill(dir string, first, count int) error {
	// A CRL is signed by whoever opens the folder next.
	s, err := Open(dir, Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	if err != nil {
		return err
	}
	err = s.prefill(first, count)
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}

func (s *Server) prefill(first, count int) error {
	at := s.now()
	sample, err := signCertificate(authority("prefilled", at, 24*time.Hour), s.identity.ca.key.Public(), s.identity.ca)
	if err != nil {
		return err
	}
	der := base64.StdEncoding.EncodeToString(sample.Raw)
	var last uint64
	for n := first; n < first+count; n++ {
		var serial serialNumber
		binary.BigEndian.PutUint64(serial[len(serial)-8:], uint64(n)) //nolint:gosec // not negative
		if _, known, _ := s.lookup(serial); known {
			return fmt.Errorf("serial %s exists already", serial) //nolint:err113 // a mistake of the caller
		}
		if _, err := s.journal.append(record{at: at, op: opIssue, serial: serial, argument: der}); err != nil {
			return err
		}
		if last, err = s.journal.append(record{at: at, op: opRevoke, serial: serial, argument: string(mobileid.Superseded)}); err != nil {
			return err
		}
		if n%prefillBatch == 0 {
			if err := s.journal.wait(last); err != nil {
				return err
			}
		}
	}
	return s.journal.wait(last)
}
