package api

import (
	"net/http"
	"slices"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
	"mobileid/workflows"
)

// mayGet reports whether the token is good for Get mobile ID, too.
func (c *call) mayGet() bool {
	return c.api.GetScope != "" && slices.Contains(c.caller.Scopes, c.api.GetScope)
}

// getting lets in tokens for Get mobile ID.
func (a *API) getting(handle func(*call)) func(*call) {
	return func(c *call) {
		switch {
		case a.GetScope == "":
			c.fail(mobileid.NotEntitled("Get mobile ID is not offered here"))
		case !c.mayGet():
			c.needScope(a.GetScope)
		default:
			handle(c)
		}
	}
}

// phaseNone and phaseUnknown stand beside the phases of the process.
const (
	phaseNone    workflows.Phase = "none"    // no Get runs, and none has been
	phaseUnknown workflows.Phase = "unknown" // nobody can tell now
	phaseStopped workflows.Phase = "stopped" // it was ended from outside before it was done
)

// getView is where the user's Get stands. It never holds the code.
type getView struct {
	Phase         workflows.Phase      `json:"phase"`
	MobileID      string               `json:"mobileId,omitempty"` // that is being made
	Live          string               `json:"live,omitempty"`     // the mobile ID to be locked first
	Outcome       workflows.Outcome    `json:"outcome,omitempty"`
	Failure       mobileid.FailureType `json:"failure,omitempty"`
	Refusal       mobileid.RefusalType `json:"refusal,omitempty"` // the last one was refused
	RequestedAt   time.Time            `json:"requestedAt,omitzero"`
	ActivatedAt   time.Time            `json:"activatedAt,omitzero"`
	Deadline      time.Time            `json:"deadline,omitzero"` // for Next, or for the phone
	NeedsOperator bool                 `json:"needsOperator"`
	CanCancel     bool                 `json:"canCancel"`
	Code          *codeView            `json:"code,omitempty"` // there is one to be scanned
	Finished      bool                 `json:"finished"`       // nothing more is to come
}

// codeView tells of a code; its URI is told by getCode alone.
type codeView struct {
	Until  time.Time `json:"until"`
	ByMail bool      `json:"byMail"` // it was sent to the user's address, and is not told here
}

func viewGet(g desk.Getting) getView {
	v := getView{
		Phase: g.Phase, MobileID: g.MobileID, Outcome: g.Outcome, RequestedAt: g.RequestedAt, ActivatedAt: g.ActivatedAt, Deadline: g.Deadline,
		NeedsOperator: g.Running && g.Phase == workflows.NeedsOperator, CanCancel: g.CanCancel(), Finished: g.Ended || !g.Running && !g.Unknown,
	}
	switch {
	case g.Unknown:
		v.Phase = phaseUnknown
	case g.Stopped:
		v.Phase = phaseStopped
	case g.Phase == "":
		v.Phase = phaseNone
	case g.Phase == workflows.AwaitingConfirmation:
		v.Live = g.Live
	}
	if g.Failure != nil {
		v.Failure = g.Failure.Type
	}
	if g.Refusal != nil {
		v.Refusal = g.Refusal.Type
	}
	if g.Code {
		v.Code = &codeView{g.CodeUntil, g.ByMail}
	}
	return v
}

func (a *API) getStatus(c *call) {
	g, err := a.Desk.Get(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, viewGet(g))
}

// getOrder reads the key and the body of a call that decides something about a Get.
// Each kind of message has ids of its own: with another's, the engine would give that
// one's answer.
func (c *call) getOrder(kind string, fields ...string) (requestID string, d decision, err error) {
	id, err := c.requestID()
	if err != nil {
		return "", d, err
	}
	d, err = c.read(fields...)
	return kind + "." + id, d, err
}

func (a *API) getStart(c *call) {
	id, d, err := c.getOrder("next", "confirmed")
	if err == nil && d.confirmed {
		err = a.Desk.ConfirmGet(c.ctx(), c.user(), id)
	} else if err == nil {
		err = a.Desk.StartGet(c.ctx(), c.user())
	}
	c.answerDecided(err)
}

func (a *API) getNext(c *call) {
	id, _, err := c.getOrder("next")
	if err == nil {
		err = a.Desk.NextGet(c.ctx(), c.user(), id)
	}
	c.answerDecided(err)
}

func (a *API) getLock(c *call) {
	id, _, err := c.getOrder("lock")
	if err == nil {
		err = a.Desk.LockForGet(c.ctx(), c.user(), id)
	}
	c.answerDecided(err)
}

func (a *API) getCancel(c *call) {
	id, _, err := c.getOrder("cancel")
	if err == nil {
		_, err = a.Desk.CancelGet(c.ctx(), c.user(), id) // whether it is only stored is seen next
	}
	c.answerDecided(err)
}

// answerDecided tells where the Get stands once a decision was taken.
func (c *call) answerDecided(err error) {
	if err != nil {
		c.fail(err)
		return
	}
	g, err := c.api.Desk.Get(c.ctx(), c.user())
	switch {
	case err != nil:
		c.fail(err)
	case g.Unknown: // it is stored, and counts
		c.answer(http.StatusAccepted, viewGet(g))
	default:
		c.answer(http.StatusOK, viewGet(g))
	}
}

// getRetryView is the answer to retry.
type getRetryView struct {
	Retried bool    `json:"retried"` // false: nothing waits, or no worker could tell
	Get     getView `json:"get"`
}

func (a *API) getRetry(c *call) {
	_, _, err := c.getOrder("retry")
	if err != nil {
		c.fail(err)
		return
	}
	retried, err := a.Desk.RetryGet(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	g, err := a.Desk.Get(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, getRetryView{retried, viewGet(g)})
}

func (a *API) getEvents(c *call) {
	if _, err := a.Desk.Get(c.ctx(), c.user()); err != nil {
		c.fail(err)
		return
	}
	look := a.Desk.LookAtGet(c.user())
	c.stream("get", a.Watch.Steady(), func() (any, bool, error) {
		g, err := look(c.ctx())
		view := viewGet(g)
		return view, view.Finished, err
	})
}

// codeURIView is what the phone scans: a secret of this user.
type codeURIView struct {
	URI   string    `json:"uri"`
	Until time.Time `json:"until"`
}

func (a *API) getCode(c *call) {
	p, err := a.Desk.Provisioning(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, codeURIView{p.URI, p.ExpiresAt})
}

// getPicture is the same as a QR code.
func (a *API) getPicture(c *call) {
	picture, err := a.Desk.Code(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	c.w.Header().Set("Content-Type", "image/png")
	_, _ = c.w.Write(picture) // nobody is left to tell
}
