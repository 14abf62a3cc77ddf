package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/messaging/phone"
	"mobileid/workflows"
)

// kill is one place where a worker is killed in the middle of a Get.
type kill struct {
	name  string
	at    point // empty: while nothing is under way but the wait for the phone
	old   bool  // the user has a mobile ID, which is locked first
	phone phone.Misbehaviour
	args  []string
	want  end
}

// kills are all places in the steps of a Get: before and after each effect.
var kills = []kill{
	{name: "validating/before", at: point{At: "Applicant/before"}, want: endActive},
	{name: "validating/after", at: point{At: "Applicant/after"}, want: endActive},
	{name: "lockingOld/revoke before", at: point{At: "Revoke/before"}, old: true, want: endActive},
	{name: "lockingOld/revoke after", at: point{At: "Revoke/after"}, old: true, want: endActive},
	{name: "lockingOld/look", at: point{At: "Applicant/before", Passes: 1}, old: true, want: endActive},
	{name: "provisioning/register before", at: point{At: "Register/before"}, want: endActive},
	{name: "provisioning/register after", at: point{At: "Register/after"}, want: endActive},
	{name: "provisioning/send before", at: point{At: "Provision/before"}, want: endActive},
	{name: "provisioning/send after", at: point{At: "Provision/after"}, want: endActive},
	{name: "provisioning/keep after", at: point{At: "PutProvisioning/after"}, want: endActive},
	{name: "awaitingPhone", want: endActive},
	{name: "awaitingPhone/read before", at: point{At: "Answer/before"}, want: endActive},
	{name: "awaitingPhone/read after", at: point{At: "Answer/after"}, want: endActive},
	{name: "issuing/before", at: point{At: "IssueOnce/before"}, want: endActive},
	{name: "issuing/after", at: point{At: "IssueOnce/after"}, want: endActive},
	{name: "issuing/second before", at: point{At: "IssueOnce/before", Passes: 1}, want: endActive},
	{name: "issuing/second after", at: point{At: "IssueOnce/after", Passes: 1}, want: endActive},
	{name: "issuing/record before", at: point{At: "RecordIssued/before"}, want: endActive},
	{name: "issuing/record after", at: point{At: "RecordIssued/after"}, want: endActive},
	{name: "installing/send before", at: point{At: "Certificates/before"}, want: endActive},
	{name: "installing/send after", at: point{At: "Certificates/after"}, want: endActive},
	{name: "installing/keep after", at: point{At: "PutCommand/after"}, want: endActive},
	{name: "installing/read before", at: point{At: "Answer/before", Passes: 1}, want: endActive},
	{name: "installing/read after", at: point{At: "Answer/after", Passes: 1}, want: endActive},
	{name: "activating/before", at: point{At: "Activate/before"}, want: endActive},
	{name: "activating/after", at: point{At: "Activate/after"}, want: endActive},
	{
		name: "takingBack/find before", at: point{At: "Issued/before", Lose: true}, args: []string{"--get.step_wait", enough},
		want: end(mobileid.FailureCARefused),
	},
	{
		name: "takingBack/find after", at: point{At: "Issued/after", Lose: true}, args: []string{"--get.step_wait", enough},
		want: end(mobileid.FailureCARefused),
	},
	{name: "takingBack/abandon before", at: point{At: "Abandon/before"}, phone: phone.RefuseInstalling, want: end(mobileid.FailurePhoneRefused)},
	{name: "takingBack/abandon after", at: point{At: "Abandon/after"}, phone: phone.RefuseInstalling, want: end(mobileid.FailurePhoneRefused)},
	{name: "takingBack/revoke before", at: point{At: "Revoke/before"}, phone: phone.RefuseInstalling, want: end(mobileid.FailurePhoneRefused)},
	{name: "takingBack/revoke after", at: point{At: "Revoke/after"}, phone: phone.RefuseInstalling, want: end(mobileid.FailurePhoneRefused)},
	{name: "takingBack/look", at: point{At: "Applicant/before", Passes: 3}, phone: phone.RefuseInstalling, want: end(mobileid.FailurePhoneRefused)},
}

// A worker that is killed anywhere in a Get is taken over by another one. The Gets of
// all places run side by side: each has to wait until the engine misses its worker.
func TestGetWorkerKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	users := make([]*applicant, len(kills))
	for i, row := range kills {
		a := p.newApplicant(t)
		phones := t // they outlive the worker
		t.Run("kill/"+row.name, func(t *testing.T) {
			more := object{}
			if row.old {
				a.withOld(t)
				more["lock"] = true
			}
			dying := p.startWorker(t, a.queue, row.at, row.args...)
			a.start(t, more)
			if row.at.At == "" {
				a.waitForCode(t)
				dying.Kill()
			}
			a.scan(phones, row.phone)
			dying.RequireKilled(t)
			users[i] = a
		})
		if users[i] != nil {
			p.work(t, a.queue, nil, row.args...)
		}
	}
	for i, row := range kills {
		t.Run(row.name, func(t *testing.T) {
			require.NotNil(t, users[i], "the worker was not killed")
			users[i].requireEnd(t, row.want)
			if row.want == endActive {
				users[i].requireOnPhone(t)
			}
		})
	}
}

// The worker that takes a callback is killed: before the process is told of it, and
// before messaging is told that it was taken.
func TestGetWorkerKilledWithCallback(t *testing.T) {
	t.Parallel()
	for _, row := range []kill{
		{name: "keys/tell before", at: point{At: "Tell/before"}},
		{name: "keys/tell after", at: point{At: "Tell/after"}},
		{name: "installation/tell before", at: point{At: "Tell/before", Passes: 1}},
		{name: "installation/tell after", at: point{At: "Tell/after", Passes: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newParts(t, false)
			a := p.newApplicant(t)
			dying := p.startWorker(t, a.queue, row.at, "--messaging.callback_address", p.callbacks)
			a.start(t, nil)
			a.scan(t, phone.WellBehaved)
			dying.RequireKilled(t)
			p.takeCallbacks(t, p.settings(t).Messaging)
			p.work(t, a.queue, nil)
			a.requireEnd(t, endActive)
			a.requireOnPhone(t)
		})
	}
}

// The messaging server is killed around each step that it has a part in, and started
// again: the phone and the worker both find it again.
func TestGetMessagingKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	for _, at := range []string{
		"Provision/before", "Provision/after", "PutProvisioning/after", "Answer/before", "Answer/after", "IssueOnce/before",
		"Certificates/before", "Certificates/after", "PutCommand/after", "Activate/before",
	} {
		t.Log(at)
		a := p.newApplicant(t)
		reached, restarted := make(chan struct{}), make(chan struct{})
		stop := p.work(t, a.queue, once(at, func() {
			close(reached)
			<-restarted
		}))
		a.start(t, nil)
		a.scan(t, phone.WellBehaved)
		receive(t, reached)
		p.messaging.Kill()
		if strings.HasSuffix(at, "/before") {
			close(restarted) // it is down for the first try
		}
		p.startMessaging(t)
		if strings.HasSuffix(at, "/after") {
			close(restarted)
		}
		a.requireEnd(t, endActive)
		a.requireOnPhone(t)
		a.phone.leave()
		stop()
	}
}

// receive waits for what is sent on a channel, or for its end.
func receive[T any](t *testing.T, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(limit):
		require.Fail(t, "it does not happen")
	}
	return value
}

// once is a hook that acts the first time that a point is reached.
func once(at string, act func()) func(string) {
	var first sync.Once
	return func(reached string) {
		if reached == at {
			first.Do(act)
		}
	}
}

// A worker that has no part in Gets takes a step over, as when one is configured
// before the other: it gives the step back, and what was begun is not left behind.
func TestGetWorkerWithoutGetTakesOver(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	dying := p.startWorker(t, a.queue, point{At: "Certificates/before"})
	a.start(t, nil)
	a.scan(t, phone.WellBehaved)
	dying.RequireKilled(t)
	stop := p.work(t, a.queue, nil, "--get.enabled=false")
	require.Eventually(t, func() bool {
		description, err := server.Client.DescribeWorkflowExecution(t.Context(), workflows.GetWorkflowID(a.user), "")
		if err != nil || len(description.GetPendingActivities()) == 0 {
			return err == nil && description.GetWorkflowExecutionInfo().GetCloseTime() != nil
		}
		return strings.Contains(description.GetPendingActivities()[0].GetLastFailure().GetMessage(), "unable to find activityType")
	}, limit, moment)
	stop()
	p.work(t, a.queue, nil)
	a.requireEnd(t, endActive)
	a.requireOnPhone(t)
}
