package chromium

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	// phoneWidth is the width of a small phone, and of a window of 1280 pixels at a zoom
	// of 400 % (WCAG 2.2, 1.4.10 Reflow).
	phoneWidth, phoneHeight = 320, 640

	// rules of axe-core: WCAG 2.2 AA, and its own of good practice.
	rules = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`
)

// Book keeps what was looked at: a picture of each state among the output of the tests,
// and its HTML, which is looked at in the end.
type Book struct {
	root, pictures, sources string

	mu     sync.Mutex
	states map[string]string // with the template of each
}

// NewBook makes a Book whose pictures go to a folder of a name, below .dev/pictures.
func NewBook(t *testing.T, name string) *Book {
	t.Helper()
	root, err := filepath.Abs(".")
	require.NoError(t, err)
	for !exists(filepath.Join(root, "go.mod")) {
		require.NotEqual(t, root, filepath.Dir(root), "outside of the module")
		root = filepath.Dir(root)
	}
	b := &Book{root: root, pictures: filepath.Join(root, ".dev", "pictures", name), sources: t.TempDir(), states: map[string]string{}}
	require.NoError(t, os.RemoveAll(b.pictures))
	require.NoError(t, os.MkdirAll(b.pictures, 0o700))
	return b
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Look looks at the page in a window, which is in a state of a name of its own.
func (b *Book) Look(w *Window, state string) {
	w.T.Helper()
	var template string
	var picture []byte
	w.Do(chromedp.Evaluate(`document.body.dataset.page`, &template), chromedp.FullScreenshot(&picture, 100))
	b.mu.Lock()
	before, again := b.states[state]
	b.states[state] = template
	b.mu.Unlock()
	require.False(w.T, again && before != template, "two pages are called %q", state)
	b.keepSource(w, state)
	b.requireAccessible(w)
	requireFits(w)
	require.NoError(w.T, os.WriteFile(filepath.Join(b.pictures, fileName(state)+".png"), picture, 0o600))
}

func fileName(state string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, state)
}

// keepSource keeps the HTML as it came from the server: what a browser makes of it has
// no faults left.
func (b *Book) keepSource(w *Window, state string) {
	w.T.Helper()
	var html []byte
	w.Do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		w.mu.Lock()
		document := w.document
		w.mu.Unlock()
		html, err = network.GetResponseBody(document).Do(ctx)
		return err
	}))
	require.NoError(w.T, os.WriteFile(filepath.Join(b.sources, fileName(state)+".html"), html, 0o600))
}

// requireAccessible has axe-core look for violations.
func (b *Book) requireAccessible(w *Window) {
	w.T.Helper()
	axe, err := os.ReadFile(filepath.Join(b.root, ".bin", "axe.min.js"))
	if errors.Is(err, fs.ErrNotExist) {
		w.T.Skip("axe-core is missing: run 'make .bin/axe.min.js'")
	}
	require.NoError(w.T, err)
	var violations []string
	w.Do(chromedp.Evaluate("window.axe ||= (() => {"+string(axe)+"; return axe; })();0", nil),
		chromedp.Evaluate(`axe.run(document, { runOnly: `+rules+` })
			.then((r) => r.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html).join(" ")))`,
			&violations, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	require.Empty(w.T, violations, w.Address())
}

// requireFits requires that nothing has to be scrolled sideways, at the width of the
// window and at that of a phone.
func requireFits(w *Window) {
	w.T.Helper()
	const over = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
	var wide, narrow int
	w.Do(chromedp.Evaluate(over, &wide))
	require.Zero(w.T, wide, "%s is wider than the window", w.Address())
	if w.phone {
		return
	}
	w.Do(emulation.SetDeviceMetricsOverride(phoneWidth, phoneHeight, 1, false), chromedp.Evaluate(over, &narrow),
		emulation.ClearDeviceMetricsOverride())
	require.Zero(w.T, narrow, "%s is wider than a phone, or than a window at a zoom of 400 %%", w.Address())
}

// OnAPhone gives a window the size of a phone.
func (w *Window) OnAPhone() {
	w.T.Helper()
	w.phone = true
	w.Do(emulation.SetDeviceMetricsOverride(phoneWidth, phoneHeight, 1, true))
}

// RequireTemplates requires that every template of a folder was looked at.
func (b *Book) RequireTemplates(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "page-*.html"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	looked := slices.Collect(maps.Values(b.states))
	for _, file := range files {
		template := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "page-"), ".html")
		require.Contains(t, looked, template, "nobody has looked at this page")
	}
}

// RequireValid has html-validate look at all HTML.
func (b *Book) RequireValid(t *testing.T) {
	t.Helper()
	program := filepath.Join(b.root, ".bin", "htmlvalidate", "node_modules", "html-validate", "bin", "html-validate.mjs")
	node, err := exec.LookPath("node")
	if err != nil || !exists(program) {
		t.Skip("html-validate is missing: run 'make .bin/htmlvalidate'")
	}
	sources, err := filepath.Glob(filepath.Join(b.sources, "*.html"))
	require.NoError(t, err)
	require.Len(t, sources, len(b.states), fmt.Sprint(b.states))
	arguments := append([]string{program, "--config", filepath.Join(b.root, "tools", "htmlvalidate", "rules.json"), "--formatter", "text"}, sources...)
	output, err := exec.CommandContext(t.Context(), node, arguments...).CombinedOutput() //nolint:gosec // programs of our own
	require.NoError(t, err, "%s", output)
}
