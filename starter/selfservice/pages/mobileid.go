package pages

import (
	"crypto/x509"
	"net/http"
	"time"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// shownID is a mobile ID in a list or on its own page.
type shownID struct {
	ID, Name   string
	State      mobileid.State
	ValidUntil time.Time // of the certificate that ends first; zero: none is left
	LockedOn   time.Time
	Locking    bool // locked here; its certificates are not done yet
}

func shown(m mobileid.MobileID) shownID {
	s := shownID{ID: m.ID, Name: m.Name, State: m.State, LockedOn: m.LockedAt}
	if s.Name == "" {
		s.Name = m.ID
	}
	open := m.Open()
	for _, c := range open {
		if s.ValidUntil.IsZero() || c.NotAfter.Before(s.ValidUntil) {
			s.ValidUntil = c.NotAfter
		}
	}
	s.Locking = m.State == mobileid.Locked && len(open) > 0
	return s
}

func shownAll(all []mobileid.MobileID) []shownID {
	list := make([]shownID, len(all))
	for i, m := range all {
		list[i] = shown(m)
	}
	return list
}

// dashboardPage is what the user can do.
type dashboardPage struct {
	CanGet bool
	Lock   []shownID // active ones
	Going  []shownID // being locked
}

func (p *Pages) dashboard(v *visit) {
	all, err := p.Desk.MobileIDs(v.ctx(), v.user())
	if err != nil {
		v.fail(err)
		return
	}
	page := dashboardPage{CanGet: p.Desk.CanGet()}
	for _, m := range shownAll(all) {
		switch {
		case m.State == mobileid.Active:
			page.Lock = append(page.Lock, m)
		case m.Locking:
			page.Going = append(page.Going, m)
		}
	}
	v.show(http.StatusOK, "dashboard", page)
}

func (p *Pages) mobileIDs(v *visit) {
	all, err := p.Desk.MobileIDs(v.ctx(), v.user())
	if err != nil {
		v.fail(err)
		return
	}
	v.show(http.StatusOK, "mobile-ids", shownAll(all))
}

// mobileIDPage is one mobile ID.
type mobileIDPage struct {
	shownID
	Certificates []shownCertificate
	ByYou        bool
	Lockable     bool
	Underway     bool // a lock runs
	Stopped      bool // no lock runs, and a certificate is open
}

// shownCertificate is a certificate on the page of its mobile ID.
type shownCertificate struct {
	mobileid.Certificate
	Use string
}

func (p *Pages) mobileID(v *visit) {
	progress, err := p.Desk.Progress(v.ctx(), v.user(), v.id())
	if err != nil {
		v.fail(err)
		return
	}
	m := progress.MobileID
	page := mobileIDPage{
		shownID:  shown(m),
		ByYou:    progress.By.UserID == v.user(),
		Underway: underway(progress),
		Stopped:  stopped(progress),
	}
	page.Lockable = m.State == mobileid.Active && !page.Underway
	for _, c := range m.Certificates {
		page.Certificates = append(page.Certificates, shownCertificate{c, use(c)})
	}
	v.show(http.StatusOK, "mobile-id", page)
}

// underway reports that there is progress to be seen, and no second button to be
// pressed.
func underway(p desk.Progress) bool {
	return p.Stage == desk.StageRequested || p.Stage == desk.StageLocked && !p.Idle
}

// stopped reports that the mobile ID is locked with a certificate that is not revoked, and
// that nothing works on it: a new start of the lock goes on there.
func stopped(p desk.Progress) bool { return p.Stage == desk.StageLocked && p.Idle }

// use says what a certificate is for, by its key usage (RFC 5280 section 4.2.1.3).
func use(c mobileid.Certificate) string {
	certificate, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return "certificate"
	}
	const encryption = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	switch {
	case certificate.KeyUsage&x509.KeyUsageContentCommitment != 0:
		return "signature"
	case certificate.KeyUsage&x509.KeyUsageDigitalSignature != 0:
		return "sign-in"
	case certificate.KeyUsage&encryption != 0:
		return "encryption"
	}
	return "certificate"
}
