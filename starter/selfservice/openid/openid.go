// Package openid signs people in by OpenID Connect: the authorization code flow with
// PKCE (RFC 7636, S256), state and nonce, as OpenID Connect Core 1.0 section 3.1 and
// RFC 9700 section 2.1.1 ask.
//
// What a sign-in began with lies sealed in a cookie of the browser that began it, so
// that any instance can finish it, and no other browser.
package openid

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"mobileid/starter/selfservice/seal"
)

const (
	// CallbackPath is where the provider sends people back to.
	CallbackPath = "/sign-in/openid/callback"

	// flowTime is how long a sign-in at the provider may take.
	flowTime = 10 * time.Minute

	callTimeout  = 10 * time.Second
	secureCookie = "__Host-mobileid-sign-in"
	plainCookie  = "mobileid-sign-in"
	maxUserID    = 256
)

// ErrRefused reports a sign-in that did not come to a user: it was broken off, is too
// old, was begun in another browser, or what came back is not what it must be.
var ErrRefused = errors.New("the sign-in was not completed")

// Options say which provider.
type Options struct {
	Issuer       string
	ClientID     string
	ClientSecret string // empty: a public client
	Scopes       []string
	UserClaim    string // claim of the ID token that is the user's id
	PublicURL    string // of Self-Service
	Secure       bool   // people come by TLS
	Client       *http.Client

	// Tried, if not nil, is told how each Finish has ended.
	Tried func(err error)
	// MobileIDACR are the values of acr and amr that mean signed in with a mobile ID.
	MobileIDACR []string
}

// SignIn signs in with one provider.
type SignIn struct {
	*remote
	options Options
	sealer  *seal.Sealer
}

// remote is a provider, and how it is reached.
type remote struct {
	issuer string
	client *http.Client

	mu       sync.Mutex
	provider *oidc.Provider // once it was reached
}

func newRemote(issuer string, client *http.Client) *remote {
	if client == nil {
		client = &http.Client{Timeout: callTimeout}
	}
	return &remote{issuer: issuer, client: client}
}

// flow is what a sign-in began with.
type flow struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	Then     string `json:"then"` // where the user wanted to go
}

// New makes a SignIn. The provider is reached when somebody signs in, so that
// Self-Service starts without it.
func New(options Options, sealer *seal.Sealer) *SignIn {
	return &SignIn{remote: newRemote(options.Issuer, options.Client), options: options, sealer: sealer}
}

// Begin sends the browser to the provider. then is where the user wanted to go.
func (s *SignIn) Begin(w http.ResponseWriter, r *http.Request, then string) error {
	provider, err := s.reach(r.Context())
	if err != nil {
		return err
	}
	began := flow{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Then: then}
	sealed, err := s.sealer.Seal(began, flowTime)
	if err != nil {
		return err
	}
	http.SetCookie(w, s.cookie(sealed, int(flowTime.Seconds())))
	http.Redirect(w, r, s.oauth(provider).AuthCodeURL(began.State, oidc.Nonce(began.Nonce), oauth2.S256ChallengeOption(began.Verifier)), http.StatusSeeOther)
	return nil
}

// SignedIn is who has come back from the provider.
type SignedIn struct {
	UserID   string
	Then     string // where they wanted to go
	MobileID bool   // they signed in with a mobile ID
}

// Finish takes what the browser brings back from the provider. ErrRefused means that
// there is no user; any other error, that the provider cannot be reached.
func (s *SignIn) Finish(w http.ResponseWriter, r *http.Request) (_ SignedIn, err error) {
	if s.options.Tried != nil {
		defer func() { s.options.Tried(err) }()
	}
	http.SetCookie(w, s.cookie("", -1)) // it counts once
	cookie, err := r.Cookie(s.name())
	if err != nil {
		return SignedIn{}, ErrRefused
	}
	var began flow
	if err := s.sealer.Open(cookie.Value, &began); err != nil {
		return SignedIn{}, ErrRefused
	}
	query := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(began.State)) != 1 || query.Get("code") == "" {
		return SignedIn{}, ErrRefused
	}
	provider, err := s.reach(r.Context())
	if err != nil {
		return SignedIn{}, err
	}
	ctx := oidc.ClientContext(r.Context(), s.client)
	token, err := s.oauth(provider).Exchange(ctx, query.Get("code"), oauth2.VerifierOption(began.Verifier))
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) {
		return SignedIn{}, ErrRefused
	}
	if err != nil {
		return SignedIn{}, errors.New("the OpenID provider does not give the token")
	}
	in, err := s.verify(ctx, provider, token, began.Nonce)
	in.Then = began.Then
	return in, err
}

// verify reads the user from an ID token: signed by the provider, for this client, not
// expired, and for this sign-in.
func (s *SignIn) verify(ctx context.Context, provider *oidc.Provider, token *oauth2.Token, nonce string) (SignedIn, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return SignedIn{}, ErrRefused
	}
	// The verifier takes the algorithms that the provider announces; none is not one.
	verified, err := provider.Verifier(&oidc.Config{ClientID: s.options.ClientID}).Verify(ctx, raw)
	if err != nil {
		return SignedIn{}, fmt.Errorf("%w: the ID token does not verify", ErrRefused)
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(nonce)) != 1 {
		return SignedIn{}, fmt.Errorf("%w: the ID token is for another sign-in", ErrRefused)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return SignedIn{}, ErrRefused
	}
	userID, _ := claims[s.options.UserClaim].(string)
	if userID == "" || len(userID) > maxUserID {
		return SignedIn{}, fmt.Errorf("%w: the ID token has no claim %s", ErrRefused, s.options.UserClaim)
	}
	return SignedIn{UserID: userID, MobileID: s.byMobileID(claims)}, nil
}

// byMobileID reports whether the claims say that a mobile ID was signed in with: acr, or
// one of amr (OpenID Connect Core 1.0 section 2).
func (s *SignIn) byMobileID(claims map[string]any) bool {
	acr, _ := claims["acr"].(string)
	if slices.Contains(s.options.MobileIDACR, acr) {
		return true
	}
	amr, _ := claims["amr"].([]any)
	return slices.ContainsFunc(amr, func(one any) bool {
		text, _ := one.(string)
		return slices.Contains(s.options.MobileIDACR, text)
	})
}

// reach reads the provider's discovery document, once.
func (r *remote) reach(ctx context.Context) (*oidc.Provider, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.provider != nil {
		return r.provider, nil
	}
	// The provider keeps the client of this context for the keys, which it reads later.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), r.client)
	provider, err := oidc.NewProvider(ctx, r.issuer)
	if err != nil {
		return nil, fmt.Errorf("reach the OpenID provider: %w", err)
	}
	r.provider = provider
	return provider, nil
}

func (s *SignIn) oauth(provider *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: s.options.ClientID, ClientSecret: s.options.ClientSecret, Endpoint: provider.Endpoint(),
		RedirectURL: s.options.PublicURL + CallbackPath, Scopes: s.options.Scopes,
	}
}

func (s *SignIn) name() string {
	if s.options.Secure {
		return secureCookie
	}
	return plainCookie
}

// cookie must come along when the provider sends the browser back, hence Lax.
func (s *SignIn) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure wherever people come by TLS
		Name: s.name(), Value: value, Path: "/", MaxAge: maxAge,
		Secure: s.options.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
