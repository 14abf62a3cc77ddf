package main

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/activities/messaging/phone"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// Two pages of one user ask at once: there is one Get, and one mobile ID.
func TestTwoGetsAtOnce(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	p.work(t, a.queue, nil)
	runs := make([]string, 2)
	errs := make([]error, 2)
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() {
			status, err := a.gets.Start(t.Context())
			if err == nil {
				runs[i] = status.RunID
				status, err = a.gets.Next(t.Context())
			}
			if err == nil && status.MobileID != a.grant.MobileID {
				err = errors.New("another mobile ID: " + status.MobileID)
			}
			errs[i] = err
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, runs[0], runs[1])
	// Who takes another id for the process, to have two, is refused.
	another := a.startProcess(t, workflows.GetWorkflowID("another-"+a.user), a.queue, workflows.Get, object{"userId": a.user, "confirmed": true})
	require.ErrorContains(t, another.Get(t.Context(), nil), "workflowId")
	a.scan(t, phone.WellBehaved)
	a.requireEnd(t, endActive)
	a.requireOnPhone(t)
	// The grant is used up.
	_, err := a.gets.Start(t.Context())
	require.ErrorIs(t, err, mobileid.ErrNotEntitled)
}

// A new grant while a Get is about to use the one before: that one is void.
func TestGetWhoseGrantIsReplaced(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	p.work(t, a.queue, once("Register/before", func() {
		_, err := p.store.PutGrant(context.Background(), a.user, "test", limit)
		assert.NoError(t, err)
	}))
	a.start(t, nil)
	a.requireEnd(t, end(mobileid.TypeNotEntitled))
}

// A Get is asked for while the lock of the old mobile ID waits for its CA: it waits,
// too.
func TestGetWhileALockRuns(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	old := a.withOld(t)
	p.work(t, a.queue, nil)
	p.ca.Break(devcatest.Refuse(503, 0))
	locks := starter.New(server.Client, a.queue, starter.WithAcceptWait(limit))
	_, err := locks.User(a.user).Lock(t.Context(), old, starter.LockOptions{})
	require.NoError(t, err)
	a.start(t, nil)
	a.waitFor(t, workflows.LockingOld)
	_, err = p.store.ProvisioningOf(t.Context(), a.user)
	require.ErrorIs(t, err, mobileid.ErrNoProvisioning, "nothing new while the old one can be used")
	p.ca.Heal()
	a.scan(t, phone.WellBehaved)
	a.requireEnd(t, endActive)
	require.NoError(t, server.Client.GetWorkflow(t.Context(), workflows.LockWorkflowID(old), "").Get(t.Context(), nil))
}

// A Get is cancelled while the lock of the old mobile ID waits for its CA: the lock
// goes on.
func TestGetCancelledWhileALockRuns(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	old := a.withOld(t)
	p.work(t, a.queue, nil)
	p.ca.Break(devcatest.Refuse(503, 0))
	a.start(t, object{"lock": true})
	a.waitFor(t, workflows.LockingOld)
	_, err := a.gets.Cancel(t.Context())
	require.NoError(t, err)
	require.Equal(t, end(workflows.OutcomeCancelled), a.await(t))
	p.ca.Heal()
	var locked workflows.LockResult
	require.NoError(t, server.Client.GetWorkflow(t.Context(), workflows.LockWorkflowID(old), "").Get(t.Context(), &locked))
	require.Equal(t, workflows.OutcomeLocked, locked.Outcome)
	a.requireEnd(t, end(workflows.OutcomeCancelled))
}

// The lock of the old mobile ID waits for Next in another window: the Get that is to
// have it locked presses it.
func TestGetPressesNextOfALockThatWaits(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	old := a.withOld(t)
	p.work(t, a.queue, nil)
	locks := starter.New(server.Client, a.queue, starter.WithAcceptWait(limit))
	_, err := locks.User(a.user).Start(t.Context(), old, starter.LockOptions{})
	require.NoError(t, err)
	a.start(t, object{"lock": true})
	a.scan(t, phone.WellBehaved)
	a.requireEnd(t, endActive)
}

// The lock that a Get joins ends with nothing done: the Get has the old mobile ID
// locked all the same.
func TestGetJoinsALockThatEndsWithNothingDone(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	old := a.withOld(t)
	elsewhere := a.queue + "-locks" // nobody serves it
	lock := a.startProcess(t, workflows.LockWorkflowID(old), elsewhere, workflows.Lock, object{"mobileId": old, "userId": a.user})
	p.work(t, a.queue, nil)
	a.start(t, object{"lock": true})
	a.waitForEvent(t, enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
	require.NoError(t, server.Client.TerminateWorkflow(t.Context(), lock.GetID(), lock.GetRunID(), "test"))
	a.scan(t, phone.WellBehaved)
	a.requireEnd(t, endActive)
}

// Whoever tries to lock the new mobile ID before it is one is refused, and the Get
// goes on.
func TestLockWhileGetWaitsForThePhone(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	p.work(t, a.queue, nil)
	a.start(t, nil)
	a.waitForCode(t)
	locks := starter.New(server.Client, a.queue, starter.WithAcceptWait(limit))
	_, err := locks.User(a.user).Lock(t.Context(), a.grant.MobileID, starter.LockOptions{})
	require.ErrorIs(t, err, mobileid.ErrMobileIDNotActive)
	a.scan(t, phone.WellBehaved)
	a.requireEnd(t, endActive)
}

// A lock of the new mobile ID that nobody has carried out yet when the Get takes it
// back: it is locked and revoked whichever of them does it.
func TestLockWhileGetTakesBack(t *testing.T) {
	t.Parallel()
	p := newParts(t, true)
	a := p.newApplicant(t)
	elsewhere := a.queue + "-locks" // nobody serves it
	lock := a.startProcess(t, workflows.LockWorkflowID(a.grant.MobileID), elsewhere, workflows.Lock, object{"mobileId": a.grant.MobileID, "userId": a.user})
	p.work(t, a.queue, nil)
	a.start(t, nil)
	a.scan(t, phone.RefuseInstalling)
	a.waitForEvent(t, enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
	// It ends without having done anything.
	require.NoError(t, server.Client.TerminateWorkflow(t.Context(), lock.GetID(), lock.GetRunID(), "test"))
	a.requireEnd(t, end(mobileid.FailurePhoneRefused))
}
