package pages

import (
	"net/http"
	"net/url"
	"strconv"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// receiptPage is the receipt of a lock, from the audit.
type receiptPage struct {
	shownID
	desk.Progress
	Reference string
	Owner     string
	ByYou     bool
}

// readReceipt reads the receipt of a mobile ID that is locked, else ok is false.
func (p *Pages) readReceipt(v *visit) (page receiptPage, ok bool) {
	owned, err := p.Desk.MobileID(v.ctx(), v.user(), v.id())
	if err != nil {
		v.fail(err)
		return page, false
	}
	if owned.State != mobileid.Locked {
		v.redirect("/mobile-ids/" + url.PathEscape(owned.ID))
		return page, false
	}
	page = receiptPage{shownID: shown(owned.MobileID), Progress: desk.Recorded(owned), Owner: v.session.User.Name}
	page.Reference = reference(page.ID, page.Number)
	page.ByYou = page.By.UserID == v.user()
	return page, true
}

func (p *Pages) receipt(v *visit) {
	if page, ok := p.readReceipt(v); ok {
		v.show(http.StatusOK, "receipt", page)
	}
}

func (p *Pages) receiptText(v *visit) {
	page, ok := p.readReceipt(v)
	if !ok {
		return
	}
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// The id is 1 to 128 of A-Z a-z 0-9 . _ -, as in the store.
	v.w.Header().Set("Content-Disposition", `attachment; filename="receipt-`+page.ID+`.txt"`)
	p.render.text(v.w, page)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
