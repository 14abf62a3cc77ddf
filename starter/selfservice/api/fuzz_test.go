package api

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

const (
	fuzzSeeds    = 40 // of make test
	fuzzRequests = 60 // of a seed
)

// Whatever is sent, the API neither breaks nor says anything that is not documented.
// Requests are made from the document, and then spoilt. Each run has the same seeds; with
// API_FUZZ=10m it goes on with others for so long.
func TestFuzz(t *testing.T) {
	var longer time.Duration
	if text := os.Getenv("API_FUZZ"); text != "" {
		var err error
		longer, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	p := newPlace(t)
	p.Client().Timeout = time.Minute
	begun := time.Now()
	for seed := uint64(0); seed < fuzzSeeds || time.Since(begun) < longer; seed++ {
		p.fuzz(seed)
	}
}

func (p *place) fuzz(seed uint64) {
	random := &maker{rand.New(rand.NewPCG(seed, 0)), p}
	for range fuzzRequests {
		random.state()
		request := random.request()
		if request.Method == http.MethodHead { // it has no body to look at
			response, err := p.Client().Do(request)
			require.NoError(p.t, err)
			require.NoError(p.t, response.Body.Close())
			require.Less(p.t, response.StatusCode, 500, "seed %d: %s", seed, request.URL)
			continue
		}
		response, text := p.do(request)
		require.Less(p.t, response.StatusCode, 500, "seed %d: %s %s: %s", seed, request.Method, request.URL, text)
		require.NotContains(p.t, text, "otto@example.com")
	}
	for i, call := range p.engine.calls {
		require.NotRegexp(p.t, `^(get )?[a-z]+ otto$`, call, "otto's token was never the only one")
		if p.engine.orders[i].MobileID == "mid-otto" {
			require.Contains(p.t, call, " for otto", "operators alone")
		}
	}
	p.forget()
	p.requireUnchanged()
}

// maker makes requests.
type maker struct {
	*rand.Rand
	place *place
}

func pick[T any](m *maker, from ...T) T { return from[m.IntN(len(from))] }

// often is true but for once in n.
func (m *maker) often(n int) bool { return m.IntN(n) > 0 }

// state is what the processes answer. All of it ends streams.
func (m *maker) state() {
	m.place.engine.stage = pick(m, desk.StageNone, desk.StageWaiting, desk.StageUnchanged, desk.StageRefused)
	m.place.engine.err = pick(m, nil, nil, nil, error(mobileid.AlreadyConfirmed()), error(mobileid.AlreadyCancelled()),
		error(mobileid.NotActive(mobileid.Registered)), error(mobileid.NotEntitled("")), desk.ErrNoLock, desk.ErrNoGet)
	m.place.engine.kept = pick(m, desk.Unchanged, desk.TooLate)
	m.place.engine.locked = pick(m, time.Time{}, time.Now())
	m.place.engine.code = pick(m, nil, &mobileid.Provisioning{UserID: "anna", URI: "smartid://x", ExpiresAt: time.Now()})
}

func (m *maker) request() *http.Request {
	paths := m.place.document.Paths.Map()
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	slices.Sort(names) // of a seed come the same requests
	path := pick(m, names...)
	methods := make([]string, 0, 2)
	for method := range paths[path].Operations() {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	method := pick(m, methods...)
	operation := paths[path].Operations()[method]
	if !m.often(8) {
		method = pick(m, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW")
	}
	if method == http.MethodHead && strings.HasSuffix(path, "/events") {
		method = http.MethodOptions // its answer is there before the stream has ended
	}
	token := ""
	if m.often(10) {
		token = m.place.tokenFor(path)
		if !m.often(6) {
			token = pick(m, m.place.token("rolf"), m.place.operator("anna"), "e30.e30.", strings.Repeat("a", 4000), "\xff", "a b")
		}
	}
	path = strings.ReplaceAll(strings.TrimPrefix(path, base), "{id}", m.id())
	if !m.often(12) {
		path += pick(m, "/", "//", "/..", "/none", "?owner=otto", "?"+strings.Repeat("a=b&", 300), "%00", "/%ff", ";a=b")
	}
	request := m.place.request(token, method, path, m.body(operation))
	m.headers(request)
	return request
}

func (m *maker) id() string {
	if m.often(3) {
		return "mid-anna"
	}
	return pick(m, "mid-otto", "mid-none", "%00", "%2e%2e", "a%2Fb", strings.Repeat("a", 300), "%ff", "'--", "%20", "%E2%98%83", "MID-ANNA", "*", "{id}")
}

func (m *maker) headers(r *http.Request) {
	if !m.often(3) {
		r.Header.Set("Idempotency-Key", m.text())
	}
	if !m.often(20) {
		r.Header["Idempotency-Key"] = []string{"a", "b"}
	}
	if !m.often(6) {
		r.Header.Set("Content-Type", pick(m, "", "text/plain", "application/json; charset=utf-16", "application/json;;", "multipart/form-data", "application/problem+json", "\xff"))
	}
	if !m.often(6) {
		r.Header.Set(pick(m, "Accept", "Accept-Encoding", "If-None-Match", "Range", "X-Forwarded-For", "X-HTTP-Method-Override", "Last-Event-ID", "Cookie"), m.headerText())
	}
	if r.Header.Get("Authorization") != "" && !m.often(20) {
		r.Header.Add("Authorization", "Bearer "+m.place.token("otto"))
	}
}

// headerText is text that a header may have.
func (m *maker) headerText() string {
	return pick(m, "", "a", "*/*", "bytes=0-9999999999", "otto", "DELETE", strings.Repeat("a", 4000), "\xe2\x98\x83", "mobileid=x")
}

// text is for anything that wants one.
func (m *maker) text() string {
	return pick(m, "key-1", "otto", "anna", "", " ", "a b", strings.Repeat("k", 64), strings.Repeat("k", 65), strings.Repeat("k", 4000), "\xe2\x98\x83", "\xff", "..")
}

// body makes a body for an operation, and spoils some.
func (m *maker) body(operation *openapi3.Operation) string {
	if operation.RequestBody == nil {
		return pick(m, "", "", "", "{}", "x")
	}
	if !m.often(8) {
		return pick(m, "", "null", "1", `"a"`, "[]", "{", `{"":1}`, "{\"\xff\":1}", strings.Repeat("[", 9000), strings.Repeat(`{"a":`, 2000), `{"confirmed":1e999}`, "\x00",
			`{"owner":"anna","owner":"otto"}`, `{"confirmed":false,"confirmed":true}`, "{}{}", "\xef\xbb\xbf{}", `{"owner":"\ud800"}`, strings.Repeat(" ", 17<<10))
	}
	schema := operation.RequestBody.Value.Content["application/json"].Schema.Value
	names := make([]string, 0, len(schema.Properties))
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	object := map[string]any{}
	for _, name := range names {
		if m.often(3) {
			object[name] = m.value(schema.Properties[name].Value)
		}
	}
	if !m.often(6) {
		object[pick(m, "userId", "by", "Owner", "mobileId", "constructor", strings.Repeat("f", 5000), "\u2603", "")] = m.anything()
	}
	text, err := json.Marshal(object)
	require.NoError(m.place.t, err)
	if !m.often(20) {
		return string(text[:m.IntN(len(text))])
	}
	return string(text)
}

// value is mostly what the schema says.
func (m *maker) value(schema *openapi3.Schema) any {
	switch {
	case !m.often(6):
		return m.anything()
	case len(schema.Enum) > 0:
		return pick(m, schema.Enum...)
	case schema.Type.Is("boolean"):
		return m.often(2)
	}
	return pick(m, "anna", "anna", "anna", "otto", m.text())
}

func (m *maker) anything() any {
	return pick[any](m, nil, true, 0, -1, 1e300, "", "otto", "certificateHold", strings.Repeat("a", 12_000), []any{}, []any{"anna"}, map[string]any{"$ne": ""}, "\u0000", "\u202e")
}
