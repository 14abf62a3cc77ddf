package messaging

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Kind says what a failed call of messaging means for the next try.
type Kind string

// The kinds of failures. The first two are retried; the others are for an
// operator, because asking again changes nothing.
const (
	// Unavailable: the command surely was not taken. Send it again later.
	Unavailable Kind = "MessagingUnavailable"
	// Ambiguous: the command may have been taken (cut or time-out after it was
	// sent, 5xx, an answer that cannot be read). A second one needs a new nonce,
	// and the answer to the first is then for nobody.
	Ambiguous Kind = "MessagingAmbiguous"
	// Denied: messaging does not know the API key.
	Denied Kind = "MessagingDenied"
	// Invalid: the command is wrong, by this package's rules or by messaging's.
	Invalid Kind = "MessagingInvalid"
)

// Error is a failed call of messaging.
type Error struct {
	Kind       Kind
	Op         string        // what was being done, for example "send provision command"
	Field      string        // for Invalid: the field that is wrong, if it is known
	Words      string        // what is wrong, free of secrets
	RetryAfter time.Duration // how long messaging asks to wait; zero if it does not
	Err        error         // the cause, if any
}

func (e *Error) Error() string {
	text := e.Words
	if text == "" && e.Err != nil {
		text = e.Err.Error()
	}
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	return fmt.Sprintf("%s: %s: %s", e.Op, e.Kind, text)
}

func (e *Error) Unwrap() error { return e.Err }

// Curable reports whether trying again can help. An error that is not an *Error
// counts as curable.
func Curable(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.Kind == Unavailable || e.Kind == Ambiguous
}

// invalid is an *Error about a field.
func invalid(op, field, words string) *Error {
	return &Error{Kind: Invalid, Op: op, Field: field, Words: words}
}

// maxWords is the most of somebody else's words that is kept, in bytes.
const maxWords = 200

// clean makes the words of another program, or of a person, fit for a line.
func clean(words string) string {
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
