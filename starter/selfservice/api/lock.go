package api

import (
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
	MobileIDState mobileid.State `json:"mobileIdState"`
	Stage         desk.Stage     `json:"stage"`
	timesView
	NeedsOperator bool         `json:"needsOperator"`
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
		MobileID: p.MobileID.ID, MobileIDState: p.MobileID.State, Stage: p.Stage, timesView: viewTimes(p), NeedsOperator: p.NeedsHelp,
		NextTry: p.NextTry, ThenGet: p.ThenGet, Finished: p.Finished(), Certificates: viewResults(p.Certificates),
	}
}

func (a *API) status(c *call) { c.answerLock(http.StatusOK) }

// answerLock tells where the lock stands.
func (c *call) answerLock(code int) {
	p, err := c.api.Desk.Progress(c.ctx(), c.user(), c.id())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(code, viewLock(p))
}

func (a *API) start(c *call) {
	d, requestID, err := c.order("confirmed", "reason", "thenGet")
	if err != nil {
		c.fail(err)
		return
	}
	order := desk.LockOrder{MobileID: c.id(), RequestID: requestID, Reason: d.reason, ThenGet: d.thenGet}
	if d.confirmed {
		c.answerNext(a.Desk.Lock(c.ctx(), c.user(), order))
		return
	}
	if d.thenGet {
		c.fail(mobileid.InvalidRequest("thenGet", "goes with Next: send it with confirmed, or with next"))
		return
	}
	if err := a.Desk.StartLock(c.ctx(), c.user(), order); err != nil {
		c.fail(err)
		return
	}
	c.answerLock(http.StatusOK)
}

func (a *API) next(c *call) {
	d, requestID, err := c.order("reason", "thenGet")
	if err != nil {
		c.fail(err)
		return
	}
	c.answerNext(a.Desk.NextLock(c.ctx(), c.user(), desk.LockOrder{
		MobileID: c.id(), RequestID: requestID, Reason: d.reason, ThenGet: d.thenGet,
	}))
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
	_, requestID, err := c.order()
	if err != nil {
		c.fail(err)
		return
	}
	// Not the id of a Next with the same key: the engine would give Next's answer.
	switch a.Desk.CancelLock(c.ctx(), c.user(), c.id(), "cancel."+requestID) {
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
	retried, err := a.Desk.RetryLock(c.ctx(), c.user(), c.id())
	if err != nil {
		c.fail(err)
		return
	}
	p, err := a.Desk.Progress(c.ctx(), c.user(), c.id())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, retryView{retried, viewLock(p)})
}
