package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
	"mobileid/workflows"
)

// getSeal stands sealed in the form of Get mobile ID.
type getSeal struct {
	UserID string    `json:"userId"`
	Until  time.Time `json:"until"`
}

// getForm is what the seal of that form is bound to, beside the session.
const getForm = "get"

// getPage is the form of Get mobile ID.
type getPage struct {
	Live      *shownID // stands in the way
	AfterLock bool     // the old one was just locked
	Form      string
	Again     bool
	Until     time.Time // Next counts for so long
}

func (p *Pages) getForm(v *visit) {
	g, err := p.Desk.Get(v.ctx(), v.user())
	if err != nil {
		v.fail(err)
		return
	}
	switch {
	case g.Unknown && !g.Ended:
		v.show(http.StatusServiceUnavailable, "unavailable", nil)
		return
	case g.Running && g.Phase != workflows.AwaitingConfirmation && g.Phase != workflows.Validating:
		v.redirect("/get/progress")
		return
	}
	page := getPage{AfterLock: g.Running && g.Lock != nil}
	live, err := p.Desk.Live(v.ctx(), v.user())
	if err != nil {
		v.fail(err)
		return
	}
	if live != nil {
		s := shown(*live)
		page.Live = &s
	}
	p.showGetForm(v, http.StatusOK, page)
}

func (p *Pages) showGetForm(v *visit, code int, page getPage) {
	var err error
	page.Until = p.Clock().Add(p.FormTime).UTC()
	v.formEnds = page.Until
	page.Form, err = p.forms.Seal(getSeal{UserID: v.user(), Until: page.Until}, p.FormTime, v.session.ID, getForm)
	if err != nil {
		v.fail(err)
		return
	}
	v.show(code, "get", page)
}

// getDecide takes Next or Cancel of Get mobile ID.
func (p *Pages) getDecide(v *visit) {
	var seen getSeal
	err := v.r.ParseForm()
	if err == nil {
		err = p.forms.Open(v.r.PostForm.Get("form"), &seen, v.session.ID, getForm)
	}
	if err != nil || seen.UserID != v.user() {
		v.expired("/get")
		return
	}
	switch v.r.PostForm.Get("decision") {
	case decideNext:
		err = p.Desk.GetNext(v.ctx(), v.user())
	case decideCancel:
		p.cancelGet(v)
		return
	case decideMore:
		p.getForm(v)
		return
	default:
		v.expired("/get")
		return
	}
	switch {
	case errors.Is(err, desk.ErrUnreachable):
		v.w.Header().Set("Retry-After", "10")
		p.showGetForm(v, http.StatusServiceUnavailable, getPage{Again: true})
	case errors.Is(err, mobileid.ErrMobileIDActive), errors.Is(err, mobileid.ErrAlreadyCancelled):
		v.redirect("/get")
	case err != nil:
		v.fail(err)
	default:
		v.redirect("/get/progress")
	}
}

// getCancel is the Cancel of the progress page.
func (p *Pages) getCancel(v *visit) {
	if !p.Desk.CanGet() {
		v.refuse()
		return
	}
	p.cancelGet(v)
}

func (p *Pages) cancelGet(v *visit) {
	stored := false
	before, err := p.Desk.Get(v.ctx(), v.user())
	if err == nil {
		stored, err = p.Desk.GetCancel(v.ctx(), v.user())
	}
	switch {
	case errors.Is(err, mobileid.ErrAlreadyConfirmed):
		v.redirect("/get/progress")
	case err != nil:
		v.fail(err)
	case stored:
		v.show(http.StatusAccepted, "cancel-stored", nil)
	case before.Unknown, before.Stopped, before.Running && !before.RequestedAt.IsZero():
		v.redirect("/get/progress") // which says what becomes of what was begun
	default:
		v.show(http.StatusOK, "unchanged", unchangedPage{Sure: true})
	}
}

// getProgressPage is where a Get stands.
type getProgressPage struct {
	desk.Getting
	Heading string
	Line    string
	Done    bool
	Over    bool // nothing more is to come
	Events  string
}

func (p *Pages) readGet(v *visit, look func(context.Context) (desk.Getting, error)) (getProgressPage, error) {
	g, err := look(v.ctx())
	if err != nil {
		return getProgressPage{}, err
	}
	page := getProgressPage{Getting: g, Events: "/get/progress/events"}
	page.describe()
	if page.Over {
		page.Events = ""
	}
	return page, nil
}

// describe finds the words.
func (page *getProgressPage) describe() {
	page.Heading = "Getting your mobile ID"
	switch {
	case page.Ended:
		page.Line = "It has ended. How, nobody can tell now: look again as soon as this service works again."
	case page.Unknown:
		page.Line = "Nobody can tell now how far it is. It goes on as soon as this service works again."
	case page.Stopped:
		page.Heading, page.Over = "Get mobile ID has stopped", true
		page.Line = "It was ended from outside before it was done, and nothing works on it now."
	case page.Outcome == workflows.OutcomeActive:
		page.Heading, page.Line = "Your new mobile ID is active", "You can use it now."
		page.Done, page.Over = true, true
	case page.Failure != nil:
		page.Heading = "No mobile ID came of it"
		page.Line = failureWords(page.Failure.Type, page.Phase)
		page.Over = page.Phase == workflows.Closed
	case page.Outcome == workflows.OutcomeCancelled || page.Outcome == workflows.OutcomeExpired:
		page.Heading, page.Line, page.Over = "Nothing was changed", "Get mobile ID was cancelled, or never answered.", true
	case page.Phase == workflows.NeedsOperator:
		page.Line = "The service desk has to help here. Your request is safe."
	case page.Phase == workflows.LockingOld:
		page.Line = "Your old mobile ID is being locked first. This can take as long as the certificate authority needs."
	case page.Phase == workflows.AwaitingPhone && page.ByMail:
		page.Heading, page.Line = "The code was mailed to you", "The code waits for your phone."
	case page.Phase == workflows.AwaitingPhone && page.Code:
		page.Heading, page.Line = "Scan this code with your phone", "The code waits for your phone."
	case page.Phase == workflows.AwaitingPhone:
		page.Line = "Your phone's answer is being checked."
	case page.Phase == workflows.Issuing:
		page.Line = "Your phone has made its keys. Its certificates are being issued."
	case page.Phase == workflows.Installing || page.Phase == workflows.Activating:
		page.Line = "Your phone takes the certificates. Keep the app open."
	default:
		page.Line = "The code for your phone is being prepared."
	}
}

// failureWords are a failure in words for people. What was begun is gone when the
// process is closed, and not before.
func failureWords(kind mobileid.FailureType, phase workflows.Phase) string {
	what, then := "Something did not fit together, so it was stopped.", "Start again, or ask the service desk."
	switch kind {
	case mobileid.FailureCancelled:
		what, then = "It was cancelled.", ""
	case mobileid.FailurePhoneSilent:
		what, then = "Your phone did not answer in time.", "Start again, and have the app ready."
	case mobileid.FailurePhoneRefused:
		what, then = "The app on your phone declined.", ""
	case mobileid.FailureMobileIDActive:
		what, then = "Another mobile ID of yours is still active.", "Lock it first."
	}
	switch phase {
	case workflows.Closed:
		return strings.TrimSpace(what + " Nothing is left behind. " + then)
	case workflows.NeedsOperator:
		return what + " The service desk has to help to take back what was begun."
	}
	return what + " What was begun is being taken back."
}

func (p *Pages) getProgress(v *visit) {
	page, err := p.readGet(v, p.Desk.LookAtGet(v.user()))
	if err != nil {
		v.fail(err)
		return
	}
	switch {
	case page.Refusal != nil:
		v.refuse()
	case page.none(), page.Phase == workflows.AwaitingConfirmation && page.Running:
		v.redirect("/get")
	default:
		v.show(http.StatusOK, "get-progress", page)
	}
}

// none reports that the user has no Get.
func (page *getProgressPage) none() bool { return !page.Unknown && page.WorkflowID == "" }

func (p *Pages) getEvents(v *visit) {
	look := p.Desk.LookAtGet(v.user())
	p.stream(v, p.Watch.Steady(), func() (fragment, error) {
		page, err := p.readGet(v, look)
		if err != nil {
			return fragment{}, err
		}
		return fragment{template: "get-progress", page: page, heading: page.Heading, line: page.Line, over: page.Over || page.Refusal != nil || page.none()}, nil
	})
}

// pictureTime is how long a picture may take to be written.
const pictureTime = 10 * time.Second

// getCode is the QR code, for this user alone and kept nowhere.
func (p *Pages) getCode(v *visit) {
	picture, err := p.Desk.Code(v.ctx(), v.user())
	if errors.Is(err, mobileid.ErrNoProvisioning) {
		v.refuse()
		return
	}
	if err != nil {
		v.fail(err)
		return
	}
	v.w.Header().Set("Content-Type", "image/png")
	_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(pictureTime))
	_, _ = v.w.Write(picture) // nobody is left to tell
}

// lockFirstAddress is the lock that a Get begins with.
func lockFirstAddress(id string) string {
	return "/mobile-ids/" + url.PathEscape(id) + "/lock?then=" + thenGet
}
