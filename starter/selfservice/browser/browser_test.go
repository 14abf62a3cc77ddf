package browser

import (
	"bytes"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/selfservice/streams"
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
		{"time limits", timeLimits},
		{"too late", tooLate},
		{"the only way in", onlyWayIn},
		{"by API", byAPI},
		{"no worker", noWorker},
		{"terminated", terminated},
		{"Temporal is away", temporalAway},
		{"every page", everyPage},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, in) })
	}
}

// everyPage requires that all templates were met above, and that their HTML is valid.
func everyPage(t *testing.T, in *installation) {
	in.book.RequireTemplates(t, filepath.Join("..", "pages", "templates"))
	in.book.RequireValid(t)
}

// menuWay is Mobile ID, one of them, Possible actions, Lock mobile ID.
func menuWay(t *testing.T, in *installation) {
	w := in.open(t, in.url)
	w.GoTo("/mobile-ids/mid-1002")
	w.Sees("Sign in")
	w.picture("sign-in")
	w.signIn("bert")
	w.picture("dashboard")
	_, events := w.fetch("/get/progress/events")
	require.Contains(t, string(events), streams.Over, "a user without a Get has nothing to follow")
	w.Press("Mobile ID")
	w.Sees("Mobile ID")
	w.picture("mobile-ids")
	w.Press("MobileID Bert Berg")
	w.WaitsFor("Possible actions")
	w.picture("mobile-id")
	w.Press("Lock mobile ID")
	w.Sees("Lock this mobile ID?")
	w.picture("lock")

	w.Press("Cancel")
	w.Sees("Nothing was changed.")
	w.picture("unchanged")
	in.requireState(t, "mid-1002", mobileid.Active, 2)

	// Back to the form: it is a new one.
	w.Do(chromedp.NavigateBack())
	w.Sees("Lock this mobile ID?")
	w.Press("Cancel")
	w.Sees("Nothing was changed.")
	w.Press("Back to this mobile ID")
	w.WaitsFor("Possible actions")
	w.Press("Lock mobile ID")
	w.Sees("Lock this mobile ID?")
	w.Do(chromedp.Reload())
	w.Sees("Lock this mobile ID?")
	in.requireState(t, "mid-1002", mobileid.Active, 2)

	w.Do(chromedp.DoubleClick("#next", chromedp.ByID))
	w.Sees("Your mobile ID is locked")
	w.WaitsFor("What happens next")
	w.picture("locked")
	in.requireState(t, "mid-1002", mobileid.Locked, 0)
	require.Equal(t, 1, countLocks(t, in, "mid-1002"), "two clicks are one lock")

	w.Do(chromedp.Reload())
	w.Sees("Your mobile ID is locked")
	w.Do(chromedp.NavigateBack())
	// Whatever the browser kept of the form: there is nothing left to press.
	w.Sees("This mobile ID is locked already")
	w.picture("already-locked")
	w.Press("Receipt")
	w.Sees("Receipt: mobile ID locked")
	require.Contains(t, w.Text(), "mid-1002/")
	w.picture("receipt")
	response, text := w.fetch("/mobile-ids/mid-1002/receipt.txt")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/plain; charset=utf-8", response.Header.Get("Content-Type"))
	require.Regexp(t, `Reference +mid-1002/1\n`, string(text))
	// On paper there is the receipt alone.
	w.Do(emulation.SetEmulatedMedia().WithMedia("print"), chromedp.WaitNotVisible("header", chromedp.ByQuery), chromedp.WaitNotVisible("footer", chromedp.ByQuery))
	require.Contains(t, w.Text(), "mid-1002/1")
	require.NotContains(t, w.Text(), "as plain text")
	w.Do(emulation.SetEmulatedMedia().WithMedia(""))
	w.Press("History")
	w.Sees("History")
	require.Contains(t, w.Text(), "Locked by you. Its certificates are revoked.")
	w.picture("history")
	w.GoTo("/mobile-ids/mid-1001")
	w.Sees("This is not available")
	w.picture("refused")
	w.Press("Sign out")
	w.Sees("Sign in")
	w.Do(chromedp.NavigateBack())
	w.Sees("Sign in")
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
	w := in.open(t, in.url)
	w.signIn("anna")
	w.Press("Get mobile ID")
	w.Sees("You already have a mobile ID")
	w.picture("get-live")
	w.Press("Keep it and go back")
	w.Sees("Nothing was changed.")
	w.Press("Back to the Dashboard")
	w.Press("Get mobile ID")
	w.Press("Lock it and get a new one")
	w.Sees("Lock this mobile ID?")
	require.Contains(t, w.Text(), "set up the new mobile ID")
	w.picture("lock-then-get")
	w.Press("Cancel")
	w.Sees("Nothing was changed.")
	in.requireState(t, "mid-1001", mobileid.Active, 2)
	w.GoTo("/get")
	w.Press("Lock it and get a new one")
	w.Sees("Lock this mobile ID?")
	w.Press("Next")
	// The lock goes on to the steps of Get by itself.
	w.Sees("Get a new mobile ID?")
	require.Contains(t, w.Text(), "Your old mobile ID is locked")
	w.picture("get")
	in.requireState(t, "mid-1001", mobileid.Locked, 0)

	w.Press("Cancel")
	w.Sees("Nothing was changed.")
	in.requireState(t, "mid-1001", mobileid.Locked, 0)
	w.Press("Back to the Dashboard")
	w.Press("Get mobile ID")
	w.Sees("Get a new mobile ID?")
	w.Press("Next")
	w.Sees("Scan this code with your phone")
	w.picture("get-code")
	w.Press("Cancel")
	w.Sees("No mobile ID came of it")
	w.WaitsFor("It was cancelled. Nothing is left behind.")
	w.picture("get-cancelled")
	w.Press("Get mobile ID")
	w.Sees("Get a new mobile ID?")
	w.Press("Next")
	w.Sees("Scan this code with your phone")
	response, picture := w.fetch("/get/code.png")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))

	// Nobody else gets to see it.
	other := in.open(t, in.url)
	other.signIn("carl")
	response, _ = other.fetch("/get/code.png")
	require.Equal(t, http.StatusNotFound, response.StatusCode)

	code, err := phone.ReadPNG(bytes.NewReader(picture))
	require.NoError(t, err)
	_, err = in.Scan(w.Ctx, code)
	require.NoError(t, err)
	w.Sees("Your new mobile ID is active")
	w.picture("get-active")
	w.Press("See your new mobile ID")
	w.WaitsFor("Possible actions")
	require.Contains(t, w.Text(), "active")
	response, _ = w.fetch("/get/code.png")
	require.Equal(t, http.StatusNotFound, response.StatusCode, "it is forgotten when it was used")
}

// twoTabs presses Next in one tab and Cancel in the other, which comes too late.
func twoTabs(t *testing.T, in *installation) {
	for _, id := range []string{"mid-2001", "mid-2011", "mid-2012"} {
		require.NoError(t, in.Add(t.Context(), "dora", "Dora Dahl", id))
	}
	first := in.open(t, in.url)
	first.signIn("dora")
	first.GoTo("/mobile-ids/mid-2001/lock")
	second := first.Tab()
	second.GoTo("/mobile-ids/mid-2001/lock")
	second.Sees("Lock this mobile ID?")
	first.Press("Next")
	first.Sees("Your mobile ID is locked")
	second.Press("Cancel")
	second.Sees("Your mobile ID is locked")
	in.requireState(t, "mid-2001", mobileid.Locked, 0)

	// Next in both is one lock, and so is Next after signing out in the other.
	for _, tab := range []*window{first, second} {
		tab.GoTo("/mobile-ids/mid-2011/lock")
		tab.Sees("Lock this mobile ID?")
	}
	first.Press("Next")
	second.Press("Next")
	first.Sees("Your mobile ID is locked")
	second.Do(chromedp.WaitVisible(`//h1[contains(., " locked")]`, chromedp.BySearch))
	require.Equal(t, 1, countLocks(t, in, "mid-2011"))
	first.GoTo("/mobile-ids/mid-2012/lock")
	second.GoTo("/")
	second.Press("Sign out")
	second.Sees("Sign in")
	first.Press("Next")
	first.Sees("Sign in")
	require.Contains(t, first.Text(), "what you have pressed was not done")
	in.requireState(t, "mid-2012", mobileid.Active, 2)
}

func withoutScript(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "frida", "Frida Falk", "mid-2002"))
	w := in.open(t, in.url)
	w.WithoutScript()
	w.signIn("frida")
	w.Press("Lock mobile ID")
	w.Sees("Lock this mobile ID?")
	w.Press("Next")
	w.WaitsFor("You can close this page")
	// Nothing moves by itself, so one looks again until it is done.
	w.looksAgainUntil("Your mobile ID is locked")
	in.requireState(t, "mid-2002", mobileid.Locked, 0)

	w.Press("Get a new mobile ID")
	w.Sees("Get a new mobile ID?")
	w.Follow("Next")
	w.looksAgainUntil("Scan this code with your phone")
	_, picture := w.fetch("/get/code.png")
	code, err := phone.ReadPNG(bytes.NewReader(picture))
	require.NoError(t, err)
	_, err = in.Scan(w.Ctx, code)
	require.NoError(t, err)
	w.looksAgainUntil("Your new mobile ID is active")
}

// onAPhone looks at the pages at the width of a phone, which is a zoom of 400 % on a
// screen of 1280 pixels, too.
func onAPhone(t *testing.T, in *installation) {
	w := in.open(t, in.url)
	w.OnAPhone()
	w.signIn("anna")
	for _, page := range []string{"/", "/mobile-ids", "/mobile-ids/mid-1001", "/mobile-ids/mid-1001/progress", "/mobile-ids/mid-1001/receipt", "/history", "/get"} {
		w.GoTo(page)
		w.picture("phone " + page)
	}
}
