package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"mobileid"
)

// credentialsSoon is how long before the end of its certificate a worker starts to
// warn: the time that a new officer or RA certificate takes to be issued.
const credentialsSoon = 30 * 24 * time.Hour

// Checker is a driver that can tell whether the CA is reached and lets the worker in.
type Checker interface {
	// Check changes nothing at the CA. Its error is an *Error, of kind Denied if the
	// CA does not accept the credentials.
	Check(ctx context.Context) error
}

// Credentialed is a driver whose credentials are a certificate.
type Credentialed interface {
	// Credentials returns the certificates by which the CA knows the worker.
	Credentials() []*x509.Certificate
}

// Health is how it stands with a configured CA. A worker starts with one that is
// not well: its locks wait, and those of other CAs do not.
type Health struct {
	CA       string    `json:"ca"`
	Driver   *Part     `json:"driver,omitempty"` // reached, and the credentials accepted; nil if other workers reach it
	OCSP     *Part     `json:"ocsp,omitempty"`
	CRL      *Part     `json:"crl,omitempty"`
	Until    time.Time `json:"credentialsUntil,omitzero"` // the first end of the credentials
	CAUntil  time.Time `json:"caUntil,omitzero"`          // the end of the CA's own certificate
	Warnings []string  `json:"warnings"`                  // all that is not well, in words
}

// Part is one thing that was looked at.
type Part struct {
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
	At    time.Time `json:"at,omitzero"`         // CRL: thisUpdate
	Next  time.Time `json:"nextUpdate,omitzero"` // CRL
	CRL   string    `json:"number,omitempty"`    // CRL: its number, in hex
}

// Health looks at the driver and the public sources, at the same time, each within
// the request time-out. It changes nothing at the CA.
func (a *Authority) Health(ctx context.Context) Health {
	h := Health{CA: a.Name, CAUntil: a.Issuer.NotAfter.UTC(), Warnings: []string{}}
	// A serial number that no CA gives: it must be positive (RFC 5280 section 4.1.2.2),
	// and a good one has 64 random bits.
	probe := Certificate{CertificateID: mobileid.CertificateID{
		Issuer: mobileid.HashName(a.Issuer.RawSubject), AKI: a.keyID(), Serial: "1",
	}}
	var group sync.WaitGroup
	look := func(part *Part, call func(context.Context) error) {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, a.requestTimeout())
			defer cancel()
			if err := call(ctx); err != nil {
				part.Error = err.Error()
				return
			}
			part.OK = true
		})
	}
	if a.Driver != nil {
		h.Driver = &Part{}
		look(h.Driver, func(ctx context.Context) error { return a.checkDriver(ctx, probe) })
	}
	if a.OCSP != nil {
		h.OCSP = &Part{}
		look(h.OCSP, func(ctx context.Context) error {
			_, err := a.OCSP.Check(ctx, probe)
			if errors.Is(err, errNotKnown) {
				return nil // as it should be, of this one
			}
			return err
		})
	}
	if a.CRL != nil {
		h.CRL = &Part{}
		look(h.CRL, func(ctx context.Context) error {
			evidence, err := a.CRL.Check(ctx, probe)
			h.CRL.At, h.CRL.CRL, h.CRL.Next = evidence.Proof.At, evidence.Proof.Number, a.CRL.NextUpdate()
			return err
		})
	}
	group.Wait()
	h.warn(a)
	return h
}

func (a *Authority) checkDriver(ctx context.Context, probe Certificate) error {
	if checker, ok := a.Driver.(Checker); ok {
		return checker.Check(ctx)
	}
	if a.Driver.Capabilities().HasStatus {
		_, err := a.Driver.Status(ctx, probe)
		return err
	}
	return errors.New("this driver cannot tell")
}

// warn puts into words what is not well, or will not be soon.
func (h *Health) warn(a *Authority) {
	warn := func(format string, args ...any) { h.Warnings = append(h.Warnings, fmt.Sprintf(format, args...)) }
	now := a.clock()
	for _, looked := range []struct {
		what string
		part *Part
	}{{"driver", h.Driver}, {"OCSP", h.OCSP}, {"CRL", h.CRL}} {
		if looked.part != nil && !looked.part.OK {
			warn("%s: %s", looked.what, looked.part.Error)
		}
	}
	if h.CRL != nil && h.CRL.OK && !h.CRL.Next.IsZero() && now.After(h.CRL.Next) {
		warn("CRL: it is out of date since %s", h.CRL.Next.UTC().Format(time.RFC3339))
	}
	if credentialed, ok := a.Driver.(Credentialed); ok {
		for _, cert := range credentialed.Credentials() {
			if cert != nil && (h.Until.IsZero() || cert.NotAfter.Before(h.Until)) {
				h.Until = cert.NotAfter.UTC()
			}
		}
	}
	switch {
	case h.Until.IsZero():
	case now.After(h.Until):
		warn("credentials: the certificate has ended at %s", h.Until.Format(time.RFC3339))
	case h.Until.Before(now.Add(credentialsSoon)):
		warn("credentials: the certificate ends at %s, in %d days", h.Until.Format(time.RFC3339), int(h.Until.Sub(now)/(24*time.Hour)))
	}
}

// Health looks at all CAs at once, in the order in which they are configured.
func (as *Authorities) Health(ctx context.Context) []Health {
	all := make([]Health, len(as.all))
	var group sync.WaitGroup
	for i, a := range as.all {
		group.Go(func() { all[i] = a.Health(ctx) })
	}
	group.Wait()
	return all
}
