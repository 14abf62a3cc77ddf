package pages

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
	"mobileid/workflows"
)

// progressPage is where a lock stands.
type progressPage struct {
	shownID
	desk.Progress
	Heading   string
	Line      string // what changes last, for the live region
	Steps     []progressStep
	Promise   bool   // it goes on when the page is closed
	Again     string // what to press for it to go on, or to begin again; empty: nothing
	Panel     bool   // the three end states stand
	Chained   bool   // goes on to Get mobile ID
	CanGet    bool   // Get mobile ID is offered
	Events    string // address of the event stream; empty: nothing more is to come
	Reload    string
	Reference string
	ByYou     bool
	Accepted  time.Time // Next, for as long as nobody else can tell
}

// progressStep is one of the four states.
type progressStep struct {
	Label string
	State string // waiting, working, done, needs help
	At    time.Time
}

// The words for the state of a step.
const (
	stepWaiting = "waiting"
	stepWorking = "working"
	stepDone    = "done"
	stepHelp    = "needs help"
	stepStopped = "stopped"
	stepUnseen  = "not known"
	stepNone    = "not needed"
	stepExpired = "not needed: expired"
)

// readProgress reads what the page shows.
func (p *Pages) readProgress(v *visit, look func(context.Context) (desk.Progress, error)) (progressPage, error) {
	progress, err := look(v.ctx())
	if err != nil {
		return progressPage{}, err
	}
	page := progressPage{
		shownID: shown(progress.MobileID), Progress: progress,
		Chained: v.r.URL.Query().Get("then") == thenGet, ByYou: progress.By.UserID == v.user(),
		CanGet: p.Desk.CanGet(),
	}
	token := v.r.URL.Query().Get("next")
	if token != "" {
		_ = p.accepted.Open(token, &page.Accepted, v.session.ID, page.ID) // else nobody says so
	}
	if page.RequestedAt.IsZero() && !page.Accepted.IsZero() {
		page.RequestedAt = page.Accepted
	}
	if page.Number > 0 {
		page.Reference = reference(page.ID, page.Number)
	}
	page.Reload = progressAddress(page.ID, token, page.Chained)
	page.describe()
	if !page.Finished() || page.Chained && page.Panel {
		u, _ := url.Parse(page.Reload) // it was just made
		u.Path += events
		page.Events = u.String()
	}
	return page, nil
}

// describe finds the words.
func (page *progressPage) describe() {
	page.Promise = true
	switch page.Stage {
	case desk.StageRequested:
		page.Heading = "Your request to lock is stored"
		page.Line = "It is not locked yet. It will be, as soon as this service can."
	case desk.StageUnknown, desk.StageElsewhere:
		page.Heading = "Your request to lock is stored"
		page.Line = "Nobody can tell now how far it is. It goes on as soon as this service works again."
		if page.Accepted.IsZero() {
			page.Heading = "We cannot see now how far the lock is"
			page.Line = "If you have pressed Next, your request is stored and goes on."
		}
	case desk.StageLocked:
		page.Heading = "Your mobile ID is being locked"
		page.Line = "It is blocked in this service. Its certificates are being revoked."
		switch {
		case page.Silent:
			page.Line = "It is blocked in this service. Its certificates are revoked as soon as this service works again."
		case page.Idle:
			page.Heading, page.Promise, page.Again = "The lock of your mobile ID has stopped", false, "Go on with the lock"
			page.Line = "It is blocked in this service. Not all its certificates are revoked, and nothing works on that now."
		}
	case desk.StageStopped:
		page.Heading, page.Promise = "Your mobile ID is not locked", false
		page.Line = "The lock was ended before that, from outside. Nothing works on it now."
		if page.State == mobileid.Active {
			page.Again = "Lock mobile ID"
		}
	case desk.StageRevoked:
		page.Heading, page.Panel = "Your mobile ID is locked", true
		page.Line = "Its certificates are revoked. Other services will notice soon."
		switch {
		case page.NothingToRevoke() && len(page.Certificates) > 0:
			page.Promise, page.Line = false, "Its certificates had expired, so none had to be revoked."
		case page.NothingToRevoke():
			page.Promise, page.Line = false, "It had no certificate that had to be revoked."
		case page.Idle:
			page.Promise, page.Line = false, "Its certificates are revoked. Other services notice by themselves; whether they have, is not looked at any more."
		}
	case desk.StageVisible:
		page.Heading, page.Panel, page.Promise = "Your mobile ID is locked", true, false
		page.Line = "Other services see it now."
	}
	if page.NeedsHelp {
		page.Line = "The service desk has to help here. Your request is safe."
	}
	page.Steps = page.steps()
}

func (page *progressPage) steps() []progressStep {
	steps := []progressStep{
		{Label: "Request received", At: page.RequestedAt},
		{Label: "Blocked in this service", At: page.LockedAt},
		{Label: "Revoked at the certificate authority", At: page.RevokedAt},
		{Label: "Visible to other services", At: page.VisibleAt},
	}
	// Where nobody can tell what is done, nothing is said to be under way.
	before := page.Stage != desk.StageUnknown && page.Stage != desk.StageElsewhere && !page.Silent
	for i := range steps {
		switch done := !steps[i].At.IsZero(); {
		case done:
			steps[i].State = stepDone
		case page.NothingToRevoke():
			steps[i].State = notNeeded(page.Progress)
		case before && page.Idle && page.Panel:
			steps[i].State = stepUnseen
		case before && (page.Idle || page.Stage == desk.StageStopped):
			steps[i].State = stepStopped
		case before && page.NeedsHelp:
			steps[i].State = stepHelp
		case before:
			steps[i].State = stepWorking
		default:
			steps[i].State = stepWaiting
		}
		before = before && steps[i].State == stepDone
	}
	return steps
}

// notNeeded says why nothing had to be revoked.
func notNeeded(p desk.Progress) string {
	if len(p.Certificates) > 0 {
		return stepExpired
	}
	return stepNone
}

func (p *Pages) progress(v *visit) {
	page, err := p.readProgress(v, p.Desk.Look(v.user(), v.id()))
	if err != nil {
		v.fail(err)
		return
	}
	switch page.Stage {
	case desk.StageNone:
		if page.Accepted.IsZero() {
			v.redirect("/mobile-ids/" + url.PathEscape(page.ID))
			return
		}
		v.refuse()
		return
	case desk.StageWaiting:
		v.redirect("/mobile-ids/" + url.PathEscape(page.ID) + "/lock")
		return
	case desk.StageUnchanged:
		v.show(http.StatusOK, "unchanged", unchangedPage{ID: page.ID, Sure: true})
		return
	case desk.StageRefused:
		v.refuse()
		return
	}
	if page.Chained && page.Panel && p.getWaits(v) {
		v.redirect("/get")
		return
	}
	v.show(http.StatusOK, "progress", page)
}

// getWaits reports that the Get that a lock goes on to waits for the user.
func (p *Pages) getWaits(v *visit) bool {
	g, err := p.Desk.Get(v.ctx(), v.user())
	return err == nil && g.Running && g.Phase == workflows.AwaitingConfirmation
}

func (p *Pages) progressEvents(v *visit) {
	// Nobody is told here what is not theirs, either.
	if _, err := p.Desk.MobileID(v.ctx(), v.user(), v.id()); err != nil {
		v.fail(err)
		return
	}
	look := p.Desk.Look(v.user(), v.id())
	p.stream(v, p.Watch.Follow(v.id()), func() (fragment, error) {
		page, err := p.readProgress(v, look)
		if err != nil {
			return fragment{}, err
		}
		over := page.Events == "" || page.Chained && page.Panel && p.getWaits(v)
		switch page.Stage {
		case desk.StageNone, desk.StageWaiting, desk.StageUnchanged, desk.StageRefused:
			return fragment{over: true}, nil
		}
		return fragment{template: "progress", page: page, heading: page.Heading, line: page.Line, over: over}, nil
	})
}

// reference names a lock for people: its mobile ID, and the number of its audit record.
func reference(mobileID string, number int64) string {
	return mobileID + "/" + itoa(number)
}

func wasRevoked(c mobileid.Certificate) bool { return c.State == mobileid.CertificateRevoked }

// historyPage lists the user's locks.
type historyLine struct {
	shownID
	desk.Entry
	What  string
	ByYou bool
}

func (p *Pages) history(v *visit) {
	entries, err := p.Desk.History(v.ctx(), v.user())
	if err != nil {
		v.fail(err)
		return
	}
	lines := make([]historyLine, len(entries))
	for i, e := range entries {
		lines[i] = historyLine{shownID: shown(e.MobileID), Entry: e, ByYou: e.By.UserID == v.user()}
		switch e.Event {
		case mobileid.EventCancelled:
			lines[i].What = "Cancelled. Nothing was changed."
		case mobileid.EventExpired:
			lines[i].What = "Never answered. Nothing was changed."
		default:
			lines[i].What = "Locked by an operator."
			if lines[i].ByYou {
				lines[i].What = "Locked by you."
			}
			switch {
			case e.Finished && slices.ContainsFunc(e.MobileID.Certificates, wasRevoked):
				lines[i].What += " Its certificates are revoked."
			case e.Finished:
				lines[i].What += " No certificate had to be revoked."
			default:
				lines[i].What += " Not all its certificates are revoked yet."
			}
		}
	}
	v.show(http.StatusOK, "history", lines)
}
