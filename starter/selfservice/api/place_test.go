package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/config"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/openid"
	"mobileid/starter/selfservice/streams"
)

// engine is the desk on a real store, with answers of the processes that a test wants.
type engine struct {
	*desk.Desk
	stage  desk.Stage
	locked time.Time
	kept   desk.Kept
	err    error
	get    desk.Getting
	code   *mobileid.Provisioning
	orders []desk.LockOrder // that came through
	calls  []string

	mu    sync.Mutex
	reads []string // what was asked of the store, in its order
}

func (e *engine) read(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads = append(e.reads, what)
}

// asked tells what was read, and forgets it.
func (e *engine) asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	reads := e.reads
	e.reads = nil
	return reads
}

func (e *engine) Entitled(ctx context.Context, userID string) error {
	e.read("Entitled")
	return e.Desk.Entitled(ctx, userID)
}

func (e *engine) MobileID(ctx context.Context, userID, id string) (identitymanager.Owned, error) {
	e.read("MobileID")
	return e.Desk.MobileID(ctx, userID, id)
}

func (e *engine) OwnerOf(ctx context.Context, id string) (string, error) {
	e.read("OwnerOf")
	return e.Desk.OwnerOf(ctx, id)
}

func (e *engine) Look(userID, id string) func(context.Context) (desk.Progress, error) {
	return func(ctx context.Context) (desk.Progress, error) {
		e.read("Progress")
		owned, err := e.Store.Owned(ctx, userID, id)
		if err != nil {
			return desk.Progress{}, err
		}
		p := desk.Recorded(owned)
		if p.Stage == desk.StageNone && e.stage != "" {
			p.Stage = e.stage
		}
		return p, nil
	}
}

func (e *engine) note(what, userID string, order desk.LockOrder) {
	e.calls, e.orders = append(e.calls, what+" "+userID), append(e.orders, order)
}

func (e *engine) StartLock(_ context.Context, userID string, order desk.LockOrder) error {
	e.note("start", userID, order)
	return e.err
}

func (e *engine) Lock(_ context.Context, userID string, order desk.LockOrder) (desk.Locked, error) {
	e.note("lock", userID, order)
	return desk.Locked{LockedAt: e.locked}, e.err
}

func (e *engine) NextLock(_ context.Context, userID string, order desk.LockOrder) (desk.Locked, error) {
	e.note("next", userID, order)
	return desk.Locked{LockedAt: e.locked}, e.err
}

func (e *engine) CancelLock(_ context.Context, userID, mobileID, requestID string) desk.Kept {
	e.note("cancel", userID, desk.LockOrder{MobileID: mobileID, RequestID: requestID})
	return e.kept
}

func (e *engine) RetryLock(_ context.Context, userID, mobileID string) (bool, error) {
	e.note("retry", userID, desk.LockOrder{MobileID: mobileID})
	return true, e.err
}

// Operator notes who acts for whom.
func (e *engine) Operator(by string) desk.Locker { return &operatorEngine{e, by} }

type operatorEngine struct {
	engine *engine
	by     string
}

func (o *operatorEngine) StartLock(ctx context.Context, owner string, order desk.LockOrder) error {
	return o.engine.StartLock(ctx, o.by+" for "+owner, order)
}

func (o *operatorEngine) Lock(ctx context.Context, owner string, order desk.LockOrder) (desk.Locked, error) {
	return o.engine.Lock(ctx, o.by+" for "+owner, order)
}

func (o *operatorEngine) NextLock(ctx context.Context, owner string, order desk.LockOrder) (desk.Locked, error) {
	return o.engine.NextLock(ctx, o.by+" for "+owner, order)
}

func (o *operatorEngine) CancelLock(ctx context.Context, owner, mobileID, requestID string) desk.Kept {
	return o.engine.CancelLock(ctx, o.by+" for "+owner, mobileID, requestID)
}

func (o *operatorEngine) RetryLock(ctx context.Context, owner, mobileID string) (bool, error) {
	return o.engine.RetryLock(ctx, o.by+" for "+owner, mobileID)
}

func (e *engine) Get(context.Context, string) (desk.Getting, error) { return e.get, nil }

func (e *engine) LookAtGet(userID string) func(context.Context) (desk.Getting, error) {
	return func(ctx context.Context) (desk.Getting, error) { return e.Get(ctx, userID) }
}

func (e *engine) noteGet(what, userID, requestID string) error {
	e.note("get "+what, userID, desk.LockOrder{RequestID: requestID})
	return e.err
}

func (e *engine) StartGet(_ context.Context, userID string) error {
	return e.noteGet("start", userID, "")
}

func (e *engine) ConfirmGet(_ context.Context, userID, requestID string) error {
	return e.noteGet("confirm", userID, requestID)
}

func (e *engine) NextGet(_ context.Context, userID, requestID string) error {
	return e.noteGet("next", userID, requestID)
}

func (e *engine) LockForGet(_ context.Context, userID, requestID string) error {
	return e.noteGet("lock", userID, requestID)
}

func (e *engine) CancelGet(_ context.Context, userID, requestID string) (bool, error) {
	return false, e.noteGet("cancel", userID, requestID)
}

func (e *engine) RetryGet(_ context.Context, userID string) (bool, error) {
	return true, e.noteGet("retry", userID, "")
}

func (e *engine) Provisioning(_ context.Context, userID string) (mobileid.Provisioning, error) {
	if e.code == nil || e.code.UserID != userID {
		return mobileid.Provisioning{}, mobileid.ErrNoProvisioning
	}
	return *e.code, nil
}

func (e *engine) Code(ctx context.Context, userID string) ([]byte, error) {
	p, err := e.Provisioning(ctx, userID)
	if err != nil {
		return nil, err
	}
	return messaging.QR(p.URI)
}

// provider is an OpenID provider that announces every algorithm.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &provider{key: key}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL, "token_endpoint": p.URL, "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) claims(user string) map[string]any {
	return map[string]any{
		"iss": p.URL, "aud": "mobile-id-api", "sub": user, "scope": "profile mobile-id mobile-id-get",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
}

func signed(t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

func unsigned(claims map[string]any) string {
	text, _ := json.Marshal(claims)
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(text) + "."
}

func (p *provider) sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	return signed(t, jose.ES256, jose.JSONWebKey{Key: p.key, KeyID: "k"}, claims)
}

// place is the API on a real store.
type place struct {
	*httptest.Server
	t        testing.TB
	api      *API
	engine   *engine
	store    *identitymanager.Store
	provider *provider
	router   routers.Router
	document *openapi3.T
	seen     map[string]bool // operations with a status, and types of problems
}

// newPlace makes one with anna and otto, a mobile ID each, and rolf without the role.
func newPlace(t testing.TB) *place {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Store.DSN = filepath.Join(dir, "im.db")
	c.Audit.KeyFile = filepath.Join(dir, "audit.key")
	_, err := config.MakeKey(c.Audit.KeyFile)
	require.NoError(t, err)
	store, err := identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	for _, id := range []string{"anna", "otto", "rolf"} {
		user := mobileid.User{ID: id, Active: true, Roles: []string{mobileid.SelfServiceRole}}
		if id == "rolf" {
			user.Roles = nil
		}
		require.NoError(t, store.PutUser(t.Context(), user, id+"@example.com"))
		serial := map[string]string{"anna": "a1", "otto": "a2", "rolf": "a3"}[id]
		require.NoError(t, store.CreateMobileID(t.Context(), mobileid.MobileID{
			ID: "mid-" + id, Name: "Phone of " + id, Owner: user, State: mobileid.Active, Certificates: []mobileid.Certificate{{
				CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: serial},
				IssuerDN:      "CN=Test CA", NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), State: mobileid.CertificateValid,
			}},
		}))
	}
	p := &place{t: t, store: store, engine: &engine{Desk: &desk.Desk{Store: store}}, provider: newProvider(t), seen: map[string]bool{}}
	p.document, err = openapi3.NewLoader().LoadFromData(document)
	require.NoError(t, err)
	p.router, err = gorillamux.NewRouter(p.document)
	require.NoError(t, err)
	p.api = New(Options{
		Desk: p.engine, Scope: "mobile-id", GetScope: "mobile-id-get", OperatorRole: "operator", Streams: streams.New(100, nil),
		Watch: streams.NewWatch(store), Stopping: make(chan struct{}),
		Tokens: openid.NewTokens(openid.TokenOptions{
			Issuer: p.provider.URL, Audience: "mobile-id-api", Scope: "mobile-id", UserClaim: "sub", RoleClaim: "roles",
		}),
	})
	mux := http.NewServeMux()
	p.api.Register(mux)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *place) token(user string) string { return p.provider.sign(p.t, p.provider.claims(user)) }

// operator is the token of one, who is no user of the store.
func (p *place) operator(name string) string {
	claims := p.provider.claims(name)
	claims["roles"] = []string{"staff", "operator"}
	return p.provider.sign(p.t, claims)
}

// tokenFor is a token that is good for a path, with mobile ID mid-anna in it.
func (p *place) tokenFor(path string) string {
	if strings.HasPrefix(path, operators) {
		return p.operator("olof")
	}
	return p.token("anna")
}

// bodyFor is a good body for an operation.
func bodyFor(method, path string) string {
	if method == http.MethodPost && strings.HasPrefix(path, operators) {
		return `{"owner": "anna"}`
	}
	return ""
}

// request makes one; a method, a path after /api/v1, and headers as name and value.
func (p *place) request(token, method, path, body string, headers ...string) *http.Request {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.URL+base+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// do sends a request, and checks the answer against the document.
func (p *place) do(r *http.Request) (*http.Response, string) {
	p.t.Helper()
	response, err := p.Client().Do(r)
	require.NoError(p.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	if response.StatusCode >= http.StatusBadRequest {
		require.Equal(p.t, "application/problem+json", response.Header.Get("Content-Type"), string(text))
		p.requireSchema("Problem", text)
		var kind struct{ Type string }
		require.NoError(p.t, json.Unmarshal(text, &kind))
		p.seen[kind.Type] = true
	}
	p.requireDocumented(response, text)
	return response, string(text)
}

func (p *place) requireDocumented(response *http.Response, text []byte) {
	p.t.Helper()
	r := response.Request // after redirects
	route, parameters, err := p.router.FindRoute(r)
	if err != nil {
		require.Contains(p.t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, response.StatusCode, "%s %s", r.Method, r.URL)
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route},
		Status:                 response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	switch response.Header.Get("Content-Type") {
	case "text/event-stream", "image/png":
		input.Options.ExcludeResponseBody = true // events are checked one by one
	}
	input.SetBodyBytes(text)
	require.NoError(p.t, openapi3filter.ValidateResponse(p.t.Context(), input), "%s %s: %s", r.Method, r.URL, text)
	p.seen[route.Operation.OperationID+" "+http.StatusText(response.StatusCode)] = true
}

func (p *place) requireSchema(name string, text []byte) {
	p.t.Helper()
	var value any
	require.NoError(p.t, json.Unmarshal(text, &value), string(text))
	require.NoError(p.t, p.document.Components.Schemas[name].Value.VisitJSON(value), string(text))
}

// requireUnchanged checks that nothing reached the processes or the store.
func (p *place) requireUnchanged() {
	p.t.Helper()
	require.Empty(p.t, p.engine.calls)
	for _, id := range []string{"mid-anna", "mid-otto"} {
		m, err := p.store.MobileID(p.t.Context(), id)
		require.NoError(p.t, err)
		require.Equal(p.t, mobileid.Active, m.State)
		trail, err := p.store.AuditTrail(p.t.Context(), id)
		require.NoError(p.t, err)
		require.Empty(p.t, trail)
	}
}

// lock locks a mobile ID in the store, with a revoked certificate.
func (p *place) lock(id, owner, serial string) { p.lockTo(mobileid.OutcomeRevoked, id, owner, serial) }

// lockTo is lock with another outcome of the certificate.
func (p *place) lockTo(outcome mobileid.CertificateOutcome, id, owner, serial string) {
	p.t.Helper()
	at := time.Now().UTC().Truncate(time.Second)
	process, decision := mobileid.Process{Name: "x", WorkflowID: "w", RunID: "r"}, mobileid.Decision{UserID: owner}
	_, err := p.store.Lock(p.t.Context(), mobileid.LockOrder{MobileID: id, Owner: owner, Process: process, Decision: decision, RequestedAt: at})
	require.NoError(p.t, err)
	result := mobileid.CertificateResult{
		CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: serial}, IssuerDN: "CN=Test CA", NotAfter: at.Add(time.Hour), CA: "ca",
		StatusAtCA: mobileid.StatusRevoked, Outcome: mobileid.OutcomeRevoked, Reason: mobileid.Unspecified, RevokedAt: at.Add(2 * time.Second),
		Proof: []mobileid.Proof{{Source: mobileid.ProofFromOCSP, At: at.Add(2 * time.Second), SHA256: strings.Repeat("cd", 32)}},
	}
	if outcome == mobileid.OutcomeExpiredNotRevoked {
		result.StatusAtCA, result.Outcome, result.Reason, result.RevokedAt = mobileid.StatusGood, outcome, "", time.Time{}
	}
	_, err = p.store.RecordRevocations(p.t.Context(), mobileid.RevocationOrder{
		MobileID: id, Process: process, Decision: decision, CA: "ca", Certificates: []mobileid.CertificateResult{result},
	})
	require.NoError(p.t, err)
	if outcome == mobileid.OutcomeExpiredNotRevoked {
		return // nobody publishes that
	}
	result.StateInIM, result.VisibleAt = mobileid.CertificateRevoked, at.Add(3*time.Second)
	_, err = p.store.Record(p.t.Context(), mobileid.Record{
		MobileID: id, Event: mobileid.EventVisible, Process: process, CA: "ca", Certificates: []mobileid.CertificateResult{result},
	})
	require.NoError(p.t, err)
}
