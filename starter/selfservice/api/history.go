package api

import (
	"net/http"
	"time"

	"mobileid"
)

// entryView is a line of the history of the user's locks, from the audit.
type entryView struct {
	MobileID string         `json:"mobileId"`
	Name     string         `json:"name"`
	Event    mobileid.Event `json:"event"`
	At       time.Time      `json:"at"`
	ByUser   bool           `json:"byUser"`   // and not by an operator, say
	Finished bool           `json:"finished"` // nothing more is to come
}

// history lists the user's locks, the newest first.
func (a *API) history(c *call) {
	entries, err := a.Desk.History(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	views := make([]entryView, len(entries))
	for i, e := range entries {
		views[i] = entryView{e.MobileID.ID, e.MobileID.Name, e.Event, e.At, e.By.UserID == c.user(), e.Finished || e.Event != mobileid.EventLocked}
	}
	c.answer(http.StatusOK, map[string]any{"entries": views})
}
