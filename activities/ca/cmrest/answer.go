package cmrest

import (
	"encoding/json"
	"fmt"
	"net/http"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// The error numbers of the API that are known.
const (
	errMissingField      = -7
	errEncoding          = -8
	errNotInitialised    = -12
	errBadValue          = -14
	errPrivilege         = -15
	errBadSignature      = -17
	errConnection        = -18
	errSignatureRequired = -19
	errTooManyRequests   = -40
)

// answer is what all JSON answers have in common.
type answer struct {
	Error      *int               `json:"error"` // 0: success
	Message    string             `json:"msg"`
	DataToSign string             `json:"dataToSign"` // base64
	Errors     []certificateError `json:"errors"`
}

// certificateError is an entry of errors[].
type certificateError struct {
	CertID        string `json:"certid"`
	Code          int    `json:"errorcode"`
	Message       string `json:"errormessage"`
	ServerMessage string `json:"servererrormessage"` // CM's own
}

// readAnswer reads the JSON of an answer. One that is not the gateway's is a failure
// by its HTTP status code.
func readAnswer(op string, reply httpcall.Reply) (answer, error) {
	var a answer
	err := json.Unmarshal(reply.Body, &a)
	switch {
	case err == nil && (a.Error != nil || success(reply.Code)):
		return a, nil
	case success(reply.Code):
		return a, httpcall.Unreadable(op, err)
	}
	e := reply.Failure(op, "")
	if e.Kind == ca.NotFound {
		e.Kind = ca.Unsupported // not found, but not by the gateway: the address is wrong
	}
	return a, e
}

// wantsSignature reports whether the request is to be sent again with a signature.
func (a answer) wantsSignature() bool {
	if a.DataToSign == "" {
		return false
	}
	return a.number() == 0 || a.number() == errSignatureRequired || a.number() == errBadSignature
}

// number returns the error number, 0 if there is none.
func (a answer) number() int {
	if a.Error == nil {
		return 0
	}
	return *a.Error
}

// failure returns why the answer is not success, or nil. certID is the certificate
// that was asked about: its own error counts more than that of the request, and one of
// another certificate means that the answer is to another request.
func (a answer) failure(op string, reply httpcall.Reply, certID string) *ca.Error {
	number, words := a.number(), a.Message
	for _, one := range a.Errors {
		if one.CertID != certID || one.Code == 0 {
			return httpcall.Unreadable(op, fmt.Errorf("it has error %d of the certificate %q", one.Code, one.CertID))
		}
		number, words = one.Code, one.Message+" "+one.ServerMessage
	}
	switch {
	case number != 0:
	case a.DataToSign != "":
		number = errSignatureRequired
	case success(reply.Code):
		return nil
	}
	e := reply.Failure(op, fmt.Sprintf("error %d: %s", number, words))
	e.Kind = kindOf(number, reply.Code)
	return e
}

// kindOf says what an error number means for the next try. -1 is any failure, and so is
// a number that nobody has described: they may have had an effect, unless the HTTP status
// code says what became of the request.
func kindOf(number, code int) ca.Kind {
	switch number {
	case errNotInitialised, errTooManyRequests:
		return ca.Unavailable // by their names, the gateway has passed nothing on
	case errConnection:
		// The gateway does not reach CM. Whether it noticed before or after it had passed
		// the request on, it does not say.
		return ca.Ambiguous
	case errPrivilege, errBadSignature:
		return ca.Denied // an officer who may not, or one that is not known
	case errMissingField, errEncoding, errBadValue, errSignatureRequired:
		return ca.Unsupported
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
		return httpcall.Kind(code)
	}
	return ca.Ambiguous
}

func success(code int) bool { return code >= http.StatusOK && code < http.StatusMultipleChoices }
