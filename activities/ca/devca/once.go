package devca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
)

// ErrUnknownKey reports a key for which nothing was issued once.
var ErrUnknownKey = errors.New("the CA has issued nothing once for this key")

// keyHash is the SHA-256 of a SubjectPublicKeyInfo in DER.
type keyHash [sha256.Size]byte

func hashKey(cert *x509.Certificate) keyHash { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// onceIssued is a certificate that was issued once for its key.
type onceIssued struct {
	certificate *x509.Certificate
	record      uint64 // the journal record that made it so; zero for those read at start
}

// addOnce takes a certificate into the books as the one of its key. If the key has
// one already, it returns that one instead.
func (s *Server) addOnce(serial serialNumber, cert *x509.Certificate) (*x509.Certificate, uint64, error) {
	key := hashKey(cert)
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, issued := s.once[key]; issued {
		return before.certificate, before.record, nil
	}
	number, err := s.enter(opIssueOnce, serial, cert.Raw)
	if err != nil {
		return nil, 0, err
	}
	s.once[key] = onceIssued{cert, number}
	return cert, number, nil
}

// applyOnce repeats a recorded issue in memory.
func (s *Server) applyOnce(rec record) error {
	der, err := base64.StdEncoding.DecodeString(rec.argument)
	if err != nil {
		return fmt.Errorf("certificate of serial %s: %w: %w", rec.serial, err, ErrDamaged)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate of serial %s: %w: %w", rec.serial, err, ErrDamaged)
	}
	s.once[hashKey(cert)] = onceIssued{certificate: cert}
	return nil
}

// Issued returns the certificate that was issued once for the key, by the SHA-256
// of its SubjectPublicKeyInfo, or [ErrUnknownKey]. Who lost the answer to a request
// learns by it what to revoke.
func (s *Server) Issued(ctx context.Context, key [sha256.Size]byte) (*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	issued, known := s.once[key]
	s.mu.RUnlock()
	if !known {
		return nil, ErrUnknownKey
	}
	if err := s.journal.wait(issued.record); err != nil {
		return nil, fmt.Errorf("read certificate of a key: %w", err)
	}
	return issued.certificate, nil
}
