package pages

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"mobileid"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/session"
)

// lockSeal is what stands sealed in the form of a lock: that the mobile ID was seen to
// be this user's, and everything that Next needs, so that Next counts while Identity
// Manager is away. It is bound to the session and to the mobile ID.
type lockSeal struct {
	UserID    string    `json:"userId"`
	RequestID string    `json:"requestId"` // one per form, and of its session: a second press is the same press
	ThenGet   bool      `json:"thenGet,omitempty"`
	Finish    bool      `json:"finish,omitempty"` // it was locked already, and is to go on
	Until     time.Time `json:"until"`
}

// lockPage is the form of a lock.
type lockPage struct {
	shownID
	Certificates []shownCertificate // that would be revoked
	Encryption   bool               // there is one for encryption
	WayIn        wayIn
	ThenGet      bool
	Finish       bool      // it is locked already, and the lock has stopped
	Form         string    // sealed
	Until        time.Time // Next counts for so long
	AskReason    bool
	Reason       mobileid.Reason // that is chosen
	Reasons      []lockReason
	Again        bool // Next was pressed, and may not have been taken
	NoMore       bool // more time was asked for, and could not be given
}

// wayIn says whether the user signed in with what is about to be locked.
type wayIn string

// Whoever signed in with a mobile ID may have no other way in once it is locked.
const (
	thisOne  wayIn = "this" // it was the only one that the user had
	someOne  wayIn = "some" // it may have been another one
	otherWay wayIn = ""
)

// wayInOf looks at how the session began, and with what it can have: what was locked since
// counts, and what was got since does not.
func (p *Pages) wayInOf(v *visit) (wayIn, error) {
	if v.session.Method != byMobileID {
		return otherWay, nil
	}
	usable, err := p.Desk.UsableAt(v.ctx(), v.user(), v.session.CreatedAt)
	switch {
	case err != nil:
		return otherWay, err
	case !slices.Contains(usable, v.id()):
		return otherWay, nil
	case len(usable) > 1:
		return someOne, nil
	}
	return thisOne, nil
}

// lockReason is a reason in plain words.
type lockReason struct {
	Value mobileid.Reason
	Label string
}

// lockReasons are those that people can tell apart. The first stands for none.
var lockReasons = []lockReason{
	{"", "I would rather not say"},
	{mobileid.KeyCompromise, "I lost it, or it was stolen"},
	{mobileid.Superseded, "I have a new phone"},
	{mobileid.CessationOfOperation, "I do not need it any more"},
}

// The values of the buttons of every form.
const (
	decideNext   = "next"
	decideCancel = "cancel"
	decideMore   = "more" // time: the same form again, with what was chosen in it
)

// thenGet in an address says that a lock is the first step of Get mobile ID.
const thenGet = "get"

func (p *Pages) lockForm(v *visit) {
	p.openLockForm(v, lockSeal{
		RequestID: v.session.RequestID(), ThenGet: p.Desk.CanGet() && v.r.URL.Query().Get("then") == thenGet,
	}, "")
}

// openLockForm shows a form that counts from now on, with the reason that is chosen.
func (p *Pages) openLockForm(v *visit, seal lockSeal, reason mobileid.Reason) {
	progress, err := p.Desk.Progress(v.ctx(), v.user(), v.id())
	if err != nil {
		v.fail(err)
		return
	}
	m := progress.MobileID
	switch {
	case underway(progress):
		v.redirect(progressAddress(m.ID, "", false))
		return
	case m.State != mobileid.Active && !stopped(progress):
		v.show(http.StatusOK, "not-active", mobileIDPage{shownID: shown(m), ByYou: progress.By.UserID == v.user()})
		return
	}
	if seal.Finish = stopped(progress); seal.Finish {
		seal.ThenGet = false
	}
	page := lockPage{shownID: shown(m), ThenGet: seal.ThenGet, Finish: seal.Finish, Reason: reason}
	if !page.Finish {
		if page.WayIn, err = p.wayInOf(v); err != nil {
			v.fail(err)
			return
		}
	}
	for _, c := range m.Open() {
		kept := shownCertificate{c, use(c)}
		page.Certificates = append(page.Certificates, kept)
		page.Encryption = page.Encryption || kept.Use == "encryption" && !page.Finish
	}
	seal.UserID, seal.Until = v.user(), p.Clock().Add(p.FormTime).UTC()
	page.Until = seal.Until
	page.Form, err = p.forms.Seal(seal, p.FormTime, v.session.ID, m.ID)
	if err != nil {
		v.fail(err)
		return
	}
	p.showLockForm(v, http.StatusOK, page)
}

func (p *Pages) showLockForm(v *visit, code int, page lockPage) {
	page.AskReason, page.Reasons = p.AskReason && !page.Finish, lockReasons
	v.formEnds = page.Until
	v.show(code, "lock", page)
}

// lockDecide takes Next or Cancel. It is not behind signedIn, because it must work
// while the store, and with it the session, cannot be read: the seal says that this
// very session was signed in as this user a short time ago, and owned the mobile ID.
// What a user may have lost since then, the process finds out before it locks.
func (p *Pages) lockDecide(w http.ResponseWriter, r *http.Request) {
	v := &visit{p: p, w: w, r: r}
	found, err := p.Sessions.Of(r)
	if errors.Is(err, session.ErrNone) {
		p.sendToSignIn(w, r)
		return
	}
	away := err != nil
	if !away {
		v.session = found
		if !entitled(found.User) {
			v.refuse()
			return
		}
	}
	if err := r.ParseForm(); err != nil {
		v.expired(here(r))
		return
	}
	var seen lockSeal
	text := r.PostForm.Get("form")
	err = p.forms.Open(text, &seen, p.Sessions.ID(r), v.id())
	if err != nil || !away && seen.UserID != v.user() {
		v.expired(here(r))
		return
	}
	switch r.PostForm.Get("decision") {
	case decideNext:
		p.lockNext(v, seen, text, away) //nolint:contextcheck // the visit has it
	case decideCancel:
		p.lockCancel(v, seen, away) //nolint:contextcheck // the visit has it
	case decideMore:
		p.lockMore(v, seen, text, away) //nolint:contextcheck // the visit has it
	default:
		v.expired(here(r))
	}
}

// lockMore shows the same form with more time. What was chosen in it stays, and it stays
// the same request.
func (p *Pages) lockMore(v *visit, seen lockSeal, form string, away bool) {
	reason := mobileid.Reason(v.r.PostForm.Get("reason"))
	if !away {
		var err error
		if v.session, err = p.Sessions.Use(v.ctx(), v.session); err == nil {
			p.openLockForm(v, seen, reason)
			return
		}
	}
	v.w.Header().Set("Retry-After", "10")
	p.showLockForm(v, http.StatusServiceUnavailable, lockPage{
		shownID: shownID{ID: v.id(), Name: v.id()}, ThenGet: seen.ThenGet, Finish: seen.Finish, Form: form, Until: seen.Until, Reason: reason, NoMore: true,
	})
}

func (p *Pages) lockNext(v *visit, seen lockSeal, form string, away bool) {
	id := v.id()
	order := desk.LockOrder{MobileID: id, RequestID: seen.RequestID, ThenGet: seen.ThenGet}
	if p.AskReason && !seen.Finish {
		order.Reason = mobileid.Reason(v.r.PostForm.Get("reason"))
	}
	locked, err := p.Desk.Lock(v.ctx(), seen.UserID, order)
	switch {
	case errors.Is(err, desk.ErrUnreachable):
		// The same form again: it is the same press, whether the first one was taken or not.
		v.w.Header().Set("Retry-After", "10")
		p.showLockForm(v, http.StatusServiceUnavailable, lockPage{
			shownID: shownID{ID: id, Name: id}, ThenGet: seen.ThenGet, Finish: seen.Finish, Form: form, Until: seen.Until, Reason: order.Reason, Again: true,
		})
		return
	case errors.Is(err, mobileid.ErrMobileIDNotActive):
		v.redirect("/mobile-ids/" + url.PathEscape(id) + "/lock") // which says what it is instead
		return
	case errors.Is(err, mobileid.ErrAlreadyCancelled):
		v.show(http.StatusConflict, "unchanged", unchangedPage{ID: id})
		return
	case errors.Is(err, mobileid.ErrInvalidRequest):
		v.expired(here(v.r))
		return
	case err != nil:
		v.fail(err)
		return
	}
	if away {
		v.show(http.StatusAccepted, "stored", storedPage{ID: id, Finish: seen.Finish, NoGet: seen.ThenGet})
		return
	}
	token, err := p.accepted.Seal(p.Clock().UTC(), p.FormTime*4, v.session.ID, id)
	if err != nil {
		v.fail(err)
		return
	}
	v.redirect(progressAddress(id, token, locked.ThenGet))
}

// storedPage is shown after a Next that no page can follow now.
type storedPage struct {
	ID     string
	Finish bool // it was locked already, and is to go on
	NoGet  bool // a new mobile ID was asked for, and could not be granted
}

// unchangedPage is the end after Cancel.
type unchangedPage struct {
	ID   string // empty: no mobile ID to go back to
	Sure bool   // nothing else runs, either
}

func (p *Pages) lockCancel(v *visit, seen lockSeal, away bool) {
	id := v.id()
	switch p.Desk.CancelLock(v.ctx(), seen.UserID, id, uuid.NewString()) {
	case desk.TooLate:
		v.redirect(progressAddress(id, "", false))
	case desk.Unknown:
		v.show(http.StatusOK, "unchanged", unchangedPage{ID: id})
	default:
		v.show(http.StatusOK, "unchanged", unchangedPage{ID: id, Sure: !away})
	}
}

// progressAddress is where the progress of a lock is seen. The token says when Next was
// accepted, for as long as nobody else can tell.
func progressAddress(id, token string, chained bool) string {
	query := url.Values{}
	if token != "" {
		query.Set("next", token)
	}
	if chained {
		query.Set("then", thenGet)
	}
	address := "/mobile-ids/" + url.PathEscape(id) + "/progress"
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}
