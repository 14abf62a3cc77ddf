package browser

import (
	"bytes"
	"context"
	"database/sql"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/demo"
	"mobileid/workflows"
)

// The ways of the original, step by step, and what people do on them.
func TestInBrowser(t *testing.T) {
	in := start(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, in *installation)
	}{
		{"the way of the menu", menuWay},
		{"the way of the dashboard", dashboardWay},
		{"two tabs", twoTabs},
		{"without script", withoutScript},
		{"on a phone", onAPhone},
		{"Identity Manager is away", identityManagerAway},
		{"Identity Manager is slow", identityManagerSlow},
		{"the CA is away", caAway},
		{"by keyboard", byKeyboard},
		{"by API", byAPI},
		{"no worker", noWorker},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, in) })
	}
}

// menuWay is Mobile ID, one of them, Possible actions, Lock mobile ID.
func menuWay(t *testing.T, in *installation) {
	w := open(t, in.url)
	w.goTo("/mobile-ids/mid-1002")
	w.sees("Sign in")
	w.picture("sign-in")
	w.signIn("bert")
	w.picture("dashboard")
	w.press("Mobile ID")
	w.sees("Mobile ID")
	w.picture("mobile-ids")
	w.press("MobileID Bert Berg")
	w.waitsFor("Possible actions")
	w.picture("mobile-id")
	w.press("Lock mobile ID")
	w.sees("Lock this mobile ID?")
	w.picture("lock")

	w.press("Cancel")
	w.sees("Nothing was changed.")
	w.picture("unchanged")
	in.requireState(t, "mid-1002", mobileid.Active, 2)

	w.press("Back to this mobile ID")
	w.press("Lock mobile ID")
	w.sees("Lock this mobile ID?")
	w.do(chromedp.Reload())
	w.sees("Lock this mobile ID?")
	in.requireState(t, "mid-1002", mobileid.Active, 2)

	w.do(chromedp.DoubleClick("#next", chromedp.ByID))
	w.sees("Your mobile ID is locked")
	w.waitsFor("What happens next")
	w.picture("locked")
	in.requireState(t, "mid-1002", mobileid.Locked, 0)
	require.Equal(t, 1, countLocks(t, in, "mid-1002"), "two clicks are one lock")

	w.do(chromedp.Reload())
	w.sees("Your mobile ID is locked")
	w.do(chromedp.NavigateBack())
	// Whatever the browser kept of the form: there is nothing left to press.
	w.sees("This mobile ID is locked already")
	w.picture("already-locked")
	w.press("Receipt")
	w.sees("Receipt: mobile ID locked")
	require.Contains(t, w.text(), "mid-1002/")
	w.picture("receipt")
	w.press("History")
	w.sees("History")
	w.picture("history")
	w.press("Sign out")
	w.sees("Sign in")
	w.do(chromedp.NavigateBack())
	w.sees("Sign in")
}

// countLocks counts the locks that were started for a mobile ID.
func countLocks(t *testing.T, in *installation, id string) int {
	t.Helper()
	trail, err := in.Store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	runs := map[string]bool{}
	for _, r := range trail {
		if r.Record.Event != mobileid.EventCancelled {
			runs[r.Record.Process.RunID] = true
		}
	}
	return len(runs)
}

// dashboardWay is Get mobile ID with an active one, which is locked first.
func dashboardWay(t *testing.T, in *installation) {
	w := open(t, in.url)
	w.signIn("anna")
	w.press("Get mobile ID")
	w.sees("You already have a mobile ID")
	w.picture("get-live")
	w.press("Keep it and go back")
	w.sees("Nothing was changed.")
	w.press("Back to the Dashboard")
	w.press("Get mobile ID")
	w.press("Lock it and get a new one")
	w.sees("Lock this mobile ID?")
	require.Contains(t, w.text(), "set up the new mobile ID")
	w.picture("lock-then-get")
	w.press("Cancel")
	w.sees("Nothing was changed.")
	in.requireState(t, "mid-1001", mobileid.Active, 2)
	w.goTo("/get")
	w.press("Lock it and get a new one")
	w.sees("Lock this mobile ID?")
	w.press("Next")
	// The lock goes on to the steps of Get by itself.
	w.sees("Get a new mobile ID?")
	require.Contains(t, w.text(), "Your old mobile ID is locked")
	w.picture("get")
	in.requireState(t, "mid-1001", mobileid.Locked, 0)

	w.press("Cancel")
	w.sees("Nothing was changed.")
	in.requireState(t, "mid-1001", mobileid.Locked, 0)
	w.press("Back to the Dashboard")
	w.press("Get mobile ID")
	w.sees("Get a new mobile ID?")
	w.press("Next")
	w.sees("Scan this code with your phone")
	w.picture("get-code")
	w.press("Cancel")
	w.sees("No mobile ID came of it")
	w.waitsFor("It was cancelled. Nothing is left behind.")
	w.picture("get-cancelled")
	w.press("Get mobile ID")
	w.sees("Get a new mobile ID?")
	w.press("Next")
	w.sees("Scan this code with your phone")
	response, picture := w.fetch("/get/code.png")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))

	// Nobody else gets to see it.
	other := open(t, in.url)
	other.signIn("carl")
	response, _ = other.fetch("/get/code.png")
	require.Equal(t, http.StatusNotFound, response.StatusCode)

	code, err := phone.ReadPNG(bytes.NewReader(picture))
	require.NoError(t, err)
	_, err = in.Scan(w.ctx, code)
	require.NoError(t, err)
	w.sees("Your new mobile ID is active")
	w.picture("get-active")
	w.press("See your new mobile ID")
	w.waitsFor("Possible actions")
	require.Contains(t, w.text(), "active")
	response, _ = w.fetch("/get/code.png")
	require.Equal(t, http.StatusNotFound, response.StatusCode, "it is forgotten when it was used")
}

// fetch asks for something with the window's cookies, outside of it.
func (w *window) fetch(path string) (*http.Response, []byte) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, nil)
	require.NoError(w.t, err)
	w.do(chromedp.ActionFunc(func(ctx context.Context) error {
		cookies, err := network.GetCookies().Do(ctx)
		for _, c := range cookies {
			request.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
		return err
	}))
	response, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	require.NoError(w.t, err)
	return response, body.Bytes()
}

// twoTabs presses Next in one tab and Cancel in the other, which comes too late.
func twoTabs(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "dora", "Dora Dahl", "mid-2001"))
	first := open(t, in.url)
	first.signIn("dora")
	first.goTo("/mobile-ids/mid-2001/lock")
	second := first.tab()
	second.goTo("/mobile-ids/mid-2001/lock")
	second.sees("Lock this mobile ID?")
	first.press("Next")
	first.sees("Your mobile ID is locked")
	second.press("Cancel")
	second.sees("Your mobile ID is locked")
	in.requireState(t, "mid-2001", mobileid.Locked, 0)
}

func (w *window) heading() string {
	w.t.Helper()
	var heading string
	w.do(chromedp.Text("h1", &heading, chromedp.ByQuery))
	return heading
}

func withoutScript(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "frida", "Frida Falk", "mid-2002"))
	w := open(t, in.url)
	w.withoutScript()
	w.signIn("frida")
	w.press("Lock mobile ID")
	w.sees("Lock this mobile ID?")
	w.press("Next")
	w.waitsFor("You can close this page")
	// Nothing moves by itself, so one looks again until it is done.
	for end := time.Now().Add(patience); w.heading() != "Your mobile ID is locked"; {
		require.True(t, time.Now().Before(end), w.text())
		w.goTo(w.address())
	}
	in.requireState(t, "mid-2002", mobileid.Locked, 0)
}

// onAPhone looks at the pages at the width of a phone, which is a zoom of 400 % on a
// screen of 1280 pixels, too.
func onAPhone(t *testing.T, in *installation) {
	w := open(t, in.url)
	w.do(chromedp.EmulateViewport(320, 640))
	w.signIn("anna")
	for _, page := range []string{"/", "/mobile-ids", "/mobile-ids/mid-1001", "/mobile-ids/mid-1001/progress", "/mobile-ids/mid-1001/receipt", "/history", "/get"} {
		w.goTo(page)
		w.picture("phone" + string(bytes.ReplaceAll([]byte(page), []byte("/"), []byte("-"))))
	}
}

// identityManagerAway takes the store away between the form and Next.
func identityManagerAway(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "fred", "Fred Falk", "mid-2003"))
	url, store := in.another(t)
	w := open(t, url)
	w.signIn("fred")
	w.goTo("/mobile-ids/mid-2003/lock")
	require.NoError(t, store.Close())
	w.press("Next")
	w.sees("Your request to lock is stored")
	w.picture("stored")
	w.goTo("/mobile-ids")
	w.sees("This service cannot answer now")
	// The workers reach Identity Manager, so it is done.
	_, err := in.Locks.User("fred").Wait(t.Context(), "mid-2003", nil)
	require.NoError(t, err)
	in.requireState(t, "mid-2003", mobileid.Locked, 0)
}

// identityManagerSlow keeps the lock from being written: Next is accepted, and nothing
// more, and that is what the page says.
func identityManagerSlow(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "hugo", "Hugo Holm", "mid-2005"))
	w := open(t, in.url)
	w.signIn("hugo")
	w.goTo("/mobile-ids/mid-2005/lock")
	w.sees("Lock this mobile ID?")
	db, err := sql.Open("sqlite", in.Config.Store.DSN+"?_txlock=immediate&_busy_timeout=60000")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	w.press("Next")
	w.sees("Your request to lock is stored")
	w.waitsFor("It is not locked yet")
	require.Contains(t, w.text(), "Blocked in this service: working")
	require.NotContains(t, w.text(), "being revoked")
	w.picture("requested")
	require.NoError(t, tx.Rollback())
	w.sees("Your mobile ID is locked")
	in.requireState(t, "mid-2005", mobileid.Locked, 0)
}

// caAway stops the CA: the mobile ID is locked, its certificates are not revoked yet,
// and the page keeps these two apart.
func caAway(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "ida", "Ida Ivarsson", "mid-2006"))
	w := open(t, in.url)
	w.signIn("ida")
	w.goTo("/mobile-ids/mid-2006/lock")
	w.sees("Lock this mobile ID?")
	ca, ok := in.Stack.Process("devca")
	require.True(t, ok)
	require.NoError(t, ca.Kill())
	<-in.Stack.Ended("devca")
	w.press("Next")
	w.sees("Your mobile ID is being locked")
	w.waitsFor("We try again at")
	text := w.text()
	require.Contains(t, text, "The certificate authority does not answer.")
	require.Contains(t, text, "Blocked in this service: done")
	require.Contains(t, text, "(0 of 2): working")
	require.Contains(t, text, "Your request is safe")
	require.NotContains(t, text, "connection refused", "what others answered is not for users")
	w.picture("ca-away")
	in.requireState(t, "mid-2006", mobileid.Locked, 2)
	w.goTo("/mobile-ids")
	w.press("Locking, see progress")
	w.sees("Your mobile ID is being locked")
	require.NoError(t, in.Stack.Restart("devca"))
	w.sees("Your mobile ID is locked")
	in.requireState(t, "mid-2006", mobileid.Locked, 0)
}

// byKeyboard signs in and locks without a mouse.
func byKeyboard(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "jon", "Jon Juul", "mid-2007"))
	w := open(t, in.url)
	w.goTo("/sign-in")
	w.tabTo("user")
	w.do(chromedp.KeyEvent("jon"))
	w.tabTo("password")
	w.do(chromedp.KeyEvent(demo.Password), chromedp.KeyEvent(kb.Enter))
	w.sees("What do you want to do?")
	w.tabTo("Skip to the content")
	w.tabTo("Lock mobile ID")
	w.do(chromedp.KeyEvent(kb.Enter))
	w.sees("Lock this mobile ID?")
	w.tabTo("Next")
	w.do(chromedp.KeyEvent(kb.Enter))
	w.sees("Your mobile ID is locked")
	in.requireState(t, "mid-2007", mobileid.Locked, 0)
}

// tabTo presses Tab until something has the focus, by its words or its id, and looks
// whether one can see that.
func (w *window) tabTo(what string) {
	w.t.Helper()
	for range 30 {
		var at string
		var outline string
		w.do(chromedp.KeyEvent(kb.Tab),
			chromedp.Evaluate(`document.activeElement.id || document.activeElement.textContent.trim()`, &at),
			chromedp.Evaluate(`getComputedStyle(document.activeElement).outlineStyle`, &outline))
		if at == what || at == "next" && what == "Next" {
			require.Equal(w.t, "solid", outline, "the focus is seen")
			return
		}
	}
	require.Fail(w.t, "Tab does not reach it", what)
}

// noWorker stops the worker: Next is stored nevertheless, and the page says no more
// than that.
func noWorker(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "gina", "Gina Gran", "mid-2004"))
	w := open(t, in.url)
	w.signIn("gina")
	w.goTo("/mobile-ids/mid-2004/lock")
	w.sees("Lock this mobile ID?")
	worker, ok := in.Stack.Process("worker")
	require.True(t, ok)
	require.NoError(t, worker.Kill())
	<-in.Stack.Ended("worker")
	w.press("Next")
	w.sees("Your request to lock is stored")
	require.Contains(t, w.text(), "You can close this page. The lock goes on.")
	require.Contains(t, w.text(), "Blocked in this service: waiting")
	require.NotContains(t, w.text(), "being revoked")
	w.picture("no-worker")
	in.requireState(t, "mid-2004", mobileid.Active, 2)
	described, err := in.Temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID("mid-2004"), "")
	require.NoError(t, err)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus())
	require.NoError(t, in.Stack.Restart("worker"))
	w.sees("Your mobile ID is locked")
	in.requireState(t, "mid-2004", mobileid.Locked, 0)
}
