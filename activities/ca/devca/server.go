package devca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"time"
)

// Options change how a [Server] behaves. The zero value works.
type Options struct {
	// CommonName of the CA certificate, used when it is made at first start.
	// Default "mobileid development CA".
	CommonName string
	// CRLInterval is the shortest time between two CRLs. Default 1s.
	CRLInterval time.Duration
	// CRLValidity is the time from thisUpdate to nextUpdate, at least two
	// seconds and two intervals. A CRL is replaced when half of it is over.
	// Default 1h.
	CRLValidity time.Duration
	// Clock gives the times that the CA signs and records; timers run by the
	// system's clock. Default time.Now.
	Clock func() time.Time
	// PublicURL is where [Server.Public] is reached, without a slash at its end.
	// It stands in the certificates as CRL distribution point and AIA (RFC 5280
	// sections 4.2.1.13 and 4.2.2.1). Empty: certificates have neither.
	PublicURL string
	// ServerNames are further DNS names and IP addresses of the API's own
	// certificate, beside localhost and its addresses.
	ServerNames []string
	// Logger is told what happens in the background. Default none.
	Logger *slog.Logger
}

func (o Options) complete() (Options, error) {
	if o.CommonName == "" {
		o.CommonName = "mobileid development CA"
	}
	if o.CRLInterval == 0 {
		o.CRLInterval = time.Second
	}
	if o.CRLValidity == 0 {
		o.CRLValidity = max(time.Hour, 2*o.CRLInterval)
	}
	if o.CRLInterval < 0 || o.CRLValidity < max(2*time.Second, 2*o.CRLInterval) {
		return o, fmt.Errorf("CRL interval %s and validity %s: the interval must be positive, and the validity at least 2s and two intervals", o.CRLInterval, o.CRLValidity)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Server is a CA that owns a folder. It is safe for concurrent use.
type Server struct {
	options   Options
	folder    folder
	lock      *os.File
	identity  identity
	responder *responder
	journal   *journal
	publisher *publisher

	// mu makes one order of changes in certificates, journal and changes. It is
	// never held while the disk is waited for.
	mu           sync.RWMutex
	certificates map[serialNumber]certificate
	changes      []revocation // not yet taken over by the publisher
	// once has the certificates that were issued once for their keys.
	once map[keyHash]onceIssued

	stop  context.CancelFunc
	done  chan struct{} // closed when the background work has ended
	close func() error
}

// Open takes the folder dir, making it and the CA's keys and certificates if
// they are missing, and starts to publish CRLs. It fails with [ErrInUse] if
// another process, or another Server of this one, owns the folder, and with
// [ErrDamaged] if what it finds is not what was written.
func Open(dir string, options Options) (_ *Server, err error) {
	options, err = options.complete()
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{
		options:      options,
		folder:       folder(dir),
		certificates: map[serialNumber]certificate{},
		once:         map[keyHash]onceIssued{},
		done:         make(chan struct{}),
	}
	if s.lock, err = s.folder.lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := s.load(); err != nil {
		return nil, err
	}

	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.close = sync.OnceValue(s.end)
	go func() {
		defer close(s.done)
		s.publisher.run(ctx)
	}()
	return s, nil
}

// load reads the folder, or fills it. The keys come first: without them no
// journal may exist.
func (s *Server) load() (err error) {
	now := s.options.Clock()
	if s.identity, err = openIdentity(s.folder, s.options.CommonName, s.options.ServerNames, now); err != nil {
		return err
	}
	if s.responder, err = newResponder(s.identity.ca); err != nil {
		return err
	}
	journal, cut, err := openJournal(s.folder, s.apply)
	if err != nil {
		return err
	}
	s.journal = journal
	if cut > 0 {
		s.options.Logger.Warn("cut off the unfinished last line of the journal", "bytes", cut)
	}
	if s.publisher, err = openPublisher(s); err != nil {
		return errors.Join(err, journal.close())
	}
	return nil
}

// apply repeats a recorded change in memory.
func (s *Server) apply(rec record) error {
	current, known := s.certificates[rec.serial]
	if rec.op == opIssue || rec.op == opIssueOnce {
		if known {
			return fmt.Errorf("serial %s is issued twice: %w", rec.serial, ErrDamaged)
		}
		s.certificates[rec.serial] = certificate{}
		if rec.op == opIssueOnce {
			return s.applyOnce(rec)
		}
		return nil
	}
	if !known {
		return fmt.Errorf("%s of serial %s, which was never issued: %w", rec.op, rec.serial, ErrDamaged)
	}
	next, err := rec.change(current)
	if err != nil {
		return fmt.Errorf("%s of serial %s: %w: %w", rec.op, rec.serial, err, ErrDamaged)
	}
	s.certificates[rec.serial] = next
	s.changes = append(s.changes, revocation{rec.serial, next})
	return nil
}

// Close ends the background work, waits for changes under way to be on disk,
// and gives up the folder. Changes after it fail with [ErrClosed]. A second call
// returns what the first did.
func (s *Server) Close() error { return s.close() }

func (s *Server) end() error {
	s.stop()
	<-s.done
	return errors.Join(s.journal.close(), s.lock.Close())
}

// Certificate returns the CA's own certificate.
func (s *Server) Certificate() *x509.Certificate { return s.identity.ca.certificate }

// now is the CA's time. Nothing that it signs has a finer one.
func (s *Server) now() time.Time { return s.options.Clock().UTC().Truncate(time.Second) }

// lookup returns a certificate with the time at which it was so. The time is
// taken under the lock, so that no "good" is dated after a revocation.
func (s *Server) lookup(serial serialNumber) (c certificate, known bool, at time.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, known = s.certificates[serial]
	return c, known, s.now()
}

// state is a lookup that returns only what is on disk, so that no answer is
// taken back by a crash.
func (s *Server) state(integer *big.Int) (serial serialNumber, c certificate, at time.Time, err error) {
	serial, possible := serialOf(integer)
	if !possible {
		return serial, certificate{}, s.now(), ErrUnknownSerial
	}
	c, known, at := s.lookup(serial)
	if !known {
		return serial, certificate{}, at, ErrUnknownSerial
	}
	if err := s.journal.wait(c.record); err != nil {
		return serial, certificate{}, at, fmt.Errorf("read serial %s: %w", serial, err)
	}
	return serial, c, at, nil
}

// Status returns what the CA knows about a certificate, or [ErrUnknownSerial].
func (s *Server) Status(ctx context.Context, serial *big.Int) (CertificateStatus, error) {
	if err := ctx.Err(); err != nil {
		return CertificateStatus{}, err
	}
	number, c, at, err := s.state(serial)
	if err != nil {
		return CertificateStatus{}, err
	}
	return c.status(number, at), nil
}
