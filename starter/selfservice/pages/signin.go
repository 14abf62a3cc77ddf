package pages

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice/openid"
	"mobileid/starter/selfservice/session"
)

// signInPage is what the page of the sign-in shows.
type signInPage struct {
	OpenID bool
	Then   string
	UserID string
	Error  string // empty: none
	Ended  string // how the session before has ended, if it has
}

// signedInBy are the methods, as the store keeps them.
const (
	byPassword = "password"
	byOpenID   = "openid"
	byMobileID = identitymanager.ByMobileID // by OpenID, too
)

func (p *Pages) showSignIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{p: p, w: w, r: r}
	v.show(http.StatusOK, "sign-in", signInPage{
		OpenID: p.OpenID != nil, Then: ownPath(r.URL.Query().Get("then")), Ended: r.URL.Query().Get("ended"),
	})
}

func (p *Pages) signIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{p: p, w: w, r: r}
	if p.Passwords == nil {
		v.refuse()
		return
	}
	if err := r.ParseForm(); err != nil {
		v.expired("/sign-in")
		return
	}
	page := signInPage{Then: ownPath(r.PostForm.Get("then")), UserID: r.PostForm.Get("user")}
	err := p.Passwords.SignIn(r.Context(), page.UserID, r.PostForm.Get("password"), p.Address(r), p.devices.Of(r, page.UserID))
	switch {
	case errors.Is(err, session.ErrWrong):
		page.Error = "The user name or the password is wrong."
		v.show(http.StatusUnauthorized, "sign-in", page)
		return
	case errors.Is(err, session.ErrTooMany):
		page.Error = "There were too many tries. Wait 15 minutes, then try again."
		w.Header().Set("Retry-After", "900")
		v.show(http.StatusTooManyRequests, "sign-in", page)
		return
	case err != nil:
		v.fail(err)
		return
	}
	p.begin(v, page.UserID, byPassword, page.Then)
}

// begin begins the session and sends the user where they wanted to go.
func (p *Pages) begin(v *visit, userID, method, then string) {
	err := p.Sessions.Begin(v.w, v.r, userID, method)
	if errors.Is(err, identitymanager.ErrUserNotFound) {
		v.refuse()
		return
	}
	if err != nil {
		v.fail(err)
		return
	}
	if method == byPassword {
		if err := p.devices.Remember(v.w, v.r, userID); err != nil {
			v.fail(err)
			return
		}
	}
	v.redirect(ownPath(then))
}

func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) { p.end(w, r, p.Sessions.End) }

// signOutEverywhere is for who was signed in elsewhere, too, and cannot go there.
func (p *Pages) signOutEverywhere(w http.ResponseWriter, r *http.Request) {
	p.end(w, r, p.Sessions.EndAll)
}

func (p *Pages) end(w http.ResponseWriter, r *http.Request, end func(http.ResponseWriter, *http.Request) error) {
	v := &visit{p: p, w: w, r: r}
	if err := end(w, r); err != nil {
		v.fail(err)
		return
	}
	// What the browser keeps of the pages goes, too.
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
	v.redirect("/sign-in?ended=" + endedByUser)
}

func (p *Pages) beginOpenID(w http.ResponseWriter, r *http.Request) {
	if err := p.OpenID.Begin(w, r, ownPath(r.URL.Query().Get("then"))); err != nil {
		p.Log.Warn("OpenID provider is not reached", zap.Error(err))
		(&visit{p: p, w: w, r: r}).show(http.StatusServiceUnavailable, "unavailable", nil)
	}
}

func (p *Pages) finishOpenID(w http.ResponseWriter, r *http.Request) {
	v := &visit{p: p, w: w, r: r}
	in, err := p.OpenID.Finish(w, r)
	switch {
	case errors.Is(err, openid.ErrRefused):
		p.Log.Info("Sign-in by OpenID was refused", zap.Error(err))
		v.show(http.StatusUnauthorized, "sign-in", signInPage{OpenID: true, Error: "The sign-in was not completed. Try again."})
	case err != nil:
		p.Log.Warn("OpenID provider is not reached", zap.Error(err))
		v.show(http.StatusServiceUnavailable, "unavailable", nil)
	case in.MobileID:
		p.begin(v, in.UserID, byMobileID, in.Then)
	default:
		p.begin(v, in.UserID, byOpenID, in.Then)
	}
}

// ownPath keeps an address only if it is a path of ours, so that nobody is sent
// elsewhere after the sign-in.
func ownPath(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(address, "/") ||
		strings.HasPrefix(address, "//") || strings.ContainsAny(address, "\\\r\n\t") || strings.HasPrefix(address, "/sign-") {
		return "/"
	}
	if u.RawQuery == "then="+thenGet {
		return u.EscapedPath() + "?" + u.RawQuery
	}
	return u.EscapedPath()
}
