package activities

import (
	"context"
	"slices"
	"time"

	"mobileid"
	"mobileid/activities/ca"
)

// CompareRevokedName is the name of the activity that compares Identity Manager with a
// CA.
const CompareRevokedName = "CompareRevoked"

// RevokedFinder reads which certificates are revoked in Identity Manager.
type RevokedFinder interface {
	// RevokedOf looks at some certificates of an issuer behind one, and returns those
	// that are revoked and not past their notAfter. More says that there are others
	// behind next.
	RevokedOf(ctx context.Context, issuer string, after mobileid.CertificateID) (found []mobileid.KnownCertificate, next mobileid.CertificateID, more bool, err error)
	// Place and SetPlace keep where a comparison goes on that looks at a part each time.
	Place(ctx context.Context, ca string) (mobileid.CertificateID, error)
	SetPlace(ctx context.Context, ca string, after mobileid.CertificateID) error
}

// CompareRevokedInput is what CompareRevoked needs.
type CompareRevokedInput struct {
	CA         string `json:"ca,omitempty"` // the name of the CA; empty: the first that is configured
	LockPrefix string `json:"lockPrefix"`
	Limit      int    `json:"limit"` // of mobile IDs that are found
}

// CompareRevokedResult is what a comparison found, and the CA to go on with: empty at
// the end.
type CompareRevokedResult struct {
	Comparison
	Found []FoundUnfinished `json:"found"`
	Next  string            `json:"next,omitempty"`
}

// Comparison is what was looked up at one CA, in numbers of certificates.
type Comparison struct {
	CA        string `json:"ca"`
	Checked   int    `json:"checked"`           // looked up
	Forgotten int    `json:"forgotten"`         // of these, not revoked at the CA
	Unknown   int    `json:"unknown"`           // of these, nothing says it either way
	Sample    bool   `json:"sample,omitempty"`  // a part, each time another one: the CA's CRL could not be read, or it has none
	Problem   string `json:"problem,omitempty"` // why not all were looked up
}

const (
	// sampleSize is how many certificates one comparison asks about one by one.
	sampleSize = 200
	// sampleFailures is after how many failures in a row the CA is left in peace.
	sampleFailures = 3
)

// CompareRevoked looks the certificates that Identity Manager calls revoked up at their
// CA, for one that was restored from a backup, or was believed too early. Where the CA
// has a CRL that is read once, and all of them are looked up in it; what it does not
// list is confirmed by all sources, within the CA's rate limit. Where it has none, or
// one that cannot be believed, a part of them is asked about one by one, and the next
// comparison goes on behind it.
func (a *Activities) CompareRevoked(ctx context.Context, in CompareRevokedInput) (*CompareRevokedResult, error) {
	authority, next := a.nextCA(in.CA)
	result := &CompareRevokedResult{Found: []FoundUnfinished{}, Next: next}
	if authority == nil {
		return result, nil // it was taken out of the configuration meanwhile
	}
	defer heartbeat(ctx, nothing)()
	c := &comparison{activities: a, authority: authority, in: in, result: result}
	result.CA = authority.Name
	if err := c.run(ctx); err != nil {
		return nil, translate(err)
	}
	for i := range result.Found {
		running, err := isRunning(ctx, result.Found[i].WorkflowID)
		if err != nil {
			return nil, err
		}
		result.Found[i].Running = running
	}
	if a.Compared != nil {
		a.Compared(ctx, result.Comparison)
	}
	return result, nil
}

// nextCA returns a configured CA, and the name of the one behind it.
func (a *Activities) nextCA(name string) (authority *ca.Authority, next string) {
	all := a.CAs.All()
	at := slices.IndexFunc(all, func(authority *ca.Authority) bool { return name == "" || authority.Name == name })
	if at < 0 {
		return nil, ""
	}
	if at+1 < len(all) {
		next = all[at+1].Name
	}
	return all[at], next
}

// comparison is a comparison under way.
type comparison struct {
	activities *Activities
	authority  *ca.Authority
	in         CompareRevokedInput
	result     *CompareRevokedResult
	failures   int // in a row
}

func (c *comparison) run(ctx context.Context) error {
	if snapshotter, ok := c.authority.CRL.(ca.Snapshotter); ok {
		list, err := snapshotter.Snapshot(ctx)
		if err == nil {
			return c.all(ctx, list)
		}
		c.result.Problem = err.Error()
	}
	if c.authority.OCSP == nil && (c.authority.Driver == nil || !c.authority.Driver.Capabilities().HasStatus) {
		if c.result.Problem == "" {
			c.result.Problem = "no source that this worker reaches can tell"
		}
		return nil
	}
	return c.sample(ctx)
}

// all looks every certificate up in a CRL.
func (c *comparison) all(ctx context.Context, list ca.Source) error {
	return c.each(ctx, mobileid.CertificateID{}, func(k mobileid.KnownCertificate) (bool, error) {
		verdict := ca.Suspect(ctx, list, certificateOf(k), revokedAt(k))
		if verdict != ca.Forgotten {
			c.count(k, verdict)
			return true, nil
		}
		return c.verify(ctx, k)
	})
}

// sample asks about the certificates behind the place where the last one ended.
func (c *comparison) sample(ctx context.Context) error {
	c.result.Sample = true
	place, err := c.activities.Revoked.Place(ctx, c.authority.Name)
	if err != nil {
		return err
	}
	var last mobileid.CertificateID
	ended := true
	err = c.each(ctx, place, func(k mobileid.KnownCertificate) (bool, error) {
		if c.result.Checked == sampleSize {
			ended = false
			return false, nil
		}
		goOn, err := c.verify(ctx, k)
		if err == nil && goOn {
			last = k.CertificateID
		}
		ended = ended && goOn
		return goOn, err
	})
	if err != nil {
		return err
	}
	switch {
	case ended:
		last = mobileid.CertificateID{} // the next one begins anew
	case last.Serial == "":
		last = place
	}
	return c.activities.Revoked.SetPlace(ctx, c.authority.Name, last)
}

// each calls look for the certificates of the CA behind a place, until it returns false.
func (c *comparison) each(ctx context.Context, after mobileid.CertificateID, look func(mobileid.KnownCertificate) (bool, error)) error {
	issuer := mobileid.HashName(c.authority.Issuer.RawSubject)
	for more := true; more; {
		var found []mobileid.KnownCertificate
		var err error
		if found, after, more, err = c.activities.Revoked.RevokedOf(ctx, issuer, after); err != nil {
			return err
		}
		for _, k := range found {
			if owner, ok := c.activities.CAs.For(k.CertificateID); !ok || owner != c.authority {
				continue // of another CA of this name
			}
			if goOn, err := look(k); err != nil || !goOn {
				return err
			}
		}
	}
	return nil
}

// verify asks all sources about a certificate. It returns false when there is no use in
// going on.
func (c *comparison) verify(ctx context.Context, k mobileid.KnownCertificate) (bool, error) {
	if len(c.result.Found) >= c.in.Limit {
		c.result.Problem = "more are not revoked there than one comparison takes on"
		return false, nil
	}
	verdict, err := c.authority.Verify(ctx, certificateOf(k), revokedAt(k))
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		c.failures++
		c.result.Problem = err.Error()
	} else {
		c.failures = 0
	}
	c.count(k, verdict)
	return c.failures < sampleFailures, nil
}

func (c *comparison) count(k mobileid.KnownCertificate, verdict ca.Verdict) {
	c.result.Checked++
	switch verdict {
	case ca.StillRevoked:
		return
	case ca.NotKnown:
		c.result.Unknown++
		return
	case ca.Forgotten:
	}
	c.result.Forgotten++
	if slices.ContainsFunc(c.result.Found, func(f FoundUnfinished) bool { return f.MobileID == k.MobileID }) {
		return
	}
	c.result.Found = append(c.result.Found, FoundUnfinished{Unfinished: mobileid.Unfinished{
		MobileID: k.MobileID, UserID: k.Owner, State: k.MobileIDState, Problem: mobileid.ProblemForgotten, WorkflowID: c.in.LockPrefix + k.MobileID,
	}})
}

func certificateOf(k mobileid.KnownCertificate) ca.Certificate {
	return ca.Certificate{CertificateID: k.CertificateID, IssuerDN: k.IssuerDN, NotAfter: k.NotAfter}
}

// revokedAt is the CA's date. Where none is known the certificate was not revoked before
// it was valid.
func revokedAt(k mobileid.KnownCertificate) (at time.Time) {
	if k.RevokedAt.IsZero() {
		return k.NotBefore
	}
	return k.RevokedAt
}
