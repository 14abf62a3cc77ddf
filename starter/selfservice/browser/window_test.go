package browser

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mobileid/starter/demo"
	"mobileid/starter/selfservice/browser/chromium"
)

// window is a window of Chromium at Self-Service.
type window struct {
	*chromium.Window
	book *chromium.Book
}

// open opens a window with cookies of its own.
func (in *installation) open(t *testing.T, url string) *window {
	t.Helper()
	return &window{in.chromium.Open(t, url), in.book}
}

// Tab opens one more tab with the same cookies.
func (w *window) Tab() *window {
	w.T.Helper()
	return &window{w.Window.Tab(), w.book}
}

func (w *window) signIn(user string) {
	w.T.Helper()
	w.GoTo("/sign-in")
	w.fillIn(user)
	w.Press("Sign in")
	w.Sees("What do you want to do?")
}

// fillIn fills in the form of the sign-in.
func (w *window) fillIn(user string) {
	w.T.Helper()
	w.Do(chromedp.SendKeys("#user", user, chromedp.ByID), chromedp.SendKeys("#password", demo.Password, chromedp.ByID))
}

// picture looks at the page, and keeps a picture of it.
func (w *window) picture(state string) {
	w.T.Helper()
	w.book.Look(w.Window, state)
}

// fetch asks for something with the window's cookies, outside of it.
func (w *window) fetch(path string) (*http.Response, []byte) {
	w.T.Helper()
	request, err := http.NewRequestWithContext(w.T.Context(), http.MethodGet, w.URL+path, nil)
	require.NoError(w.T, err)
	w.Do(chromedp.ActionFunc(func(ctx context.Context) error {
		cookies, err := network.GetCookies().Do(ctx)
		for _, c := range cookies {
			request.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
		return err
	}))
	response, err := http.DefaultClient.Do(request)
	require.NoError(w.T, err)
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	require.NoError(w.T, err)
	return response, body.Bytes()
}

// looksAgainUntil follows the link of pages without script until the page is called so.
func (w *window) looksAgainUntil(heading string) {
	w.T.Helper()
	w.looksAgainWhile(func() bool { return w.Heading() != heading })
}

// looksAgainFor does so until the page has words.
func (w *window) looksAgainFor(words string) {
	w.T.Helper()
	w.looksAgainWhile(func() bool { return !strings.Contains(w.Text(), words) })
}

func (w *window) looksAgainWhile(condition func() bool) {
	w.T.Helper()
	for end := time.Now().Add(patience); condition(); {
		require.True(w.T, time.Now().Before(end), w.Text())
		w.Follow("Look again")
	}
}
