// Package chromium drives a real Chromium in tests. A Book holds every page that is
// looked at against axe-core (WCAG 2.2 AA), html-validate, and the width of a phone.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is for what others do, on a machine that does other things, too.
const patience = time.Minute

// Window is a tab of a Chromium.
type Window struct {
	T   *testing.T
	Ctx context.Context //nolint:containedctx // of the tab: chromedp knows it by nothing else
	URL string          // of what is tested

	browser *Browser
	cookies cdp.BrowserContextID
	phone   bool // it has the width of a phone

	mu       sync.Mutex
	document network.RequestID // the page that was loaded last
}

// Browser is a running Chromium.
type Browser struct {
	ctx context.Context //nolint:containedctx // of the browser: chromedp knows it by nothing else
}

// Start starts a Chromium, until the test ends.
func Start(t *testing.T) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing (Debian package chromium)")
	}
	// Not t.TempDir: what Chromium leaves behind may still write there for a moment.
	folder, err := os.MkdirTemp("", "chromium")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.RemoveAll(folder) == nil }, patience, 50*time.Millisecond)
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WindowSize(1024, 900),
		chromedp.WSURLReadTimeout(patience), chromedp.UserDataDir(folder), chromedp.Env("LANG=en_US.UTF-8"))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stopBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until it has ended, so that its folder can go
		stopBrowser()
	})
	require.NoError(t, chromedp.Run(ctx))
	return &Browser{ctx}
}

// Open opens a window with cookies of its own.
func (b *Browser) Open(t *testing.T, url string) *Window {
	t.Helper()
	var cookies cdp.BrowserContextID
	require.NoError(t, chromedp.Run(b.ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		cookies, err = target.CreateBrowserContext().Do(cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser))
		return err
	})))
	return b.open(t, url, cookies)
}

func (b *Browser) open(t *testing.T, url string, cookies cdp.BrowserContextID) *Window {
	t.Helper()
	var id target.ID
	require.NoError(t, chromedp.Run(b.ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		id, err = target.CreateTarget("about:blank").WithBrowserContextID(cookies).WithNewWindow(true).
			Do(cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser))
		return err
	})))
	ctx, stop := chromedp.NewContext(b.ctx, chromedp.WithTargetID(id))
	t.Cleanup(stop)
	w := &Window{T: t, Ctx: ctx, URL: url, browser: b, cookies: cookies}
	chromedp.ListenTarget(ctx, func(event any) {
		if received, ok := event.(*network.EventResponseReceived); ok && received.Type == network.ResourceTypeDocument {
			w.mu.Lock()
			w.document = received.RequestID
			w.mu.Unlock()
		}
	})
	w.Do(network.Enable())
	return w
}

// Tab opens one more tab with the same cookies.
func (w *Window) Tab() *Window {
	w.T.Helper()
	return w.browser.open(w.T, w.URL, w.cookies)
}

// Do does something, within patience.
func (w *Window) Do(actions ...chromedp.Action) {
	w.T.Helper()
	// The first run makes the window, which would end with a time-out of its own.
	require.NoError(w.T, chromedp.Run(w.Ctx))
	ctx, cancel := context.WithTimeout(w.Ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var page string
		_ = chromedp.Run(w.Ctx, chromedp.Text("body", &page, chromedp.ByQuery))
		require.NoError(w.T, err, page)
	}
}

// WithoutScript keeps our script from loading.
func (w *Window) WithoutScript() {
	w.T.Helper()
	w.Do(network.SetBlockedURLs([]string{"*/script.js"}))
}

// GoTo opens a path.
func (w *Window) GoTo(path string) {
	w.T.Helper()
	w.Do(chromedp.Navigate(w.URL + path))
}

// Press presses what bears a label, a link or a button.
func (w *Window) Press(label string) {
	w.T.Helper()
	w.Do(click(page, label))
}

// page is where one can press, as XPath, unless a dialog is open.
const page = "*[self::main or self::header or self::footer]"

func click(within, label string) chromedp.Action {
	return chromedp.Click(`//`+within+`//*[(self::a or self::button) and normalize-space()="`+label+`"]`, chromedp.BySearch, chromedp.NodeVisible)
}

// Follow presses what bears a label, and waits until the page is loaded to which it
// leads.
func (w *Window) Follow(label string) {
	w.T.Helper()
	within := page
	var asked bool
	w.Evaluate(`!!document.querySelector("dialog[open]")`, &asked)
	if asked {
		within = "dialog[@open]" // behind it nothing can be pressed
	}
	w.Load(click(within, label))
}

// Load does what leads to another page, and waits until that is loaded.
func (w *Window) Load(actions ...chromedp.Action) {
	w.T.Helper()
	w.Do(chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, actions...)
		return err
	}))
}

// Sees waits for the heading of a page.
func (w *Window) Sees(heading string) {
	w.T.Helper()
	w.Do(chromedp.WaitVisible(`//h1[normalize-space()="`+heading+`"]`, chromedp.BySearch))
}

// IsAsked waits for a dialog with a heading.
func (w *Window) IsAsked(heading string) {
	w.T.Helper()
	w.Do(chromedp.WaitVisible(`//dialog[@open]//h2[normalize-space()="`+heading+`"]`, chromedp.BySearch))
}

// WaitsFor waits until the page says something.
func (w *Window) WaitsFor(text string) {
	w.T.Helper()
	w.Do(chromedp.WaitVisible(`//main//*[contains(normalize-space(), "`+text+`")]`, chromedp.BySearch))
}

// Text is what the page says.
func (w *Window) Text() string {
	w.T.Helper()
	return w.text("main")
}

// Dialog is what the dialog that is open says.
func (w *Window) Dialog() string {
	w.T.Helper()
	return w.text("dialog[open]")
}

// Heading is what the page is called.
func (w *Window) Heading() string {
	w.T.Helper()
	return w.text("h1")
}

func (w *Window) text(selector string) string {
	w.T.Helper()
	var text string
	w.Do(chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// Address is the path of the page, with its query.
func (w *Window) Address() string {
	w.T.Helper()
	var address string
	w.Do(chromedp.Location(&address))
	return strings.TrimPrefix(address, w.URL)
}

// Later makes the page believe that time has passed.
func (w *Window) Later(by time.Duration) {
	w.T.Helper()
	w.Evaluate(fmt.Sprintf(`(() => { const now = Date.now; Date.now = () => now.call(Date) + %d; })()`, by.Milliseconds()), nil)
}

// Evaluate runs an expression in the page. A nil value forgets what it is.
func (w *Window) Evaluate(expression string, value any) {
	w.T.Helper()
	w.Do(chromedp.Evaluate(expression, value))
}
