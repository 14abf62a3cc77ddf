package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/demo"
)

// byKeyboard signs in and locks without a mouse.
func byKeyboard(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "jon", "Jon Juul", "mid-2007"))
	asking := *in
	asking.Config.Serve.AskReason = true
	url, _ := asking.another(t)
	w := in.open(t, url)
	w.GoTo("/sign-in")
	require.Equal(t, []string{"Skip to the content", "user", "password", "Sign in"}, w.tabs(4))
	w.GoTo("/sign-in")
	w.tabTo("user")
	w.Do(chromedp.KeyEvent("jon"))
	w.tabTo("password")
	w.Do(chromedp.KeyEvent(demo.Password), chromedp.KeyEvent(kb.Enter))
	w.Sees("What do you want to do?")
	// In the order in which it is read, and nothing that cannot be left again.
	menu := []string{"Skip to the content", "Sign out", "Dashboard", "Mobile ID", "History"}
	require.Equal(t, append(menu, "Get mobile ID", "Lock mobile ID", "See your mobile IDs", "Stay signed in"), w.tabs(9))
	w.GoTo("/")
	w.tabTo("Skip to the content")
	w.Do(chromedp.KeyEvent(kb.Enter))
	w.tabTo("Lock mobile ID")
	w.Do(chromedp.KeyEvent(kb.Enter))
	w.Sees("Lock this mobile ID?")
	require.Equal(t, append(menu, "reason", "next", "Cancel", "More time", "Stay signed in"), w.tabs(10))

	// The dialog takes the focus, and keeps it from the page.
	w.Later(asking.Config.Serve.FormTimeout - 60e9)
	w.IsAsked("Do you need more time?")
	require.Equal(t, []string{"Close", "", "More time"}, w.tabs(3), "and the browser itself between the last and the first")
	w.Do(chromedp.KeyEvent(kb.Escape), chromedp.WaitNotPresent("dialog[open]", chromedp.ByQuery))

	w.tabTo("reason")
	w.Do(chromedp.KeyEvent(kb.ArrowDown))
	w.tabTo("next")
	w.Do(chromedp.KeyEvent(kb.Enter))
	w.Sees("Your mobile ID is locked")
	in.requireState(t, "mid-2007", mobileid.Locked, 0)
	trail, err := in.Store.AuditTrail(t.Context(), "mid-2007")
	require.NoError(t, err)
	require.Equal(t, mobileid.KeyCompromise, trail[0].Record.Reason)
}

// tab presses Tab, and tells what has the focus then, by its id, its name or its words.
// One can see that: it is outlined, in the window, and nothing lies on it (WCAG 2.2,
// 2.4.7 and 2.4.11).
func (w *window) tab() string {
	w.T.Helper()
	var at struct {
		What, Outline string
		Seen          bool
	}
	w.Do(chromedp.KeyEvent(kb.Tab), chromedp.Evaluate(`(() => {
		const at = document.activeElement;
		const box = at.getBoundingClientRect();
		const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
		return {
			What: at === document.body ? "" : at.id && at.type !== "button" ? at.id : at.name === "reason" ? at.name : at.textContent.trim(),
			Outline: getComputedStyle(at).outlineStyle, Seen: at === document.body || at.contains(top) || !!top && top.contains(at),
		};
	})()`, &at))
	if at.What != "" {
		require.Equal(w.T, "solid", at.Outline, "the focus on %q is seen", at.What)
		require.True(w.T, at.Seen, "nothing hides %q", at.What)
	}
	return at.What
}

// tabs presses Tab some times.
func (w *window) tabs(times int) []string {
	w.T.Helper()
	var order []string
	for range times {
		order = append(order, w.tab())
	}
	return order
}

// tabTo presses Tab until something has the focus.
func (w *window) tabTo(what string) {
	w.T.Helper()
	for range 30 {
		if w.tab() == what {
			return
		}
	}
	require.Fail(w.T, "Tab does not reach it", what)
}
