package mail

import (
	"errors"
	"fmt"
	"time"
)

// Failure says what went wrong, and with it whether another try helps.
type Failure string

// The failures. The first three are tried again, the others never.
const (
	// Unavailable: the message was surely not taken (no connection, a reply 4yz).
	Unavailable Failure = "MailUnavailable"
	// Ambiguous: the whole message was sent, and no answer came. The server may have it.
	// The next try has the same Message-ID.
	Ambiguous Failure = "MailAmbiguous"
	// Denied: the server does not take mail from us, or is not one that we trust (no
	// STARTTLS, a certificate that nobody vouches for, a wrong password). It is the same
	// for every message until an operator or the server's owner acts, and no reason to
	// lose one: it is tried again, but not soon.
	Denied Failure = "MailDenied"
	// Undeliverable: the server refuses this address, or this message, for good.
	Undeliverable Failure = "MailUndeliverable"
	// Invalid: the message, or what it is made from, is malformed.
	Invalid Failure = "MailInvalid"
)

// deniedWait is how long to wait after a Denied: servers lock out who tries a wrong
// password too often.
const deniedWait = 5 * time.Minute

// Error is a failure to send or to make a message. It never holds the message, its
// address or a password.
type Error struct {
	Failure    Failure
	Op         string        // what was being done, for example "send mail 9e107d9d: RCPT"
	Field      string        // Invalid: what is malformed
	Code       int           // the server's reply, 0 if there was none (RFC 5321 section 4.2)
	Words      string        // the server's words, or ours
	RetryAfter time.Duration // how long to wait at least; zero: as the caller likes
	Err        error         // the cause, if any
}

func (e *Error) Error() string {
	text := e.Words
	if text == "" && e.Err != nil {
		text = e.Err.Error()
	}
	if e.Field != "" {
		text = e.Field + " " + text
	}
	if e.Code != 0 {
		text = fmt.Sprintf("%d %s", e.Code, text)
	}
	return fmt.Sprintf("%s: %s: %s", e.Op, e.Failure, text)
}

func (e *Error) Unwrap() error { return e.Err }

// Retry reports whether trying again can help. An error that is not an *Error counts
// as curable: a second message is better than none.
func Retry(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	return e.Failure == Unavailable || e.Failure == Ambiguous || e.Failure == Denied
}

func invalid(op, field, problem string) *Error {
	return &Error{Failure: Invalid, Op: op, Field: field, Words: problem}
}
