package mail

import (
	"bytes"
	"fmt"
	"image/png"
	"time"

	"mobileid"
)

// Kind says what a message is about. A process sends each kind once to each address.
type Kind string

// The kinds of messages.
const (
	KindLockRequested Kind = "lockRequested"
	KindLockFinished  Kind = "lockFinished"
	KindGetFinished   Kind = "getFinished"
	KindGetFailed     Kind = "getFailed"
	KindGetQR         Kind = "getQR"
	KindLockOverdue   Kind = "lockOverdue"
)

// Letter is what a message says: a [LockRequested], [LockFinished], [GetFinished],
// [GetFailed], [GetQR] or, to operators, [LockOverdue]. Names in it are shown as they are, without line ends and other
// control characters, and cut where they are very long: a message about a lock must
// arrive whatever somebody's name is.
type Letter interface {
	// Kind says what the message is about.
	Kind() Kind
	// ready returns the letter with its texts made fit for a line, or an *Error that
	// names the field without which it cannot be written.
	ready() (Letter, error)
}

// About says whose mobile ID a letter is about, and which.
type About struct {
	UserName  string // empty: the greeting has none
	MobileID  string // its id
	Name      string // as the owner knows it, for example "MobileID Anna"; empty: the id
	Reference string // of the process, for the service desk; empty: not shown
}

// Title is how the letter calls the mobile ID.
func (a About) Title() string {
	if a.Name != "" {
		return a.Name
	}
	return a.MobileID
}

func (a About) ready(op string) (About, error) {
	if a.MobileID == "" {
		return a, invalid(op, "mobile ID", "is missing")
	}
	return About{UserName: plain(a.UserName), MobileID: plain(a.MobileID), Name: plain(a.Name), Reference: plain(a.Reference)}, nil
}

// Decider says who pressed Next.
type Decider string

// Who can have decided. A letter names operators by their role, never by name.
const (
	ByOwner    Decider = "owner" // or somebody who is signed in as the owner
	ByOperator Decider = "operator"
)

// Owner reports whether the owner decided, as far as anybody can tell.
func (d Decider) Owner() bool { return d == ByOwner }

func (d Decider) check(op string) error {
	if d != ByOwner && d != ByOperator {
		return invalid(op, "decider", "is neither owner nor operator")
	}
	return nil
}

// Times are the four times of a lock, never one for another. Zero: not, or not yet.
type Times struct {
	RequestedAt time.Time // Next
	LockedAt    time.Time // blocked here
	RevokedAt   time.Time // all at the CA, by its own date
	VisibleAt   time.Time // others can see it
}

// Row is one of the times as a letter shows it.
type Row struct{ Name, When, Meaning string }

// rows says of each time when it was and what it means; absent says what it means that
// there is none.
func (t Times) rows(absent [4]Row) []Row {
	rows := []Row{
		{"Requested", "", "The request to lock was accepted."},
		{"Locked here", "", "Since then it is locked in our own records, for good."},
		{"Revoked", "", "The certificate authority has revoked the last of its certificates."},
		{"Visible to others", "", "Others who check the certificates can see that they are revoked."},
	}
	for i, at := range []time.Time{t.RequestedAt, t.LockedAt, t.RevokedAt, t.VisibleAt} {
		if !at.IsZero() {
			rows[i].When = when(at)
			continue
		}
		rows[i].When, rows[i].Meaning = absent[i].When, absent[i].Meaning
	}
	return rows
}

// LockRequested is sent at once after Next, so that an owner who did not ask can object.
type LockRequested struct {
	About
	Times        // RequestedAt is needed
	DecidedBy    Decider
	Reason       mobileid.Reason // empty or unspecified: not shown
	Certificates []mobileid.Certificate
	ThenGet      bool // the process goes on to Get mobile ID
}

// Kind implements [Letter].
func (LockRequested) Kind() Kind { return KindLockRequested }

func (l LockRequested) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	about, err := l.About.ready(op)
	if err != nil {
		return nil, err
	}
	if l.RequestedAt.IsZero() {
		return nil, invalid(op, "requested at", "is missing")
	}
	l.About = about
	return l, l.DecidedBy.check(op)
}

// Rows are the four times as they stand.
func (l LockRequested) Rows() []Row {
	return l.rows([4]Row{
		{},
		{When: "not yet", Meaning: "From then on it is locked in our own records, for good."},
		{When: "not yet", Meaning: "Then the certificate authority has revoked its certificates."},
		{When: "not yet", Meaning: "Then others who check the certificates can see that they are revoked."},
	})
}

// LockFinished is sent when the three end states stand.
type LockFinished struct {
	About
	Times        // LockedAt is needed
	DecidedBy    Decider
	Reason       mobileid.Reason // empty or unspecified: not shown
	Certificates []mobileid.CertificateResult
	GetStarted   bool // Get mobile ID has been started
}

// Kind implements [Letter].
func (LockFinished) Kind() Kind { return KindLockFinished }

func (l LockFinished) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	about, err := l.About.ready(op)
	if err != nil {
		return nil, err
	}
	if l.LockedAt.IsZero() {
		return nil, invalid(op, "locked at", "is missing")
	}
	l.About = about
	return l, l.DecidedBy.check(op)
}

// Rows are the four times as they stand.
func (l LockFinished) Rows() []Row {
	visible := Row{When: "not confirmed", Meaning: "Others may take the certificates for valid until they read the next list of the certificate authority."}
	if l.RevokedAt.IsZero() {
		visible = Row{When: "not needed", Meaning: "There was no revocation for others to see."}
	}
	return l.rows([4]Row{
		{When: "not recorded", Meaning: "It was locked before, and not by this process."},
		{},
		{When: "not needed", Meaning: "It had no certificate that was still to be revoked."},
		visible,
	})
}

// GetFinished is sent when a new mobile ID is active.
type GetFinished struct {
	About
	RequestedAt  time.Time // zero: not shown
	ActiveAt     time.Time
	ValidUntil   time.Time
	DecidedBy    Decider
	Certificates []mobileid.Certificate
}

// Kind implements [Letter].
func (GetFinished) Kind() Kind { return KindGetFinished }

func (l GetFinished) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	about, err := l.About.ready(op)
	if err != nil {
		return nil, err
	}
	if l.ActiveAt.IsZero() {
		return nil, invalid(op, "active at", "is missing")
	}
	if l.ValidUntil.IsZero() {
		return nil, invalid(op, "valid until", "is missing")
	}
	l.About = about
	return l, l.DecidedBy.check(op)
}

// GetFailed is sent when no new mobile ID came about.
type GetFailed struct {
	About
	RequestedAt time.Time // zero: not shown
	FailedAt    time.Time
	Problem     string // what went wrong, a sentence for the owner; empty: not shown. Never a secret
	NothingMade bool   // there was nothing of it yet, so that nothing is to be cleaned up
	CleanedUp   bool   // what was issued for the half-made mobile ID is revoked; it is locked in any case
	OldLocked   bool   // the owner's mobile ID before it is locked
}

// Kind implements [Letter].
func (GetFailed) Kind() Kind { return KindGetFailed }

func (l GetFailed) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	about, err := l.About.ready(op)
	if err != nil {
		return nil, err
	}
	if l.FailedAt.IsZero() {
		return nil, invalid(op, "failed at", "is missing")
	}
	l.About, l.Problem = about, plain(l.Problem)
	return l, nil
}

// maxQR bounds the image of a QR, in bytes and in pixels a side.
const (
	maxQR       = 256 << 10
	maxQRPixels = 2000
)

// GetQR carries the QR with which a phone fetches a new mobile ID. The QR is a secret:
// whoever scans it first gets the mobile ID. The letter shows it as an image, and never
// its content as a text or an address.
type GetQR struct {
	About
	PNG        []byte
	ValidUntil time.Time // of the QR; zero: not shown
	App        string    // what the app on the phone is called; empty: the app for mobile IDs
}

// Kind implements [Letter].
func (GetQR) Kind() Kind { return KindGetQR }

func (l GetQR) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	about, err := l.About.ready(op)
	if err != nil {
		return nil, err
	}
	if len(l.PNG) > maxQR {
		return nil, invalid(op, "QR", fmt.Sprintf("has more than %d bytes", maxQR))
	}
	image, err := png.DecodeConfig(bytes.NewReader(l.PNG))
	if err != nil || image.Width > maxQRPixels || image.Height > maxQRPixels {
		return nil, invalid(op, "QR", fmt.Sprintf("is not a PNG of at most %d pixels a side", maxQRPixels))
	}
	l.About, l.App = about, plain(l.App)
	if l.App == "" {
		l.App = "the app for mobile IDs"
	}
	return l, nil
}
