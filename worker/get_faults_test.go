package main

import (
	"context"
	"crypto/x509"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/phone"
	"mobileid/workflows"
)

// enough is a step_wait for a step that is to fail: long enough for those before it to
// succeed, of which each has as long.
const enough = "15s"

// Phones that do not answer, and callbacks that come twice, or when all is over.
func TestGetPhonesAndCallbacks(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)

	t.Run("nobody scans the code", func(t *testing.T) {
		a := p.newApplicant(t)
		p.work(t, a.queue, nil, "--get.scan_wait", "5s") // as long, the code can be read
		a.start(t, nil)
		code := a.waitForCode(t)
		a.requireEnd(t, end(mobileid.FailurePhoneSilent))
		a.scanCode(t.Context(), code, phone.WellBehaved) // too late
		a.requireEnd(t, end(mobileid.FailurePhoneSilent))
	})
	t.Run("the phone scans and is silent", func(t *testing.T) {
		a := p.newApplicant(t)
		p.work(t, a.queue, nil, "--get.scan_wait", "1s")
		a.start(t, nil)
		a.scan(t, phone.Silent)
		a.requireEnd(t, end(mobileid.FailurePhoneSilent))
		// Messaging says when the time is over, although whoever looks for a code then
		// deletes what has expired.
		told, err := a.hasEvent(t, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
		require.NoError(t, err)
		require.True(t, told)
		waited, err := a.hasEvent(t, enumspb.EVENT_TYPE_TIMER_FIRED)
		require.NoError(t, err)
		require.False(t, waited, "the process does not wait for what is over")
	})
	t.Run("the phone goes off before it has the certificates", func(t *testing.T) {
		a := p.newApplicant(t)
		p.work(t, a.queue, once("Certificates/before", func() { a.phone.leave() }), "--get.install_wait", "1s")
		a.start(t, nil)
		a.scan(t, phone.WellBehaved)
		a.requireEnd(t, end(mobileid.FailurePhoneSilent))
	})
	t.Run("the phone answers twice", func(t *testing.T) {
		a := p.newApplicant(t)
		p.work(t, a.queue, nil)
		a.start(t, nil)
		a.scan(t, phone.AnswerTwice)
		a.requireEnd(t, endActive)
		a.requireOnPhone(t)
	})
	t.Run("callbacks come again when all is over", func(t *testing.T) {
		a := p.newApplicant(t)
		p.work(t, a.queue, nil)
		a.start(t, nil)
		a.scan(t, phone.WellBehaved)
		a.requireEnd(t, endActive)
		// The first two answered; whatever else there is came twice.
		callbacks := p.inbox.of(a.grant.MobileID)
		require.GreaterOrEqual(t, len(callbacks), 2)
		for _, callback := range callbacks {
			delivery, err := p.inbox.Deliver(t.Context(), callback)
			require.NoError(t, err)
			require.Equal(t, messaging.Late, delivery)
		}
		a.requireEnd(t, endActive)
	})
	t.Run("the installation is told of before the command is known", func(t *testing.T) {
		a := p.newApplicant(t)
		// The worker is slow between messaging's answer and the store.
		p.work(t, a.queue, once("PutCommand/before", func() {
			assert.Eventually(t, func() bool { return len(p.inbox.of(a.grant.MobileID)) >= 2 }, limit, moment)
		}))
		a.start(t, nil)
		a.scan(t, phone.WellBehaved)
		a.requireEnd(t, endActive)
		a.requireOnPhone(t)
	})
}

// Messaging is away for longer than anybody wants to wait.
func TestGetMessagingDown(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, at string
		args     []string
		want     mobileid.FailureType
	}{
		{"when a phone is to be reached", "Provision/before", []string{"--get.step_wait", "2s"}, mobileid.FailureMessagingRefused},
		{"when the phone is waited for", "PutProvisioning/after", []string{"--get.scan_wait", "2s"}, mobileid.FailurePhoneSilent},
		{"when the certificates are to be sent", "Certificates/before", []string{"--get.step_wait", enough}, mobileid.FailureMessagingRefused},
		{"when they are on their way", "PutCommand/after", []string{"--get.install_wait", "2s"}, mobileid.FailurePhoneSilent},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newParts(t, true)
			a := p.newApplicant(t)
			kill := once(row.at, p.messaging.Kill)
			p.work(t, a.queue, func(at string) {
				if at == "Certificates/before" {
					a.phone.leave() // or it might be quicker
				}
				kill(at)
			}, row.args...)
			a.start(t, nil)
			a.scan(t, phone.WellBehaved)
			a.requireEnd(t, end(row.want))
		})
	}
}

// The CA is away, or its answers are, while it issues.
func TestGetCAFaultsWhileIssuing(t *testing.T) {
	t.Parallel()
	short := []string{"--get.step_wait", enough}
	for _, row := range []struct {
		name  string
		fault devcatest.Fault
		args  []string
		heal  workflows.Phase // when the fault ends; empty: by itself
		want  end
	}{
		{"down for a moment", devcatest.Refuse(http.StatusServiceUnavailable, 0).Only(devcatest.IssueRequest).Once(), nil, "", endActive},
		{"the answer is cut once", devcatest.CutAfter().Only(devcatest.IssueRequest).Once(), nil, "", endActive},
		{"the answer hangs once", devcatest.HangAfter().Only(devcatest.IssueRequest).Once(), nil, "", endActive},
		{"down for too long", devcatest.Refuse(http.StatusServiceUnavailable, 0), short, workflows.TakingBack, end(mobileid.FailureCARefused)},
		{"every answer is cut", devcatest.CutAfter().Only(devcatest.IssueRequest), short, "", end(mobileid.FailureCARefused)},
		{"every answer is cut, and nobody can ask", devcatest.CutAfter(), short, workflows.TakingBack, end(mobileid.FailureCARefused)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newParts(t, true)
			a := p.newApplicant(t)
			p.work(t, a.queue, once("IssueOnce/before", func() { p.ca.Break(row.fault) }), row.args...)
			a.start(t, nil)
			a.scan(t, phone.WellBehaved)
			if row.heal != "" {
				a.waitFor(t, row.heal)
				p.ca.Heal()
			}
			a.requireEnd(t, row.want)
		})
	}
}

// A request that was given up may still reach the CA, and be carried out when nobody
// waits for it any more: by a proxy that kept it, or a worker that slept.
func TestGetCAIssuesAfterItWasGivenUp(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		args []string
		want end
		act  func(t *testing.T, a *applicant)
	}{
		{"cancelled", []string{"--get.step_wait", enough}, end(workflows.OutcomeCancelled), func(t *testing.T, a *applicant) {
			_, err := a.gets.Cancel(t.Context())
			require.NoError(t, err)
		}},
		{"tried for too long", []string{"--get.step_wait", enough}, end(mobileid.FailureCARefused), func(*testing.T, *applicant) {}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newParts(t, true)
			p.caTimeout = 20 * time.Second // long enough for a busy machine to be late in
			p.writeSettings(t)
			a := p.newApplicant(t)
			slow := &slowCA{asked: make(chan struct{})}
			late := make(chan *x509.Certificate, 1)
			p.workWith(t, a.queue, once("Issued/after", func() {
				// The process has looked, and found nothing.
				<-slow.asked
				issued, err := slow.Issuer.IssueOnce(context.Background(), slow.request)
				assert.NoError(t, err)
				late <- issued
			}), slow.wrap, row.args...)
			a.start(t, nil)
			a.scan(t, phone.WellBehaved)
			receive(t, slow.asked)
			row.act(t, a)
			issued := receive(t, late)
			a.requireEnd(t, row.want)
			require.Equal(t, mobileid.StatusRevoked, p.ca.Status(t, issued).Status)
		})
	}
}

// slowCA keeps the first request to issue, and answers none.
type slowCA struct {
	ca.Driver
	ca.Issuer
	first   sync.Once
	asked   chan struct{} // closed when it has the request
	request ca.IssueRequest
}

func (s *slowCA) wrap(driver ca.Driver) ca.Driver {
	s.Driver = driver
	s.Issuer = driver.(ca.Issuer) //nolint:errcheck // devca's is
	return s
}

func (s *slowCA) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	s.first.Do(func() {
		s.request = request
		close(s.asked)
	})
	<-ctx.Done()
	return nil, &ca.Error{Kind: ca.Ambiguous, Op: "issue", Err: ctx.Err()}
}

// A cancellation in the middle of each step: nothing is left behind.
func TestGetCancelledAtEveryStep(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	for _, at := range []string{
		"Register/before", "Provision/after", "PutProvisioning/after", "Answer/after", "IssueOnce/before", "IssueOnce/after", "RecordIssued/after",
		"Certificates/after", "PutCommand/after",
	} {
		t.Run(at, func(t *testing.T) {
			a := p.newApplicant(t)
			p.work(t, a.queue, once(at, func() {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				defer cancel()
				assert.NoError(t, server.Client.SignalWorkflow(ctx, workflows.GetWorkflowID(a.user), "", workflows.Cancel, nil))
			}), "--get.step_wait", limit.String())
			a.start(t, nil)
			a.scan(t, phone.WellBehaved)
			a.requireEnd(t, end(workflows.OutcomeCancelled))
		})
	}
}
