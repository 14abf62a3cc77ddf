// Package observe is what Self-Service tells whoever measures it. Nothing that it tells
// has a value that a person, a mobile ID or a process could give it.
package observe

import "time"

// Observer takes up what happens. It is called by many at once.
type Observer interface {
	// Answered tells of a request: the pattern of its route, and none for what has no
	// route.
	Answered(route string, code int, took time.Duration)
	// Refused tells that a limit was reached.
	Refused(limit Limit)
	// SignIn tells how a try to sign in has ended.
	SignIn(way Way, outcome Outcome)
}

// Limit is one that requests are refused by.
type Limit string

// The limits. A header that is too large is refused before anybody is told.
const (
	LimitRate    Limit = "rate"    // requests from one address
	LimitBody    Limit = "body"    // the size of a body
	LimitStreams Limit = "streams" // open event streams
	LimitSignIn  Limit = "signIn"  // tries to sign in
)

// Limits are all of them.
func Limits() []Limit { return []Limit{LimitRate, LimitBody, LimitStreams, LimitSignIn} }

// Way is how somebody signs in.
type Way string

// The ways.
const (
	ByPassword Way = "password"
	ByOpenID   Way = "openid"
)

// Ways are all of them.
func Ways() []Way { return []Way{ByPassword, ByOpenID} }

// Outcome is how a try to sign in has ended.
type Outcome string

// The outcomes.
const (
	SignedIn Outcome = "signedIn"
	Refused  Outcome = "refused" // wrong password, or the provider says no
	TooMany  Outcome = "tooMany" // tried too often, and not looked at
	Failed   Outcome = "failed"  // nobody could tell
)

// Outcomes are all of them.
func Outcomes() []Outcome { return []Outcome{SignedIn, Refused, TooMany, Failed} }

// Nobody takes up nothing.
type Nobody struct{}

// Answered implements [Observer].
func (Nobody) Answered(string, int, time.Duration) {}

// Refused implements [Observer].
func (Nobody) Refused(Limit) {}

// SignIn implements [Observer].
func (Nobody) SignIn(Way, Outcome) {}
