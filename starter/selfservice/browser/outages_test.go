package browser

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// identityManagerAway takes the store away between the form and Next.
func identityManagerAway(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "fred", "Fred Falk", "mid-2003"))
	url, store := in.another(t)
	w := in.open(t, url)
	w.signIn("fred")
	w.GoTo("/mobile-ids/mid-2003/lock")
	require.NoError(t, store.Close())
	w.Press("Next")
	w.Sees("Your request to lock is stored")
	w.picture("stored")
	w.GoTo("/mobile-ids")
	w.Sees("This service cannot answer now")
	// The workers reach Identity Manager, so it is done.
	_, err := in.Locks.User("fred").Wait(t.Context(), "mid-2003", nil)
	require.NoError(t, err)
	in.requireState(t, "mid-2003", mobileid.Locked, 0)
}

// identityManagerSlow keeps the lock from being written: Next is accepted, and nothing
// more, and that is what the page says.
func identityManagerSlow(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "hugo", "Hugo Holm", "mid-2005"))
	w := in.open(t, in.url)
	w.signIn("hugo")
	w.GoTo("/mobile-ids/mid-2005/lock")
	w.Sees("Lock this mobile ID?")
	db, err := sql.Open("sqlite", in.Config.Store.DSN+"?_txlock=immediate&_busy_timeout=60000")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	w.Press("Next")
	w.Sees("Your request to lock is stored")
	w.WaitsFor("It is not locked yet")
	require.Contains(t, w.Text(), "Blocked in this service: working")
	require.NotContains(t, w.Text(), "being revoked")
	w.picture("requested")
	require.NoError(t, tx.Rollback())
	w.Sees("Your mobile ID is locked")
	in.requireState(t, "mid-2005", mobileid.Locked, 0)
}

// caAway stops the CA, and then the worker, too: the mobile ID is locked, its
// certificates are not revoked yet, and the page keeps these two apart. Nobody says that
// anything goes on while nothing does.
func caAway(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "ida", "Ida Ivarsson", "mid-2006"))
	w := in.open(t, in.url)
	w.signIn("ida")
	w.GoTo("/mobile-ids/mid-2006/lock")
	w.Sees("Lock this mobile ID?")
	in.kill(t, "devca")
	w.Press("Next")
	w.Sees("Your mobile ID is being locked")
	w.WaitsFor("We try again at")
	text := w.Text()
	require.Contains(t, text, "The certificate authority does not answer.")
	require.Contains(t, text, "Blocked in this service: done")
	require.Contains(t, text, "(0 of 2): working")
	require.Contains(t, text, "Your request is safe")
	require.NotContains(t, text, "connection refused", "what others answered is not for users")
	w.picture("progress, the CA is away")
	in.requireState(t, "mid-2006", mobileid.Locked, 2)

	plain := w.Tab()
	plain.WithoutScript()
	plain.GoTo("/mobile-ids")
	plain.Press("See how far the lock is")
	plain.looksAgainFor("The certificate authority does not answer.") // not while it is asked
	in.kill(t, "worker")
	plain.Follow("Look again")
	plain.WaitsFor("Its certificates are revoked as soon as this service works again.")
	w.WaitsFor("Its certificates are revoked as soon as this service works again.")
	for _, page := range []*window{w, plain} {
		require.Contains(t, page.Text(), "Blocked in this service: done")
		require.Contains(t, page.Text(), "(0 of 2): waiting")
		require.Contains(t, page.Text(), "You can close this page. The lock goes on.")
	}
	plain.picture("progress, the CA and the worker are away")

	require.NoError(t, in.Stack.Restart("worker"))
	require.NoError(t, in.Stack.Restart("devca"))
	w.Sees("Your mobile ID is locked")
	plain.looksAgainUntil("Your mobile ID is locked")
	in.requireState(t, "mid-2006", mobileid.Locked, 0)
}

// kill kills a program of the installation, and waits until it is gone.
func (in *installation) kill(t *testing.T, name string) {
	t.Helper()
	process, ok := in.Stack.Process(name)
	require.True(t, ok)
	require.NoError(t, process.Kill())
	<-in.Stack.Ended(name)
}

// temporalAway stops Temporal while a form is open, and while a lock goes on: what
// cannot be stored is said not to be, what is known without Temporal is told, and the
// same press counts when it is back.
func temporalAway(t *testing.T, in *installation) {
	for user, id := range map[string]string{"liv": "mid-2101", "lars": "mid-2102"} {
		require.NoError(t, in.Add(t.Context(), user, "L "+user, id))
	}
	going := in.open(t, in.url)
	going.signIn("lars")
	going.GoTo("/mobile-ids/mid-2102/lock")
	in.kill(t, "devca")
	going.Press("Next")
	going.Sees("Your mobile ID is being locked")

	w := in.open(t, in.url)
	w.signIn("liv")
	w.GoTo("/mobile-ids/mid-2101/lock")
	plain := w.Tab()
	plain.WithoutScript()
	plain.GoTo("/mobile-ids/mid-2101/lock")
	plain.Sees("Lock this mobile ID?")
	in.kill(t, "temporal")

	// All of these wait for Temporal, side by side.
	w.Press("Next")
	plain.Press("Cancel")
	going.WaitsFor("Its certificates are revoked as soon as this service works again.")
	going.picture("progress, Temporal is away")
	plain.Sees("This page has changed nothing.")
	require.Contains(t, plain.Text(), "We cannot see now whether something else is under way.")
	plain.picture("unchanged, Temporal is away")
	w.WaitsFor("Your request could not be stored just now.")
	w.picture("lock, Temporal is away")
	plain.GoTo("/mobile-ids/mid-2101/progress")
	plain.Sees("We cannot see now how far the lock is")
	plain.picture("progress, nobody knows")
	plain.GoTo("/get")
	plain.Sees("This service cannot answer now")
	plain.picture("unavailable")
	plain.GoTo("/mobile-ids/mid-2101")
	require.Contains(t, plain.Text(), "active", "what is known without Temporal is told")
	in.requireState(t, "mid-2101", mobileid.Active, 2)

	require.NoError(t, in.Stack.Restart("temporal"))
	require.NoError(t, in.Stack.Restart("devca"))
	// It is not done twice, so it can be pressed until it is taken.
	for end := time.Now().Add(patience); strings.HasPrefix(w.Heading(), "Lock this"); {
		require.True(t, time.Now().Before(end), w.Text())
		w.Follow("Next")
	}
	w.Sees("Your mobile ID is locked")
	going.Sees("Your mobile ID is locked")
	in.requireState(t, "mid-2101", mobileid.Locked, 0)
	in.requireState(t, "mid-2102", mobileid.Locked, 0)
	require.Equal(t, 1, countLocks(t, in, "mid-2101"))
}

// noWorker stops the worker: Next of a lock and of Get is stored nevertheless, and the
// page says no more than that.
func noWorker(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "gina", "Gina Gran", "mid-2004"))
	require.NoError(t, in.Add(t.Context(), "gerd", "Gerd Gran", "mid-2104"))
	require.NoError(t, in.Add(t.Context(), "gunn", "Gunn Gran", "mid-2105"))
	_, err := in.Locks.User("gunn").Lock(t.Context(), "mid-2105", client.LockOptions{})
	require.NoError(t, err)
	_, err = in.Locks.User("gunn").Wait(t.Context(), "mid-2105", nil)
	require.NoError(t, err)
	w := in.open(t, in.url)
	w.signIn("gina")
	w.GoTo("/mobile-ids/mid-2004/lock")
	w.Sees("Lock this mobile ID?")
	plain := in.open(t, in.url)
	plain.WithoutScript()
	plain.signIn("gerd")
	plain.GoTo("/mobile-ids/mid-2104/lock")
	plain.Sees("Lock this mobile ID?")
	get := in.open(t, in.url)
	get.signIn("gunn")
	get.GoTo("/get")
	get.Sees("Get a new mobile ID?")
	in.kill(t, "worker")
	w.Press("Next")
	plain.Press("Next")
	get.Press("Next")
	for id, page := range map[string]*window{"mid-2004": w, "mid-2104": plain} {
		page.Sees("Your request to lock is stored")
		require.Contains(t, page.Text(), "You can close this page. The lock goes on.")
		require.Contains(t, page.Text(), "Blocked in this service: waiting")
		require.NotContains(t, page.Text(), "being revoked")
		in.requireState(t, id, mobileid.Active, 2)
		described, err := in.Temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID(id), "")
		require.NoError(t, err)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus())
	}
	w.picture("progress, no worker")
	plain.picture("progress, no worker and no script")
	get.Sees("Getting your mobile ID")
	require.Contains(t, get.Text(), "It goes on as soon as this service works again.")
	get.picture("get progress, no worker")
	require.NoError(t, in.Stack.Restart("worker"))
	w.Sees("Your mobile ID is locked")
	plain.looksAgainUntil("Your mobile ID is locked")
	in.requireState(t, "mid-2004", mobileid.Locked, 0)
	in.requireState(t, "mid-2104", mobileid.Locked, 0)
	get.Sees("Scan this code with your phone")
	get.Press("Cancel")
	get.WaitsFor("It was cancelled. Nothing is left behind.")

	// Once more, after a Get that is closed: without a worker nobody tells its story.
	get.GoTo("/get")
	get.Sees("Get a new mobile ID?")
	in.kill(t, "worker")
	get.Press("Next")
	get.Sees("Getting your mobile ID")
	require.NoError(t, in.Stack.Restart("worker"))
	get.Sees("Scan this code with your phone")
	in.kill(t, "worker")
	get.Press("Cancel")
	get.Sees("Your Cancel is stored")
	require.NotContains(t, get.Text(), "Nothing was changed")
	get.picture("get, Cancel is stored")
	require.NoError(t, in.Stack.Restart("worker"))
	get.Press("See how far it is")
	get.WaitsFor("It was cancelled. Nothing is left behind.")
}

// terminated ends a lock from outside while its CA is away: the page says so, and offers
// what makes it go on.
func terminated(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "tora", "Tora Tran", "mid-2301"))
	w := in.open(t, in.url)
	w.signIn("tora")
	w.GoTo("/mobile-ids/mid-2301/lock")
	w.Sees("Lock this mobile ID?")
	in.kill(t, "devca")
	w.Press("Next")
	w.Sees("Your mobile ID is being locked")
	require.NoError(t, in.Temporal.TerminateWorkflow(t.Context(), workflows.LockWorkflowID("mid-2301"), "", "test"))
	w.Sees("The lock of your mobile ID has stopped")
	require.NotContains(t, w.Text(), "The lock goes on.")
	require.Contains(t, w.Text(), "(0 of 2): stopped")
	w.picture("progress, the lock was terminated")
	_, err := in.Locks.User("tora").Wait(t.Context(), "mid-2301", nil)
	require.ErrorIs(t, err, client.ErrStopped)
	require.NoError(t, in.Stack.Restart("devca"))
	w.Press("Go on with the lock")
	w.Sees("Go on with this lock?")
	w.picture("lock, the lock was terminated")
	w.Press("Next")
	w.Sees("Your mobile ID is locked")
	in.requireState(t, "mid-2301", mobileid.Locked, 0)
}
