package browser

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mobileid/starter/demo"
)

// window is a tab of a Chromium.
type window struct {
	t   *testing.T
	ctx context.Context
	url string
}

// open starts a Chromium of its own, with cookies of its own, for Self-Service.
func open(t *testing.T, url string) *window {
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
	return &window{t: t, ctx: ctx, url: url}
}

// tab opens one more tab with the same cookies.
func (w *window) tab() *window {
	w.t.Helper()
	ctx, stop := chromedp.NewContext(w.ctx)
	w.t.Cleanup(stop)
	return &window{t: w.t, ctx: ctx, url: w.url}
}

// do does something, within patience.
func (w *window) do(actions ...chromedp.Action) {
	w.t.Helper()
	// The first run makes the window, which would end with a time-out of its own.
	require.NoError(w.t, chromedp.Run(w.ctx))
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var page string
		_ = chromedp.Run(w.ctx, chromedp.Text("body", &page, chromedp.ByQuery))
		require.NoError(w.t, err, page)
	}
}

// withoutScript keeps our script from loading.
func (w *window) withoutScript() {
	w.t.Helper()
	w.do(network.Enable(), network.SetBlockedURLs([]string{"*/script.js"}))
}

func (w *window) goTo(path string) {
	w.t.Helper()
	w.do(chromedp.Navigate(w.url + path))
}

// press presses what bears a label, a link or a button.
func (w *window) press(label string) {
	w.t.Helper()
	w.do(chromedp.Click(`//main//*[(self::a or self::button) and normalize-space()="`+label+`"] | //header//*[(self::a or self::button) and normalize-space()="`+label+`"]`,
		chromedp.BySearch, chromedp.NodeVisible))
}

// sees waits for the heading of a page.
func (w *window) sees(heading string) {
	w.t.Helper()
	w.do(chromedp.WaitVisible(`//h1[normalize-space()="`+heading+`"]`, chromedp.BySearch))
}

// text is what the page says.
func (w *window) text() string {
	w.t.Helper()
	var text string
	w.do(chromedp.Text("main", &text, chromedp.ByQuery))
	return text
}

// waitsFor waits until the page says something.
func (w *window) waitsFor(text string) {
	w.t.Helper()
	w.do(chromedp.WaitVisible(`//main//*[contains(normalize-space(), "`+text+`")]`, chromedp.BySearch))
}

func (w *window) address() string {
	w.t.Helper()
	var address string
	w.do(chromedp.Location(&address))
	return strings.TrimPrefix(address, w.url)
}

func (w *window) signIn(user string) {
	w.t.Helper()
	w.goTo("/sign-in")
	w.do(chromedp.SendKeys("#user", user, chromedp.ByID), chromedp.SendKeys("#password", demo.Password, chromedp.ByID))
	w.press("Sign in")
	w.sees("What do you want to do?")
}

// picture keeps a picture of the page among the output of the tests, and looks whether
// the page fits into the window's width, and whether axe finds fault with it.
func (w *window) picture(name string) {
	w.t.Helper()
	w.requireAccessible()
	var png []byte
	var over int
	w.do(chromedp.FullScreenshot(&png, 100), chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &over))
	require.Zero(w.t, over, "the page is wider than the window")
	folder := filepath.Join("..", "..", "..", ".dev", "pictures")
	require.NoError(w.t, os.MkdirAll(folder, 0o700))
	require.NoError(w.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
}

// requireAccessible has axe-core look for violations of WCAG 2.2 AA, and of its own
// rules of good practice.
func (w *window) requireAccessible() {
	w.t.Helper()
	axe, err := os.ReadFile(filepath.Join("..", "..", "..", ".bin", "axe.min.js"))
	if errors.Is(err, fs.ErrNotExist) {
		w.t.Skip("axe-core is missing: run 'make .bin/axe.min.js'")
	}
	require.NoError(w.t, err)
	var violations []string
	w.do(chromedp.Evaluate(string(axe)+"\n;0", nil), chromedp.Evaluate(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
		.then((r) => r.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html).join(" ")))`,
		&violations, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	require.Empty(w.t, violations, w.address())
}
