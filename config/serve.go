package config

import (
	"net"
	"net/url"
	"strings"
	"time"
)

// How people sign in to Self-Service.
const (
	SignInPassword = "password"
	SignInOpenID   = "openid"
)

// Serve is Self-Service: the pages for the owners of mobile IDs.
type Serve struct {
	Address         string        `mapstructure:"address" doc:"where it is served"`
	PublicURL       string        `mapstructure:"public_url" doc:"how people reach it, https without a path; empty: http and address, for development"`
	CertificateFile string        `mapstructure:"certificate_file" doc:"PEM file with the certificate of its own TLS; empty: none, for a loopback address or behind a proxy that has it"`
	KeyFile         string        `mapstructure:"key_file" doc:"PEM file with its key"`
	FormKeyFile     string        `mapstructure:"form_key_file" doc:"file with the key that seals forms, 64 hex digits, the same for all instances; 'starter setup' makes one if it is missing"`
	AddressHeader   string        `mapstructure:"address_header" doc:"header in which the proxy, and nobody else, gives the address of the client, for example X-Real-IP; empty: the address of the connection"`
	SignIn          string        `mapstructure:"sign_in" doc:"password (of the store's users, see 'starter password') or openid"`
	OpenID          OpenID        `mapstructure:"openid" doc:"OpenID Connect, for sign_in openid"`
	API             API           `mapstructure:"api" doc:"JSON API for other backends, at /api/v1; its callers bring tokens of the provider of serve.openid"`
	IdleTimeout     time.Duration `mapstructure:"idle_timeout" doc:"a session ends when nobody uses it for so long"`
	SessionTimeout  time.Duration `mapstructure:"session_timeout" doc:"a session ends after so long, used or not"`
	FormTimeout     time.Duration `mapstructure:"form_timeout" doc:"how long the Next of a form counts"`
	AskReason       bool          `mapstructure:"ask_reason" doc:"the form of a lock asks why, in plain words; false: as the original"`
	Rate            float64       `mapstructure:"rate" doc:"requests a second from one address, for longer than a moment"`
	Streams         int           `mapstructure:"streams" doc:"progress pages that are kept up to date at once, by one instance"`
	MetricsAddress  string        `mapstructure:"metrics_address" doc:"address of /metrics for Prometheus, never the one that people reach; empty: none"`
	StopTimeout     time.Duration `mapstructure:"stop_timeout" doc:"how long requests under way may take to end after SIGTERM"`
}

// OpenID is an OpenID Connect provider, asked by the code flow with PKCE.
type OpenID struct {
	Issuer           string   `mapstructure:"issuer" doc:"https URL, as the provider's discovery document and its tokens spell it"`
	ClientID         string   `mapstructure:"client_id" doc:"of Self-Service at the provider; its redirect URI is public_url/sign-in/openid/callback"`
	ClientSecretFile string   `mapstructure:"client_secret_file" doc:"file with the secret of that client; empty: a public client"`
	Scopes           []string `mapstructure:"scopes" doc:"that are asked for"`
	UserClaim        string   `mapstructure:"user_claim" doc:"claim of the ID token that is the id of the user in the store; must be one that users cannot change themselves"`
	MobileIDACR      []string `mapstructure:"mobile_id_acr" doc:"values of the claims acr and amr that mean signed in with a mobile ID: who locks it is warned that it may have been the only way in, and other sessions that it began end"`
}

// API is the JSON API. It takes the issuer and the user's claim from OpenID, however
// people sign in.
type API struct {
	Audience string `mapstructure:"audience" doc:"that access tokens must be for, not the client_id of the sign-in; empty: there is no API"`
	Scope    string `mapstructure:"scope" doc:"that they must have"`
	GetScope string `mapstructure:"get_scope" doc:"that they must have too, for Get mobile ID; empty: the API does not offer it"`

	OperatorClaim string `mapstructure:"operator_claim" doc:"claim, a text or a list, with the roles of whoever the token speaks for; one that users cannot change themselves"`
	OperatorRole  string `mapstructure:"operator_role" doc:"role of operators, who lock the mobile IDs of others; empty: the API does not offer that"`
}

func defaultServe() Serve {
	return Serve{
		Address:        "127.0.0.1:8082",
		FormKeyFile:    ".dev/serve.key",
		SignIn:         SignInPassword,
		OpenID:         OpenID{Scopes: []string{"openid"}, UserClaim: "sub", MobileIDACR: []string{}},
		API:            API{Scope: "mobile-id", GetScope: "mobile-id-get", OperatorClaim: "roles"},
		IdleTimeout:    30 * time.Minute,
		SessionTimeout: 8 * time.Hour,
		FormTimeout:    30 * time.Minute,
		Rate:           20,
		Streams:        2_000,
		StopTimeout:    10 * time.Second,
	}
}

// URL is how people reach Self-Service, without a slash at its end.
func (s Serve) URL() string {
	if s.PublicURL != "" {
		return strings.TrimSuffix(s.PublicURL, "/")
	}
	if s.CertificateFile != "" {
		return "https://" + s.Address
	}
	return "http://" + s.Address
}

// Secure reports whether people reach it by TLS.
func (s Serve) Secure() bool { return strings.HasPrefix(s.URL(), "https://") }

// notInHeaderName reports that names of headers do not have the character, as people
// write them. Case makes no difference (RFC 9110 section 5.1).
func notInHeaderName(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

func (s Serve) check(f *Faults) {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		f.add("serve.address", "must be host:port")
	}
	if u, err := url.Parse(s.PublicURL); s.PublicURL != "" &&
		(err != nil || u.Host == "" || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(s.PublicURL, "?# \n")) {
		f.add("serve.public_url", "must be an https URL without path, query and fragment")
	}
	if s.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(s.MetricsAddress); err != nil || s.MetricsAddress == s.Address {
			f.add("serve.metrics_address", "must be host:port, and not serve.address")
		}
	}
	if ip := net.ParseIP(host); err == nil && !s.Secure() && (ip == nil || !ip.IsLoopback()) {
		f.add("serve.address", "must be a loopback address unless there is a certificate_file, or an https public_url")
	}
	if s.CertificateFile != "" {
		required(f, "serve.key_file", s.KeyFile)
	}
	if s.KeyFile != "" {
		required(f, "serve.certificate_file", s.CertificateFile)
	}
	required(f, "serve.form_key_file", s.FormKeyFile)
	if strings.ContainsFunc(s.AddressHeader, notInHeaderName) {
		f.add("serve.address_header", "must be the name of a header, for example X-Real-IP")
	}
	oneOf(f, "serve.sign_in", s.SignIn, SignInPassword, SignInOpenID)
	if s.SignIn == SignInOpenID {
		s.OpenID.check(f)
	}
	if s.API.Audience != "" {
		s.API.check(f, s.OpenID)
	}
	for key, value := range map[string]time.Duration{
		"idle_timeout": s.IdleTimeout, "session_timeout": s.SessionTimeout, "form_timeout": s.FormTimeout,
	} {
		// The use of a session is written down by the minute.
		if value < 2*time.Minute {
			f.add("serve."+key, "must be at least 2m")
		}
	}
	positive(f, "serve.stop_timeout", s.StopTimeout)
	if s.Rate < 1 {
		f.add("serve.rate", "must be at least 1")
	}
	if s.Streams < 0 {
		f.add("serve.streams", "must not be negative")
	}
}

func (a API) check(f *Faults, o OpenID) {
	if !o.issuerIsURL() {
		f.add("serve.openid.issuer", "must be an https URL, for serve.api")
	}
	required(f, "serve.openid.user_claim", o.UserClaim)
	if a.Audience == o.ClientID {
		f.add("serve.api.audience", "must not be serve.openid.client_id: ID tokens are for signing in")
	}
	if !isScope(a.Scope) {
		f.add("serve.api.scope", "must be one scope")
	}
	if a.GetScope != "" && (!isScope(a.GetScope) || a.GetScope == a.Scope) {
		f.add("serve.api.get_scope", "must be one scope, and not serve.api.scope")
	}
	if a.OperatorRole != "" {
		required(f, "serve.api.operator_claim", a.OperatorClaim)
	}
}

func isScope(text string) bool { return text != "" && !strings.ContainsAny(text, " \"\\\t\n") }

func (o OpenID) issuerIsURL() bool {
	u, err := url.Parse(o.Issuer)
	loopback := err == nil && net.ParseIP(u.Hostname()).IsLoopback()
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback)
}

func (o OpenID) check(f *Faults) {
	if !o.issuerIsURL() {
		f.add("serve.openid.issuer", "must be an https URL")
	}
	required(f, "serve.openid.client_id", o.ClientID)
	required(f, "serve.openid.user_claim", o.UserClaim)
	if len(o.Scopes) == 0 || o.Scopes[0] != "openid" {
		f.add("serve.openid.scopes", "must begin with openid")
	}
}
