package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// mobileIDView is a mobile ID as its owner sees it.
type mobileIDView struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	State        mobileid.State    `json:"state"`
	RequestedAt  time.Time         `json:"requestedAt,omitzero"`
	LockedAt     time.Time         `json:"lockedAt,omitzero"`
	Certificates []certificateView `json:"certificates"`
}

type certificateView struct {
	mobileid.CertificateID
	IssuerDN  string                    `json:"issuerDn"`
	NotAfter  time.Time                 `json:"notAfter"`
	StateInIM mobileid.CertificateState `json:"stateInIm"`
}

func viewMobileID(m mobileid.MobileID) mobileIDView {
	v := mobileIDView{ID: m.ID, Name: m.Name, State: m.State, RequestedAt: m.RequestedAt, LockedAt: m.LockedAt, Certificates: []certificateView{}}
	for _, c := range m.Certificates {
		v.Certificates = append(v.Certificates, certificateView{c.CertificateID, c.IssuerDN, c.NotAfter, c.State})
	}
	return v
}

func (a *API) list(c *call) {
	all, err := a.Desk.MobileIDs(c.ctx(), c.user())
	if err != nil {
		c.fail(err)
		return
	}
	list := make([]mobileIDView, len(all))
	for i, m := range all {
		list[i] = viewMobileID(m)
	}
	c.answer(http.StatusOK, map[string]any{"mobileIds": list})
}

func (a *API) show(c *call) {
	owned, err := a.Desk.MobileID(c.ctx(), c.user(), c.id())
	if err != nil {
		c.fail(err)
		return
	}
	c.answer(http.StatusOK, viewMobileID(owned.MobileID))
}

// receiptView is the receipt of a lock, from the audit.
type receiptView struct {
	Reference    string             `json:"reference"` // for people, as on the pages
	MobileID     string             `json:"mobileId"`
	ByUser       bool               `json:"byUser"` // and not by an operator, say
	Audit        mobileid.AuditMark `json:"audit"`  // the last record about it
	Certificates []resultView       `json:"certificates"`
	timesView
}

var errNotLocked = errors.New("the mobile ID is not locked: there is no receipt")

func (a *API) receipt(c *call) {
	owned, err := a.Desk.MobileID(c.ctx(), c.user(), c.id())
	if err == nil && owned.State != mobileid.Locked {
		err = errNotLocked
	}
	if err != nil {
		c.fail(err)
		return
	}
	p := desk.Recorded(owned)
	c.answer(http.StatusOK, receiptView{
		Reference: owned.ID + "/" + strconv.FormatInt(p.Number, 10), MobileID: owned.ID, ByUser: p.By.UserID == c.user(),
		Audit: p.Audit, Certificates: viewResults(p.Certificates), timesView: viewTimes(p),
	})
}
