package api

import (
	"context"
	"net/http"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// timesView are the four honest states; a time is absent while its state does not stand.
type timesView struct {
	RequestedAt time.Time `json:"requestedAt,omitzero"`
	LockedAt    time.Time `json:"lockedAt,omitzero"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	VisibleAt   time.Time `json:"visibleAt,omitzero"`
}

func viewTimes(p desk.Progress) timesView {
	return timesView{p.RequestedAt, p.LockedAt, p.RevokedAt, p.VisibleAt}
}

// lockView is where a lock stands. What a CA answered is not for users.
type lockView struct {
	MobileID      string         `json:"mobileId"`
	Owner         string         `json:"owner,omitempty"` // for operators
	MobileIDState mobileid.State `json:"mobileIdState"`
	Stage         desk.Stage     `json:"stage"`
	timesView
	NeedsOperator bool         `json:"needsOperator"`
	Idle          bool         `json:"idle"` // locked, and no process works on it any more
	NextTry       time.Time    `json:"nextTry,omitzero"`
	ThenGet       bool         `json:"thenGet"`
	Finished      bool         `json:"finished"` // nothing more is to come
	Certificates  []resultView `json:"certificates"`
}

// resultView is what a lock has reached for one certificate.
type resultView struct {
	certificateView
	StatusAtCA mobileid.Status             `json:"statusAtCa,omitempty"`
	Outcome    mobileid.CertificateOutcome `json:"outcome,omitempty"`
	Reason     mobileid.Reason             `json:"reason,omitempty"`
	RevokedAt  time.Time                   `json:"revokedAt,omitzero"`
	VisibleAt  time.Time                   `json:"visibleAt,omitzero"`
	Proof      []mobileid.Proof            `json:"proof,omitempty"`
}

func viewResults(results []mobileid.CertificateResult) []resultView {
	views := make([]resultView, len(results))
	for i, r := range results {
		views[i] = resultView{
			certificateView{r.CertificateID, r.IssuerDN, r.NotAfter, r.StateInIM}, r.StatusAtCA, r.Outcome, r.Reason, r.RevokedAt, r.VisibleAt, r.Proof,
		}
	}
	return views
}

func viewLock(p desk.Progress) lockView {
	return lockView{
		MobileID: p.MobileID.ID, MobileIDState: p.MobileID.State, Stage: p.Stage, timesView: viewTimes(p), NeedsOperator: p.NeedsHelp, Idle: p.Idle,
		NextTry: p.NextTry, ThenGet: p.ThenGet, Finished: p.Finished(), Certificates: viewResults(p.Certificates),
	}
}

func (a *API) status(c *call) { c.answerLock(http.StatusOK) }

// operatorStatus finds the owner itself: operators may see every lock.
func (a *API) operatorStatus(c *call) {
	var err error
	if c.owner, err = a.Desk.OwnerOf(c.ctx(), c.id()); err != nil {
		c.fail(err)
		return
	}
	c.answerLock(http.StatusOK)
}

// readLock reads where the lock stands.
func (c *call) readLock(look func(context.Context) (desk.Progress, error)) (view lockView, finished bool, err error) {
	p, err := look(c.ctx())
	view = viewLock(p)
	if c.operator {
		view.Owner = c.owner
	}
	return view, p.Finished(), err
}

// answerLock tells where the lock stands.
func (c *call) answerLock(code int) {
	view, _, err := c.readLock(c.api.Desk.Look(c.owner, c.id()))
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(code, view)
}

func (a *API) start(c *call) {
	fields := []string{"confirmed", "reason", "thenGet"}
	if c.operator {
		fields = []string{"confirmed", "reason", "resume"}
	}
	order, d, err := c.order(fields...)
	switch {
	case err != nil:
		c.fail(err)
	case d.thenGet && !d.confirmed:
		c.fail(mobileid.InvalidRequest("thenGet", "goes with Next: send it with confirmed, or with next"))
	case d.thenGet && !c.mayGet():
		c.needScope(a.GetScope)
	case d.confirmed:
		c.answerNext(c.locks.Lock(c.ctx(), c.owner, order))
	default:
		if err := c.locks.StartLock(c.ctx(), c.owner, order); err != nil {
			c.fail(err)
			return
		}
		c.answerLock(http.StatusOK)
	}
}

func (a *API) next(c *call) {
	fields := []string{"reason", "thenGet"}
	if c.operator {
		fields = []string{"reason"}
	}
	order, _, err := c.order(fields...)
	switch {
	case err != nil:
		c.fail(err)
	case order.ThenGet && !c.mayGet():
		c.needScope(a.GetScope)
	default:
		c.answerNext(c.locks.NextLock(c.ctx(), c.owner, order))
	}
}

// answerNext answers a Next: 200 when the mobile ID is locked, 202 when Next is stored
// and counts, and more cannot be told yet.
func (c *call) answerNext(locked desk.Locked, err error) {
	switch {
	case err != nil:
		c.fail(err)
	case locked.LockedAt.IsZero():
		c.answerLock(http.StatusAccepted)
	default:
		c.answerLock(http.StatusOK)
	}
}

func (a *API) cancel(c *call) {
	order, _, err := c.order()
	if err != nil {
		c.fail(err)
		return
	}
	// Not the id of a Next with the same key: the engine would give Next's answer.
	switch c.locks.CancelLock(c.ctx(), c.owner, c.id(), "cancel."+order.RequestID) {
	case desk.TooLate:
		c.fail(mobileid.AlreadyConfirmed())
	case desk.Unknown:
		c.fail(desk.ErrUnreachable)
	default:
		c.answerLock(http.StatusOK)
	}
}

// retryView is the answer to retry.
type retryView struct {
	Retried bool     `json:"retried"` // false: nothing waits, or no worker could tell
	Lock    lockView `json:"lock"`
}

func (a *API) retry(c *call) {
	_, _, err := c.order() // to repeat a retry does no harm, so its key changes nothing
	if err != nil {
		c.fail(err)
		return
	}
	retried, err := c.locks.RetryLock(c.ctx(), c.owner, c.id())
	if err != nil {
		c.fail(err)
		return
	}
	view, _, err := c.readLock(c.api.Desk.Look(c.owner, c.id()))
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, retryView{retried, view})
}

func (a *API) events(c *call) {
	if err := c.owned(); err != nil {
		c.fail(err)
		return
	}
	look := a.Desk.Look(c.owner, c.id())
	c.stream("lock", a.Watch.Follow(c.id()), func() (any, bool, error) {
		view, finished, err := c.readLock(look)
		return view, finished, err
	})
}
