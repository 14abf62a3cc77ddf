package pages

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mobileid/starter/selfservice/session"
)

// limits are the time limits of a page (WCAG 2.2, 2.2.1 Timing Adjustable). Each is said
// on the page from the beginning, and can be put off there by a button, with or without
// script. With script, people are asked shortly before.
type limits struct {
	Session time.Time // when the session ends unless it is used
	Final   bool      // whatever anybody does: only to sign in again helps
	Form    time.Time // when Next does not count any more; zero: there is none
	Here    string    // where the page can be opened again
	now     time.Time
}

// SessionLeft is the time of the session in whole seconds, for the script: clocks of
// browsers are not to be relied on.
func (l limits) SessionLeft() int { return secondsUntil(l.Session, l.now) }

// FormLeft is the time of the form in whole seconds.
func (l limits) FormLeft() int { return secondsUntil(l.Form, l.now) }

func secondsUntil(end, now time.Time) int { return max(0, int(end.Sub(now)/time.Second)) }

// limits are those of the page that is about to be shown; nil: nobody is signed in.
func (v *visit) limits() *limits {
	if v.session.User.ID == "" {
		return nil
	}
	l := &limits{Form: v.formEnds, Here: here(v.r), now: v.p.Clock()}
	l.Session, l.Final = v.p.Sessions.Ends(v.session)
	return l
}

// here is where the page of a request can be opened by its address.
func here(r *http.Request) string {
	switch {
	case r.URL.Path == "/get/cancel":
		return "/get/progress"
	case r.URL.Path == sessionPath, strings.HasSuffix(r.URL.Path, events):
		return "/"
	}
	address := r.URL.EscapedPath()
	if r.URL.Query().Get("then") == thenGet {
		address += "?then=" + thenGet
	}
	return ownPath(address)
}

const (
	// sessionPath is where a session is put off.
	sessionPath = "/session"
	// sessionLeftPath tells scripts how long it lasts.
	sessionLeftPath = "/session/left"
)

// staySignedIn is the button that puts the end of the session off: to ask for it is to
// use the session.
func (p *Pages) staySignedIn(v *visit) {
	if err := v.r.ParseForm(); err != nil {
		v.expired("/")
		return
	}
	v.redirect(ownPath(v.r.PostForm.Get("then")))
}

// sessionLeft tells a page that is open, in seconds, how long the session lasts: other
// pages may have used it. To ask is not to use it.
func (p *Pages) sessionLeft(w http.ResponseWriter, r *http.Request) {
	found, err := p.Sessions.Of(r)
	left := 0
	switch {
	case errors.Is(err, session.ErrNone):
	case err != nil:
		http.Error(w, "this cannot be told now", http.StatusServiceUnavailable)
		return
	default:
		ends, _ := p.Sessions.Ends(found)
		left = secondsUntil(ends, p.Clock())
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(strconv.Itoa(left))) // nobody is left to tell
}

// expiredPage is shown for a form that does not count any more.
type expiredPage struct {
	Here string // where it can be opened again
}

// expired shows that a form does not count any more, or never did.
func (v *visit) expired(address string) {
	v.show(http.StatusBadRequest, "expired", expiredPage{Here: address})
}

// sendToSignIn asks who somebody is, and brings them back to where they were. Whoever
// had a session is told that it has ended, and that what they pressed was not done.
func (p *Pages) sendToSignIn(w http.ResponseWriter, r *http.Request) {
	query := url.Values{}
	had := p.Sessions.ID(r) != ""
	if address := here(r); address != "/" {
		query.Set("then", address)
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Path != sessionPath:
		query.Set("ended", endedUndone)
	case had:
		query.Set("ended", endedByTime)
	}
	address := "/sign-in"
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// How a session has ended, in the address of the sign-in.
const (
	endedByUser = "signed-out"
	endedByTime = "time"
	endedUndone = "undone" // while its user pressed a button
)
