package api

import (
	"crypto/x509"
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
	"mobileid/workflows"
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

// Whatever is somebody else's looks as if it were not there, byte by byte, and the store
// is asked the same.
func TestNotYours(t *testing.T) {
	p := newPlace(t)
	for operation := range p.api.routes() {
		method, path, _ := strings.Cut(operation, " ")
		if !strings.Contains(path, "{id}") {
			continue
		}
		token, body := p.tokenFor(path), bodyFor(method, path)
		t.Run(operation, func(t *testing.T) {
			path := strings.TrimPrefix(path, base)
			_ = p.engine.asked()
			foreign, theirs := p.do(p.request(token, method, strings.ReplaceAll(path, "{id}", "mid-otto"), body))
			asked := p.engine.asked()
			unknown, nothing := p.do(p.request(token, method, strings.ReplaceAll(path, "{id}", "mid-none"), body))
			if method == http.MethodGet && strings.HasPrefix(base+path, operators) {
				require.Contains(t, theirs, `"owner":"otto"`, "operators see every lock")
				return
			}
			require.Equal(t, http.StatusNotFound, foreign.StatusCode)
			require.Equal(t, theirs, nothing)
			// Each of these sends the same statements for both, see the tests of the store.
			require.NotEmpty(t, asked)
			require.Equal(t, asked, p.engine.asked())
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

// A Get that was ended from outside is over, and not in the phase in which that was.
func TestViewOfStoppedGet(t *testing.T) {
	var g desk.Getting
	g.Phase, g.Stopped = workflows.NeedsOperator, true
	view := viewGet(g)
	require.Equal(t, phaseStopped, view.Phase)
	require.True(t, view.Finished)
	require.False(t, view.NeedsOperator)
}

// What had expired was not revoked: there is no time of that, and nothing more to wait for.
func TestLockOfExpired(t *testing.T) {
	p := newPlace(t)
	carl := mobileid.User{ID: "carl", Name: "Carl", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, p.store.PutUser(t.Context(), carl, "carl@example.com"))
	require.NoError(t, p.store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: "mid-carl", Name: "Phone of Carl", Owner: carl, State: mobileid.Active, Certificates: []mobileid.Certificate{{
			CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: "c1"}, IssuerDN: "CN=Test CA",
			NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), State: mobileid.CertificateValid,
		}},
	}))
	p.lockTo(mobileid.OutcomeExpiredNotRevoked, "mid-carl", "carl", "c1")
	token := p.token("carl")
	_, text := p.do(p.request(token, http.MethodGet, "/mobile-ids/mid-carl/lock", ""))
	p.requireSchema("Lock", []byte(text))
	require.Contains(t, text, `"stage":"revoked"`)
	require.Contains(t, text, `"finished":true`)
	require.NotContains(t, text, "revokedAt")
	require.NotContains(t, text, "visibleAt")
	_, text = p.do(p.request(token, http.MethodGet, "/mobile-ids/mid-carl/receipt", ""))
	require.Contains(t, text, "lockedAt")
	require.NotContains(t, text, "revokedAt")
	require.NotContains(t, text, "visibleAt")
	_, text = p.do(p.request(token, http.MethodGet, "/mobile-ids/mid-carl/lock/events", ""))
	require.Contains(t, text, "event: over")
}
