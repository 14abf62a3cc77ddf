package api

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// What is served and what the document says are the same, both ways.
func TestDocument(t *testing.T) {
	p := newPlace(t)
	require.NoError(t, p.document.Validate(t.Context()))
	response, text := p.do(p.request("", http.MethodGet, "/openapi.json", ""))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.JSONEq(t, string(document), text)
	var documented []string
	for path, item := range p.document.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	served := append(slices.Collect(maps.Keys(p.api.routes())), "GET "+documentPath)
	require.ElementsMatch(t, served, documented)
	reasons := []any{""}
	for _, r := range mobileid.LockReasons() {
		if mobileid.CheckLockReason(r, false) == nil {
			reasons = append(reasons, string(r))
		}
	}
	require.ElementsMatch(t, reasons, p.document.Components.Schemas["Reason"].Value.Enum)
	for kind := range refusals {
		require.Contains(t, p.document.Components.Schemas["Problem"].Value.Properties["type"].Value.Enum, urn(string(kind)))
	}
}

// Every operation answers every status that the document says, but 429, which is the
// server's.
func TestEveryDocumentedAnswer(t *testing.T) {
	p := newPlace(t)
	anna := p.token("anna")
	const mine = "/mobile-ids/mid-anna"
	ask := func(want int, kind, method, path, body string, headers ...string) string {
		t.Helper()
		response, text := p.do(p.request(anna, method, path, body, headers...))
		require.Equal(t, want, response.StatusCode, text)
		if want >= http.StatusBadRequest {
			require.Contains(t, text, `"`+urn(kind)+`"`)
		}
		return text
	}
	get, post := http.MethodGet, http.MethodPost

	ask(200, "", get, "/openapi.json", "")
	text := ask(200, "", get, "/mobile-ids", "")
	require.Contains(t, text, "mid-anna")
	require.NotContains(t, text, "otto")
	ask(200, "", get, mine, "")
	ask(200, "", get, mine+"/lock", "")
	ask(409, "MobileIDNotLocked", get, mine+"/receipt", "")

	p.engine.stage = desk.StageWaiting
	require.Contains(t, ask(200, "", post, mine+"/lock", ""), `"stage":"waiting"`)
	ask(200, "", get, mine+"/lock/events", "")
	p.engine.stage = desk.StageRequested
	ask(202, "", post, mine+"/lock", `{"confirmed": true, "reason": "keyCompromise", "thenGet": true}`, "Idempotency-Key", "key-1")
	ask(202, "", post, mine+"/lock/next", `{"reason": "superseded"}`, "Idempotency-Key", "key-1")
	p.engine.locked = time.Now()
	ask(200, "", post, mine+"/lock", `{"confirmed": true}`)
	ask(200, "", post, mine+"/lock/next", "{}")
	ask(200, "", post, mine+"/lock/cancel", "", "Idempotency-Key", "key-1")
	ask(200, "", post, mine+"/lock/retry", "")
	require.Equal(t, []string{"start anna", "lock anna", "next anna", "lock anna", "next anna", "cancel anna", "retry anna"}, p.engine.calls)
	require.Equal(t, desk.LockOrder{MobileID: "mid-anna", RequestID: "key-1", Reason: mobileid.KeyCompromise, ThenGet: true}, p.engine.orders[1])
	require.Equal(t, desk.LockOrder{MobileID: "mid-anna", RequestID: "key-1", Reason: mobileid.Superseded}, p.engine.orders[2])
	require.NotEqual(t, p.engine.orders[3].RequestID, p.engine.orders[4].RequestID, "no key is no constant")
	require.Equal(t, "cancel.key-1", p.engine.orders[5].RequestID, "the key of a Next is not this one's")

	for err, kind := range map[error]string{
		mobileid.NotActive(mobileid.Locked): "MobileIDNotActive", mobileid.AlreadyCancelled(): "AlreadyCancelled",
		mobileid.AlreadyActive(): "MobileIDAlreadyActive", desk.ErrNoLock: "NoLock",
	} {
		p.engine.err = err
		for _, path := range []string{"", "/next", "/retry"} {
			ask(409, kind, post, mine+"/lock"+path, "")
		}
		ask(409, kind, post, mine+"/lock", `{"confirmed": true}`)
	}
	p.engine.kept = desk.TooLate
	ask(409, "AlreadyConfirmed", post, mine+"/lock/cancel", "")
	p.engine.kept, p.engine.err = desk.Unknown, desk.ErrUnreachable
	for _, path := range []string{"", "/next", "/cancel", "/retry"} {
		ask(503, "Unavailable", post, mine+"/lock"+path, "")
	}
	p.engine.err, p.engine.kept = nil, desk.Unchanged

	before := len(p.engine.calls)
	for _, path := range []string{"", "/next", "/cancel", "/retry"} {
		ask(400, "InvalidRequest", post, mine+"/lock"+path, `{"userId": "otto"}`)
		ask(400, "InvalidRequest", post, mine+"/lock"+path, "", "Idempotency-Key", "a b")
		ask(413, "BodyTooLarge", post, mine+"/lock"+path, `{"reason": "`+strings.Repeat("a", 17<<10)+`"}`)
		ask(415, "UnsupportedMediaType", post, mine+"/lock"+path, "confirmed=true", "Content-Type", "application/x-www-form-urlencoded")
	}
	operations := slices.Collect(maps.Keys(p.api.routes()))
	for _, operation := range operations {
		method, path, _ := strings.Cut(operation, " ")
		path = strings.TrimPrefix(path, base)
		if strings.Contains(path, "{id}") {
			ask(404, "MobileIDNotFound", method, strings.ReplaceAll(path, "{id}", "mid-otto"), "")
		}
		path = strings.ReplaceAll(path, "{id}", "mid-anna")
		response, _ := p.do(p.request("", method, path, ""))
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
		response, text := p.do(p.request(p.token("rolf"), method, path, ""))
		require.Equal(t, http.StatusForbidden, response.StatusCode)
		require.Contains(t, text, urn("NotEntitled"))
	}
	require.Len(t, p.engine.calls, before)

	p.lock("mid-anna", "anna", "a1")
	text = ask(200, "", get, mine+"/receipt", "")
	require.Contains(t, text, `"reference":"mid-anna/1"`)
	require.Contains(t, text, strings.Repeat("cd", 32))
	require.Contains(t, ask(200, "", get, mine+"/lock", ""), `"stage":"visible"`)

	require.NoError(t, p.store.Close())
	for _, operation := range operations {
		method, path, _ := strings.Cut(operation, " ")
		ask(503, "Unavailable", method, strings.ReplaceAll(strings.TrimPrefix(path, base), "{id}", "mid-anna"), "")
	}

	for _, item := range p.document.Paths.Map() {
		for _, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				var code int
				_, err := fmt.Sscan(status, &code)
				require.NoError(t, err)
				if code != http.StatusTooManyRequests {
					require.True(t, p.seen[operation.OperationID+" "+http.StatusText(code)], "%s %s is documented and was not seen", operation.OperationID, status)
				}
			}
		}
	}
}

// A token that is not for this, or not whole, changes nothing and tells nothing.
func TestTokens(t *testing.T) {
	p := newPlace(t)
	public, err := x509.MarshalPKIXPublicKey(p.provider.key.Public())
	require.NoError(t, err)
	other := newProvider(t)
	const invalid = `Bearer error="invalid_token"`
	const noScope = `Bearer error="insufficient_scope", scope="mobile-id"`
	for _, test := range []struct {
		name      string
		claims    func(map[string]any)
		sign      func(map[string]any) string
		code      int
		challenge string
	}{
		{name: "none", sign: func(map[string]any) string { return "" }, code: 401, challenge: "Bearer"},
		{name: "no JWT", sign: func(map[string]any) string { return "abc" }, code: 401, challenge: invalid},
		{name: "another audience", claims: func(c map[string]any) { c["aud"] = "self-service" }, code: 401, challenge: invalid},
		{name: "no audience", claims: func(c map[string]any) { delete(c, "aud") }, code: 401, challenge: invalid},
		{name: "expired", claims: func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }, code: 401, challenge: invalid},
		{name: "without end", claims: func(c map[string]any) { delete(c, "exp") }, code: 401, challenge: invalid},
		{name: "another issuer", claims: func(c map[string]any) { c["iss"] = "https://other.example" }, code: 401, challenge: invalid},
		{name: "unsigned", sign: unsigned, code: 401, challenge: invalid},
		{name: "HS256 with the public key", sign: func(c map[string]any) string { return signed(t, jose.HS256, public, c) }, code: 401, challenge: invalid},
		{name: "a foreign key", sign: func(c map[string]any) string { return other.sign(t, c) }, code: 401, challenge: invalid},
		{name: "no user", claims: func(c map[string]any) { delete(c, "sub") }, code: 401, challenge: invalid},
		{name: "a user that is no text", claims: func(c map[string]any) { c["sub"] = []string{"anna"} }, code: 401, challenge: invalid},
		{name: "no scope", claims: func(c map[string]any) { delete(c, "scope") }, code: 403, challenge: noScope},
		{name: "a part of the scope", claims: func(c map[string]any) { c["scope"] = "mobile-id-read mobile" }, code: 403, challenge: noScope},
	} {
		t.Run(test.name, func(t *testing.T) {
			claims := p.provider.claims("anna")
			if test.claims != nil {
				test.claims(claims)
			}
			token := ""
			if test.sign != nil {
				token = test.sign(claims)
			} else {
				token = p.provider.sign(t, claims)
			}
			for _, r := range []*http.Request{
				p.request(token, http.MethodGet, "/mobile-ids", ""),
				p.request(token, http.MethodPost, "/mobile-ids/mid-anna/lock", `{"confirmed": true}`),
			} {
				response, text := p.do(r)
				require.Equal(t, test.code, response.StatusCode, text)
				require.Equal(t, test.challenge, response.Header.Get("WWW-Authenticate"))
				require.NotContains(t, text, "anna")
			}
			p.requireUnchanged()
		})
	}
	claims := p.provider.claims("anna")
	delete(claims, "scope")
	claims["scp"] = []string{"mobile-id"}
	response, _ := p.do(p.request(p.provider.sign(t, claims), http.MethodGet, "/mobile-ids", ""))
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestProviderAway(t *testing.T) {
	p := newPlace(t)
	token := p.token("anna")
	p.provider.Close()
	response, _ := p.do(p.request(token, http.MethodGet, "/mobile-ids", ""))
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
}

// Whatever is somebody else's looks as if it were not there, byte by byte.
func TestNotYours(t *testing.T) {
	p := newPlace(t)
	anna := p.token("anna")
	for operation := range p.api.routes() {
		method, path, _ := strings.Cut(operation, " ")
		if !strings.Contains(path, "{id}") {
			continue
		}
		t.Run(operation, func(t *testing.T) {
			path := strings.TrimPrefix(path, base)
			foreign, theirs := p.do(p.request(anna, method, strings.ReplaceAll(path, "{id}", "mid-otto"), ""))
			unknown, nothing := p.do(p.request(anna, method, strings.ReplaceAll(path, "{id}", "mid-none"), ""))
			require.Equal(t, http.StatusNotFound, foreign.StatusCode)
			require.Equal(t, theirs, nothing)
			foreign.Header.Del("Date")
			unknown.Header.Del("Date")
			require.Equal(t, foreign.Header, unknown.Header)
		})
	}
	p.requireUnchanged()
}

func TestBodies(t *testing.T) {
	p := newPlace(t)
	anna := p.token("anna")
	for _, test := range []struct{ name, body, field string }{
		{"unknown", `{"confirmed": true, "mobileId": "mid-otto"}`, "mobileId"},
		{"the user", `{"userId": "otto"}`, "userId"},
		{"other case", `{"Confirmed": true}`, "Confirmed"},
		{"twice", `{"confirmed": false, "confirmed": true}`, "confirmed"},
		{"null", `{"confirmed": null}`, "confirmed"},
		{"text for a bool", `{"confirmed": "true"}`, "confirmed"},
		{"a reason that is not final", `{"reason": "certificateHold", "confirmed": true}`, "reason"},
		{"a reason of the issuer", `{"reason": "privilegeWithdrawn", "confirmed": true}`, "reason"},
		{"thenGet without Next", `{"thenGet": true}`, "thenGet"},
		{"a list", `[]`, "body"},
		{"two objects", `{}{}`, "body"},
		{"cut off", `{"confirmed": true`, "body"},
		{"no JSON", `confirmed`, "body"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, text := p.do(p.request(anna, http.MethodPost, "/mobile-ids/mid-anna/lock", test.body))
			require.Equal(t, http.StatusBadRequest, response.StatusCode, text)
			require.Contains(t, text, `"field":"`+test.field+`"`)
			p.requireUnchanged()
		})
	}
}

// Whatever is sent, the API neither breaks nor says anything that is not documented.
func TestAnythingIsAnswered(t *testing.T) {
	p := newPlace(t)
	anna := p.token("anna")
	ids := []string{"mid-anna", "mid-otto", "%00", "..", "%2e%2e%2f", "a%2Fb", strings.Repeat("a", 300), "%ff", "'--", "%20"}
	tails := []string{"", "/", "/lock", "/lock/next", "/lock/cancel", "/lock/none", "/receipt", "//"}
	bodies := []string{"", "null", "1", `"a"`, "[]", `{"":1}`, "{\"\xff\":1}", strings.Repeat("[", 9000), `{"a":` + strings.Repeat(`{"a":`, 2000), `{"confirmed":1e999}`, "\x00"}
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"}
	n := 0
	for _, id := range ids {
		for _, tail := range tails {
			for _, method := range methods {
				n++
				r := p.request(anna, method, "/mobile-ids/"+id+tail, bodies[n%len(bodies)])
				response, err := p.Client().Transport.RoundTrip(r)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				_ = response.Body.Close()
				require.Less(t, response.StatusCode, 500, "%s %s", method, r.URL)
			}
		}
	}
	for _, body := range bodies[1:] {
		response, text := p.do(p.request(anna, http.MethodPost, "/mobile-ids/mid-anna/lock", body))
		require.Equal(t, http.StatusBadRequest, response.StatusCode, text)
	}
	response, _ := p.do(p.request(anna, http.MethodPut, "/mobile-ids/mid-anna/lock", ""))
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
	require.Equal(t, "GET, POST", response.Header.Get("Allow"))
}

// A stream tells each change, and then that nothing more is to come.
func TestEvents(t *testing.T) {
	p := newPlace(t)
	p.lock("mid-anna", "anna", "a1")
	response, text := p.do(p.request(p.token("anna"), http.MethodGet, "/mobile-ids/mid-anna/lock/events", ""))
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	events := strings.Split(strings.TrimSpace(text), "\n\n")
	require.Equal(t, "retry: 5000", events[0])
	data, ok := strings.CutPrefix(events[1], "event: lock\ndata: ")
	require.True(t, ok, text)
	p.requireSchema("Lock", []byte(data))
	require.Contains(t, data, `"stage":"visible"`)
	require.Equal(t, "event: over\ndata:", events[2])

	p.engine.stage = desk.StageRequested
	otto := p.token("otto")
	for range 6 {
		open, err := p.Client().Do(p.request(otto, http.MethodGet, "/mobile-ids/mid-otto/lock/events", ""))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, open.StatusCode)
		defer func() { _ = open.Body.Close() }()
	}
	response, _ = p.do(p.request(otto, http.MethodGet, "/mobile-ids/mid-otto/lock/events", ""))
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "one user cannot take them all")
}
