package config

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServeFaults(t *testing.T) {
	for _, test := range []struct {
		name, yaml, fault string
	}{
		{"plain http for everybody", `{address: "0.0.0.0:80"}`, "serve.address must be a loopback address"},
		{"behind a proxy", `{address: "0.0.0.0:80", public_url: "https://id.example.com"}`, ""},
		{"with TLS of its own", `{address: "0.0.0.0:443", certificate_file: c, key_file: k}`, ""},
		{"no key", `{certificate_file: c}`, "serve.key_file is missing"},
		{"a path", `{public_url: "https://id.example.com/self"}`, "serve.public_url must be"},
		{"no TLS outside", `{public_url: "http://id.example.com"}`, "serve.public_url must be"},
		{"sessions without end", `{idle_timeout: 0s}`, "serve.idle_timeout must be at least 2m"},
		{"no such sign-in", `{sign_in: none}`, "serve.sign_in is \"none\""},
		{"a provider without TLS", `{sign_in: openid, openid: {issuer: "http://id.example.com", client_id: c}}`, "serve.openid.issuer must be"},
		{"no client", `{sign_in: openid, openid: {issuer: "https://id.example.com"}}`, "serve.openid.client_id is missing"},
		{"scopes without openid", `{sign_in: openid, openid: {issuer: "https://id.example.com", client_id: c, scopes: [profile]}}`, "serve.openid.scopes must begin with openid"},
		{"a provider", `{sign_in: openid, openid: {issuer: "https://id.example.com", client_id: c}}`, ""},
		{"an API without a provider", `{api: {audience: a}}`, "serve.openid.issuer must be an https URL, for serve.api"},
		{"an API for ID tokens", `{api: {audience: c}, openid: {issuer: "https://id.example.com", client_id: c}}`, "serve.api.audience must not be"},
		{"an API for every token", `{api: {audience: a, scope: ""}, openid: {issuer: "https://id.example.com"}}`, "serve.api.scope must be one scope"},
		{"an API with one scope for all", `{api: {audience: a, get_scope: mobile-id}, openid: {issuer: "https://id.example.com"}}`, "serve.api.get_scope must be one scope, and not"},
		{"operators of no claim", `{api: {audience: a, operator_role: o, operator_claim: ""}, openid: {issuer: "https://id.example.com"}}`, "serve.api.operator_claim is missing"},
		{"an API, and passwords", `{api: {audience: a}, openid: {issuer: "https://id.example.com"}}`, ""},
		{"the header of the example", `{address_header: X-Real-IP}`, ""},
		{"a header that is none", `{address_header: "x real ip"}`, "serve.address_header must be"},
		{"metrics where people come", `{address: "127.0.0.1:8082", metrics_address: "127.0.0.1:8082"}`, "serve.metrics_address must be host:port, and not serve.address"},
		{"metrics nowhere", `{metrics_address: "8084"}`, "serve.metrics_address must be host:port"},
		{"no rate", `{rate: 0}`, "serve.rate must be at least 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := inFolder(t)
			require.NoError(t, os.WriteFile("config.yaml", []byte("serve: "+test.yaml+"\n"), 0o600))
			_, err := Load(flags)
			if test.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.fault)
		})
	}
}
