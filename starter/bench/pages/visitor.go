package pages

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// AddressHeader is where a visitor's address stands, as a proxy would write it. So the
// server's limits by address are in force, and each visitor has their own.
const AddressHeader = "X-Real-Ip"

// Visitor is a user who is signed in.
type Visitor struct {
	User    string
	Cookie  *http.Cookie // of the session
	Address string       // where they come from
	Active  string       // their mobile ID that is active
	Waiting string       // theirs whose lock waits; empty: none
}

// mostPage is more than any page has.
const mostPage = 1 << 20

// browser keeps connections open as browsers do, and follows no redirect: a page that
// leads elsewhere is not the page that was to be measured.
var browser = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// errAnswer reports an answer that is not the one that was asked for.
var errAnswer = errors.New("unexpected answer")

func (v *Visitor) progress() string { return "/mobile-ids/" + v.Waiting + "/progress" }

func (v *Visitor) do(ctx context.Context, method, address string, form url.Values, want int) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.AddCookie(v.Cookie)
	request.Header.Set(AddressHeader, v.Address)
	response, err := browser.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != want {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%w: %s, %d was expected", errAnswer, response.Status, want)
	}
	return response, nil
}

// show loads a page to its end.
func (v *Visitor) show(ctx context.Context, address string) error {
	_, err := v.read(ctx, address)
	return err
}

func (v *Visitor) read(ctx context.Context, address string) ([]byte, error) {
	response, err := v.do(ctx, http.MethodGet, address, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	return io.ReadAll(io.LimitReader(response.Body, mostPage))
}

var (
	formField   = regexp.MustCompile(`name="form" value="([^"]+)"`)
	eventSource = regexp.MustCompile(`data-events="([^"]+)"`)
)

// lock goes the way of a user: the form, Next, and the progress page with its event
// stream until that says that nothing more is to come. It returns how long that took
// from Next.
func (v *Visitor) lock(ctx context.Context, base string) (time.Duration, error) {
	address := base + "/mobile-ids/" + v.Active + "/lock"
	page, err := v.read(ctx, address)
	if err != nil {
		return 0, fmt.Errorf("form of a lock: %w", err)
	}
	field := formField.FindSubmatch(page)
	if field == nil {
		return 0, fmt.Errorf("%w: the form of a lock has no seal", errAnswer)
	}
	pressed := time.Now()
	response, err := v.do(ctx, http.MethodPost, address, url.Values{
		"form": {html.UnescapeString(string(field[1]))}, "decision": {"next"},
	}, http.StatusSeeOther)
	if err != nil {
		return 0, fmt.Errorf("Next: %w", err)
	}
	_ = response.Body.Close()
	if page, err = v.read(ctx, base+response.Header.Get("Location")); err != nil {
		return 0, fmt.Errorf("progress: %w", err)
	}
	events := eventSource.FindSubmatch(page)
	if events == nil {
		return time.Since(pressed), nil // all is done already
	}
	stream, err := v.do(ctx, http.MethodGet, base+html.UnescapeString(string(events[1])), nil, http.StatusOK)
	if err != nil {
		return 0, fmt.Errorf("events: %w", err)
	}
	defer stream.Body.Close() //nolint:errcheck // it ends here
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		if lines.Text() == "event: over" {
			return time.Since(pressed), nil
		}
	}
	return 0, errors.Join(fmt.Errorf("%w: the stream ended before the lock", errAnswer), lines.Err())
}

// Rota asks for one page after the other, of one visitor after the other.
type Rota struct {
	url      string
	visitors []*Visitor
	asked    atomic.Int64
}

// NewRota makes a Rota of visitors who have an active mobile ID.
func NewRota(url string, visitors []*Visitor) *Rota { return &Rota{url: url, visitors: visitors} }

// Next asks for the next page. It is safe for concurrent use.
func (r *Rota) Next(ctx context.Context) error {
	n := int(r.asked.Add(1))
	page := asked[n%(len(asked)-1)] // the last one needs a lock that waits
	v := r.visitors[n%len(r.visitors)]
	if err := v.show(ctx, r.url+page.path(v)); err != nil {
		return fmt.Errorf("%s: %w", page.name, err)
	}
	return nil
}
