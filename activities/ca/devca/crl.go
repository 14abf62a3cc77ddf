package devca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"
)

// crl is a published CRL. It does not change.
type crl struct {
	number     *big.Int
	nextUpdate time.Time
	der, pem   document
}

func newCRL(list *x509.RevocationList) *crl {
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})
	return &crl{
		number:     list.Number,
		nextUpdate: list.NextUpdate,
		der:        newDocument(list.Raw, "application/pkix-crl", list.ThisUpdate),
		pem:        newDocument(text, "application/x-pem-file", list.ThisUpdate),
	}
}

// revocation is a certificate after it was revoked, put on hold, or released.
type revocation struct {
	serial      serialNumber
	certificate certificate
}

// entry is the form that RFC 5280 section 5.3 gives it. The package x509 writes
// no reason extension for reason 0, as section 5.3.1 wants for unspecified.
func (r revocation) entry() x509.RevocationListEntry {
	return x509.RevocationListEntry{
		SerialNumber:   r.serial.integer(),
		RevocationTime: time.Unix(r.certificate.revokedAt, 0).UTC(),
		ReasonCode:     int(r.certificate.reason),
	}
}

// publisher signs the CRLs (RFC 5280 section 5). It keeps entries of its own and
// takes over only what changed since, so that no revocation waits for a CRL,
// however many entries that has. One goroutine at a time uses it; current alone
// is for everybody.
type publisher struct {
	server  *Server
	current atomic.Pointer[crl]
	changed chan struct{} // holds one signal while the CRL is behind

	number    *big.Int // the highest that was given to a CRL
	entries   []x509.RevocationListEntry
	positions map[serialNumber]int // of a serial in entries
	record    uint64               // the newest journal record among the entries
}

// openPublisher takes up the CRL on disk, and signs one if there is none, if it
// lags behind the journal, or if its time is over.
func openPublisher(s *Server) (*publisher, error) {
	p := &publisher{server: s, changed: make(chan struct{}, 1), number: new(big.Int), positions: map[serialNumber]int{}}
	exists, err := s.folder.has(CRLFile)
	if err != nil {
		return nil, err
	}
	if !exists {
		// The first CRL is older than the first certificate, so here one was
		// lost, and with it the number that the next one must exceed.
		if len(s.certificates) > 0 {
			return nil, fmt.Errorf("folder %s has certificates but no %s: restore it, or start with an empty folder: %w", s.folder, CRLFile, ErrDamaged)
		}
		return p, p.publish()
	}
	list, err := p.read()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", s.folder.path(CRLFile), err, ErrDamaged)
	}
	p.number = list.Number
	p.current.Store(newCRL(list))
	if at := p.takeOver(); at.Before(list.NextUpdate) && p.lists(list.RevokedCertificateEntries) {
		return p, nil
	}
	return p, p.publish()
}

func (p *publisher) read() (*x509.RevocationList, error) {
	der, err := readPEM(p.server.folder.path(CRLFile), "X509 CRL")
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if list.Number == nil {
		return nil, errors.New("it has no CRL number")
	}
	return list, list.CheckSignatureFrom(p.server.identity.ca.certificate)
}

// lists reports whether published says what the entries say, in any order.
func (p *publisher) lists(published []x509.RevocationListEntry) bool {
	if len(published) != len(p.entries) {
		return false
	}
	for _, there := range published {
		serial, possible := serialOf(there.SerialNumber)
		position, listed := p.positions[serial]
		if !possible || !listed {
			return false
		}
		here := p.entries[position]
		if here.ReasonCode != there.ReasonCode || !here.RevocationTime.Equal(there.RevocationTime) {
			return false
		}
	}
	return true
}

// signal makes the background sign a CRL as soon as it may.
func (p *publisher) signal() {
	select {
	case p.changed <- struct{}{}:
	default: // it is signalled already, and will see this change too
	}
}

// run signs a CRL when something has changed and when the last one has lived
// half of its life, until ctx ends.
func (p *publisher) run(ctx context.Context) {
	options := p.server.options
	rest, failing := options.CRLInterval, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		case <-time.After(p.current.Load().nextUpdate.Sub(options.Clock()) - options.CRLValidity/2):
		}
		began := time.Now()
		err := p.publish()
		if err != nil {
			p.signal()
			if !failing {
				options.Logger.Error("publish CRL; trying again", "error", err)
			}
		}
		failing = err != nil
		// A very long CRL takes longer to sign than the interval. Resting as long as
		// the work took leaves half a processor to those who revoke.
		rest = max(options.CRLInterval, time.Since(began))
	}
}

// publish signs the next CRL. It is on disk before anybody sees it, so its
// number is never given to another.
func (p *publisher) publish() error {
	at := p.takeOver()
	if err := p.server.journal.wait(p.record); err != nil {
		return fmt.Errorf("sign CRL: %w", err)
	}
	// A CRL whose writing fails may be on disk all the same: its number is spent.
	p.number = new(big.Int).Add(p.number, big.NewInt(1))
	list := &x509.RevocationList{
		Number:                    p.number,
		ThisUpdate:                at,
		NextUpdate:                at.Add(p.server.options.CRLValidity),
		RevokedCertificateEntries: p.entries,
	}
	ca := p.server.identity.ca
	var err error
	if list.Raw, err = x509.CreateRevocationList(rand.Reader, list, ca.certificate, ca.key); err != nil {
		return fmt.Errorf("sign CRL %s: %w", p.number, err)
	}
	next := newCRL(list)
	if err := p.server.folder.write(CRLFile, next.pem.content, 0o644); err != nil {
		return err
	}
	p.current.Store(next)
	return nil
}

// takeOver brings the entries up to date, and returns the time for which they hold.
func (p *publisher) takeOver() time.Time {
	s := p.server
	s.mu.Lock()
	changes, at := s.changes, s.now()
	s.changes = nil
	s.mu.Unlock()
	for _, r := range changes {
		p.record = max(p.record, r.certificate.record)
		position, listed := p.positions[r.serial]
		switch {
		case listed && r.certificate.revoked:
			p.entries[position] = r.entry()
		case listed:
			p.remove(r.serial, position)
		case r.certificate.revoked:
			p.positions[r.serial] = len(p.entries)
			p.entries = append(p.entries, r.entry())
		}
	}
	return at
}

// remove puts the last entry in the place of the removed one: the order of a CRL
// means nothing.
func (p *publisher) remove(serial serialNumber, position int) {
	last := len(p.entries) - 1
	moved, _ := serialOf(p.entries[last].SerialNumber)
	p.entries[position] = p.entries[last]
	p.positions[moved] = position
	p.entries = p.entries[:last]
	delete(p.positions, serial)
}
