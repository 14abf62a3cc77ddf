package workflows_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
)

// propertyClock is the clock of the engine, for the store and the CAs too: hours pass
// in milliseconds.
type propertyClock struct {
	now atomic.Pointer[func() time.Time]
}

func (c *propertyClock) follow(now func() time.Time) { c.now.Store(&now) }

func (c *propertyClock) Now() time.Time { return (*c.now.Load())() }

// modelIssuer is a CA that exists as a certificate and its key alone.
type modelIssuer struct {
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newModelIssuer(t *testing.T, name string) modelIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().AddDate(1, 0, 0),
	}, &x509.Certificate{Subject: pkix.Name{CommonName: name}}, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return modelIssuer{name, cert, key}
}

// certificate is one of this issuer that nobody else has.
func (i modelIssuer) certificate(state mobileid.CertificateState, notAfter time.Time) mobileid.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // it never fails
	serial[0] |= 1
	return mobileid.Certificate{
		CertificateID: mobileid.CertificateID{
			Issuer: mobileid.HashName(i.cert.RawSubject), AKI: hex.EncodeToString(i.cert.SubjectKeyId), Serial: strings.TrimLeft(hex.EncodeToString(serial), "0"),
		},
		IssuerDN:  "CN=" + i.name,
		NotBefore: notAfter.AddDate(-1, 0, 0).Truncate(time.Second),
		NotAfter:  notAfter.Truncate(time.Second),
		State:     state,
		DER:       []byte{0x30, 0},
	}
}

// model is what the world outside the process knows: what was done to each certificate
// at its CA, and that Identity Manager has never been ahead of it. It stands before the
// real store, and breaks by the script of its case.
type model struct {
	activities.IdentityManager
	now func() time.Time

	mu           sync.Mutex
	faults       map[string][]string
	mayLock      bool            // Next was pressed, or an earlier lock is finished
	standing     mobileid.Reason // of the earlier lock
	certificates map[mobileid.CertificateID]*modelCertificate
	order        []mobileid.CertificateID
	asked        int
	locked       int
	wrong        []string
	running      sync.WaitGroup // activities
}

type modelCertificate struct {
	status    mobileid.Status
	reason    mobileid.Reason
	sent      mobileid.Reason // with the requests
	revokedAt time.Time
	notAfter  time.Time
	ours      bool
	pending   int  // looks until a request is approved; 0: none is waiting
	forgotten bool // the worker died with what it knew of the request
}

func newModel(faults map[string][]string, store activities.IdentityManager, now func() time.Time) *model {
	return &model{IdentityManager: store, now: now, faults: maps.Clone(faults), certificates: map[mobileid.CertificateID]*modelCertificate{}}
}

// know makes a certificate known to its CA.
func (m *model) know(c mobileid.Certificate, status mobileid.Status) {
	known := &modelCertificate{status: status, notAfter: c.NotAfter}
	switch status {
	case mobileid.StatusRevoked:
		known.reason, known.revokedAt = mobileid.Superseded, m.now().Add(-24*time.Hour).UTC().Truncate(time.Second)
	case mobileid.StatusOnHold:
		known.reason = mobileid.CertificateHold
	}
	m.certificates[c.CertificateID] = known
	m.order = append(m.order, c.CertificateID)
}

// fault takes the next fault of a part from the script.
func (m *model) fault(part string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	script := m.faults[part]
	if len(script) == 0 {
		return ""
	}
	m.faults[part] = script[1:]
	return script[0]
}

func (m *model) allowLock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mayLock = true
}

func (m *model) violate(format string, about ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, about...))
}

func (m *model) violations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wrong
}

func (m *model) requests() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func (m *model) locks() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locked
}

func (m *model) status(id mobileid.CertificateID) mobileid.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.certificates[id].status
}

func (m *model) revokedAt(id mobileid.CertificateID) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.certificates[id].revokedAt
}

func (m *model) revokedByUs(id mobileid.CertificateID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.certificates[id].ours
}

// forgetPending is for a worker that dies before it can tell that a request waits: its
// heartbeat has told the engine, which forgets it if a retry comes before the next try.
func (m *model) forgetPending() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.certificates {
		c.forgotten = c.pending > 0
	}
}

// settle waits for the activities that the process no longer waits for: what it has
// cancelled may still be at work.
func (m *model) settle() { m.running.Wait() }

// elsewhere is what somebody else does to a certificate at its CA.
func (m *model) elsewhere(n int, revoke bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) == 0 {
		return
	}
	c := m.certificates[m.order[n%len(m.order)]]
	if c.status == mobileid.StatusRevoked {
		return
	}
	if !revoke {
		c.status, c.reason = mobileid.StatusOnHold, mobileid.CertificateHold
		return
	}
	c.revoke(mobileid.Superseded, m.now())
}

func (c *modelCertificate) revoke(reason mobileid.Reason, now time.Time) {
	// A CA's date is in seconds.
	c.status, c.reason, c.revokedAt, c.pending = mobileid.StatusRevoked, reason, now.UTC().Truncate(time.Second), 0
}

// --- Identity Manager, which fails before or after it has done its part

func faulty[T any](m *model, method string, call func() (T, error)) (T, error) {
	var none T
	switch m.fault(method) {
	case "before":
		return none, errGated
	case "after":
		if _, err := call(); err != nil {
			return none, err
		}
		return none, errGated
	}
	return call()
}

func (m *model) MobileID(ctx context.Context, id string) (mobileid.MobileID, error) {
	return faulty(m, "MobileID", func() (mobileid.MobileID, error) { return m.IdentityManager.MobileID(ctx, id) })
}

func (m *model) Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error) {
	m.mu.Lock()
	m.locked++
	if !m.mayLock {
		m.violate("locked without Next: %+v", order)
	}
	m.mu.Unlock()
	return faulty(m, "Lock", func() (mobileid.LockReceipt, error) { return m.IdentityManager.Lock(ctx, order) })
}

func (m *model) RecordRevocations(ctx context.Context, order mobileid.RevocationOrder) (mobileid.RevocationReceipt, error) {
	m.mu.Lock()
	for _, c := range order.Certificates {
		known := m.certificates[c.CertificateID]
		switch {
		case c.Outcome == mobileid.OutcomeExpiredNotRevoked:
			if m.now().Before(known.notAfter) {
				m.violate("%s is called expired, and is not", c)
			}
		case known.status != mobileid.StatusRevoked:
			m.violate("Identity Manager is ahead of the CA with %s, which is %s there", c, known.status)
		}
	}
	m.mu.Unlock()
	return faulty(m, "RecordRevocations", func() (mobileid.RevocationReceipt, error) {
		return m.IdentityManager.RecordRevocations(ctx, order)
	})
}

func (m *model) Record(ctx context.Context, record mobileid.Record) (mobileid.AuditMark, error) {
	return faulty(m, "Record", func() (mobileid.AuditMark, error) { return m.IdentityManager.Record(ctx, record) })
}

// --- the CAs

type modelDriver struct{ m *model }

func (modelDriver) Capabilities() ca.Capabilities {
	return ca.Capabilities{CarriesReason: true, HasStatus: true}
}

func (d modelDriver) Revoke(_ context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	fault := d.m.fault("Revoke")
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.asked++
	failure := func(kind ca.Kind) (ca.Answer, error) {
		return ca.Answer{}, &ca.Error{Kind: kind, Op: "revoke " + cert.String(), Words: fault}
	}
	c := d.m.certificates[cert.CertificateID]
	if c == nil {
		d.m.violate("a CA was asked for %s, which is nobody's", cert)
		return failure(ca.NotFound)
	}
	if c.pending > 0 && !c.forgotten {
		d.m.violate("a second request for %s, while the first waits for its approval", cert)
	}
	switch {
	case c.sent != "" && c.sent != reason:
		d.m.violate("%s is asked for as %s, and was as %s", cert, reason, c.sent)
	case d.m.standing != "" && reason != d.m.standing && reason != mobileid.KeyCompromise:
		d.m.violate("%s is asked for as %s, and the lock that stands is for %s", cert, reason, d.m.standing)
	}
	c.sent = reason
	switch fault {
	case "down":
		return failure(ca.Unavailable)
	case "cut before":
		return failure(ca.Ambiguous)
	case "lie":
		return ca.Answer{Outcome: ca.Revoked}, nil
	case "denied":
		return failure(ca.Denied)
	case "not found":
		return failure(ca.NotFound)
	case "left on hold":
		if c.status != mobileid.StatusRevoked {
			c.status, c.reason = mobileid.StatusOnHold, mobileid.CertificateHold
			return ca.Answer{Outcome: ca.OnHold}, nil
		}
	case "pending":
		if c.status != mobileid.StatusRevoked {
			c.pending, c.forgotten = 8, false
			return ca.Answer{Outcome: ca.Pending}, nil
		}
	}
	if c.status == mobileid.StatusRevoked {
		return ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: c.revokedAt}, nil
	}
	if d.m.now().After(c.notAfter) {
		return ca.Answer{Outcome: ca.ExpiredNotRevoked}, nil
	}
	c.revoke(reason, d.m.now())
	c.ours = true
	switch fault {
	case "cut after":
		return failure(ca.Ambiguous)
	case "denied but done":
		return failure(ca.Denied)
	}
	return ca.Answer{Outcome: ca.Revoked, RevokedAt: c.revokedAt}, nil
}

func (d modelDriver) Status(_ context.Context, cert ca.Certificate) (ca.Evidence, error) {
	fault := d.m.fault("Status")
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	switch fault {
	case "down":
		return ca.Evidence{}, &ca.Error{Kind: ca.Unavailable, Op: "status", Words: fault}
	case "denied":
		return ca.Evidence{}, &ca.Error{Kind: ca.Denied, Op: "status", Words: fault}
	case "unknown":
		return ca.Evidence{Status: mobileid.StatusUnknown}, nil
	case "lags":
		// A replica that has not heard of it yet.
		return ca.Evidence{Status: mobileid.StatusGood, Proof: d.m.proof()}, nil
	}
	c := d.m.certificates[cert.CertificateID]
	if c.pending > 0 {
		// As EJBCA does, it says good of one that waits.
		if c.pending--; c.pending == 0 {
			c.revoke(c.sent, d.m.now())
			c.ours = true
		}
	}
	return d.m.evidence(c), nil
}

func (m *model) evidence(c *modelCertificate) ca.Evidence {
	e := ca.Evidence{Status: c.status, Reason: c.reason, RevokedAt: c.revokedAt, Proof: m.proof()}
	if c.status == mobileid.StatusOnHold {
		e.Status, e.RevokedAt = mobileid.StatusRevoked, m.now() // as CRL and OCSP have it
	}
	return e
}

func (m *model) proof() mobileid.Proof {
	return mobileid.Proof{At: m.now().UTC(), SHA256: strings.Repeat("5a", 32)}
}

// modelOCSP shows at once what the CA knows, when it is up.
type modelOCSP struct{ m *model }

func (o modelOCSP) Check(_ context.Context, cert ca.Certificate) (ca.Evidence, error) {
	fault := o.m.fault("OCSP")
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	if fault == "down" {
		return ca.Evidence{}, &ca.Error{Kind: ca.Unavailable, Op: "ask OCSP", Words: fault}
	}
	return o.m.evidence(o.m.certificates[cert.CertificateID]), nil
}

// --- the worker

// mortal registers an activity on a worker that may die before it begins, or after it
// has done everything and before it can tell, or be silent for so long that the engine
// gives the try up. The engine tries such a step again, while the dead one's last act may
// still be under way.
func mortal[I, O any](env *testsuite.TestWorkflowEnvironment, m *model, name string, perform func(context.Context, I) (O, error)) {
	env.RegisterActivityWithOptions(func(ctx context.Context, in I) (O, error) {
		m.running.Add(1)
		defer m.running.Done()
		var none O
		fault := m.fault("worker")
		switch fault {
		case "before":
			return none, errors.New("the worker died")
		case "panic":
			panic("the worker is out of memory")
		}
		out, err := perform(ctx, in)
		if err != nil {
			return out, err
		}
		switch fault {
		case "after":
			m.forgetPending()
			return none, errors.New("the worker died after its work")
		case "silence":
			m.forgetPending()
			return none, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
		}
		return out, nil
	}, activity.RegisterOptions{Name: name})
}
