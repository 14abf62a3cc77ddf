package ca

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"mobileid"
)

// maxCRLNumberBytes is the longest CRL number (RFC 5280 section 5.2.3).
const maxCRLNumberBytes = 20

// PushProblem says what is wrong with a CRL that somebody brings.
type PushProblem string

// The problems of a CRL by itself.
const (
	PushMalformed     PushProblem = "malformed"
	PushUnknownIssuer PushProblem = "unknownIssuer" // no CA of this name is configured
	PushBadSignature  PushProblem = "badSignature"  // the CA has not signed it, or with what does not count
	PushNotAccepted   PushProblem = "notAccepted"   // it is not what this program can take over, see the words
	PushExpired       PushProblem = "expired"       // nextUpdate is past, or there is none
	PushEarly         PushProblem = "early"         // thisUpdate is in the future
)

// PushError reports a CRL that is not believed. Its words hold nothing of the CRL that
// is not checked, but names of algorithms and extensions.
type PushError struct {
	Problem PushProblem
	Err     error
}

func (e *PushError) Error() string { return e.Err.Error() }

func (e *PushError) Unwrap() error { return e.Err }

// PushedCRL is a CRL that somebody brought, and that its CA has signed: a complete one,
// or a delta CRL. What came before it is not known here. See [Authorities.ReadPushed].
type PushedCRL struct {
	Authority  *Authority
	Number     *big.Int // of at most 20 bytes
	Base       *big.Int // the number on which a delta CRL builds; nil: it is complete
	ThisUpdate time.Time
	NextUpdate time.Time
	// Scope tells CRLs of one CA apart that are numbered each for itself, as text of no
	// meaning: the hash of its IssuingDistributionPoint (RFC 5280 section 5.2.5), empty
	// if it has none.
	Scope string
	list  *revocationList
}

// ReadPushed reads a CRL, in DER or PEM, and checks all that does not depend on what
// came before it: that a configured CA has signed it with its own key, that it is in
// force now, and that it is about certificates of users of that CA alone. The error is
// a *PushError.
//
// An indirect CRL is not accepted: nothing in it says whom the CA has let sign it.
func (as *Authorities) ReadPushed(document []byte, now time.Time) (*PushedCRL, error) {
	refuse := func(problem PushProblem, err error) (*PushedCRL, error) { return nil, &PushError{problem, err} }
	der, err := decodeCRL(document)
	if err != nil {
		return refuse(PushMalformed, err)
	}
	d, err := parseCRL(der)
	switch {
	case errors.Is(err, errMalformed):
		return refuse(PushMalformed, err)
	case err != nil:
		return refuse(PushNotAccepted, err)
	}
	authority, err := as.signer(d)
	if err != nil {
		return nil, err
	}
	p := &PushedCRL{Authority: authority, Number: d.number, ThisUpdate: d.thisUpdate.UTC(), NextUpdate: d.nextUpdate.UTC()}
	if err := d.checkPushed(); err != nil {
		return refuse(PushNotAccepted, err)
	}
	if p.Base, err = d.baseNumber(); err != nil {
		return refuse(PushNotAccepted, err)
	}
	if err := early("thisUpdate of the CRL", d.thisUpdate, now); err != nil {
		return refuse(PushEarly, err)
	}
	if d.nextUpdate.IsZero() || now.After(d.nextUpdate.Add(clockTolerance)) {
		return refuse(PushExpired, errors.New("nextUpdate of the CRL is past, or missing (RFC 5280 section 5.1.2.5)"))
	}
	if d.scope.raw != "" {
		p.Scope = mobileid.HashName([]byte(d.scope.raw))
	}
	list := d.revocationList
	list.sha256 = sha256.Sum256(der)
	// The entries are read last, so that a forgery costs little.
	list.entries, err = indexEntries(d.revoked)
	switch {
	case errors.Is(err, errMalformed):
		return refuse(PushMalformed, err)
	case err != nil:
		return refuse(PushNotAccepted, err)
	}
	p.list = &list
	return p, nil
}

// signer returns the configured CA that has signed a CRL. CAs may bear one name.
func (as *Authorities) signer(d *crlDocument) (*Authority, error) {
	named := as.byIssuer[mobileid.HashName(d.issuer)]
	if len(named) == 0 {
		return nil, &PushError{PushUnknownIssuer, errors.New("the CRL bears the name of no CA that is configured")}
	}
	var faults []error
	for _, a := range named {
		err := d.checkSignature(a.Issuer)
		if err == nil {
			return a, nil
		}
		faults = append(faults, err)
	}
	return nil, &PushError{PushBadSignature, errors.Join(faults...)}
}

// checkPushed refuses what cannot be taken over whatever it says.
func (d *crlDocument) checkPushed() error {
	if d.number == nil {
		return errors.New("the CRL has no number (RFC 5280 section 5.2.3)")
	}
	if len(d.number.Bytes()) > maxCRLNumberBytes {
		return fmt.Errorf("the number of the CRL has more than %d bytes (RFC 5280 section 5.2.3)", maxCRLNumberBytes)
	}
	scope := d.scope
	scope.delta = false // is taken from a CA itself
	return scope.check()
}

// baseNumber reads the BaseCRLNumber of a delta CRL (RFC 5280 section 5.2.4), nil of a
// complete one.
func (d *crlDocument) baseNumber() (*big.Int, error) {
	if !d.scope.delta {
		return nil, nil
	}
	value, base := cryptobyte.String(d.base), new(big.Int)
	if !value.ReadASN1Integer(base) || !value.Empty() || base.Sign() < 0 || len(base.Bytes()) > maxCRLNumberBytes {
		return nil, errors.New("the delta CRL does not say on which number it builds (RFC 5280 section 5.2.4)")
	}
	if base.Cmp(d.number) > 0 {
		return nil, errors.New("the delta CRL builds on a number after its own (RFC 5280 section 5.2.4)")
	}
	return base, nil
}

// Delta reports whether the CRL lists changes alone.
func (p *PushedCRL) Delta() bool { return p.Base != nil }

// Entries is how many certificates it lists.
func (p *PushedCRL) Entries() int { return len(p.list.entries) }

// SHA256 is the hash of the CRL in lower-case hex.
func (p *PushedCRL) SHA256() string { return p.list.hexSum() }

// Partial reports whether it depends on a certificate's distribution points whether the
// CRL is about it: then Look needs the certificate itself.
func (p *PushedCRL) Partial() bool { return p.list.scope.point }

// Look says what the CRL says of a certificate of its CA: revoked, on hold, or good if
// it was on hold and is not any more, which a delta CRL says by removeFromCRL and a
// complete one by leaving it out. Unknown is that it says nothing.
func (p *PushedCRL) Look(cert Certificate) Evidence {
	silent := Evidence{Status: mobileid.StatusUnknown}
	key, err := newSerialKey(cert.Serial)
	if err != nil || issuedBy(p.Authority.Issuer, cert.CertificateID) != nil || !p.list.scope.covers(cert, p.url()) {
		return silent
	}
	found, listed := p.list.entries[key]
	removed := listed && found.reason == codeRemoveFromCRL
	if p.Delta() && !listed || !p.Delta() && removed || !listed && p.list.scope.someReasons {
		return silent
	}
	evidence := Evidence{Status: mobileid.StatusGood, Proof: mobileid.Proof{
		Source: mobileid.ProofFromCRL, At: p.ThisUpdate, Number: p.Number.Text(16), SHA256: p.SHA256(),
	}}
	if removed {
		evidence.Reason = mobileid.RemoveFromCRL
	}
	if !listed || removed {
		return evidence
	}
	evidence.Status, evidence.Reason = revocation(int(found.reason))
	evidence.RevokedAt = time.Unix(found.revokedAt, 0).UTC()
	if found.reason == noReason {
		evidence.Reason = mobileid.Unspecified
	}
	return evidence
}

// url is where the CA's CRL is read, by which certificates are told that name no
// distribution point.
func (p *PushedCRL) url() string {
	if crl, ok := p.Authority.CRL.(*CRL); ok {
		return crl.url
	}
	return ""
}
