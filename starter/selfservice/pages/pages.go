// Package pages is Self-Service in a browser: pages that the server renders, that work
// without script, and are kept up to date by server-sent events with it.
//
// They follow the original's ways (Smart ID Self-Service): a Dashboard that asks "What
// do you want to do?", the menu Mobile ID with its Possible actions, and forms with Next
// and Cancel. Nothing happens before Next. No page says more than is true: what was
// asked for, what is blocked here, what is revoked and what others can see are four
// things.
package pages

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/openid"
	"mobileid/starter/selfservice/seal"
	"mobileid/starter/selfservice/session"
	"mobileid/starter/selfservice/streams"
)

// Options are what the pages are made of.
type Options struct {
	Desk      *desk.Desk
	Sessions  *session.Sessions
	Passwords *session.Passwords // nil: sign-in is by OpenID
	OpenID    *openid.SignIn     // nil: sign-in is by password
	Key       []byte             // of all seals
	FormTime  time.Duration      // how long the Next of a form counts
	AskReason bool
	Contact   string // whom to ask, for people
	Streams   *streams.Limit
	Watch     *streams.Watch
	// Address is where a request comes from, for the limits of signing in.
	Address func(*http.Request) string
	// Stopping is closed when the server stops, for event streams to end.
	Stopping <-chan struct{}
	Log      *zap.Logger
	Clock    func() time.Time
}

// Pages are the handlers.
type Pages struct {
	Options
	forms    *seal.Sealer // what a form was shown for
	accepted *seal.Sealer // that Next was accepted, in the address of a progress page
	devices  *session.Devices
	render   *renderer
}

// New makes Pages.
func New(options Options) (*Pages, error) {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	p := &Pages{Options: options}
	var err error
	if p.forms, err = seal.New(options.Key, "form", options.Clock); err != nil {
		return nil, err
	}
	if p.accepted, err = seal.New(options.Key, "accepted", options.Clock); err != nil {
		return nil, err
	}
	if p.devices, err = session.NewDevices(options.Key, options.Sessions.Secure(), options.Clock); err != nil {
		return nil, err
	}
	p.render, err = newRenderer()
	return p, err
}

// Register adds the pages to a mux.
func (p *Pages) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", p.showSignIn)
	mux.HandleFunc("POST /sign-in", p.signIn)
	mux.HandleFunc("POST /sign-out", p.signOut)
	mux.HandleFunc("POST /sign-out/everywhere", p.signOutEverywhere)
	mux.HandleFunc("GET "+sessionLeftPath, p.sessionLeft)
	if p.OpenID != nil {
		mux.HandleFunc("GET /sign-in/openid", p.beginOpenID)
		mux.HandleFunc("GET "+openid.CallbackPath, p.finishOpenID)
	}
	for pattern, show := range map[string]func(*visit){
		"GET /{$}":                             p.dashboard,
		"GET /mobile-ids":                      p.mobileIDs,
		"GET /mobile-ids/{id}":                 p.mobileID,
		"GET /mobile-ids/{id}/lock":            p.lockForm,
		"GET /mobile-ids/{id}/progress":        p.progress,
		"GET /mobile-ids/{id}/progress/events": p.progressEvents,
		"GET /mobile-ids/{id}/receipt":         p.receipt,
		"GET /mobile-ids/{id}/receipt.txt":     p.receiptText,
		"GET /history":                         p.history,
		"GET /get":                             p.getForm,
		"POST /get":                            p.getDecide,
		"POST /get/cancel":                     p.getCancel,
		"GET /get/progress":                    p.getProgress,
		"GET /get/progress/events":             p.getEvents,
		"GET /get/code.png":                    p.getCode,
		"POST " + sessionPath:                  p.staySignedIn,
	} {
		mux.HandleFunc(pattern, p.signedIn(show))
	}
	mux.HandleFunc("POST /mobile-ids/{id}/lock", p.lockDecide)
	mux.Handle("GET /assets/", p.render.assets)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.signedIn(func(v *visit) { v.refuse() })(w, r)
	})
}

// events ends the addresses of event streams.
const events = "/events"

// visit is a request of a signed-in user.
type visit struct {
	p       *Pages
	w       http.ResponseWriter
	r       *http.Request
	session identitymanager.Session

	formEnds time.Time // of the form that is shown
}

func (v *visit) ctx() context.Context { return v.r.Context() }

func (v *visit) user() string { return v.session.User.ID }

// id is the mobile ID of the address.
func (v *visit) id() string { return v.r.PathValue("id") }

// signedIn lets in who is signed in and may use Self-Service. Nobody else learns more
// than that something is refused.
func (p *Pages) signedIn(show func(*visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{p: p, w: w, r: r}
		var err error
		v.session, err = p.Sessions.Of(r)
		if errors.Is(err, session.ErrNone) {
			p.sendToSignIn(w, r)
			return
		}
		if err != nil {
			v.fail(err)
			return
		}
		if !entitled(v.session.User) {
			v.refuse()
			return
		}
		if !strings.HasSuffix(r.URL.Path, events) {
			if v.session, err = p.Sessions.Use(r.Context(), v.session); err != nil {
				v.fail(err)
				return
			}
		}
		show(v)
	}
}

// entitled reports whether a user may use Self-Service.
func entitled(user mobileid.User) bool { return user.Active && user.HasRole(mobileid.SelfServiceRole) }

// show renders a page.
func (v *visit) show(code int, name string, page any) {
	shown := v.frame(name, page)
	shown.Limits, shown.At = v.limits(), here(v.r)
	v.p.render.page(v.w, code, name, shown)
}

func (v *visit) frame(name string, page any) view {
	return view{
		Name: v.session.User.Name, SignedIn: v.session.User.ID != "", Entitled: entitled(v.session.User),
		Contact: v.p.Contact, Template: name, Page: page,
	}
}

// redirect sends the browser on after a form.
func (v *visit) redirect(address string) { http.Redirect(v.w, v.r, address, http.StatusSeeOther) }

// refuse shows the one neutral page: for what is not there, for what is somebody
// else's, and for users who may not use Self-Service. It does not even differ in its
// address or in what is left of the session.
func (v *visit) refuse() {
	v.p.render.page(v.w, http.StatusNotFound, "refused", v.frame("refused", nil))
}

// fail shows what an error means for the user. What it says is logged, without who and
// what it was about.
func (v *visit) fail(err error) {
	switch {
	case errors.Is(err, mobileid.ErrMobileIDNotFound), errors.Is(err, mobileid.ErrNotEntitled):
		v.refuse()
		return
	case v.ctx().Err() != nil:
		return // nobody is there to read it
	case errors.Is(err, desk.ErrUnreachable):
		v.p.Log.Warn("Temporal does not answer", zap.String("route", v.r.Pattern))
	default:
		v.p.Log.Error("Page failed", zap.String("route", v.r.Pattern), zap.String("kind", kind(err)))
	}
	v.show(http.StatusServiceUnavailable, "unavailable", nil)
}

// kind names an error for the log by its type alone: its words may hold ids.
func kind(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "store"
}
