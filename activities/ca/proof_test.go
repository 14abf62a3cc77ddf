package ca

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// fakeDriver is a scripted CA: every call takes the next step of its script, and
// the last step stands for all that follow.
type fakeDriver struct {
	capabilities Capabilities
	answers      []answerStep
	statuses     []statusStep

	mu      sync.Mutex
	calls   []string // "revoke" and "status", in order
	reasons []mobileid.Reason
}

type answerStep struct {
	answer Answer
	err    error
}

type statusStep struct {
	evidence Evidence
	err      error
}

func (d *fakeDriver) Capabilities() Capabilities { return d.capabilities }

// next returns the step of a script for the n-th call.
func next[T any](script []T, n int) T {
	var none T
	if len(script) == 0 {
		return none
	}
	return script[min(n, len(script)-1)]
}

// count notes a call and returns how many of its kind came before.
func (d *fakeDriver) count(call string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := strings.Count(strings.Join(d.calls, " "), call)
	d.calls = append(d.calls, call)
	return before
}

func (d *fakeDriver) Revoke(_ context.Context, _ Certificate, reason mobileid.Reason) (Answer, error) {
	step := next(d.answers, d.count("revoke"))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reasons = append(d.reasons, reason)
	return step.answer, step.err
}

func (d *fakeDriver) Status(context.Context, Certificate) (Evidence, error) {
	step := next(d.statuses, d.count("status"))
	return step.evidence, step.err
}

// says is what a source says at noon; a revocation is of half past eleven.
func says(status mobileid.Status) Evidence {
	e := Evidence{Status: status, Proof: mobileid.Proof{At: noon, SHA256: "5a"}}
	switch status {
	case mobileid.StatusRevoked:
		e.Reason, e.RevokedAt = mobileid.Superseded, revocationDate
	case mobileid.StatusOnHold:
		e.Reason, e.RevokedAt = mobileid.CertificateHold, revocationDate
	}
	return e
}

// at dates an answer.
func (e Evidence) at(at time.Time) Evidence {
	e.Proof.At = at
	return e
}

// revoked dates the revocation.
func (e Evidence) revoked(at time.Time) Evidence {
	e.RevokedAt = at
	return e
}

var (
	revocationDate = noon.Add(-30 * time.Minute)
	early5         = revocationDate.Add(5 * time.Minute) // the last moment that a "good" is explained
	late5          = early5.Add(time.Second)
	errDown        = &Error{Kind: Unavailable, Op: "test", Err: errors.New("down")}
	errDenied      = &Error{Kind: Denied, Op: "test", Words: "no right"}
	errRejected    = &Error{Kind: Unsupported, Op: "test", Words: "rejected"}
	errWaits       = &Error{Kind: PendingApproval, Op: "test", Words: "two more approvals"}
)

func source(e Evidence) *fakeSource { return &fakeSource{evidence: e} }
func failing(err error) *fakeSource { return &fakeSource{err: err} }
func status(e ...Evidence) (s []statusStep) {
	for _, one := range e {
		s = append(s, statusStep{evidence: one})
	}
	return s
}
func statusFails(err error) []statusStep { return []statusStep{{err: err}} }

func TestProve(t *testing.T) {
	good, revoked, hold, unknown := says(mobileid.StatusGood), says(mobileid.StatusRevoked), says(mobileid.StatusOnHold), says(mobileid.StatusUnknown)
	lifted := revoked
	lifted.Reason = mobileid.RemoveFromCRL
	heldAsRevoked := revoked
	heldAsRevoked.Reason = mobileid.CertificateHold
	hashless := revoked
	hashless.Proof.SHA256 = ""
	for name, test := range map[string]struct {
		status    []statusStep // nil: the driver has none
		ocsp, crl *fakeSource
		hint      time.Time
		expired   bool

		want     mobileid.Status
		proofs   []mobileid.ProofSource
		visible  bool
		failures int
		kind     Kind // "" : no error
	}{
		"all show it": {status: status(revoked), ocsp: source(revoked), crl: source(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca", "ocsp", "crl"}, visible: true},
		"OCSP alone is proof": {ocsp: source(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ocsp"}, visible: true},
		"CRL alone is proof": {crl: source(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"crl"}, visible: true},
		"the CA's own status is proof, and nobody can see it": {status: status(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"an old revocation is proof": {ocsp: source(revoked.at(noon.AddDate(-1, 0, 0))),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ocsp"}, visible: true},
		"a source that fails spoils nothing": {status: status(revoked), ocsp: failing(errDown), crl: source(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca", "crl"}, failures: 1},
		"the CA's own status fails, OCSP proves": {status: statusFails(errDown), ocsp: source(revoked),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ocsp"}, visible: true, failures: 1},
		"not visible while the CRL is older": {status: status(revoked), ocsp: source(revoked), crl: source(good.at(revocationDate)),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca", "ocsp"}},
		"a late CRL without it, but proven": {status: status(revoked), crl: source(good),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"a hold is no revocation": {status: status(hold), ocsp: source(heldAsRevoked), crl: source(hold),
			want: mobileid.StatusOnHold},
		"a hold is not visible as a revocation": {status: status(revoked), ocsp: source(hold),
			want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"removeFromCRL is no revocation":                       {ocsp: source(lifted), want: mobileid.StatusUnknown},
		"an answer without a hash":                             {ocsp: source(hashless), want: mobileid.StatusUnknown, failures: 1, kind: Unsupported},
		"good proves nothing":                                  {status: status(good), ocsp: source(good), want: mobileid.StatusGood},
		"unknown proves nothing":                               {status: status(unknown), crl: source(unknown), want: mobileid.StatusUnknown},
		"good just after the revocation":                       {status: status(revoked), ocsp: source(good.at(early5)), want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"good long after the revocation":                       {status: status(revoked), ocsp: source(good.at(late5)), want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}, kind: Contradiction},
		"the CA says good long after it":                       {status: status(good.at(late5)), hint: revocationDate, want: mobileid.StatusGood, kind: Contradiction},
		"the CA says good just after it":                       {status: status(good.at(early5)), hint: revocationDate, want: mobileid.StatusGood},
		"the CA good, OCSP revoked before":                     {status: status(good.at(late5)), ocsp: source(revoked), want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ocsp"}, visible: true, kind: Contradiction},
		"unproven, and a late CRL without it":                  {crl: source(good.at(late5)), hint: revocationDate, want: mobileid.StatusGood, kind: Contradiction},
		"the date found counts, not the hint":                  {status: status(revoked), ocsp: source(good.at(early5)), hint: revocationDate.AddDate(0, 0, -1), want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"unknown long after it":                                {status: status(revoked), ocsp: source(unknown.at(late5)), want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"all fail":                                             {status: statusFails(errDenied), ocsp: failing(errDown), crl: failing(errDenied), want: mobileid.StatusUnknown, failures: 3, kind: Unavailable},
		"the CA's own status fails for now":                    {status: statusFails(errDown), ocsp: source(good), want: mobileid.StatusGood, failures: 1, kind: Unavailable},
		"the CA's own status is denied":                        {status: statusFails(errDenied), ocsp: source(good), want: mobileid.StatusGood, failures: 1},
		"the CA's own status is denied, and there is no other": {status: statusFails(errDenied), want: mobileid.StatusUnknown, failures: 1, kind: Denied},
		"a failure nobody has classified":                      {status: statusFails(errors.New("odd")), want: mobileid.StatusUnknown, failures: 1, kind: Ambiguous},
		"expired: the CRL is not asked":                        {status: status(revoked), ocsp: source(revoked), crl: failing(errDown), expired: true, want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca", "ocsp"}, visible: true},
		"expired: late good is no contradiction":               {status: status(revoked), ocsp: source(good), expired: true, want: mobileid.StatusRevoked, proofs: []mobileid.ProofSource{"ca"}},
		"expired: a CRL alone tells nothing":                   {crl: source(revoked), expired: true, want: mobileid.StatusUnknown, kind: Unsupported},
		"no source":                                            {want: mobileid.StatusUnknown, kind: Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newCA(t, "CA")
			driver := &fakeDriver{statuses: test.status, capabilities: Capabilities{HasStatus: test.status != nil}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
			if test.ocsp != nil {
				a.OCSP = test.ocsp
			}
			if test.crl != nil {
				a.CRL = test.crl
			}
			cert := userOf(issuer)
			if test.expired {
				cert.NotAfter = noon.Add(-time.Second)
			}
			finding, err := a.Prove(t.Context(), cert, test.hint)
			if test.kind == "" {
				require.NoError(t, err)
			} else {
				requireKind(t, test.kind, err)
			}
			require.Equal(t, test.want, finding.Status)
			require.Len(t, finding.Failures, test.failures)
			var proofs []mobileid.ProofSource
			for _, p := range finding.Proofs {
				proofs = append(proofs, p.Source)
			}
			require.Equal(t, test.proofs, proofs)
			require.Equal(t, len(test.proofs) > 0, finding.Revoked)
			if finding.Revoked {
				require.Equal(t, revocationDate, finding.RevokedAt)
				require.Equal(t, mobileid.Superseded, finding.ReasonAtCA)
			}
			require.Equal(t, test.visible, !finding.VisibleAt.IsZero())
			if test.visible {
				require.Equal(t, noon, finding.VisibleAt)
			}
			if test.expired && test.crl != nil {
				require.Zero(t, test.crl.asked.Load())
			}
			require.Equal(t, test.ocsp != nil || test.crl != nil && !test.expired, a.Publishes(cert))
		})
	}
}

// slowSource answers when its context ends.
type slowSource struct{}

func (slowSource) Check(ctx context.Context, _ Certificate) (Evidence, error) {
	<-ctx.Done()
	return Evidence{}, ctx.Err()
}

func TestProveWaitsForNoSourceLongerThanTheTimeout(t *testing.T) {
	issuer := newCA(t, "CA")
	a := &Authority{
		Name: "ca", Issuer: issuer.cert, Now: clockAt(noon), RequestTimeout: time.Millisecond,
		Driver: &fakeDriver{statuses: status(says(mobileid.StatusRevoked)), capabilities: Capabilities{HasStatus: true}},
		OCSP:   slowSource{}, CRL: source(says(mobileid.StatusRevoked)),
	}
	finding, err := a.Prove(t.Context(), userOf(issuer), time.Time{})
	require.NoError(t, err)
	require.Len(t, finding.Proofs, 2)
	require.ErrorIs(t, finding.Failures[0], context.DeadlineExceeded)
	require.True(t, finding.VisibleAt.IsZero())
}

// A CRL that does not come keeps nobody waiting for a revocation that the others prove,
// but whoever asks whether it can be seen.
func TestProveWaitsASecondForTheCRL(t *testing.T) {
	revoked, good := says(mobileid.StatusRevoked), says(mobileid.StatusGood)
	for name, test := range map[string]struct {
		ocsp  Evidence
		due   time.Time // the next CRL, as far as it is known
		prove func(*Authority, context.Context, Certificate, time.Time) (Finding, error)
		want  time.Duration
		class string // of the CRL's answer
	}{
		"proven":                           {revoked, noon.Add(time.Hour), (*Authority).Prove, time.Second, ClassCanceled},
		"not proven: the CRL may do":       {good, noon.Add(time.Hour), (*Authority).Prove, 7 * time.Second, string(Ambiguous)},
		"proven, but can it be seen yet":   {revoked, noon.Add(time.Hour), (*Authority).Visible, 7 * time.Second, string(Ambiguous)},
		"proven, and no CRL was read yet":  {revoked, time.Time{}, (*Authority).Prove, 7 * time.Second, string(Ambiguous)},
		"proven, and the next CRL was due": {revoked, noon, (*Authority).Prove, 7 * time.Second, string(Ambiguous)},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newCA(t, "CA")
			synctest.Test(t, func(t *testing.T) {
				seen := &watcher{}
				a := &Authority{
					Name: "ca", Issuer: issuer.cert, Now: clockAt(noon), RequestTimeout: 7 * time.Second,
					OCSP: source(test.ocsp), CRL: slowCRL{due: test.due}, Observer: seen,
				}
				began := time.Now()
				finding, err := test.prove(a, t.Context(), userOf(issuer), time.Time{})
				require.NoError(t, err)
				require.Equal(t, test.want, time.Since(began))
				require.Equal(t, test.ocsp.Status == mobileid.StatusRevoked, finding.Revoked)
				require.True(t, finding.VisibleAt.IsZero())
				require.Len(t, finding.Failures, 1)
				require.Contains(t, seen.seen, "ca crl "+test.class)
			})
		})
	}
}

type slowCRL struct {
	slowSource
	due time.Time
}

func (c slowCRL) NextUpdate() time.Time { return c.due }
