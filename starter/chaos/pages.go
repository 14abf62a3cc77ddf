package chaos

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"mobileid/starter/client"
)

// pagePassword is that of everybody in the run.
const pagePassword = "only for a run of chaos" //nolint:gosec // it opens nothing else

var sealedForm = regexp.MustCompile(`name="form" value="([^"]+)"`)

// browser is one that nobody has signed in with yet.
func (c *crowd) browser(p person) (*pageBrowser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &pageBrowser{base: c.pages, address: fmt.Sprintf("10.%d.%d.1", p.number>>8, p.number&0xff), client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (b *pageBrowser) signIn(ctx context.Context, p person) error {
	_, _, err := b.do(ctx, http.MethodPost, "/sign-in", url.Values{"user": {p.userID}, "password": {pagePassword}}, http.StatusSeeOther)
	return err
}

// byPages is a browser: it signs in, looks at the form, and presses Next. Pressed again
// after an error, it is the same form, and so the same decision.
func (c *crowd) byPages(p person) func(context.Context) (any, error) {
	b, failed := c.browser(p)
	form := ""
	path := "/mobile-ids/" + p.mobileID + "/lock"
	return func(ctx context.Context) (any, error) {
		if failed != nil {
			return nil, failed
		}
		if form == "" {
			if err := b.signIn(ctx, p); err != nil {
				return nil, err
			}
			_, page, err := b.do(ctx, http.MethodGet, path, nil, http.StatusOK)
			if err != nil {
				return nil, err
			}
			found := sealedForm.FindStringSubmatch(page)
			if found == nil {
				return nil, errors.New("the page has no form")
			}
			form = html.UnescapeString(found[1])
		}
		code, _, err := b.do(ctx, http.MethodPost, path, url.Values{"form": {form}, "decision": {"next"}}, http.StatusSeeOther, http.StatusAccepted)
		if err != nil {
			return nil, err
		}
		return pageAnswer{Status: client.Status{Stored: true}, Code: code}, nil
	}
}

// receipt is what the owner of a locked mobile ID keeps.
func (c *crowd) receipt(p person) func(context.Context) (any, error) {
	b, failed := c.browser(p)
	return func(ctx context.Context) (any, error) {
		if failed != nil {
			return nil, failed
		}
		if err := b.signIn(ctx, p); err != nil {
			return nil, err
		}
		_, text, err := b.do(ctx, http.MethodGet, "/mobile-ids/"+p.mobileID+"/receipt.txt", nil, http.StatusOK)
		return text, err
	}
}

// pageAnswer is that Next was taken: the page of the progress, or that it is stored.
type pageAnswer struct {
	client.Status
	Code int `json:"code"`
}

type pageBrowser struct {
	base, address string
	client        *http.Client
}

// do makes a request that must be answered with one of the codes.
func (b *pageBrowser) do(ctx context.Context, method, path string, form url.Values, codes ...int) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set(addressHeader, b.address)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(response.Body, maxMessage))
	if err != nil {
		return 0, "", err
	}
	for _, code := range codes {
		if response.StatusCode == code {
			return code, string(page), nil
		}
	}
	return response.StatusCode, "", fmt.Errorf("%s %s: %s", method, path, response.Status)
}
