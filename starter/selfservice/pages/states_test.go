package pages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/messaging"
	"mobileid/starter/client"
	"mobileid/starter/selfservice/browser/chromium"
	"mobileid/starter/selfservice/desk"
	"mobileid/workflows"
)

// state is a state that a page can be in.
type state struct {
	template string
	page     any
	view     func(*view) // nil: somebody who is signed in, with half an hour
}

var (
	noon  = time.Date(2026, time.March, 2, 12, 0, 0, 0, time.UTC)
	phone = shownID{ID: "mid-1001", Name: "MobileID Anna Andersson", State: mobileid.Active, ValidUntil: noon.AddDate(2, 0, 0)}
	// One word of the greatest length that the store takes.
	longName = shownID{ID: strings.Repeat("m", 128), Name: strings.Repeat("w", 128), State: mobileid.Active}
	lost     = shownID{ID: "mid-1001", Name: "MobileID Anna Andersson", State: mobileid.Locked, LockedOn: noon}
	locking  = shownID{ID: "mid-1001", Name: "MobileID Anna Andersson", State: mobileid.Locked, LockedOn: noon, Locking: true}
)

// states are all states of all pages. That each stage, phase and failure has one is
// tested.
func states() map[string]state {
	all := map[string]state{
		"sign-in":            {"sign-in", signInPage{Then: "/"}, signedOut},
		"sign-in, wrong":     {"sign-in", signInPage{Then: "/", UserID: "anna", Error: "The user name or the password is wrong."}, signedOut},
		"sign-in, ended":     {"sign-in", signInPage{Then: "/", Ended: endedByUser}, signedOut},
		"sign-in, by time":   {"sign-in", signInPage{Then: "/", Ended: endedByTime}, signedOut},
		"sign-in, undone":    {"sign-in", signInPage{Then: "/", Ended: endedUndone}, signedOut},
		"sign-in, openid":    {"sign-in", signInPage{Then: "/", OpenID: true}, signedOut},
		"sign-in, no openid": {"sign-in", signInPage{Then: "/", OpenID: true, Error: "The sign-in was not completed. Try again."}, signedOut},

		"dashboard":                 {"dashboard", dashboardPage{CanGet: true, Lock: []shownID{phone, longName}}, nil},
		"dashboard, one mobile ID":  {"dashboard", dashboardPage{CanGet: true, Lock: []shownID{phone}}, nil},
		"dashboard, locking":        {"dashboard", dashboardPage{Going: []shownID{locking}}, nil},
		"dashboard, nothing":        {"dashboard", dashboardPage{}, nil},
		"dashboard, session's end":  {"dashboard", dashboardPage{CanGet: true}, func(v *view) { v.Limits.Final = true }},
		"mobile IDs":                {"mobile-ids", []shownID{phone, locking, lost}, nil},
		"mobile IDs, none":          {"mobile-ids", []shownID{}, nil},
		"mobile ID":                 {"mobile-id", mobileIDPage{shownID: phone, Lockable: true, Certificates: certificates}, nil},
		"mobile ID, being locked":   {"mobile-id", mobileIDPage{shownID: locking, Underway: true}, nil},
		"mobile ID, lock stopped":   {"mobile-id", mobileIDPage{shownID: locking, Stopped: true, Certificates: certificates}, nil},
		"mobile ID, locked":         {"mobile-id", mobileIDPage{shownID: lost, ByYou: true, Certificates: certificates}, nil},
		"mobile ID, registered":     {"mobile-id", mobileIDPage{shownID: shownID{ID: "mid-1", Name: "mid-1", State: mobileid.Registered}}, nil},
		"not active, locked":        {"not-active", mobileIDPage{shownID: lost, ByYou: true}, nil},
		"not active, by operator":   {"not-active", mobileIDPage{shownID: lost}, nil},
		"not active, registered":    {"not-active", mobileIDPage{shownID: shownID{ID: "mid-1", Name: "mid-1", State: mobileid.Registered}}, nil},
		"lock":                      {"lock", lockPage{shownID: phone, Certificates: both, Form: "f", Until: noon}, formEnds},
		"lock, with everything":     {"lock", lockPage{shownID: longName, Certificates: certificates, Encryption: true, WayIn: thisOne, Form: "f", Until: noon, AskReason: true, Reasons: lockReasons}, formEnds},
		"lock, signed in with some": {"lock", lockPage{shownID: phone, WayIn: someOne, ThenGet: true, Form: "f", Until: noon}, formEnds},
		"lock, the only way in":     {"lock", lockPage{shownID: phone, WayIn: thisOne, ThenGet: true, Form: "f", Until: noon}, formEnds},
		"lock, not stored":          {"lock", lockPage{shownID: shownID{ID: "mid-1", Name: "mid-1"}, Form: "f", Until: noon, Again: true}, formEnds},
		"lock, no more time":        {"lock", lockPage{shownID: shownID{ID: "mid-1", Name: "mid-1"}, Form: "f", Until: noon, NoMore: true}, nobodyKnown},
		"lock, stopped":             {"lock", lockPage{shownID: locking, Certificates: both, Finish: true, Form: "f", Until: noon}, formEnds},
		"lock, stopped, not stored": {"lock", lockPage{shownID: shownID{ID: "mid-1", Name: "mid-1"}, Finish: true, Form: "f", Until: noon, Again: true}, formEnds},
		"stored, stopped":           {"stored", storedPage{ID: "mid-1", Finish: true}, nobodyKnown},
		"stored":                    {"stored", storedPage{ID: "mid-1", NoGet: true}, nobodyKnown},
		"unchanged":                 {"unchanged", unchangedPage{ID: "mid-1", Sure: true}, nil},
		"unchanged, nobody knows":   {"unchanged", unchangedPage{ID: "mid-1"}, nil},
		"unchanged, of Get":         {"unchanged", unchangedPage{Sure: true}, nil},
		"Cancel stored":             {"cancel-stored", nil, nil},
		"expired":                   {"expired", expiredPage{Here: "/mobile-ids/mid-1/lock"}, nil},
		"expired, signed out":       {"expired", expiredPage{Here: "/sign-in"}, signedOut},
		"refused":                   {"refused", nil, func(v *view) { v.Limits = nil }},
		"refused, without the role": {"refused", nil, func(v *view) { v.Limits, v.Entitled = nil, false }},
		"unavailable":               {"unavailable", nil, nil},
		"unavailable, nobody known": {"unavailable", nil, nobodyKnown},
		"history": {"history", []historyLine{
			{shownID: lost, Entry: desk.Entry{Event: mobileid.EventLocked, At: noon}, What: "Locked by you. Its certificates are revoked."},
			{shownID: lost, Entry: desk.Entry{Event: mobileid.EventCancelled, At: noon}, What: "Cancelled. Nothing was changed."},
		}, nil},
		"history, none": {"history", []historyLine{}, nil},
		"receipt": {"receipt", receiptPage{
			shownID: lost, Progress: desk.Progress{
				RequestedAt: noon, LockedAt: noon, RevokedAt: noon, VisibleAt: noon, Certificates: revoked,
				Audit: mobileid.AuditMark{Number: 3, MAC: strings.Repeat("ab", 32)},
			}, Reference: "mid-1001/1", Owner: "Anna Andersson", ByYou: true,
		}, nil},
		"receipt, all had expired": {"receipt", receiptPage{
			shownID: lost, Progress: desk.Progress{Stage: desk.StageRevoked, RequestedAt: noon, LockedAt: noon, Certificates: revoked[1:]}, Reference: "mid-1001/1",
		}, nil},
		"receipt, unfinished": {"receipt", receiptPage{shownID: locking, Progress: desk.Progress{LockedAt: noon, Certificates: revoked[:1]}, Reference: "mid-1001/1"}, nil},

		"get":                 {"get", getPage{Form: "f", Until: noon}, formEnds},
		"get, after the lock": {"get", getPage{Form: "f", Until: noon, AfterLock: true}, formEnds},
		"get, one is live":    {"get", getPage{Form: "f", Until: noon, Live: &phone}, formEnds},
		"get, not stored":     {"get", getPage{Form: "f", Until: noon, Again: true}, formEnds},
	}
	for name, progress := range progressStates() {
		page := progressPage{
			shownID: lost, Progress: progress, Reload: "/mobile-ids/mid-1001/progress", Events: "/events", CanGet: true,
			Accepted: progress.RequestedAt,
		}
		if progress.LockedAt.IsZero() {
			page.shownID = phone
		}
		if progress.Number > 0 {
			page.Reference = reference(page.ID, progress.Number)
		}
		page.describe()
		all["progress, "+name] = state{"progress", page, nil}
	}
	for name, g := range getStates() {
		page := getProgressPage{Getting: g, Events: "/events"}
		page.describe()
		all["get progress, "+name] = state{"get-progress", page, nil}
	}
	return all
}

func signedOut(v *view)   { v.SignedIn, v.Entitled, v.Limits = false, false, nil }
func nobodyKnown(v *view) { v.SignedIn, v.Entitled, v.Limits = false, false, nil }
func formEnds(v *view)    { v.Limits.Form = v.Limits.now.Add(30 * time.Minute) }

var (
	certificates = []shownCertificate{
		{mobileid.Certificate{CertificateID: mobileid.CertificateID{Serial: "43f1a3945641e294e814efb00f9281d9f3e6469e"}, State: mobileid.CertificateValid, NotAfter: noon}, "sign-in"},
		{mobileid.Certificate{CertificateID: mobileid.CertificateID{Serial: "1"}, State: mobileid.CertificateRevoked, NotAfter: noon}, "certificate"},
	}
	both = []shownCertificate{
		{mobileid.Certificate{CertificateID: mobileid.CertificateID{Serial: "43f1a3945641e294e814efb00f9281d9f3e6469e"}}, "sign-in"},
		{mobileid.Certificate{CertificateID: mobileid.CertificateID{Serial: "558f28f6cb8ad5788d64283bf84f578f34b18816"}}, "signature"},
	}
	waiting = []mobileid.CertificateResult{{CertificateID: both[0].CertificateID}, {CertificateID: both[1].CertificateID}}
	revoked = []mobileid.CertificateResult{
		{
			CertificateID: mobileid.CertificateID{Serial: "43f1a3945641e294e814efb00f9281d9f3e6469e"}, IssuerDN: "CN=" + strings.Repeat("x", 64),
			StateInIM: mobileid.CertificateRevoked, RevokedAt: noon, VisibleAt: noon,
			Proof: []mobileid.Proof{{Source: mobileid.ProofFromCRL, At: noon, Number: "3", SHA256: strings.Repeat("cd", 32)}},
		},
		{CertificateID: mobileid.CertificateID{Serial: "2"}, Outcome: mobileid.OutcomeExpiredNotRevoked, StateInIM: mobileid.CertificateExpired},
	}
	open = []mobileid.CertificateResult{
		{CertificateID: mobileid.CertificateID{Serial: "1"}, StateInIM: mobileid.CertificateValid},
		{CertificateID: mobileid.CertificateID{Serial: "2"}, StateInIM: mobileid.CertificateValid, CannotRevoke: "no"},
	}
)

// progressStates are the states of a lock that have a page of their own.
func progressStates() map[string]desk.Progress {
	return map[string]desk.Progress{
		"requested":              {Stage: desk.StageRequested, RequestedAt: noon},
		"requested, busy":        {Stage: desk.StageRequested, RequestedAt: noon, NextTry: noon, Tries: 2},
		"unknown":                {Stage: desk.StageUnknown},
		"unknown after Next":     {Stage: desk.StageUnknown, RequestedAt: noon},
		"elsewhere":              {Stage: desk.StageElsewhere},
		"elsewhere after Next":   {Stage: desk.StageElsewhere, RequestedAt: noon},
		"locked":                 {Stage: desk.StageLocked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: open},
		"locked, CA away":        {Stage: desk.StageLocked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: waiting, NextTry: noon, Tries: 3, CAIsAsked: true},
		"locked, help is needed": {Stage: desk.StageLocked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: open, NeedsHelp: true},
		"locked, silence":        {Stage: desk.StageLocked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: open, Silent: true},
		"stopped":                {Stage: desk.StageStopped, RequestedAt: noon},
		"locked, stopped":        {Stage: desk.StageLocked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: open, Idle: true},
		"revoked, not seen":      {Stage: desk.StageRevoked, RequestedAt: noon, LockedAt: noon, RevokedAt: noon, Number: 1, Certificates: revoked, Idle: true},
		"revoked":                {Stage: desk.StageRevoked, RequestedAt: noon, LockedAt: noon, RevokedAt: noon, Number: 1, Certificates: revoked},
		"all had expired":        {Stage: desk.StageRevoked, RequestedAt: noon, LockedAt: noon, Number: 1, Certificates: revoked[1:]},
		"no certificates":        {Stage: desk.StageRevoked, RequestedAt: noon, LockedAt: noon, Number: 1},
		"visible":                {Stage: desk.StageVisible, RequestedAt: noon, LockedAt: noon, RevokedAt: noon, VisibleAt: noon, Number: 1, Certificates: revoked},
	}
}

// getStates are the states of a Get that have a page of their own.
func getStates() map[string]desk.Getting {
	in := func(phase workflows.Phase) desk.Getting {
		return desk.Getting{Running: true, GetStatus: client.GetStatus{GetStatus: workflows.GetStatus{Phase: phase}}}
	}
	all := map[string]desk.Getting{"unknown": {Unknown: true}, "ended, and unknown how": {Unknown: true, Ended: true}}
	for _, phase := range []workflows.Phase{
		workflows.LockingOld, workflows.Provisioning, workflows.AwaitingPhone, workflows.Issuing, workflows.Installing, workflows.Activating,
		workflows.NeedsOperator,
	} {
		all[string(phase)] = in(phase)
	}
	ended := in(workflows.Issuing)
	ended.Running, ended.Stopped = false, true
	all["ended from outside"] = ended
	code := in(workflows.AwaitingPhone)
	code.Code, code.CodeUntil = true, noon
	all["a code on the page"] = code
	code.ByMail = true
	all["a code by mail"] = code
	for _, outcome := range []workflows.Outcome{workflows.OutcomeActive, workflows.OutcomeCancelled, workflows.OutcomeExpired} {
		g := in(workflows.Closed)
		g.Running, g.Outcome, g.MobileID = false, outcome, "mid-1001"
		all["ended, "+string(outcome)] = g
	}
	for _, kind := range failures {
		for _, phase := range []workflows.Phase{workflows.TakingBack, workflows.NeedsOperator, workflows.Closed} {
			if phase != workflows.Closed && kind != mobileid.FailureCancelled {
				continue // the words after the first sentence are the same
			}
			g := in(phase)
			g.Running, g.Failure = phase != workflows.Closed, &mobileid.Failure{Type: kind}
			all[string(kind)+", "+string(phase)] = g
		}
	}
	return all
}

// failures are those with words of their own, and one of the others.
var failures = []mobileid.FailureType{
	mobileid.FailureCancelled, mobileid.FailurePhoneSilent, mobileid.FailurePhoneRefused, mobileid.FailureMobileIDActive, mobileid.FailureCARefused,
}

// places are addresses that templates have.
var places = map[string]string{
	"dashboard": "/", "mobile-ids": "/mobile-ids", "history": "/history", "get": "/get", "get-progress": "/get/progress", "mobile-id": "/mobile-ids/m",
	"lock": "/mobile-ids/m/lock", "progress": "/mobile-ids/m/progress", "receipt": "/mobile-ids/m/receipt", "not-active": "/mobile-ids/m/lock",
}

// gallery serves every state at an address of its own, at noon.
func gallery(t *testing.T, all map[string]state) *httptest.Server {
	t.Helper()
	r, err := newRenderer()
	require.NoError(t, err)
	code, err := messaging.QR("A made-up code, good for nothing. The real one is a secret of its user, and is forgotten when it was scanned.")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", r.assets)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /get/code.png", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(code) })
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, request *http.Request) {
		name := request.URL.Query().Get("name")
		v := view{
			Name: "Anna Andersson", SignedIn: true, Entitled: true, Contact: "Service desk\n+46 8 000 000", At: places[all[name].template], Template: all[name].template,
			Limits: &limits{Session: noon.Add(30 * time.Minute), Here: "/", now: noon}, Page: all[name].page,
		}
		if all[name].view != nil {
			all[name].view(&v)
		}
		r.page(w, http.StatusOK, all[name].template, v)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// at is the path of a state in the gallery.
func at(name string) string { return "/state?" + url.Values{"name": {name}}.Encode() }

// Every page in every state: axe-core, HTML, the width of a phone.
func TestStates(t *testing.T) {
	all := states()
	book := chromium.NewBook(t, "states")
	w := chromium.Start(t).Open(t, gallery(t, all).URL)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w.GoTo(at(name))
		book.Look(w, name)
	}
	book.RequireTemplates(t, "templates")
	book.RequireValid(t)
}

// A stage, phase or failure that is added must be thought of here, too.
func TestStatesAreAll(t *testing.T) {
	var stages []string
	for _, progress := range progressStates() {
		stages = append(stages, string(progress.Stage))
	}
	for _, stage := range constants(t, filepath.Join("..", "desk", "progress.go"), "Stage") {
		switch desk.Stage(stage) {
		case desk.StageNone, desk.StageWaiting, desk.StageUnchanged, desk.StageRefused:
			continue // another page is shown
		}
		require.Contains(t, stages, stage)
	}
	var phases, outcomes []string
	for _, g := range getStates() {
		phases, outcomes = append(phases, string(g.Phase)), append(outcomes, string(g.Outcome))
	}
	for _, phase := range append(constants(t, "../../../workflows/get_messages.go", "Phase"), constants(t, "../../../workflows/messages.go", "Phase")...) {
		switch workflows.Phase(phase) {
		case workflows.Locking, workflows.Revoking, workflows.Publishing: // of a lock
		case workflows.Validating, workflows.AwaitingConfirmation: // the form is shown
		default:
			require.Contains(t, phases, phase)
		}
	}
	require.Subset(t, outcomes, []string{string(workflows.OutcomeActive), string(workflows.OutcomeCancelled), string(workflows.OutcomeExpired)})
	other := failureWords(mobileid.FailureCARefused, workflows.Closed)
	for _, kind := range constants(t, "../../../get.go", "FailureType") {
		if words := failureWords(mobileid.FailureType(kind), workflows.Closed); words != other {
			require.Contains(t, failures, mobileid.FailureType(kind))
		}
	}
}

// constants are the values of the constants of a type in a file.
func constants(t *testing.T, file, name string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	var values []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != name {
			return true
		}
		for _, value := range spec.Values {
			literal, ok := value.(*ast.BasicLit)
			require.True(t, ok, file)
			text, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			values = append(values, text)
		}
		return true
	})
	require.NotEmpty(t, values, "%s has no constants of type %s", file, name)
	return values
}

// Nothing is said to be left behind no more while it still is.
func TestFailureWords(t *testing.T) {
	for _, kind := range constants(t, "../../../get.go", "FailureType") {
		require.Contains(t, failureWords(mobileid.FailureType(kind), workflows.Closed), "Nothing is left behind.")
		require.Contains(t, failureWords(mobileid.FailureType(kind), workflows.TakingBack), "being taken back")
		require.Contains(t, failureWords(mobileid.FailureType(kind), workflows.NeedsOperator), "The service desk has to help")
	}
}
