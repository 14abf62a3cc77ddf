package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// problem is an error as RFC 9457 writes it. Type is urn:mobileid:problem: and the type
// of a refusal, or one of the API's own.
type problem struct {
	Type   string         `json:"type"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail"`
	Field  string         `json:"field,omitempty"` // InvalidRequest: the field, parameter or header
	State  mobileid.State `json:"state,omitempty"` // MobileIDNotActive: the state instead
}

func urn(name string) string { return "urn:mobileid:problem:" + name }

// own are the types that are the API's own.
var own = map[int]string{
	http.StatusUnauthorized:          "Unauthorized",
	http.StatusForbidden:             "Forbidden",
	http.StatusNotFound:              "NotFound",
	http.StatusMethodNotAllowed:      "MethodNotAllowed",
	http.StatusRequestEntityTooLarge: "BodyTooLarge",
	http.StatusUnsupportedMediaType:  "UnsupportedMediaType",
	http.StatusTooManyRequests:       "TooManyRequests",
	http.StatusInternalServerError:   "Broken",
	http.StatusServiceUnavailable:    "Unavailable",
}

// refusals are the statuses of the refusals.
var refusals = map[mobileid.RefusalType]int{
	mobileid.TypeInvalidRequest:    http.StatusBadRequest,
	mobileid.TypeMobileIDNotFound:  http.StatusNotFound,
	mobileid.TypeMobileIDNotActive: http.StatusConflict,
	mobileid.TypeNotEntitled:       http.StatusForbidden,
	mobileid.TypeMobileIDActive:    http.StatusConflict,
	mobileid.TypeAlreadyConfirmed:  http.StatusConflict,
	mobileid.TypeAlreadyCancelled:  http.StatusConflict,
}

// Refuse answers with a problem of the API's own.
func Refuse(w http.ResponseWriter, code int, words string) {
	write(w, problem{Type: urn(own[code]), Status: code, Detail: words})
}

// NotFound answers where no API is.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	Refuse(w, http.StatusNotFound, "there is nothing here")
}

func write(w http.ResponseWriter, p problem) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // nobody is left to tell
}

// fail answers with what an error is for the caller.
func (c *call) fail(err error) {
	var refusal *mobileid.Refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refusal) && refusals[refusal.Type] != 0:
		write(c.w, problem{
			Type: urn(string(refusal.Type)), Status: refusals[refusal.Type], Detail: refusal.Message, Field: refusal.Field, State: refusal.State,
		})
	case errors.As(err, &tooLarge):
		Refuse(c.w, http.StatusRequestEntityTooLarge, "the body is too large")
	case errors.Is(err, errMediaType):
		Refuse(c.w, http.StatusUnsupportedMediaType, err.Error())
	case errors.Is(err, desk.ErrNoLock):
		write(c.w, problem{Type: urn("NoLock"), Status: http.StatusConflict, Detail: desk.ErrNoLock.Error()})
	case errors.Is(err, desk.ErrNoGet):
		write(c.w, problem{Type: urn("NoGet"), Status: http.StatusConflict, Detail: desk.ErrNoGet.Error()})
	case errors.Is(err, mobileid.ErrNoProvisioning):
		write(c.w, problem{Type: urn("NoCode"), Status: http.StatusNotFound, Detail: "there is no code to be scanned"})
	case errors.Is(err, errNotLocked):
		write(c.w, problem{Type: urn("MobileIDNotLocked"), Status: http.StatusConflict, Detail: err.Error()})
	case c.ctx().Err() != nil: // nobody is there to read it
	case errors.Is(err, desk.ErrUnreachable):
		c.unavailable("temporal")
	default:
		c.unavailable("store")
	}
}

// unavailable says that the same is to be sent again. What does not answer is logged,
// without who and what it was about.
func (c *call) unavailable(what string) {
	c.api.Log.Warn("API cannot answer", zap.String("route", c.r.Pattern), zap.String("away", what))
	c.w.Header().Set("Retry-After", "10")
	Refuse(c.w, http.StatusServiceUnavailable, "it cannot be done or told now: to send the same again does no harm")
}
