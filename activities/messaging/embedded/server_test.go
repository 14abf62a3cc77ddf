package embedded_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
)

// httpClient trusts the server.
func (b *bench) httpClient() *http.Client {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, embedded.ServerCAFile))
	require.NoError(b.t, err)
	trust := x509.NewCertPool()
	require.True(b.t, trust.AppendCertsFromPEM(text))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: deadline}
}

// request speaks to the server without the client. It returns the status.
func (b *bench) request(method, target, apiKey, body string) (int, string) {
	b.t.Helper()
	return b.requestBy(b.httpClient(), method, target, apiKey, body)
}

// requestBy does so over the connections of a client.
func (b *bench) requestBy(client *http.Client, method, target, apiKey, body string) (int, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(body))
	require.NoError(b.t, err)
	request.Header.Set("X-Api-Key", apiKey)
	response, err := client.Do(request)
	require.NoError(b.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response.StatusCode, string(answer)
}

func (b *bench) url(path string) string {
	b.t.Helper()
	addresses, err := embedded.ReadAddresses(b.dir)
	require.NoError(b.t, err)
	return addresses.URL + path
}

func target(t *testing.T, accepted messaging.Accepted) string {
	t.Helper()
	u, err := device.ParseContent(accepted.Destinations[0].URI)
	require.NoError(t, err)
	return u.String()
}

func TestAPIRefuses(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	options, err := embedded.ClientOptions(b.dir)
	require.NoError(t, err)
	options.APIKeyFile = filepath.Join(b.dir, embedded.CallbackPasswordFile) // another secret
	stranger, err := messaging.NewClient(options)
	require.NoError(t, err)
	defer stranger.Close()
	_, err = stranger.Provision(t.Context(), b.command())
	var e *messaging.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, messaging.Denied, e.Kind)

	c := b.command()
	certificate := messaging.Certificates{
		Header: c.Header, UserID: c.UserID, ProfileID: "nobody",
		Chains: []messaging.Chain{{KeyID: "auth", Certificates: [][]byte{b.ca.certificate.Raw}}},
	}
	_, err = b.client().Certificates(t.Context(), certificate)
	require.ErrorAs(t, err, &e)
	require.Equal(t, messaging.Invalid, e.Kind)
	require.ErrorContains(t, err, "no phone has this profile")

	for _, row := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"no key", http.MethodPost, "/rest/command/provision", "{}", 401},
		{"no key", http.MethodPut, "/util/callback-url", "{}", 401},
		{"another command", http.MethodPost, "/rest/command/sign", "{}", 404},
		{"unknown bid", http.MethodGet, "/rest/ms/x", "", 404},
		{"unknown bid", http.MethodPost, "/rest/ms/x", "{}", 404},
		{"unreadable answer", http.MethodPost, "/rest/ms/x", "[", 400},
		{"long answer", http.MethodPost, "/rest/ms/x", strings.Repeat(" ", 64<<10+1), 413},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _ := b.request(row.method, b.url(row.path), "", row.body)
			require.Equal(t, row.status, status)
		})
	}
	for _, u := range []string{"http://example.com/", "ftp://localhost", "https://a:b@localhost", ""} {
		require.ErrorContains(t, embedded.SetCallbackURL(t.Context(), b.dir, u), "HTTP 400", u)
	}
}

// TestPhoneCannotMixUpCommands answers what is not there to be answered.
func TestPhoneCannotMixUpCommands(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	one, two := b.provision(b.command()), b.provision(b.command())
	answer := func(change func(*device.Answer)) string {
		a := device.Answer{CommandID: one.CommandID, Outcome: messaging.Answered, ProfileID: "p1", JWS: "a.b.c"}
		change(&a)
		text, err := json.Marshal(a)
		require.NoError(t, err)
		return string(text)
	}
	for _, row := range []struct {
		name   string
		change func(*device.Answer)
		status int
	}{
		{"the command of another", func(a *device.Answer) { a.CommandID = two.CommandID }, 404},
		{"a time-out of its own", func(a *device.Answer) { a.Outcome = messaging.TimedOut }, 400},
		{"no outcome", func(a *device.Answer) { a.Outcome = "" }, 400},
		{"no JWS", func(a *device.Answer) { a.JWS = "" }, 400},
		{"an answer", func(*device.Answer) {}, 200},
		{"it again", func(*device.Answer) {}, 200},
		{"and again", func(*device.Answer) {}, 200},
		{"too often", func(*device.Answer) {}, 409},
	} {
		status, text := b.request(http.MethodPost, target(t, one), "", answer(row.change))
		require.Equal(t, row.status, status, "%s: %s", row.name, text)
	}
	status, text := b.request(http.MethodPost, target(t, two), "", answer(func(a *device.Answer) { a.CommandID = two.CommandID }))
	require.Equal(t, 409, status, text)
	require.Contains(t, text, "another profile has this id")
}

// TestCallbacksAreTriedAgain lets the inbox fail, and the callback URL change.
func TestCallbacksAreTriedAgain(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	accepted := b.provision(b.command())
	done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.RefuseKeys)
	require.ErrorContains(t, b.phone(done).err, "refused")
	require.Eventually(t, func() bool { return strings.Contains(b.logs.String(), "no callback URL is set") }, deadline, moment)
	b.inbox.set(func(i *inbox) { i.failing = true })
	b.receive()
	b.eventually("tries", func(i *inbox) bool { return i.failures >= 4 })
	b.inbox.set(func(i *inbox) { i.failing = false })
	require.Equal(t, messaging.Refused, b.await(accepted.CommandID).Outcome)
}

func TestCallbackURLAtStart(t *testing.T) {
	b := newBench(t)
	stop := b.run(embedded.Options{}) // makes the password
	b.receive()
	require.NoError(t, embedded.SetCallbackURL(t.Context(), b.dir, "https://localhost:1"))
	stop()
	b.run(embedded.Options{CallbackURL: b.callback.URL + "/"})
	accepted := b.provision(b.command())
	require.Error(t, b.phone(b.scan(t.Context(), accepted.Destinations[0].URI, phone.RefuseKeys)).err)
	require.Equal(t, messaging.Refused, b.await(accepted.CommandID).Outcome)
}

func TestCallbacksAreGivenUp(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{CallbackLifetime: 2 * time.Second})
	b.inbox.set(func(i *inbox) { i.failing = true })
	b.receive()
	accepted := b.provision(b.command())
	require.Error(t, b.phone(b.scan(t.Context(), accepted.Destinations[0].URI, phone.RefuseKeys)).err)
	require.Eventually(t, func() bool { return strings.Contains(b.logs.String(), "a callback is given up") }, deadline, moment)
	require.Contains(t, b.logs.String(), "HTTP 503")
}

// TestOldStateIsForgotten waits until an answered command is not known any more.
func TestOldStateIsForgotten(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{Retention: time.Millisecond})
	b.receive()
	command := b.command()
	command.Lifespan = 5 * time.Second // long enough to be answered in
	accepted := b.provision(command)
	body, err := json.Marshal(device.Answer{CommandID: accepted.CommandID, Outcome: messaging.Answered, ProfileID: "p1", JWS: "a.b.c"})
	require.NoError(t, err)
	status, _ := b.request(http.MethodPost, target(t, accepted), "", string(body))
	require.Equal(t, 200, status)
	status, _ = b.request(http.MethodGet, target(t, accepted), "", "")
	require.Equal(t, 204, status, "the profile can get certificates")
	b.await(accepted.CommandID)
	require.Eventually(t, func() bool {
		other := b.command()
		other.Lifespan = time.Second
		b.provision(other) // something has to happen
		status, _ := b.request(http.MethodGet, target(t, accepted), "", "")
		return status == 404
	}, deadline, 100*time.Millisecond)
}

func TestFolder(t *testing.T) {
	b := newBench(t)
	stop := b.run(embedded.Options{})
	first, err := embedded.ReadAddresses(b.dir)
	require.NoError(t, err)
	_, err = embedded.Open(t.Context(), b.dir, embedded.Options{PublicURL: first.URL})
	require.ErrorIs(t, err, embedded.ErrInUse)
	require.ErrorContains(t, err, b.dir)
	read := func() (all []byte) {
		for _, name := range []string{embedded.ServerCAFile, embedded.APIKeyFile, embedded.CallbackPasswordFile, embedded.AttestationKeyFile, embedded.AttestationKeysFile} {
			text, err := os.ReadFile(filepath.Join(b.dir, name))
			require.NoError(t, err)
			all = append(all, text...)
		}
		return all
	}
	before := read()
	stop()

	stop = b.run(embedded.Options{})
	second, err := embedded.ReadAddresses(b.dir)
	require.NoError(t, err)
	require.Equal(t, first, second, "QR codes stay good over a restart")
	require.True(t, bytes.Equal(before, read()), "secrets stay")
	stop()

	stop = b.run(embedded.Options{ServerNames: []string{"messaging.example.com"}})
	require.False(t, bytes.Equal(before, read()), "the certificate covers the new name")
	stop()

	require.NoError(t, os.Remove(filepath.Join(b.dir, embedded.AttestationKeyFile)))
	_, err = embedded.Open(t.Context(), b.dir, embedded.Options{PublicURL: first.URL})
	require.ErrorContains(t, err, "has lost its key")
}

func TestOptionsAreChecked(t *testing.T) {
	for words, options := range map[string]embedded.Options{
		"public URL":        {PublicURL: "http://localhost"},
		"callback URL":      {PublicURL: "https://localhost", CallbackURL: "http://example.com"},
		"callback CA":       {PublicURL: "https://localhost", CallbackCAFile: "/nowhere"},
		"callback lifetime": {PublicURL: "https://localhost", CallbackLifetime: -1},
		"callback retry":    {PublicURL: "https://localhost", CallbackRetry: -1},
		"retention":         {PublicURL: "https://localhost", Retention: -1},
	} {
		_, err := embedded.Open(t.Context(), t.TempDir(), options)
		require.ErrorContains(t, err, words)
	}
}
