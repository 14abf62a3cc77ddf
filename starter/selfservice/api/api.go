// Package api is Self-Service for programs: other backends that act for a user who has
// signed in with them. It is the desk as JSON, under /api/v1, and is described by the
// OpenAPI document that it serves.
//
// A call brings an access token of the user (RFC 6750); the user is the one whom the
// token speaks for, and nothing in a request names another. What is somebody else's
// looks as if it were not there. Operators alone, whose tokens have a role, lock the mobile
// IDs of others: they name the owner, and stand in the audit as who did it. They get
// nobody a mobile ID. Get mobile ID needs a scope of its own, because its code is the
// mobile ID to be. Errors are problem details (RFC 9457) with the types of
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
	operators    = base + "/operator/"
)

// document describes the API (OpenAPI 3.0.3).
//
//go:embed openapi.json
var document []byte

// Desk is what the API shows: *desk.Desk.
type Desk interface {
	desk.Locker
	Operator(by string) desk.Locker
	OwnerOf(ctx context.Context, mobileID string) (string, error)

	Entitled(ctx context.Context, userID string) error
	MobileIDs(ctx context.Context, userID string) ([]mobileid.MobileID, error)
	MobileID(ctx context.Context, userID, id string) (identitymanager.Owned, error)
	Look(userID, id string) func(context.Context) (desk.Progress, error)
	History(ctx context.Context, userID string) ([]desk.Entry, error)

	Get(ctx context.Context, userID string) (desk.Getting, error)
	LookAtGet(userID string) func(context.Context) (desk.Getting, error)
	StartGet(ctx context.Context, userID string) error
	ConfirmGet(ctx context.Context, userID, requestID string) error
	NextGet(ctx context.Context, userID, requestID string) error
	LockForGet(ctx context.Context, userID, requestID string) error
	CancelGet(ctx context.Context, userID, requestID string) (stored bool, err error)
	RetryGet(ctx context.Context, userID string) (bool, error)
	Provisioning(ctx context.Context, userID string) (mobileid.Provisioning, error)
	Code(ctx context.Context, userID string) ([]byte, error)
}

// Tokens tells who calls: *openid.Tokens.
type Tokens interface {
	Caller(r *http.Request) (openid.Caller, error)
}

// Options are what the API is made of.
type Options struct {
	Desk         Desk
	Tokens       Tokens
	Scope        string // that tokens must have, for those that do not
	GetScope     string // that they must have for Get mobile ID; empty: it is not offered
	OperatorRole string // of operators; empty: there are none
	Streams      *streams.Limit
	Watch        *streams.Watch
	Stopping     <-chan struct{} // closed when the server stops, for event streams to end
	Log          *zap.Logger
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

// routes are the operations that need a token, of users and of operators.
func (a *API) routes() map[string]func(*call) {
	const one, others, get = base + "/mobile-ids/{id}", base + "/operator/mobile-ids/{id}", base + "/get"
	return map[string]func(*call){
		"GET " + base + "/history": a.history,

		"GET " + get:               a.getting(a.getStatus),
		"POST " + get:              a.getting(a.getStart),
		"POST " + get + "/next":    a.getting(a.getNext),
		"POST " + get + "/lock":    a.getting(a.getLock),
		"POST " + get + "/cancel":  a.getting(a.getCancel),
		"POST " + get + "/retry":   a.getting(a.getRetry),
		"GET " + get + "/events":   a.getting(a.getEvents),
		"GET " + get + "/code":     a.getting(a.getCode),
		"GET " + get + "/code.png": a.getting(a.getPicture),

		"GET " + others + "/lock":         a.operatorStatus,
		"POST " + others + "/lock":        a.start,
		"POST " + others + "/lock/next":   a.next,
		"POST " + others + "/lock/cancel": a.cancel,
		"POST " + others + "/lock/retry":  a.retry,

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
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(pattern, a.authorized(handle, strings.HasPrefix(path, operators)))
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
	api      *API
	w        http.ResponseWriter
	r        *http.Request
	caller   openid.Caller
	operator bool        // it is of an operator, for another
	owner    string      // whose mobile ID it is about; of an operator's once it is read
	locks    desk.Locker // in the name of the user, or of the operator
}

func (c *call) ctx() context.Context { return c.r.Context() }

// user is who calls.
func (c *call) user() string { return c.caller.UserID }

// id is the mobile ID of the address.
func (c *call) id() string { return c.r.PathValue("id") }

func (a *API) authorized(handle func(*call), operator bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{api: a, w: w, r: r, operator: operator}
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
			c.needScope(a.Scope)
			return
		case err != nil:
			c.unavailable("openid")
			return
		}
		c.owner, c.locks = c.user(), a.Desk
		if operator {
			c.owner, c.locks, err = "", a.Desk.Operator(c.user()), a.operates(c.caller)
		} else {
			err = a.Desk.Entitled(r.Context(), c.user())
		}
		if err != nil {
			c.fail(err)
			return
		}
		handle(c)
	}
}

// operates refuses who is no operator. That the token says so is enough: an operator need
// be no user of Self-Service.
func (a *API) operates(caller openid.Caller) error {
	if a.OperatorRole == "" || !slices.Contains(caller.Roles, a.OperatorRole) {
		return mobileid.NotEntitled("the access token is not an operator's")
	}
	return nil
}

// needScope refuses a token for the scope that it lacks.
func (c *call) needScope(scope string) {
	c.w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	write(c.w, problem{Type: urn("InsufficientScope"), Status: http.StatusForbidden, Detail: openid.ErrNoScope.Error() + " " + scope})
}

// answer writes what was asked for.
func (c *call) answer(code int, body any) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(code)
	_ = json.NewEncoder(c.w).Encode(body) // nobody is left to tell
}
