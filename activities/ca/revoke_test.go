package ca

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"mobileid"
)

func answers(list ...Answer) (s []answerStep) {
	for _, a := range list {
		s = append(s, answerStep{answer: a})
	}
	return s
}

func answerFails(kind Kind) []answerStep {
	return []answerStep{{err: &Error{Kind: kind, Op: "test", Words: "the CA's words"}}}
}

func TestRevoke(t *testing.T) {
	good, revoked, hold, unknown := says(mobileid.StatusGood), says(mobileid.StatusRevoked), says(mobileid.StatusOnHold), says(mobileid.StatusUnknown)
	var (
		requestedAt = revocationDate.Add(-time.Minute)
		before      = revoked.revoked(requestedAt.Add(-time.Second - time.Millisecond))
		sameSecond  = revoked.revoked(requestedAt.Truncate(time.Second).Add(-time.Second))
		undated     = revoked.revoked(time.Time{})
		done        = Answer{Outcome: Revoked, RevokedAt: revocationDate}
		doneBefore  = Answer{Outcome: AlreadyRevoked, RevokedAt: revocationDate}
		doneUndated = Answer{Outcome: Revoked}
	)
	for name, test := range map[string]struct {
		asked, expired, noStatus bool
		answers                  []answerStep
		status                   []statusStep
		ocsp, crl                *fakeSource

		outcome mobileid.CertificateOutcome
		kind    Kind // "": no error
		words   string
		calls   string
		status2 mobileid.Status // StatusAtCA
		pending bool
	}{
		// Asked for the first time.
		"revoked": {answers: answers(done), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"already revoked, says the CA at once": {answers: answers(doneBefore), status: status(before),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"already revoked since the lock was asked for": {answers: answers(doneBefore), status: status(revoked),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"revoked, with a date of its own making": {answers: answers(doneUndated), status: status(before),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"revoked, proven by OCSP": {noStatus: true, answers: answers(done), ocsp: source(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke", status2: mobileid.StatusRevoked},
		"on hold is revoked for good": {answers: answers(done), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"still on hold, then revoked": {answers: answers(Answer{Outcome: OnHold}, done), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke revoke status", status2: mobileid.StatusRevoked},
		"still on hold twice": {answers: answers(Answer{Outcome: OnHold}), status: status(hold),
			kind: Unsupported, words: "on hold", calls: "revoke revoke"},
		"success that shows as on hold": {answers: answers(done), status: status(hold),
			kind: Ambiguous, words: "no source shows", calls: "revoke status", status2: mobileid.StatusOnHold},
		"success without a proof": {answers: answers(done), status: status(good.at(early5)),
			kind: Ambiguous, words: "no source shows", calls: "revoke status", status2: mobileid.StatusGood},
		"success without a date or a proof": {answers: answers(doneUndated), status: status(good),
			kind: Ambiguous, words: "no source shows", calls: "revoke status", status2: mobileid.StatusGood},
		"success, and good long after it": {answers: answers(done), status: status(good.at(late5)),
			kind: Contradiction, words: "says good", calls: "revoke status", status2: mobileid.StatusGood},
		"success, OCSP good long after it": {answers: answers(done), status: status(revoked), ocsp: source(good),
			outcome: mobileid.OutcomeRevoked, kind: Contradiction, words: "ocsp says good", calls: "revoke status", status2: mobileid.StatusRevoked},
		"success, but the status cannot be read": {answers: answers(done), status: statusFails(errDown),
			kind: Ambiguous, words: "no source shows", calls: "revoke status", status2: mobileid.StatusUnknown},
		"success, but the status is denied": {answers: answers(done), status: statusFails(errDenied),
			kind: Denied, calls: "revoke status", status2: mobileid.StatusUnknown},
		"success, published later": {noStatus: true, answers: answers(done), crl: source(good.at(revocationDate)),
			kind: Ambiguous, words: "no source shows", calls: "revoke", status2: mobileid.StatusGood},
		"success, not in a CRL of long after it": {noStatus: true, answers: answers(done), crl: source(good),
			kind: Contradiction, calls: "revoke", status2: mobileid.StatusGood},
		"waits for approval": {answers: answers(Answer{Outcome: Pending}),
			kind: PendingApproval, words: "approval", calls: "revoke", pending: true},
		"waits for approval, says the driver's error": {answers: answerFails(PendingApproval), status: status(good),
			kind: PendingApproval, calls: "revoke status", status2: mobileid.StatusGood, pending: true},
		"cut, and waits for approval": {answers: answerFails(Ambiguous), status: statusFails(errWaits),
			kind: PendingApproval, words: "two more approvals", calls: "revoke status", status2: mobileid.StatusUnknown, pending: true},
		"success, but waits for approval": {answers: answers(done), status: statusFails(errWaits),
			kind: Ambiguous, words: "no source shows", calls: "revoke status", status2: mobileid.StatusUnknown},
		"expired, says the CA, but is not": {answers: answers(Answer{Outcome: ExpiredNotRevoked}),
			kind: Contradiction, words: "takes the certificate for expired", calls: "revoke"},
		"an answer that means nothing": {answers: answers(Answer{Outcome: "Perhaps"}),
			kind: Contradiction, words: "means nothing", calls: "revoke"},
		"no connection": {answers: answerFails(Unavailable), status: status(good),
			kind: Unavailable, calls: "revoke"},
		"cut, but done": {answers: answerFails(Ambiguous), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"cut, and done by somebody else before": {answers: answerFails(Ambiguous), status: status(before),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"cut, and not done": {answers: answerFails(Ambiguous), status: status(good),
			kind: Ambiguous, words: "the CA's words", calls: "revoke status", status2: mobileid.StatusGood},
		"a failure nobody has classified": {answers: []answerStep{{err: errors.New("odd")}}, status: status(good),
			kind: Ambiguous, words: "odd", calls: "revoke status", status2: mobileid.StatusGood},
		"says rejected, but is revoked": {answers: answerFails(Unsupported), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"unknown to the CA": {answers: answerFails(NotFound), status: status(unknown),
			kind: NotFound, calls: "revoke status", status2: mobileid.StatusUnknown},
		"denied":                    {answers: answerFails(Denied), status: status(good), kind: Denied, calls: "revoke status", status2: mobileid.StatusGood},
		"reason not taken":          {answers: answerFails(BadReason), status: status(good), kind: BadReason, calls: "revoke status", status2: mobileid.StatusGood},
		"not supported":             {answers: answerFails(Unsupported), status: status(good), kind: Unsupported, calls: "revoke status", status2: mobileid.StatusGood},
		"the CA contradicts itself": {answers: answerFails(Contradiction), status: status(good), kind: Contradiction, calls: "revoke status", status2: mobileid.StatusGood},

		// An earlier try may have asked.
		"asked, and done": {asked: true, status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, and done in the second of the request": {asked: true, status: status(sameSecond),
			outcome: mobileid.OutcomeRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, and done without a date": {asked: true, status: status(undated),
			outcome: mobileid.OutcomeRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, and done by somebody else before": {asked: true, status: status(before),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, and shown by OCSP alone": {asked: true, noStatus: true, ocsp: source(revoked),
			outcome: mobileid.OutcomeRevoked, status2: mobileid.StatusRevoked},
		"asked, but good": {asked: true, answers: answers(done), status: status(good, revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status revoke status", status2: mobileid.StatusRevoked},
		"asked, but on hold": {asked: true, answers: answers(done), status: status(hold, revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status revoke status", status2: mobileid.StatusRevoked},
		"asked, good, and then already revoked by us": {asked: true, answers: answers(doneBefore), status: status(good, revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status revoke status", status2: mobileid.StatusRevoked},
		"asked, and the status cannot be read": {asked: true, status: statusFails(errDown),
			kind: Unavailable, calls: "status", status2: mobileid.StatusUnknown},
		"asked, and waits for approval: no second request": {asked: true, answers: answers(done), status: statusFails(errWaits),
			kind: PendingApproval, words: "two more approvals", calls: "status", status2: mobileid.StatusUnknown, pending: true},
		"asked, and rejected, whatever OCSP says": {asked: true, answers: answers(done), status: statusFails(errRejected), ocsp: source(good),
			kind: Unsupported, words: "rejected", calls: "status", status2: mobileid.StatusGood},
		"asked, and the status is denied, but OCSP answers": {asked: true, answers: answers(done), status: statusFails(errDenied), ocsp: source(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, the CA still waits, and OCSP shows it": {asked: true, status: statusFails(errWaits), ocsp: source(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "status", status2: mobileid.StatusRevoked},
		"asked, and no public source answers": {asked: true, noStatus: true, ocsp: failing(errDown), crl: failing(errDown),
			kind: Unavailable, status2: mobileid.StatusUnknown},
		"asked, and already revoked long ago, but good": {asked: true, answers: answers(Answer{Outcome: AlreadyRevoked, RevokedAt: noon.AddDate(0, 0, -1)}), status: status(good),
			kind: Contradiction, calls: "status revoke status", status2: mobileid.StatusGood},

		// Past notAfter.
		"expired, and revoked all the same": {expired: true, answers: answers(done), status: status(revoked),
			outcome: mobileid.OutcomeRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"expired, and a no-op": {expired: true, answers: answers(done), status: status(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, says the CA": {expired: true, answers: answers(Answer{Outcome: ExpiredNotRevoked}), status: status(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, and left on hold": {expired: true, answers: answers(Answer{Outcome: OnHold}), status: status(hold),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusOnHold},
		"expired, and refused": {expired: true, answers: answerFails(Unsupported), status: status(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, and forgotten by the CA": {expired: true, answers: answerFails(NotFound), status: status(unknown),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusUnknown},
		"expired, refused, but revoked": {expired: true, answers: answerFails(Unsupported), status: status(before),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"expired, and the worker may neither revoke nor read": {expired: true, answers: answerFails(Denied), status: statusFails(errDenied), ocsp: source(good),
			kind: Denied, words: "the CA's words", calls: "revoke status", status2: mobileid.StatusGood},
		"expired, refused, and the status cannot be read now": {expired: true, answers: answerFails(Unsupported), status: statusFails(errDown),
			kind: Unavailable, calls: "revoke status", status2: mobileid.StatusUnknown},
		"expired, and no connection": {expired: true, answers: answerFails(Unavailable), kind: Unavailable, calls: "revoke"},
		"expired, and cut": {expired: true, answers: answerFails(Ambiguous), status: status(good),
			kind: Ambiguous, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, and waits for approval": {expired: true, answers: answers(Answer{Outcome: Pending}),
			kind: PendingApproval, calls: "revoke", pending: true},
		"expired, refused, and an older request waits for approval": {expired: true, answers: answerFails(Unsupported), status: statusFails(errWaits),
			kind: PendingApproval, calls: "revoke status", status2: mobileid.StatusUnknown, pending: true},
		"expired, denied, and read": {expired: true, answers: answerFails(Denied), status: status(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, and the reason is not taken": {expired: true, answers: answerFails(BadReason), status: status(good),
			kind: BadReason, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, and the CA contradicts itself": {expired: true, answers: answerFails(Contradiction), status: status(good),
			kind: Contradiction, calls: "revoke status", status2: mobileid.StatusGood},
		"expired, the reason is not taken, but revoked": {expired: true, answers: answerFails(BadReason), status: status(before),
			outcome: mobileid.OutcomeAlreadyRevoked, calls: "revoke status", status2: mobileid.StatusRevoked},
		"expired, asked, and refused": {expired: true, asked: true, answers: answerFails(Unsupported), status: status(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "status revoke status", status2: mobileid.StatusGood},
		"expired, and only a CRL, which is not asked": {expired: true, asked: true, noStatus: true, answers: answerFails(NotFound), crl: source(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke", status2: mobileid.StatusUnknown},
		"expired, no status, shown by OCSP": {expired: true, noStatus: true, answers: answerFails(Unsupported), ocsp: source(good),
			outcome: mobileid.OutcomeExpiredNotRevoked, calls: "revoke", status2: mobileid.StatusGood},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newCA(t, "CA")
			driver := &fakeDriver{answers: test.answers, statuses: test.status, capabilities: Capabilities{HasStatus: !test.noStatus}}
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
			result, err := a.Revoke(t.Context(), cert, mobileid.Superseded, test.asked, requestedAt)
			if test.kind == "" {
				require.NoError(t, err)
			} else {
				require.Contains(t, requireKind(t, test.kind, err).Error(), test.words)
			}
			require.Equal(t, test.pending, IsPending(err))
			require.Equal(t, test.calls, strings.Join(driver.calls, " "))
			require.Equal(t, test.outcome, result.Outcome)
			require.Equal(t, test.status2, result.StatusAtCA)
			require.Equal(t, mobileid.Superseded, result.Reason)
			require.Equal(t, "ca", result.CA)
			require.Equal(t, cert.CertificateID, result.CertificateID)
			require.Empty(t, result.StateInIM, "is for Identity Manager to say")
			switch result.Outcome {
			case mobileid.OutcomeRevoked, mobileid.OutcomeAlreadyRevoked:
				require.NotEmpty(t, result.Proof, "no success without a proof")
				require.Equal(t, mobileid.Superseded, result.ReasonAtCA)
			default:
				require.Zero(t, result.RevokedAt)
				require.Zero(t, result.VisibleAt)
			}
			if test.expired && test.crl != nil {
				require.Zero(t, test.crl.asked.Load())
			}
		})
	}
}

func TestRevokeTakesTheDateOfTheAnswerIfTheProofHasNone(t *testing.T) {
	issuer := newCA(t, "CA")
	driver := &fakeDriver{
		answers:      answers(Answer{Outcome: Revoked, RevokedAt: revocationDate}),
		statuses:     status(says(mobileid.StatusRevoked).revoked(time.Time{})),
		capabilities: Capabilities{HasStatus: true},
	}
	a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
	result, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, false, noon)
	require.NoError(t, err)
	require.Equal(t, revocationDate, result.RevokedAt)
}

func TestRevokeSendsTheReasonOrNothing(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, test := range map[string]struct {
		reason, sent mobileid.Reason
	}{
		"a final one":        {mobileid.KeyCompromise, mobileid.KeyCompromise},
		"none":               {"", mobileid.Unspecified},
		"certificateHold":    {mobileid.CertificateHold, ""},
		"removeFromCRL":      {mobileid.RemoveFromCRL, ""},
		"nonsense":           {"lost", ""},
		"one that is mapped": {mobileid.PrivilegeWithdrawn, mobileid.CessationOfOperation},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{
				answers: answers(Answer{Outcome: Revoked}), statuses: status(says(mobileid.StatusGood)),
				capabilities: Capabilities{HasStatus: true},
			}
			a := &Authority{
				Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon),
				Reasons: map[mobileid.Reason]mobileid.Reason{mobileid.PrivilegeWithdrawn: mobileid.CessationOfOperation},
			}
			result, err := a.Revoke(t.Context(), userOf(issuer), test.reason, false, noon)
			if test.sent == "" {
				requireKind(t, BadReason, err)
				require.Empty(t, driver.reasons)
				return
			}
			require.Equal(t, []mobileid.Reason{test.sent}, driver.reasons)
			require.Equal(t, test.sent, result.Reason, "the record says what was sent")
		})
	}
}

// The process as a whole keeps to the limit, and one that cannot wait for its turn
// has sent nothing.
func TestRateLimit(t *testing.T) {
	issuer := newCA(t, "CA")
	driver := &fakeDriver{
		answers: answers(Answer{Outcome: Revoked}), statuses: status(says(mobileid.StatusRevoked)), capabilities: Capabilities{HasStatus: true},
	}
	a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon), Limit: rate.NewLimiter(rate.Every(time.Hour), 3)}
	_, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, false, noon)
	require.NoError(t, err)
	require.Equal(t, []string{"revoke", "status"}, driver.calls, "two of the three calls of this hour")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = a.Revoke(ctx, userOf(issuer), mobileid.Superseded, false, noon)
	requireKind(t, Ambiguous, err)
	require.Equal(t, []string{"revoke", "status", "revoke"}, driver.calls, "the proof has no turn any more")
	_, err = a.Revoke(ctx, userOf(issuer), mobileid.Superseded, false, noon)
	requireKind(t, Unavailable, err)
	require.Len(t, driver.calls, 3, "nothing was sent")
}

// Nothing was sent, so that nothing is known about the expired certificate.
func TestRevokeOfAnExpiredCertificateNeedsARequest(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, test := range map[string]struct {
		needsDER bool
		reason   mobileid.Reason
		kind     Kind
	}{
		"the driver needs the certificate":    {true, mobileid.Superseded, Unsupported},
		"the reason does not revoke for good": {false, mobileid.CertificateHold, BadReason},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{statuses: status(says(mobileid.StatusGood)), capabilities: Capabilities{HasStatus: true, NeedsDER: test.needsDER}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
			cert := userOf(issuer)
			cert.NotAfter = noon.Add(-time.Second)
			result, err := a.Revoke(t.Context(), cert, test.reason, false, noon)
			requireKind(t, test.kind, err)
			require.Empty(t, result.Outcome)
			require.Equal(t, []string{"status"}, driver.calls)
		})
	}
}

// CAs date to the second, and requestedAt does not.
func TestRevokeTellsWhoseRevocationItIsByTheSecond(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, test := range map[string]struct {
		requestedAt time.Time
		want        mobileid.CertificateOutcome
	}{
		"in the second of the request": {revocationDate.Add(999 * time.Millisecond), mobileid.OutcomeRevoked},
		"in the second before it":      {revocationDate.Add(1999 * time.Millisecond), mobileid.OutcomeRevoked},
		"two seconds before it":        {revocationDate.Add(2 * time.Second), mobileid.OutcomeAlreadyRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{statuses: status(says(mobileid.StatusRevoked)), capabilities: Capabilities{HasStatus: true}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
			result, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, true, test.requestedAt)
			require.NoError(t, err)
			require.Equal(t, test.want, result.Outcome)
		})
	}
}

func TestRevokeIsPutOffForMinutesAtMost(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, test := range map[string]struct{ asks, waits time.Duration }{
		"a minute":   {time.Minute, time.Minute},
		"the most":   {maxRetryAfter, maxRetryAfter},
		"many years": {1 << 62, maxRetryAfter},
	} {
		t.Run(name, func(t *testing.T) {
			busy := &Error{Kind: Unavailable, Op: "test", Words: "busy", RetryAfter: test.asks}
			driver := &fakeDriver{answers: []answerStep{{err: busy}}, statuses: statusFails(busy), capabilities: Capabilities{HasStatus: true}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
			for _, asked := range []bool{false, true} {
				_, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, asked, noon)
				e := requireKind(t, Unavailable, err)
				require.Equal(t, test.waits, e.RetryAfter)
				require.Equal(t, "busy", e.Words)
			}
			require.Equal(t, []string{"revoke", "status"}, driver.calls)
		})
	}
}

func TestRevokeNeedsTheCertificateWhereTheDriverDoes(t *testing.T) {
	issuer := newCA(t, "CA")
	driver := &fakeDriver{capabilities: Capabilities{NeedsDER: true}}
	a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, OCSP: source(says(mobileid.StatusGood)), Now: clockAt(noon)}
	_, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, false, noon)
	requireKind(t, Unsupported, err)
	require.Empty(t, driver.calls)
}

// A try whose own time is over does not read the status any more: the next does.
func TestRevokeGivesUpWithItsContext(t *testing.T) {
	issuer := newCA(t, "CA")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	driver := &fakeDriver{answers: []answerStep{{err: ctx.Err()}}, capabilities: Capabilities{HasStatus: true}}
	a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
	_, err := a.Revoke(ctx, userOf(issuer), mobileid.Superseded, false, noon)
	requireKind(t, Ambiguous, err)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"revoke"}, driver.calls)
}

// hangingDriver never answers a request, and knows the status.
type hangingDriver struct{ *fakeDriver }

func (hangingDriver) Revoke(ctx context.Context, _ Certificate, _ mobileid.Reason) (Answer, error) {
	<-ctx.Done()
	return Answer{}, ctx.Err()
}

func TestRevokeLeavesTimeToReadTheStatusAfterATimeout(t *testing.T) {
	issuer := newCA(t, "CA")
	driver := &fakeDriver{statuses: status(says(mobileid.StatusRevoked)), capabilities: Capabilities{HasStatus: true}}
	a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: hangingDriver{driver}, RequestTimeout: 10 * time.Millisecond, Now: clockAt(noon)}
	result, err := a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, false, revocationDate)
	require.NoError(t, err)
	require.Equal(t, mobileid.OutcomeRevoked, result.Outcome)
}

func TestPollNeverAsks(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, test := range map[string]struct {
		status  []statusStep
		outcome mobileid.CertificateOutcome
		pending bool
		kind    Kind
		ocsp    *fakeSource
	}{
		"approved":                            {status(says(mobileid.StatusRevoked)), mobileid.OutcomeRevoked, false, "", nil},
		"waiting":                             {status(says(mobileid.StatusGood)), "", true, PendingApproval, nil},
		"waiting, on hold":                    {status(says(mobileid.StatusOnHold)), "", true, PendingApproval, nil},
		"waiting, says it":                    {statusFails(errWaits), "", true, PendingApproval, nil},
		"rejected":                            {statusFails(errRejected), "", false, Unsupported, nil},
		"rejected, and OCSP answers":          {statusFails(errRejected), "", false, Unsupported, source(says(mobileid.StatusGood))},
		"revoked, and the status is rejected": {statusFails(errRejected), mobileid.OutcomeRevoked, false, "", source(says(mobileid.StatusRevoked))},
		"denied, and OCSP answers":            {statusFails(errDenied), "", true, PendingApproval, source(says(mobileid.StatusGood))},
		"cannot be read now":                  {statusFails(errDown), "", false, Unavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{statuses: test.status, capabilities: Capabilities{HasStatus: true}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, Now: clockAt(noon)}
			if test.ocsp != nil {
				a.OCSP = test.ocsp
			}
			result, err := a.Poll(t.Context(), userOf(issuer), mobileid.Superseded, revocationDate)
			if test.kind == "" {
				require.NoError(t, err)
			} else {
				requireKind(t, test.kind, err)
			}
			require.Equal(t, test.pending, IsPending(err))
			require.Equal(t, test.outcome, result.Outcome)
			require.Equal(t, []string{"status"}, driver.calls)
		})
	}
}
