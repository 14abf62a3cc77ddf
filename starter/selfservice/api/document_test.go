package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/starter/selfservice/desk"
	"mobileid/workflows"
)

// notHere are documented and come from the server around the API, whose tests have them.
var notHere = []string{urn("Forbidden"), urn("TooManyRequests"), urn("Broken")}

// asking asks and checks what is answered.
type asking struct {
	*place
	t *testing.T
}

func (a asking) as(token string, want int, kind, method, path, body string, headers ...string) string {
	a.t.Helper()
	response, text := a.do(a.request(token, method, path, body, headers...))
	require.Equal(a.t, want, response.StatusCode, "%s %s: %s", method, path, text)
	if want >= http.StatusBadRequest {
		require.Contains(a.t, text, `"`+urn(kind)+`"`, "%s %s", method, path)
	}
	return text
}

// Every operation of the document answers every status that it says, and every type of
// problem is seen: what is added to the document fails here until it has a case.
func TestEveryDocumentedAnswer(t *testing.T) {
	p := newPlace(t)
	a := asking{p, t}
	lockAnswers(a)
	operatorAnswers(a)
	getAnswers(a)
	sameAnswers(a)

	p.engine.err, p.engine.kept = nil, desk.Unchanged
	p.lock("mid-anna", "anna", "a1")
	anna := p.token("anna")
	text := a.as(anna, 200, "", http.MethodGet, "/mobile-ids/mid-anna/receipt", "")
	require.Contains(t, text, `"reference":"mid-anna/1"`)
	require.Contains(t, text, strings.Repeat("cd", 32))
	require.Contains(t, a.as(anna, 200, "", http.MethodGet, "/mobile-ids/mid-anna/lock", ""), `"stage":"visible"`)
	require.JSONEq(t, `[{"mobileId": "mid-anna", "name": "Phone of anna", "event": "locked", "byUser": true, "finished": true}]`,
		withoutTimes(t, a.as(anna, 200, "", http.MethodGet, "/history", "")))

	require.NoError(t, p.store.Close())
	for _, operation := range p.operations() {
		a.as(p.tokenFor(base+operation.path), 503, "Unavailable", operation.method, operation.path, bodyFor(operation.method, base+operation.path))
	}

	for path, item := range p.document.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				var code int
				_, err := fmt.Sscan(status, &code)
				require.NoError(t, err)
				if code != http.StatusTooManyRequests {
					require.True(t, p.seen[operation.OperationID+" "+http.StatusText(code)], "%s %s: %s is documented and has no case", method, path, status)
				}
			}
		}
	}
	for _, kind := range p.document.Components.Schemas["Problem"].Value.Properties["type"].Value.Enum {
		name, _ := kind.(string)
		require.True(t, slices.Contains(notHere, name) != p.seen[name], "%s is documented and has no case, or one too many", name)
	}
}

// operation is one of the document, with mid-anna in its path, which is without base.
type operation struct{ method, path string }

func (p *place) operations() []operation {
	var all []operation
	for _, pattern := range slices.Sorted(maps.Keys(p.api.routes())) {
		method, path, _ := strings.Cut(pattern, " ")
		all = append(all, operation{method, strings.TrimPrefix(strings.ReplaceAll(path, "{id}", "mid-anna"), base)})
	}
	return all
}

func withoutTimes(t *testing.T, history string) string {
	t.Helper()
	var read struct{ Entries []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(history), &read))
	for _, entry := range read.Entries {
		require.NotEmpty(t, entry["at"])
		delete(entry, "at")
	}
	text, err := json.Marshal(read.Entries)
	require.NoError(t, err)
	return string(text)
}

// lockAnswers are those of the user's own locks.
func lockAnswers(a asking) {
	p, t := a.place, a.t
	const mine = "/mobile-ids/mid-anna"
	anna := p.token("anna")
	get, post := http.MethodGet, http.MethodPost
	a.as("", 200, "", get, "/openapi.json", "")
	text := a.as(anna, 200, "", get, "/mobile-ids", "")
	require.Contains(t, text, "mid-anna")
	require.NotContains(t, text, "otto")
	a.as(anna, 200, "", get, mine, "")
	a.as(anna, 200, "", get, mine+"/lock", "")
	a.as(anna, 200, "", get, "/history", "")
	a.as(anna, 409, "MobileIDNotLocked", get, mine+"/receipt", "")
	a.as(anna, 404, "NotFound", get, "/nothing", "")
	a.as(anna, 405, "MethodNotAllowed", http.MethodPut, mine+"/lock", "")

	p.engine.stage = desk.StageWaiting
	require.Contains(t, a.as(anna, 200, "", post, mine+"/lock", ""), `"stage":"waiting"`)
	a.as(anna, 200, "", get, mine+"/lock/events", "")
	p.engine.stage = desk.StageRequested
	a.as(anna, 202, "", post, mine+"/lock", `{"confirmed": true, "reason": "keyCompromise", "thenGet": true}`, "Idempotency-Key", "key-1")
	a.as(anna, 202, "", post, mine+"/lock/next", `{"reason": "superseded"}`, "Idempotency-Key", "key-1")
	p.engine.locked = time.Now()
	a.as(anna, 200, "", post, mine+"/lock", `{"confirmed": true}`)
	a.as(anna, 200, "", post, mine+"/lock/next", "{}")
	a.as(anna, 200, "", post, mine+"/lock/cancel", "", "Idempotency-Key", "key-1")
	a.as(anna, 200, "", post, mine+"/lock/retry", "")
	require.Equal(t, []string{"start anna", "lock anna", "next anna", "lock anna", "next anna", "cancel anna", "retry anna"}, p.engine.calls)
	require.Equal(t, desk.LockOrder{MobileID: "mid-anna", RequestID: "key-1", Reason: mobileid.KeyCompromise, ThenGet: true}, p.engine.orders[1])
	require.Equal(t, desk.LockOrder{MobileID: "mid-anna", RequestID: "key-1", Reason: mobileid.Superseded}, p.engine.orders[2])
	require.NotEqual(t, p.engine.orders[3].RequestID, p.engine.orders[4].RequestID, "no key is no constant")
	require.Equal(t, "cancel.key-1", p.engine.orders[5].RequestID, "the key of a Next is not this one's")
	a.refusedLocks(anna, mine, "{}")
	p.forget()
	claims := p.provider.claims("anna")
	claims["scope"] = "mobile-id"
	locksOnly := p.provider.sign(t, claims)
	a.as(locksOnly, 403, "InsufficientScope", post, mine+"/lock", `{"confirmed": true, "thenGet": true}`)
	a.as(locksOnly, 403, "InsufficientScope", post, mine+"/lock/next", `{"thenGet": true}`)
	require.Empty(t, p.engine.calls)
}

// forget begins anew.
func (p *place) forget() {
	p.engine.err, p.engine.kept, p.engine.calls, p.engine.orders, p.engine.locked = nil, desk.Unchanged, nil, nil, time.Time{}
}

// refusedLocks has the processes refuse.
func (a asking) refusedLocks(token, path, body string) {
	a.t.Helper()
	for err, kind := range map[error]string{
		mobileid.NotActive(mobileid.Locked): "MobileIDNotActive", mobileid.AlreadyCancelled(): "AlreadyCancelled",
		mobileid.AlreadyActive(): "MobileIDAlreadyActive", desk.ErrNoLock: "NoLock",
	} {
		a.engine.err = err
		for _, step := range []string{"", "/next", "/retry"} {
			a.as(token, 409, kind, http.MethodPost, path+"/lock"+step, body)
		}
	}
	a.engine.kept = desk.TooLate
	a.as(token, 409, "AlreadyConfirmed", http.MethodPost, path+"/lock/cancel", body)
	a.engine.kept, a.engine.err = desk.Unknown, desk.ErrUnreachable
	for _, step := range []string{"", "/next", "/cancel", "/retry"} {
		a.as(token, 503, "Unavailable", http.MethodPost, path+"/lock"+step, body)
	}
}

// operatorAnswers are those of operators: they name the owner, and each call is theirs.
func operatorAnswers(a asking) {
	p, t := a.place, a.t
	p.forget()
	const annas = "/operator/mobile-ids/mid-anna"
	olof := p.operator("olof")
	get, post := http.MethodGet, http.MethodPost
	require.Contains(t, a.as(olof, 200, "", get, annas+"/lock", ""), `"owner":"anna"`)
	a.as(olof, 404, "MobileIDNotFound", get, "/operator/mobile-ids/mid-none/lock", "")
	a.as(olof, 200, "", post, annas+"/lock", `{"owner": "anna"}`, "Idempotency-Key", "key-1")
	a.as(olof, 202, "", post, annas+"/lock", `{"owner": "anna", "confirmed": true, "reason": "superseded", "resume": true}`, "Idempotency-Key", "key-1")
	a.as(olof, 202, "", post, annas+"/lock/next", `{"owner": "anna", "reason": "keyCompromise"}`)
	p.engine.locked = time.Now()
	a.as(olof, 200, "", post, annas+"/lock", `{"owner": "anna", "confirmed": true}`)
	a.as(olof, 200, "", post, annas+"/lock/next", `{"owner": "anna"}`)
	a.as(olof, 200, "", post, annas+"/lock/cancel", `{"owner": "anna"}`)
	a.as(olof, 200, "", post, annas+"/lock/retry", `{"owner": "anna"}`)
	require.Equal(t, []string{
		"start olof for anna", "lock olof for anna", "next olof for anna", "lock olof for anna", "next olof for anna", "cancel olof for anna", "retry olof for anna",
	}, p.engine.calls)
	require.Equal(t, desk.LockOrder{MobileID: "mid-anna", RequestID: "operator.key-1", Reason: mobileid.Superseded, Resume: true}, p.engine.orders[1])
	for _, confirmed := range []string{"false", "true"} {
		p.engine.err = mobileid.NotLocked()
		body := `{"owner": "anna", "resume": true, "confirmed": ` + confirmed + `}`
		require.Contains(t, a.as(olof, 400, "InvalidRequest", post, annas+"/lock", body), `"field":"resume"`)
	}
	a.refusedLocks(olof, annas, `{"owner": "anna"}`)
	p.forget()
	for _, step := range []string{"", "/next", "/cancel", "/retry"} {
		path := annas + "/lock" + step
		for _, owner := range []string{"otto", "nobody", "\\u0000"} {
			a.as(olof, 404, "MobileIDNotFound", post, path, `{"owner": "`+owner+`"}`)
		}
		for _, body := range []string{"", "{}", `{"owner": ""}`} {
			require.Contains(t, a.as(olof, 400, "InvalidRequest", post, path, body), `"field":"owner"`)
		}
		require.Contains(t, a.as(olof, 400, "InvalidRequest", post, path, `{"owner": "anna", "thenGet": true}`), `"field":"thenGet"`, "an operator gets nobody one")
		for name, token := range map[string]string{"the owner": p.token("anna"), "a user": p.token("otto"), "nobody": p.token("olof"), "a part": p.withRole("operators")} {
			text := a.as(token, 403, "NotEntitled", post, path, `{"owner": "anna"}`)
			require.Contains(t, text, "not an operator's", name)
		}
	}
	require.Empty(t, p.engine.calls)
	p.api.OperatorRole = ""
	a.as(olof, 403, "NotEntitled", post, annas+"/lock", `{"owner": "anna"}`)
	p.api.OperatorRole = "operator"
	// To be an operator is not to be a user.
	a.as(olof, 403, "NotEntitled", get, "/mobile-ids", "")
}

func (p *place) withRole(role string) string {
	claims := p.provider.claims("olof")
	claims["roles"] = role
	return p.provider.sign(p.t, claims)
}

// getAnswers are those of Get mobile ID.
func getAnswers(a asking) {
	p, t := a.place, a.t
	p.forget()
	anna, otto := p.token("anna"), p.token("otto")
	get, post := http.MethodGet, http.MethodPost
	require.Contains(t, a.as(anna, 200, "", get, "/get", ""), `"phase":"none"`)
	a.as(anna, 200, "", post, "/get", "")
	a.as(anna, 200, "", post, "/get", `{"confirmed": true}`, "Idempotency-Key", "key-1")
	for _, step := range []string{"/next", "/lock", "/cancel", "/retry"} {
		a.as(anna, 200, "", post, "/get"+step, "{}", "Idempotency-Key", "key-1")
	}
	require.Equal(t, []string{"get start anna", "get confirm anna", "get next anna", "get lock anna", "get cancel anna", "get retry anna"}, p.engine.calls)
	for i, id := range []string{"next.key-1", "next.key-1", "lock.key-1", "cancel.key-1"} {
		require.Equal(t, id, p.engine.orders[i+1].RequestID, "a message of another kind is another message")
	}
	a.as(anna, 404, "NoCode", get, "/get/code", "")
	a.as(anna, 404, "NoCode", get, "/get/code.png", "")

	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	const uri = "smartid://provision?secret=1234"
	p.engine.code = &mobileid.Provisioning{UserID: "anna", URI: uri, ExpiresAt: until}
	p.engine.get = desk.Getting{
		Running: true, Code: true, CodeUntil: until,
		GetStatus: client.GetStatus{GetStatus: workflows.GetStatus{Phase: workflows.AwaitingPhone, Deadline: until, Live: "mid-anna"}},
	}
	status := a.as(anna, 200, "", get, "/get", "")
	require.Contains(t, status, `"phase":"awaitingPhone"`)
	require.Contains(t, status, `"canCancel":true`)
	require.NotContains(t, status, "1234", "the status is no secret")
	require.NotContains(t, status, "mid-anna", "what was locked stands in no way")
	require.Contains(t, a.as(anna, 200, "", get, "/get/code", ""), uri)
	response, picture := p.do(p.request(anna, get, "/get/code.png", ""))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.True(t, strings.HasPrefix(picture, "\x89PNG"))
	for _, path := range []string{"/get/code", "/get/code.png"} {
		a.as(otto, 404, "NoCode", get, path, "")
	}

	p.engine.get = desk.Getting{Running: true, GetStatus: client.GetStatus{GetStatus: workflows.GetStatus{Phase: workflows.AwaitingConfirmation, Live: "mid-anna"}}}
	require.Contains(t, a.as(anna, 200, "", get, "/get", ""), `"live":"mid-anna"`)
	p.engine.get = desk.Getting{Unknown: true}
	require.Contains(t, a.as(anna, 200, "", get, "/get", ""), `"phase":"unknown"`)
	for _, step := range []string{"", "/next", "/lock", "/cancel"} {
		a.as(anna, 202, "", post, "/get"+step, "")
	}
	p.engine.get = desk.Getting{Refusal: mobileid.NotEntitled("")}
	require.Contains(t, a.as(anna, 200, "", get, "/get", ""), `"refusal":"NotEntitled"`)
	p.engine.get = desk.Getting{GetStatus: client.GetStatus{GetStatus: workflows.GetStatus{
		Phase:     workflows.Closed,
		GetResult: workflows.GetResult{Outcome: workflows.OutcomeFailed, Failure: &mobileid.Failure{Type: mobileid.FailurePhoneSilent, Message: "words"}},
	}}}
	text := a.as(anna, 200, "", get, "/get/events", "")
	require.Contains(t, text, `"failure":"PhoneDidNotAnswer"`)
	require.NotContains(t, text, "words")
	require.Contains(t, text, "event: over")

	for err, kind := range map[error]string{
		mobileid.AlreadyActive(): "MobileIDAlreadyActive", mobileid.AlreadyCancelled(): "AlreadyCancelled",
		mobileid.AlreadyConfirmed(): "AlreadyConfirmed", desk.ErrNoGet: "NoGet",
	} {
		p.engine.err = err
		for _, step := range []string{"", "/next", "/lock", "/cancel", "/retry"} {
			a.as(anna, 409, kind, post, "/get"+step, "")
		}
	}
	p.engine.err = desk.ErrUnreachable
	for _, step := range []string{"", "/next", "/lock", "/cancel", "/retry"} {
		a.as(anna, 503, "Unavailable", post, "/get"+step, "")
	}
	p.forget()
	claims := p.provider.claims("anna")
	claims["scope"] = "mobile-id"
	for _, operation := range p.operations() {
		if strings.HasPrefix(operation.path, "/get") {
			a.as(p.provider.sign(t, claims), 403, "InsufficientScope", operation.method, operation.path, "")
		}
	}
	p.api.GetScope = ""
	a.as(anna, 403, "NotEntitled", post, "/get", "")
	p.api.GetScope = "mobile-id-get"
	require.Empty(t, p.engine.calls)
	p.engine.get = desk.Getting{}
}

// sameAnswers are what every operation answers that documents it.
func sameAnswers(a asking) {
	p, t := a.place, a.t
	p.forget()
	for _, operation := range p.operations() {
		method, path := operation.method, operation.path
		token, body := p.tokenFor(base+path), bodyFor(method, base+path)
		a.as("", 401, "Unauthorized", method, path, body)
		a.as(p.token("rolf"), 403, "NotEntitled", method, path, body)
		if method == http.MethodPost {
			a.as(token, 400, "InvalidRequest", method, path, `{"userId": "otto"}`)
			a.as(token, 400, "InvalidRequest", method, path, body, "Idempotency-Key", "a b")
			a.as(token, 413, "BodyTooLarge", method, path, `{"reason": "`+strings.Repeat("a", 17<<10)+`"}`)
			a.as(token, 415, "UnsupportedMediaType", method, path, "confirmed=true", "Content-Type", "application/x-www-form-urlencoded")
		}
		if strings.Contains(path, "mid-anna") && !strings.HasPrefix(path, "/operator/") {
			a.as(token, 404, "MobileIDNotFound", method, strings.ReplaceAll(path, "mid-anna", "mid-otto"), body)
		}
	}
	require.Empty(t, p.engine.calls)
}
