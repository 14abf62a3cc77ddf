package messaging_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mobileid/activities/messaging"
)

// TestProvisionOnTheWire compares what is sent with the documented shape.
func TestProvisionOnTheWire(t *testing.T) {
	command := provision(t)
	var got []byte
	client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/hermod/rest/command/provision", r.URL.Path)
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.Equal(t, base64.StdEncoding.EncodeToString([]byte("mobileid:"+apiKey)), r.Header.Get("X-Api-Key"))
		fmt.Fprint(w, `{"commandId": "1011", "destinations": [{"to": "@tmp", "bid": "482ae2ba", "uri": "com.nexusgroup.plugout:///?url=x", "new": 1}]}`)
	})
	accepted, err := client.Provision(t.Context(), command)
	require.NoError(t, err)
	require.Equal(t, messaging.Accepted{CommandID: "1011", Destinations: []messaging.Destination{
		{To: "@tmp", BID: "482ae2ba", URI: "com.nexusgroup.plugout:///?url=x"},
	}}, accepted)
	want := fmt.Sprintf(`{
		"commandHeader": {"lifespan": 300, "timeout": 1500, "externalId": "Get/1"},
		"provCommand": {
			"nonce": %q, "userid": "anna@example.com", "responsesignaturekey": "ATTESTATION", "responseformat": "jws",
			"profile": {"servername": "Smart ID", "name": "MobileID Anna", "keygenrequests": [
				{"keyid": "auth", "usage": "AUTH", "keytypeprios": [{"keytype": "EC", "keylength": "256", "responsemechanism": "ES256"}],
				 "storageprios": ["APP"], "keystate": "ACTIVE", "certreq": %q},
				{"keyid": "signer", "usage": "SIG", "keytypeprios": [
					{"keytype": "RSA", "keylength": "2048", "responsemechanism": "RS256"},
					{"keytype": "EC", "keylength": "256", "responsemechanism": "ES256"}],
				 "storageprios": ["APP"], "keystate": "ACTIVE", "certreq": %q}]}}}`,
		nonce, base64.StdEncoding.EncodeToString(command.Keys[0].CSRTemplate), base64.StdEncoding.EncodeToString(command.Keys[1].CSRTemplate))
	require.JSONEq(t, want, string(got))

	read, err := messaging.ParseProvision(got)
	require.NoError(t, err)
	require.Equal(t, command, read)
}

func TestInvalidCommands(t *testing.T) {
	client := clientOf(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for _, row := range []struct {
		field string
		spoil func(*messaging.Provision)
	}{
		{"lifespan", func(p *messaging.Provision) { p.Lifespan = 0 }},
		{"lifespan", func(p *messaging.Provision) { p.Lifespan = 1000 * time.Hour }},
		{"timeout", func(p *messaging.Provision) { p.Timeout = -time.Second }},
		{"externalId", func(p *messaging.Provision) { p.ExternalID = strings.Repeat("x", 300) }},
		{"nonce", func(p *messaging.Provision) { p.Nonce = "" }},
		{"nonce", func(p *messaging.Provision) { p.Nonce = strings.Repeat(nonce, 20) }},
		{"userid", func(p *messaging.Provision) { p.UserID = " " }},
		{"profile.servername", func(p *messaging.Provision) { p.ServerName = "" }},
		{"profile.name", func(p *messaging.Provision) { p.ProfileName = "" }},
		{"keygenrequests", func(p *messaging.Provision) { p.Keys = nil }},
		{"keygenrequests", func(p *messaging.Provision) { p.Keys = make([]messaging.KeyRequest, 9) }},
		{"keyid", func(p *messaging.Provision) { p.Keys[0].KeyID = "../x" }},
		{"keyid", func(p *messaging.Provision) { p.Keys[0].KeyID = "signer" }},
		{"usage of key auth", func(p *messaging.Provision) { p.Keys[0].Usage = "?" }},
		{"keytypeprios of key auth", func(p *messaging.Provision) { p.Keys[0].Types = nil }},
		{"keytypeprios of key auth", func(p *messaging.Provision) { p.Keys[0].Types = []messaging.KeyType{"DSA"} }},
		{"certreq of key auth", func(p *messaging.Provision) { p.Keys[0].CSRTemplate = []byte("x") }},
	} {
		t.Run(row.field, func(t *testing.T) {
			command := provision(t)
			row.spoil(&command)
			_, err := client.Provision(t.Context(), command)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, messaging.Invalid, e.Kind)
			require.Equal(t, row.field, e.Field)
			require.NotContains(t, err.Error(), nonce)
			require.False(t, messaging.Curable(err))
		})
	}
	for _, row := range []struct {
		field string
		spoil func(*messaging.Certificates)
	}{
		{"lifespan", func(c *messaging.Certificates) { c.Lifespan = 0 }},
		{"userid", func(c *messaging.Certificates) { c.UserID = "" }},
		{"profileid", func(c *messaging.Certificates) { c.ProfileID = "" }},
		{"certificates", func(c *messaging.Certificates) { c.Chains = nil }},
		{"keyid", func(c *messaging.Certificates) { c.Chains[0].KeyID = "" }},
		{"certs of key auth", func(c *messaging.Certificates) { c.Chains[0].Certificates = nil }},
		{"certs of key auth", func(c *messaging.Certificates) { c.Chains[0].Certificates[0] = []byte("x") }},
	} {
		t.Run("certificate command, "+row.field, func(t *testing.T) {
			command := messaging.Certificates{
				Header: messaging.Header{Lifespan: time.Minute, Timeout: time.Minute}, UserID: "anna", ProfileID: "p1",
				Chains: []messaging.Chain{{KeyID: "auth", Certificates: [][]byte{{}}}},
			}
			row.spoil(&command)
			_, err := client.Certificates(t.Context(), command)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, messaging.Invalid, e.Kind)
			require.Equal(t, row.field, e.Field)
		})
	}
}

// TestSecretsArePrintedByNoVerb prints the values that hold secrets.
func TestSecretsArePrintedByNoVerb(t *testing.T) {
	for _, value := range []any{
		provision(t),
		messaging.Accepted{CommandID: "1", Destinations: []messaging.Destination{{BID: nonce, URI: nonce}}},
		messaging.Destination{BID: nonce, URI: nonce},
		messaging.Callback{CommandID: "1", JWS: nonce},
		[]messaging.Callback{{JWS: nonce}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			require.NotContains(t, fmt.Sprintf(verb, value), nonce, "%T by %s", value, verb)
		}
		if _, list := value.([]messaging.Callback); list {
			continue // a list is logged by its elements' JSON, which is for the store
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "value", value)
		zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(&log), zap.InfoLevel)).Info("", zap.Any("value", value))
		require.Equal(t, 2, strings.Count(log.String(), `"value":"`), log.String())
		require.NotContains(t, log.String(), nonce)
	}
}

func TestCSRTemplate(t *testing.T) {
	one, err := messaging.CSRTemplate(anna)
	require.NoError(t, err)
	two, err := messaging.CSRTemplate(anna)
	require.NoError(t, err)
	require.NotEqual(t, one, two, "each has a key of its own")
	read, err := x509.ParseCertificateRequest(one)
	require.NoError(t, err)
	require.NoError(t, read.CheckSignature())
	require.Equal(t, anna.String(), read.Subject.String())
	_, err = messaging.CSRTemplate(pkix.Name{})
	require.ErrorContains(t, err, "subject is empty")
}

func TestParseKeyType(t *testing.T) {
	for _, name := range []messaging.KeyType{messaging.RSA2048, messaging.RSA3072, messaging.P256} {
		got, err := messaging.ParseKeyType(string(name))
		require.NoError(t, err)
		require.Equal(t, name, got)
	}
	_, err := messaging.ParseKeyType("RSA-1024")
	require.ErrorContains(t, err, "RSA-2048")
}

func FuzzProvisionCommand(f *testing.F) {
	var body []byte
	client := clientOf(f, func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		fmt.Fprint(w, `{}`)
	})
	_, _ = client.Provision(f.Context(), provision(f))
	require.NotEmpty(f, body)
	f.Add(body)
	f.Add([]byte(`{"provCommand":{"responsesignaturekey":"ATTESTATION","responseformat":"jws"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		command, err := messaging.ParseProvision(body)
		if err != nil {
			return
		}
		require.NotEmpty(t, command.Nonce)
		require.NotEmpty(t, command.Expected())
	})
}

func FuzzAccepted(f *testing.F) {
	f.Add([]byte(`{"commandId": "1011", "destinations": [{"to": "@tmp", "bid": "482ae2ba", "uri": "com.nexusgroup.plugout:///?url=x"}]}`))
	f.Add([]byte(`{"commandId": 1}`))
	f.Add([]byte(`{"commandId": "1"} {}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		accepted, err := messaging.ParseAccepted(messaging.KindProvision, body)
		if err != nil {
			return
		}
		require.Len(t, accepted.Destinations, 1)
		require.NotEmpty(t, accepted.Destinations[0].URI)
		again, err := accepted.Encode()
		require.NoError(t, err)
		require.True(t, json.Valid(again))
	})
}

// clientOf returns a client of a server that answers so.
func clientOf(t testing.TB, handler http.HandlerFunc) *messaging.Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return clientFor(t, server, deadline)
}
