package devca

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"mobileid"
)

// ErrRefusesChanges reports that the CA changes nothing any more, because it was
// closed or could not write. The change that was asked for surely did not happen.
var ErrRefusesChanges = errors.New("the development CA takes no changes")

// Revoke revokes a certificate, for good or (certificateHold) for a time, and
// returns its status once that is on disk. A revocation for good is never
// changed: Revoke then returns [ErrAlreadyRevoked] with the first reason and
// date. A hold can become final, which has a date of its own. Other errors are
// [ErrUnknownSerial], [ErrBadReason], [ErrRefusesChanges], and failed writes,
// after which it is unknown whether the revocation will be there at the next
// start.
func (s *Server) Revoke(ctx context.Context, serial *big.Int, reason mobileid.Reason) (CertificateStatus, error) {
	if _, err := revocationCode(reason); err != nil {
		return CertificateStatus{}, err
	}
	return s.change(ctx, serial, opRevoke, string(reason))
}

// Release ends a hold, after which the certificate is good again. It returns
// [ErrNotOnHold] with the status of a certificate that is good or revoked for
// good, and otherwise the errors of [Server.Revoke].
func (s *Server) Release(ctx context.Context, serial *big.Int) (CertificateStatus, error) {
	return s.change(ctx, serial, opRelease, noArgument)
}

// change makes a change in memory and in the journal, in one order for both,
// and waits for the disk after the lock is given up, so that changes which come
// together share one sync. ctx counts only before the change: one that is begun
// is finished, whoever is still waiting for it.
func (s *Server) change(ctx context.Context, integer *big.Int, op operation, argument string) (CertificateStatus, error) {
	if err := ctx.Err(); err != nil {
		return CertificateStatus{}, fmt.Errorf("%w: %w", ErrRefusesChanges, err)
	}
	serial, possible := serialOf(integer)
	if !possible {
		return CertificateStatus{}, ErrUnknownSerial
	}
	c, status, refusal := s.decide(record{op: op, serial: serial, argument: argument})
	if c.record > 0 {
		// Also after a refusal: its ground may be a change that is not on disk yet.
		if err := s.journal.wait(c.record); err != nil {
			return CertificateStatus{}, fmt.Errorf("%s serial %s: %w", op, serial, err)
		}
	}
	return status, refusal
}

// decide applies the change that rec asks for, and returns the certificate
// after it. With a refusal, that is the certificate as it was.
func (s *Server) decide(rec record) (certificate, CertificateStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec.at = s.now()
	current, known := s.certificates[rec.serial]
	if !known {
		return current, CertificateStatus{}, ErrUnknownSerial
	}
	next, err := rec.change(current)
	if err != nil || next == current {
		return current, current.status(rec.serial, rec.at), err
	}
	if next.record, err = s.journal.append(rec); err != nil {
		return certificate{}, CertificateStatus{}, fmt.Errorf("%w: %w", ErrRefusesChanges, err)
	}
	s.certificates[rec.serial] = next
	s.changes = append(s.changes, revocation{rec.serial, next})
	s.publisher.signal()
	return next, next.status(rec.serial, rec.at), nil
}

// change returns the certificate after what the record says.
func (r record) change(c certificate) (certificate, error) {
	switch r.op {
	case opRevoke:
		code, err := revocationCode(mobileid.Reason(r.argument))
		if err != nil {
			return c, err
		}
		return c.revoke(code, r.at)
	case opRelease:
		return c.release()
	}
	return c, fmt.Errorf("unknown operation %q", r.op)
}
