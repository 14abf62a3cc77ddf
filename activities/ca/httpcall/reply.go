package httpcall

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"mobileid"
	"mobileid/activities/ca"
)

// maxWords is the most of the CA's own words that an error keeps, in bytes.
const maxWords = 300

// Reply is an answer, read to its end.
type Reply struct {
	Code   int
	Header http.Header
	Body   []byte
}

// JSON reads the body into a value. Fields that the value does not have are those
// of a newer CA, and ignored. The error is *ca.Error of kind Ambiguous.
func (r Reply) JSON(op string, into any) error {
	if err := json.Unmarshal(r.Body, into); err != nil {
		return Unreadable(op, err)
	}
	return nil
}

// Failure is an answer that is not the one hoped for, as an error of the kind
// that its HTTP status code stands for: see [Kind]. words are the CA's own.
func (r Reply) Failure(op, words string) *ca.Error {
	e := &ca.Error{Kind: Kind(r.Code), Op: op, Words: "HTTP " + strconv.Itoa(r.Code)}
	if words = Clean(words); words != "" {
		e.Words += ": " + words
	}
	if e.Kind == ca.Unavailable {
		e.RetryAfter = retryAfter(r.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// Proof identifies the answer as the CA's own word at the time.
func (r Reply) Proof(at time.Time) mobileid.Proof {
	sum := sha256.Sum256(r.Body)
	return mobileid.Proof{Source: mobileid.ProofFromCA, At: at.UTC(), SHA256: hex.EncodeToString(sum[:])}
}

// Unreadable is an answer that means nothing: the request may have had any effect.
func Unreadable(op string, err error) *ca.Error {
	return &ca.Error{Kind: ca.Ambiguous, Op: op, Words: "the answer cannot be read: " + Clean(err.Error()), Err: err}
}

// Kind says what an HTTP status code means for the next try, unless the product
// gives it another meaning.
func Kind(code int) ca.Kind {
	switch {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return ca.Unavailable
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return ca.Denied
	case code == http.StatusNotFound:
		return ca.NotFound
	case code >= 500, code < 300, code == http.StatusRequestTimeout:
		return ca.Ambiguous
	default:
		return ca.Unsupported
	}
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// Clean makes the CA's words fit for a log line.
func Clean(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, ""))
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "…"
	}
	return strings.TrimSpace(words)
}
