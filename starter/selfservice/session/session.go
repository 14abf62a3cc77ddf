// Package session says who is signed in to Self-Service: sessions in the store, so
// that any instance knows them, and the passwords that the store's users sign in with.
//
// A session is named by a random token of 256 bits in a cookie. The store has the
// token's hash alone. A session begins with a new token whenever somebody signs in, so
// that a token that was put into a browser before is worth nothing, and ends by signing
// out, when nobody uses it, or when its time is over.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mobileid"
	"mobileid/activities/identitymanager"
)

const (
	tokenBytes = 32

	// findWait is how long the store may take to tell who somebody is.
	findWait = 3 * time.Second

	// A name with this prefix is taken by browsers only over TLS, for the whole host
	// and from this host alone (RFC 6265bis section 4.1.3.2).
	secureCookie = "__Host-mobileid"
	// plainCookie is for development over http on a loopback address.
	plainCookie = "mobileid"
)

// ErrNone reports that nobody is signed in.
var ErrNone = errors.New("nobody is signed in")

// Options say how long sessions last.
type Options struct {
	Store    *identitymanager.Store
	Secure   bool          // people come by TLS
	Idle     time.Duration // a session ends when it is not used for so long
	Lifetime time.Duration // a session ends after so long
	Clock    func() time.Time
}

// Sessions begins, finds and ends sessions.
type Sessions struct{ options Options }

// New makes Sessions. A nil clock is time.Now.
func New(options Options) *Sessions {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	return &Sessions{options: options}
}

// Secure reports whether people come by TLS.
func (s *Sessions) Secure() bool { return s.options.Secure }

// Begin signs a user in: with a new token, in the place of the session that the
// request had.
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request, userID, method string) error {
	token := make([]byte, tokenBytes)
	_, _ = rand.Read(token) // never fails: it would end the program
	text := base64.RawURLEncoding.EncodeToString(token)
	begun := identitymanager.Session{
		ID: hash(text), User: mobileid.User{ID: userID}, Method: method,
		ExpiresAt: s.options.Clock().Add(s.options.Lifetime),
	}
	if err := s.options.Store.StartSession(r.Context(), begun, s.ID(r)); err != nil {
		return err
	}
	http.SetCookie(w, s.cookie(text, 0))
	return nil
}

// ID is the id of the session that the request claims to have, whether there is one or
// not; empty if it claims none.
func (s *Sessions) ID(r *http.Request) string {
	cookie, err := r.Cookie(s.name())
	if err != nil || cookie.Value == "" {
		return ""
	}
	return hash(cookie.Value)
}

// Of finds the session of a request. ErrNone means that nobody is signed in; any other
// error, that it cannot be known now.
func (s *Sessions) Of(r *http.Request) (identitymanager.Session, error) {
	id := s.ID(r)
	if id == "" {
		return identitymanager.Session{}, ErrNone
	}
	ctx, cancel := context.WithTimeout(r.Context(), findWait)
	defer cancel()
	found, err := s.options.Store.Session(ctx, id, s.options.Idle)
	if errors.Is(err, identitymanager.ErrNoSession) {
		return identitymanager.Session{}, ErrNone
	}
	if err != nil {
		return identitymanager.Session{}, fmt.Errorf("find session: %w", err)
	}
	return found, nil
}

// Use notes that somebody uses a session, so that it does not time out, and returns it
// as it is then. A page that is merely open does not use it.
func (s *Sessions) Use(ctx context.Context, found identitymanager.Session) (identitymanager.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, findWait)
	defer cancel()
	var err error
	found.SeenAt, err = s.options.Store.UseSession(ctx, found)
	return found, err
}

// Ends says when a session ends if nobody uses it until then, and whether that is final:
// it ends then, used or not.
func (s *Sessions) Ends(found identitymanager.Session) (at time.Time, final bool) {
	at = found.SeenAt.Add(s.options.Idle)
	if at.Before(found.ExpiresAt) {
		return at, false
	}
	return found.ExpiresAt, true
}

// End signs out.
func (s *Sessions) End(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, s.cookie("", -1))
	id := s.ID(r)
	if id == "" {
		return nil
	}
	return s.options.Store.EndSession(r.Context(), id)
}

// EndAll signs the user of the request's session out in all browsers, this one included.
// Without a session it signs nobody out.
func (s *Sessions) EndAll(w http.ResponseWriter, r *http.Request) error {
	if err := s.options.Store.EndSessionsOf(r.Context(), s.ID(r)); err != nil {
		return err
	}
	http.SetCookie(w, s.cookie("", -1))
	return nil
}

func (s *Sessions) name() string {
	if s.options.Secure {
		return secureCookie
	}
	return plainCookie
}

// cookie is one that scripts cannot read, and that other sites' forms do not bring.
// It is Lax: who follows a link from a mail, or comes back from an OpenID provider, is
// still signed in.
func (s *Sessions) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure wherever people come by TLS
		Name: s.name(), Value: value, Path: "/", MaxAge: maxAge,
		Secure: s.options.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
