// Package api is Self-Service for programs: other backends that act for a user who has
// signed in with them. It is the desk as JSON, under /api/v1, and is described by the
// OpenAPI document that it serves.
//
// A call brings an access token of the user (RFC 6750); the user is the one whom the
// token speaks for, and nothing in a request names another. What is somebody else's
// looks as if it were not there. Errors are problem details (RFC 9457) with the types of
// the refusals of package mobileid, and a few of the API's own.
//
// That the mobile ID is the user's is seen in Identity Manager before anything is
// started or told, so that no Next is taken while that is away: the pages can, because
// their form was shown before.
//
// Idempotency-Key makes a repeated decision the same decision. The first one counts; what
// a repeat says otherwise, its reason say, is not compared.
package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/openid"
	"mobileid/starter/selfservice/streams"
)

const (
	// Root is where every API is; what is there and is none is answered by NotFound.
	Root = "/api/"

	base = "/api/v1"

	documentPath = base + "/openapi.json"
)

// document describes the API (OpenAPI 3.0.3).
//
//go:embed openapi.json
var document []byte

// Desk is what the API shows: *desk.Desk.
type Desk interface {
	Entitled(ctx context.Context, userID string) error
	MobileIDs(ctx context.Context, userID string) ([]mobileid.MobileID, error)
	MobileID(ctx context.Context, userID, id string) (identitymanager.Owned, error)
	Progress(ctx context.Context, userID, id string) (desk.Progress, error)
	StartLock(ctx context.Context, userID string, order desk.LockOrder) error
	Lock(ctx context.Context, userID string, order desk.LockOrder) (desk.Locked, error)
	NextLock(ctx context.Context, userID string, order desk.LockOrder) (desk.Locked, error)
	CancelLock(ctx context.Context, userID, mobileID, requestID string) desk.Kept
	RetryLock(ctx context.Context, userID, mobileID string) (bool, error)
}

// Tokens tells who calls: *openid.Tokens.
type Tokens interface {
	Caller(r *http.Request) (openid.Caller, error)
}

// Options are what the API is made of.
type Options struct {
	Desk     Desk
	Tokens   Tokens
	Scope    string // that tokens must have, for those that do not
	Streams  *streams.Limit
	Stopping <-chan struct{} // closed when the server stops, for event streams to end
	Log      *zap.Logger
}

// API is the handlers.
type API struct{ Options }

// New makes an API.
func New(options Options) *API {
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	return &API{options}
}

// routes are the operations that need a token.
func (a *API) routes() map[string]func(*call) {
	const one = base + "/mobile-ids/{id}"
	return map[string]func(*call){
		"GET " + base + "/mobile-ids":  a.list,
		"GET " + one:                   a.show,
		"GET " + one + "/lock":         a.status,
		"POST " + one + "/lock":        a.start,
		"POST " + one + "/lock/next":   a.next,
		"POST " + one + "/lock/cancel": a.cancel,
		"POST " + one + "/lock/retry":  a.retry,
		"GET " + one + "/lock/events":  a.events,
		"GET " + one + "/receipt":      a.receipt,
	}
}

// Register adds the API to a mux, and with it the answers to what it has not.
func (a *API) Register(mux *http.ServeMux) {
	methods := map[string][]string{documentPath: {http.MethodGet}}
	for pattern, handle := range a.routes() {
		mux.HandleFunc(pattern, a.authorized(handle))
		method, path, _ := strings.Cut(pattern, " ")
		methods[path] = append(methods[path], method)
	}
	mux.HandleFunc("GET "+documentPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document) // nobody is left to tell
	})
	for path := range maps.Keys(methods) {
		allow := methods[path]
		slices.Sort(allow)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			Refuse(w, http.StatusMethodNotAllowed, "this method is not offered here")
		})
	}
	mux.HandleFunc(Root, NotFound)
}

// call is a request with a token that counts, of a user who may use Self-Service.
type call struct {
	api    *API
	w      http.ResponseWriter
	r      *http.Request
	caller openid.Caller
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) user() string { return c.caller.UserID }

// id is the mobile ID of the address.
func (c *call) id() string { return c.r.PathValue("id") }

func (a *API) authorized(handle func(*call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{api: a, w: w, r: r}
		var err error
		c.caller, err = a.Tokens.Caller(r)
		switch {
		case errors.Is(err, openid.ErrNoToken):
			w.Header().Set("WWW-Authenticate", "Bearer")
			Refuse(w, http.StatusUnauthorized, err.Error())
			return
		case errors.Is(err, openid.ErrBadToken):
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			Refuse(w, http.StatusUnauthorized, err.Error())
			return
		case errors.Is(err, openid.ErrNoScope):
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+a.Scope+`"`)
			write(w, problem{Type: urn("InsufficientScope"), Status: http.StatusForbidden, Detail: err.Error() + " " + a.Scope})
			return
		case err != nil:
			c.unavailable("openid")
			return
		}
		if err := a.Desk.Entitled(r.Context(), c.user()); err != nil {
			c.fail(err)
			return
		}
		handle(c)
	}
}

// answer writes what was asked for.
func (c *call) answer(code int, body any) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(code)
	_ = json.NewEncoder(c.w).Encode(body) // nobody is left to tell
}
