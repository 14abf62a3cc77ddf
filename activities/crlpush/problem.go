package crlpush

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
)

// Problem is why a CRL is not taken, as problem details (RFC 9457).
type Problem struct {
	Type   string `json:"type"` // urn:mobileid:crl: and a word
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// The words of problems that the CRL itself does not have. Those of a CRL are those of
// ca.PushProblem.
const (
	NotAuthenticated = "notAuthenticated"
	UnknownTenant    = "unknownTenant"
	TooLarge         = "tooLarge"
	Unreadable       = "unreadable" // the body did not come whole
	TooMany          = "tooManyRequests"
	Stale            = "stale"  // older than one before
	NoBase           = "noBase" // a delta CRL whose base was not taken over
	Unavailable      = "unavailable"
)

var titles = map[string]string{
	NotAuthenticated:             "Neither client certificate nor password let you in",
	UnknownTenant:                "There is no such tenant",
	TooLarge:                     "The CRL is too large",
	Unreadable:                   "The body did not come whole",
	TooMany:                      "Too many requests",
	Stale:                        "The CRL is older than one that came before",
	NoBase:                       "The delta CRL builds on one that was not taken over",
	Unavailable:                  "The CRL cannot be taken over now",
	string(ca.PushMalformed):     "The body is not a CRL",
	string(ca.PushUnknownIssuer): "The CRL is of no CA that is configured",
	string(ca.PushBadSignature):  "The CRL is not signed by its CA",
	string(ca.PushNotAccepted):   "The CRL cannot be taken over",
	string(ca.PushExpired):       "The CRL is out of date",
	string(ca.PushEarly):         "The CRL is of the future",
}

var statuses = map[string]int{
	NotAuthenticated:         http.StatusUnauthorized,
	UnknownTenant:            http.StatusNotFound,
	TooLarge:                 http.StatusRequestEntityTooLarge,
	Unreadable:               http.StatusBadRequest,
	TooMany:                  http.StatusTooManyRequests,
	Stale:                    http.StatusConflict,
	NoBase:                   http.StatusConflict,
	Unavailable:              http.StatusServiceUnavailable,
	string(ca.PushMalformed): http.StatusBadRequest,
}

// retryAfter is what a sender that has to come again is asked to wait, in seconds.
const retryAfter = 30

func newProblem(word, detail string) Problem {
	status, ok := statuses[word]
	if !ok {
		status = http.StatusUnprocessableEntity // well-formed, and not believed
	}
	return Problem{Type: "urn:mobileid:crl:" + word, Title: titles[word], Status: status, Detail: detail}
}

// problemOf says what an error is to the sender. What the store says is not for it.
func problemOf(err error) Problem {
	var push *ca.PushError
	var stale *identitymanager.StaleCRLError
	var base *identitymanager.CRLBaseError
	switch {
	case errors.As(err, &push):
		return newProblem(string(push.Problem), push.Error())
	case errors.As(err, &stale):
		return newProblem(Stale, stale.Error())
	case errors.As(err, &base):
		return newProblem(NoBase, base.Error())
	}
	return newProblem(Unavailable, "")
}

func (p Problem) write(w http.ResponseWriter) {
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	answer(w, "application/problem+json", p.Status, p)
}

func answer(w http.ResponseWriter, media string, status int, body any) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the sender has gone away: nobody to tell
}
