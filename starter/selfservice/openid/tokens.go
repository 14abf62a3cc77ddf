package openid

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Why there is no caller. Any other error means that the provider cannot be reached.
var (
	ErrNoToken  = errors.New("an access token is needed: Authorization: Bearer")
	ErrBadToken = errors.New("the access token does not count here")
	ErrNoScope  = errors.New("the access token does not have the scope")
)

// asymmetric are the signatures that count, whatever the provider announces: with a
// shared secret, or none, anybody who knows a public key could sign (RFC 8725 section
// 3.1).
var asymmetric = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// TokenOptions say which access tokens count.
type TokenOptions struct {
	Issuer    string
	Audience  string
	Scope     string // one
	UserClaim string
	RoleClaim string // empty: no roles
	Client    *http.Client
}

// Tokens reads who calls from access tokens: JWTs of one provider, for one audience,
// sent as RFC 6750 section 2.1 says. That the header of a token says at+jwt (RFC 9068)
// is not asked for, because providers differ there; the audience of its own tells access
// tokens from ID tokens.
type Tokens struct {
	*remote
	options TokenOptions
}

// NewTokens makes Tokens. The provider is reached with the first token.
func NewTokens(options TokenOptions) *Tokens {
	return &Tokens{remote: newRemote(options.Issuer, options.Client), options: options}
}

// Caller is whom a token speaks for, and until when.
type Caller struct {
	UserID string
	Scopes []string
	Roles  []string
	Until  time.Time
}

// Caller reads who calls. The errors say nothing of the token.
func (t *Tokens) Caller(r *http.Request) (Caller, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return Caller{}, ErrNoToken
	}
	scheme, raw, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return Caller{}, ErrNoToken
	}
	provider, err := t.reach(r.Context())
	if err != nil {
		return Caller{}, err
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: t.options.Audience, SupportedSigningAlgs: asymmetric}).Verify(r.Context(), raw)
	if err != nil {
		return Caller{}, ErrBadToken
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return Caller{}, ErrBadToken
	}
	userID, _ := claims[t.options.UserClaim].(string)
	if userID == "" || len(userID) > maxUserID {
		return Caller{}, fmt.Errorf("%w: it has no claim %s", ErrBadToken, t.options.UserClaim)
	}
	caller := Caller{UserID: userID, Scopes: scopes(claims), Until: token.Expiry}
	if !slices.Contains(caller.Scopes, t.options.Scope) {
		return Caller{}, ErrNoScope
	}
	if t.options.RoleClaim != "" {
		caller.Roles = texts(claims[t.options.RoleClaim], func(one string) []string { return []string{one} })
	}
	return caller, nil
}

// scopes reads "scope" (RFC 9068 section 2.2.3), or "scp", which some providers write
// instead, as text or as a list.
func scopes(claims map[string]any) []string {
	claim, ok := claims["scope"]
	if !ok {
		claim = claims["scp"]
	}
	return texts(claim, strings.Fields)
}

// texts reads a claim that is a text, which split takes apart, or a list of texts.
func texts(claim any, split func(string) []string) []string {
	switch claim := claim.(type) {
	case string:
		return split(claim)
	case []any:
		var all []string
		for _, one := range claim {
			if text, ok := one.(string); ok {
				all = append(all, text)
			}
		}
		return all
	}
	return nil
}
