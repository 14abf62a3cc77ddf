package ca

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"mobileid"
)

// defaultRequestTimeout bounds one call to a CA that has none configured.
const defaultRequestTimeout = 10 * time.Second

// Authority is a configured CA. It is safe for concurrent use once its fields
// are set.
type Authority struct {
	// Name is how configuration, results and logs call the CA.
	Name string
	// Issuer is the certificate of the CA, by which proofs are checked and
	// certificates find the CA that issued them.
	Issuer *x509.Certificate
	// Driver speaks to the CA; nil if workers that poll TaskQueue alone reach it, in
	// the CA's own network zone, where its credentials lie too.
	Driver Driver
	// OCSP is the responder that others ask, and CRL the list that others read;
	// nil if the CA has none. See [NewOCSP] and [NewCRL].
	OCSP Source
	CRL  Publication

	// Reasons is what is sent in the place of a reason: where the driver does not
	// take one, or the CA's policy gives it another meaning. keyCompromise is never
	// sent as anything else, because others act on it.
	Reasons map[mobileid.Reason]mobileid.Reason

	// RequestTimeout bounds one call to the CA or to a source; zero means 10 s.
	RequestTimeout time.Duration
	// Concurrency is how many certificates of one lock are tried at once.
	Concurrency int
	// Limit is how many calls to the CA this process may make: requests to revoke
	// and to read the status. nil is as many as it likes. A call waits for its turn
	// before its time-out begins.
	Limit *rate.Limiter
	// TaskQueue is that of the worker that reaches the CA; empty: the processes' own.
	TaskQueue string
	// ProofWait is how long a lock waits until others see the revocation: zero is
	// not at all, negative until the next CRL is due, plus a margin.
	ProofWait time.Duration
	// ApprovalWait is how long a request may wait for an approval at the CA.
	ApprovalWait time.Duration

	// Observer is told of every call; nil: nobody is.
	Observer Observer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

func (a *Authority) clock() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

func (a *Authority) requestTimeout() time.Duration {
	if a.RequestTimeout > 0 {
		return a.RequestTimeout
	}
	return defaultRequestTimeout
}

// keyID returns the key identifier that certificates of the CA carry as their
// AKI, in lower-case hex; empty if the CA's certificate has none.
func (a *Authority) keyID() string { return hex.EncodeToString(a.Issuer.SubjectKeyId) }

// fault reports all that is wrong with the CA by itself.
func (a *Authority) faults() []error {
	var faults []error
	add := func(problem string) {
		faults = append(faults, fmt.Errorf("CA %q: %s", a.Name, problem))
	}
	if a.Name == "" {
		add("has no name")
	}
	if err := checkIssuer(a.Issuer); err != nil {
		add(err.Error())
	}
	if a.RequestTimeout < 0 {
		add("request time-out is negative")
	}
	if a.Driver == nil {
		if a.TaskQueue == "" {
			add("has no driver, and no task queue of workers that have one")
		}
		return faults
	}
	if !a.Driver.Capabilities().HasStatus && a.OCSP == nil && a.CRL == nil {
		add("needs an OCSP responder or a CRL, because its driver cannot read the status: nothing could prove a revocation")
	}
	for _, problem := range a.reasonFaults() {
		add(problem)
	}
	return faults
}

// reasonFaults reports what a lock could ask for and the CA would not be sent: that
// is known when the worker starts, and not when somebody's phone is lost.
func (a *Authority) reasonFaults() []string {
	can := a.Driver.Capabilities()
	var problems []string
	for _, from := range slices.Sorted(maps.Keys(a.Reasons)) {
		to := a.Reasons[from]
		switch {
		case !slices.Contains(mobileid.LockReasons(), from):
			problems = append(problems, fmt.Sprintf("reason %q is mapped, which no lock sends", from))
		case from == mobileid.KeyCompromise && to != from:
			problems = append(problems, fmt.Sprintf("keyCompromise is mapped to %q: others act on it, so it is never sent as anything else", to))
		case !can.Takes(to):
			problems = append(problems, fmt.Sprintf("reason %q is mapped to %q, which the driver does not take", from, to))
		}
	}
	for _, reason := range mobileid.LockReasons() {
		if _, mapped := a.Reasons[reason]; !mapped && !can.Takes(reason) {
			problems = append(problems, fmt.Sprintf("the driver does not take reason %q: map it to one that it takes", reason))
		}
	}
	return problems
}

// reason is what is sent for the reason of a lock.
func (a *Authority) reason(asked mobileid.Reason) mobileid.Reason {
	if asked == "" {
		asked = mobileid.Unspecified
	}
	if sent, mapped := a.Reasons[asked]; mapped {
		return sent
	}
	return asked
}

// turn waits until this process may call the CA.
func (a *Authority) turn(ctx context.Context) error {
	if a.Limit == nil {
		return nil
	}
	if err := a.Limit.Wait(ctx); err != nil {
		return &Error{Kind: Unavailable, Op: "wait for a turn at " + a.Name, Err: err}
	}
	return nil
}

// Authorities are the configured CAs.
type Authorities struct {
	all      []*Authority
	byName   map[string]*Authority
	byIssuer map[string][]*Authority // by CertificateID.Issuer
}

// NewAuthorities checks the configured CAs. It reports all faults at once: what
// a CA lacks, a name used twice, and CAs of one issuer name that certificates
// could not be told apart by.
func NewAuthorities(list []*Authority) (*Authorities, error) {
	as := &Authorities{
		all:      slices.Clone(list),
		byName:   make(map[string]*Authority, len(list)),
		byIssuer: make(map[string][]*Authority, len(list)),
	}
	var faults []error
	for i, a := range list {
		if a == nil {
			faults = append(faults, fmt.Errorf("CA number %d is missing", i+1))
			continue
		}
		faults = append(faults, a.faults()...)
		if a.Name != "" && as.byName[a.Name] != nil {
			faults = append(faults, fmt.Errorf("CA %q is configured twice", a.Name))
		}
		as.byName[a.Name] = a
		if a.Issuer == nil {
			continue
		}
		issuer := mobileid.HashName(a.Issuer.RawSubject)
		for _, other := range as.byIssuer[issuer] {
			if other.keyID() == "" || a.keyID() == "" || other.keyID() == a.keyID() {
				faults = append(faults, fmt.Errorf("CAs %q and %q have the same issuer name, and no subject key identifier tells them apart", other.Name, a.Name))
			}
		}
		as.byIssuer[issuer] = append(as.byIssuer[issuer], a)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return as, nil
}

// For returns the CA that issued a certificate. The issuer's name decides, and
// the AKI too where both the certificate and the CA have one, because CAs may
// bear one name (RFC 5280 section 4.2.1.1). False means that none is configured,
// or that several could be meant.
func (as *Authorities) For(cert mobileid.CertificateID) (*Authority, bool) {
	var found *Authority
	for _, a := range as.byIssuer[cert.Issuer] {
		if keyID := a.keyID(); keyID != "" && cert.AKI != "" && keyID != cert.AKI {
			continue
		}
		if found != nil {
			return nil, false
		}
		found = a
	}
	return found, found != nil
}

// ByName returns the CA that is configured under a name.
func (as *Authorities) ByName(name string) (*Authority, bool) {
	a, ok := as.byName[name]
	return a, ok
}

// All returns the CAs in the order in which they are configured.
func (as *Authorities) All() []*Authority { return slices.Clone(as.all) }
