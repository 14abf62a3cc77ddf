package messaging_test

import (
	"crypto/elliptic"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

func TestParseCallback(t *testing.T) {
	for _, row := range []struct {
		name string
		kind string
		body string
		want messaging.Callback
	}{
		{"keys", "provision", `{"commandId":"1","externalId":"Get/1","status":"answered","profileid":"p","jws":"a.b.c","new":{}}`,
			messaging.Callback{Kind: messaging.KindProvision, CommandID: "1", ExternalID: "Get/1", Outcome: messaging.Answered, ProfileID: "p", JWS: "a.b.c"}},
		{"installed", "certificate", `{"commandId":"2","status":"answered","profileid":"p","keyids":["auth"]}`,
			messaging.Callback{Kind: messaging.KindCertificate, CommandID: "2", Outcome: messaging.Answered, ProfileID: "p", Installed: []string{"auth"}}},
		{"refused", "provision", `{"commandId":"1","status":"refused","reason":"No\nthanks"}`,
			messaging.Callback{Kind: messaging.KindProvision, CommandID: "1", Outcome: messaging.Refused, Reason: "No thanks"}},
		{"timed out", "certificate", `{"commandId":"1","status":"timeout"}`,
			messaging.Callback{Kind: messaging.KindCertificate, CommandID: "1", Outcome: messaging.TimedOut}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := messaging.ParseCallback(row.kind, []byte(row.body))
			require.NoError(t, err)
			require.Equal(t, row.want, got)
			body, err := got.Encode()
			require.NoError(t, err)
			again, err := messaging.ParseCallback(row.kind, body)
			require.NoError(t, err)
			require.Equal(t, got, again)
		})
	}
}

func TestParseCallbackRefuses(t *testing.T) {
	for _, row := range []struct {
		name  string
		kind  string
		body  string
		field string
		words string
	}{
		{"unknown kind", "sign", `{"commandId":"1","status":"timeout"}`, "kind", "neither"},
		{"no JSON", "provision", `secret`, "", "not JSON"},
		{"nothing", "provision", ``, "", "not JSON"},
		{"a list", "provision", `[]`, "", "wrong type"},
		{"wrong type", "provision", `{"commandId":1}`, "", `"commandId" has the wrong type`},
		{"wrong type in a list", "certificate", `{"keyids":[1]}`, "", "wrong type"},
		{"something after it", "provision", `{"commandId":"1","status":"timeout"}x`, "", "follows"},
		{"no id", "provision", `{"status":"timeout"}`, "commandId", "missing"},
		{"an id for a log", "provision", `{"commandId":"1\nERROR","status":"timeout"}`, "commandId", "no id"},
		{"long external id", "provision", `{"commandId":"1","externalId":"` + strings.Repeat("x", 257) + `","status":"timeout"}`, "externalId", "long"},
		{"unknown status", "provision", `{"commandId":"1","status":"ok"}`, "status", "unknown"},
		{"no status", "provision", `{"commandId":"1"}`, "status", "unknown"},
		{"null", "provision", `null`, "commandId", "missing"},
		{"no profile", "provision", `{"commandId":"1","status":"answered","jws":"x"}`, "profileid", "missing"},
		{"no JWS", "provision", `{"commandId":"1","status":"answered","profileid":"p"}`, "jws", "missing"},
		{"no keys", "certificate", `{"commandId":"1","status":"answered","profileid":"p"}`, "keyids", "1 to 8"},
		{"an odd key", "certificate", `{"commandId":"1","status":"answered","profileid":"p","keyids":["../x"]}`, "keyids", "no name"},
		{"long", "provision", strings.Repeat(" ", 64<<10+1), "", "longer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := messaging.ParseCallback(row.kind, []byte(row.body))
			var e *messaging.CallbackError
			require.ErrorAs(t, err, &e)
			require.Equal(t, row.field, e.Field)
			require.ErrorContains(t, err, row.words)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func FuzzCallback(f *testing.F) {
	f.Add("provision", []byte(`{"commandId":"1","externalId":"Get/1","status":"answered","profileid":"p","jws":"a.b.c"}`))
	f.Add("certificate", []byte(`{"commandId":"2","status":"answered","profileid":"p","keyids":["auth"]}`))
	f.Add("provision", []byte(`{"commandId":"1","status":"refused","reason":"No\u0000"}`))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		callback, err := messaging.ParseCallback(kind, body)
		if err != nil {
			return
		}
		again, err := callback.Encode()
		if err != nil {
			return // what came in short can be too long when it is escaped
		}
		same, err := messaging.ParseCallback(kind, again)
		require.NoError(t, err)
		require.Equal(t, callback.CommandID, same.CommandID)
		require.Equal(t, callback.JWS, same.JWS)
	})
}

func FuzzJWS(f *testing.F) {
	command := provision(f)
	key := ecKey(f, elliptic.P256()) // faster than RSA by far
	statement := messaging.Statement{Nonce: nonce, UserID: command.UserID, ProfileID: "p", Keys: []messaging.MadeKey{
		{KeyID: "auth", CSR: command.Keys[0].CSRTemplate}, {KeyID: "signer", CSR: command.Keys[1].CSRTemplate},
	}}
	payload, err := statement.Encode()
	require.NoError(f, err)
	keys, err := messaging.ParseAttestationKeys(jwks(f, jose.JSONWebKey{Key: key.Public(), KeyID: "ec"}))
	require.NoError(f, err)
	for _, payload := range [][]byte{payload, []byte(`{}`), nil} {
		f.Add(sign(f, jose.ES256, key, "ec", payload), payload)
	}
	f.Add("eyJhbGciOiJub25lIn0..", []byte(`{"keys":[{"keyid":"auth","certreq":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, jws string, payload []byte) {
		callback := messaging.Callback{Kind: messaging.KindProvision, Outcome: messaging.Answered, ProfileID: "p", JWS: jws}
		options := messaging.VerifyOptions{Keys: keys, Nonce: nonce, Requests: command.Expected()}
		// A JWS of the fuzzer's own: its signature does not fit, or it is a seed, which
		// returns templates.
		_, err := messaging.Verify(callback, options)
		var refused *messaging.VerifyError
		require.ErrorAs(t, err, &refused)
		// What the fuzzer makes of the payload, under a good signature.
		if !json.Valid(payload) {
			return
		}
		callback.JWS = sign(t, jose.ES256, key, "ec", payload)
		requests, err := messaging.Verify(callback, options)
		if err != nil {
			require.ErrorAs(t, err, &refused)
			return
		}
		// The templates of another process of the fuzzer are good requests.
		require.Len(t, requests, 2)
		require.NoError(t, requests[0].Request.CheckSignature())
	})
}
