package embedded_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
)

// TestRoundTrip makes a mobile ID from the command to a connection that is opened
// with the phone's certificate, and looks for secrets in all that was logged.
func TestRoundTrip(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	b.receive()
	asked := b.command(messaging.P256, messaging.RSA2048)
	accepted := b.provision(asked)
	uri := accepted.Destinations[0].URI
	require.Contains(t, uri, accepted.Destinations[0].BID)
	require.True(t, strings.HasPrefix(uri, "com.nexusgroup.plugout:///?url=https%3A%2F%2F127.0.0.1%3A"), uri)

	picture, err := messaging.QR(uri)
	require.NoError(t, err)
	content, err := phone.ReadPNG(bytes.NewReader(picture))
	require.NoError(t, err)
	done := b.scan(t.Context(), content, phone.WellBehaved)

	answer := b.await(accepted.CommandID)
	require.Equal(t, asked.ExternalID, answer.ExternalID)
	deliver := b.issue(asked, answer)
	sent, err := b.client().Certificates(t.Context(), deliver)
	require.NoError(t, err)
	scanned := b.phone(done)
	require.NoError(t, scanned.err)
	installed := b.await(sent.CommandID)
	require.Equal(t, messaging.Answered, installed.Outcome)
	require.Equal(t, []string{"auth", "signer"}, installed.Installed)
	require.Equal(t, answer.ProfileID, installed.ProfileID)

	profile, err := phone.Open(filepath.Join(b.phones, scanned.profile.ID))
	require.NoError(t, err)
	require.Equal(t, scanned.profile, profile)
	require.Equal(t, []string{"auth", "signer"}, profile.KeyIDs())
	for keyID, algorithm := range map[string]x509.SignatureAlgorithm{"auth": x509.ECDSAWithSHA256, "signer": x509.SHA256WithRSA} {
		cert, err := profile.Certificate(keyID)
		require.NoError(t, err)
		signature, err := profile.Sign(keyID, []byte("pay 5 SEK"))
		require.NoError(t, err)
		require.NoError(t, cert.CheckSignature(algorithm, []byte("pay 5 SEK"), signature))
		require.Equal(t, "Anna", b.connect(profile, keyID))
	}
	require.NoError(t, filepath.WalkDir(b.phones, ownersAlone))
	require.NoError(t, filepath.WalkDir(b.dir, ownersAlone))

	// The secrets were there to be leaked: the phone's lines are in the log, too.
	require.Contains(t, b.logs.String(), "certificates installed for auth, signer")
	require.Contains(t, b.logs.String(), sent.CommandID)
	b.requireNoSecret(asked, accepted, answer)
}

// connect opens a connection with the phone's certificate, and returns whom the
// server sees.
func (b *bench) connect(profile *phone.Profile, keyID string) (name string) {
	b.t.Helper()
	trust := x509.NewCertPool()
	trust.AddCert(b.ca.certificate)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		name = r.TLS.VerifiedChains[0][0].Subject.CommonName
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	defer server.Close()
	pair, err := profile.TLSCertificate(keyID)
	require.NoError(b.t, err)
	client := server.Client()
	transport, ok := client.Transport.(*http.Transport)
	require.True(b.t, ok)
	transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	response, err := client.Get(server.URL) //nolint:noctx // a test
	require.NoError(b.t, err)
	require.NoError(b.t, response.Body.Close())
	return name
}

func ownersAlone(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err == nil && !entry.IsDir() && info.Mode().Perm()&0o077 != 0 {
		err = &fs.PathError{Op: "check", Path: path, Err: fs.ErrPermission}
	}
	return err
}

// requireNoSecret looks for what nobody may see in what everybody logged.
func (b *bench) requireNoSecret(asked messaging.Provision, accepted messaging.Accepted, answer messaging.Callback) {
	b.t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(b.dir, name))
		require.NoError(b.t, err)
		return strings.TrimSpace(string(text))
	}
	key, password := read(embedded.APIKeyFile), read(embedded.CallbackPasswordFile)
	for what, secret := range map[string]string{
		"nonce": asked.Nonce, "bid": accepted.Destinations[0].BID, "uri": accepted.Destinations[0].URI, "JWS": answer.JWS,
		"API key": key, "X-Api-Key": base64.StdEncoding.EncodeToString([]byte(embedded.ClientID + ":" + key)),
		"password": password, "Authorization": base64.StdEncoding.EncodeToString([]byte(embedded.CallbackUser + ":" + password)),
	} {
		require.NotEmpty(b.t, secret, what)
		require.NotContains(b.t, b.logs.String(), secret, what)
	}
}

// TestMisbehaviours checks that each way in which a phone goes wrong is told from
// the others.
func TestMisbehaviours(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	b.receive()
	for misbehaviour, want := range map[phone.Misbehaviour]messaging.Refusal{
		phone.WrongNonce:     messaging.WrongNonce,
		phone.ForeignKey:     messaging.BadSignature,
		phone.ForeignSubject: messaging.ForeignCSR,
		phone.BrokenRequest:  messaging.BrokenCSR,
		phone.WeakKey:        messaging.WrongKey,
		phone.SameKey:        messaging.DuplicateKey,
		phone.Template:       messaging.DuplicateKey,
	} {
		t.Run(string(misbehaviour), func(t *testing.T) {
			ctx, hangUp := context.WithCancel(t.Context())
			asked := b.command()
			accepted := b.provision(asked)
			done := b.scan(ctx, accepted.Destinations[0].URI, misbehaviour)
			answer := b.await(accepted.CommandID)
			_, err := b.verify(asked, answer)
			var refused *messaging.VerifyError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, want, refused.Refusal, err)
			require.NotContains(t, err.Error(), asked.Nonce)
			b.requireNoSecret(asked, accepted, answer)

			hangUp() // no certificates come
			require.ErrorIs(t, b.phone(done).err, context.Canceled)
		})
	}
	t.Run("weak RSA key", func(t *testing.T) {
		ctx, hangUp := context.WithCancel(t.Context())
		asked := b.command(messaging.RSA2048, messaging.RSA3072)
		accepted := b.provision(asked)
		done := b.scan(ctx, accepted.Destinations[0].URI, phone.WeakKey)
		_, err := b.verify(asked, b.await(accepted.CommandID))
		require.ErrorContains(t, err, "1024 bits")
		hangUp()
		require.ErrorIs(t, b.phone(done).err, context.Canceled)
	})
	t.Run(string(phone.RefuseKeys), func(t *testing.T) {
		accepted := b.provision(b.command())
		done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.RefuseKeys)
		answer := b.await(accepted.CommandID)
		require.Equal(t, messaging.Refused, answer.Outcome)
		require.Equal(t, "the person refused", answer.Reason)
		require.ErrorIs(t, b.phone(done).err, phone.ErrRefused)
		err := b.phone(b.scan(t.Context(), accepted.Destinations[0].URI, phone.WellBehaved)).err
		require.ErrorIs(t, err, phone.ErrGone, "a QR code is good once")
	})
	t.Run(string(phone.RefuseInstalling), func(t *testing.T) {
		asked := b.command()
		accepted := b.provision(asked)
		done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.RefuseInstalling)
		sent, err := b.client().Certificates(t.Context(), b.issue(asked, b.await(accepted.CommandID)))
		require.NoError(t, err)
		require.Equal(t, messaging.Refused, b.await(sent.CommandID).Outcome)
		require.ErrorIs(t, b.phone(done).err, phone.ErrRefused)
	})
	t.Run(string(phone.AnswerTwice), func(t *testing.T) {
		before := b.deliveries(messaging.Duplicate)
		asked := b.command()
		accepted := b.provision(asked)
		done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.AnswerTwice)
		sent, err := b.client().Certificates(t.Context(), b.issue(asked, b.await(accepted.CommandID)))
		require.NoError(t, err)
		require.Equal(t, messaging.Answered, b.await(sent.CommandID).Outcome)
		require.NoError(t, b.phone(done).err)
		require.Eventually(t, func() bool { return b.deliveries(messaging.Duplicate) == before+2 }, deadline, moment)
	})
	t.Run(string(phone.Silent), func(t *testing.T) {
		asked := b.command()
		asked.Lifespan = 5e9 // 5 s: long enough to be scanned in
		accepted := b.provision(asked)
		require.ErrorIs(t, b.phone(b.scan(t.Context(), accepted.Destinations[0].URI, phone.Silent)).err, phone.ErrSilent)
		require.Equal(t, messaging.TimedOut, b.await(accepted.CommandID).Outcome)
		err := b.phone(b.scan(t.Context(), accepted.Destinations[0].URI, phone.WellBehaved)).err
		require.ErrorIs(t, err, phone.ErrGone)
		require.NotContains(t, err.Error(), accepted.Destinations[0].BID)
	})
}

// TestPhoneTakesNoForeignCertificates delivers what the phone did not ask for.
func TestPhoneTakesNoForeignCertificates(t *testing.T) {
	b := newBench(t)
	b.run(embedded.Options{})
	b.receive()
	for _, row := range []struct {
		name  string
		spoil func(*messaging.Certificates)
		words string
	}{
		{"for another key", func(c *messaging.Certificates) {
			c.Chains[0].Certificates, c.Chains[1].Certificates = c.Chains[1].Certificates, c.Chains[0].Certificates
		}, "another key"},
		{"for some keys", func(c *messaging.Certificates) { c.Chains = c.Chains[:1] }, "1 of 2 keys"},
		{"for an unknown key", func(c *messaging.Certificates) { c.Chains[0].KeyID = "more" }, `no key "more"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := b.command()
			accepted := b.provision(asked)
			done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.WellBehaved)
			command := b.issue(asked, b.await(accepted.CommandID))
			row.spoil(&command)
			sent, err := b.client().Certificates(t.Context(), command)
			require.NoError(t, err)
			refused := b.await(sent.CommandID)
			require.Equal(t, messaging.Refused, refused.Outcome)
			require.Contains(t, refused.Reason, row.words)
			require.ErrorIs(t, b.phone(done).err, phone.ErrRefused)
		})
	}
}

func TestPhoneNeedsItsServer(t *testing.T) {
	b := newBench(t)
	stop := b.run(embedded.Options{})
	accepted := b.provision(b.command())
	stop()
	ctx, hangUp := context.WithCancel(t.Context())
	done := b.scan(ctx, accepted.Destinations[0].URI, phone.WellBehaved)
	hangUp()
	err := b.phone(done).err
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), accepted.Destinations[0].BID)
}
