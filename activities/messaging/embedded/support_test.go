package embedded_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
)

const (
	deadline = time.Minute
	moment   = 5 * time.Millisecond
)

// logs collects lines of several programs.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// inbox keeps callbacks, as the store of a worker would.
type inbox struct {
	mu       sync.Mutex
	expected map[string]bool // external ids of commands that were sent
	first    map[string]messaging.Callback
	outcomes []messaging.Delivery
	failures int  // how often it failed
	failing  bool // as a store that is down
	// taken is called after a callback is kept and before it is acknowledged.
	taken func()
}

func (i *inbox) Deliver(_ context.Context, c messaging.Callback) (messaging.Delivery, error) {
	delivery, taken, err := i.deliver(c)
	if taken != nil {
		taken()
	}
	return delivery, err
}

func (i *inbox) deliver(c messaging.Callback) (messaging.Delivery, func(), error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failing {
		i.failures++
		return "", nil, errors.New("the store is down")
	}
	delivery := messaging.New
	if _, twice := i.first[c.CommandID]; twice {
		delivery = messaging.Duplicate
	} else if !i.expected[c.ExternalID] {
		delivery = messaging.Unknown
	} else {
		i.first[c.CommandID] = c
	}
	i.outcomes = append(i.outcomes, delivery)
	return delivery, i.taken, nil
}

func (i *inbox) set(change func(*inbox)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

// bench is a client, a receiver with its inbox, and the folder of a server.
type bench struct {
	t        *testing.T
	dir      string
	phones   string // folder of the phone
	inbox    *inbox
	callback *httptest.Server
	callCA   string // what vouches for it
	logs     *logs
	ca       *authority
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), phones: t.TempDir(), logs: &logs{}, ca: newAuthority(t),
		inbox: &inbox{expected: map[string]bool{}, first: map[string]messaging.Callback{}}}
	b.callback = httptest.NewUnstartedServer(http.NotFoundHandler())
	b.callback.StartTLS()
	t.Cleanup(b.callback.Close)
	b.callCA = filepath.Join(t.TempDir(), "callback-ca.pem")
	require.NoError(t, os.WriteFile(b.callCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.callback.Certificate().Raw}), 0o600))
	return b
}

// receive puts the receiver behind the callback URL; the password exists once the
// server has started.
func (b *bench) receive() {
	b.t.Helper()
	receiver, err := messaging.NewReceiver(b.inbox, messaging.ReceiverOptions{
		User: embedded.CallbackUser, PasswordFile: filepath.Join(b.dir, embedded.CallbackPasswordFile), Logger: b.logs.logger(),
		Rate: 1e6, Burst: 1e6,
	})
	require.NoError(b.t, err)
	b.callback.Config.Handler = receiver
	require.NoError(b.t, embedded.SetCallbackURL(b.t.Context(), b.dir, b.callback.URL))
}

// run starts a server in this process. It returns how to stop it.
func (b *bench) run(options embedded.Options) (stop func()) {
	b.t.Helper()
	options.Logger, options.CallbackCAFile = b.logs.logger(), b.callCA
	if options.CallbackRetry == 0 {
		options.CallbackRetry = moment
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- embedded.Run(ctx, embedded.RunOptions{Dir: b.dir, Server: options}, func(embedded.Addresses) { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		require.NoError(b.t, err)
	case <-time.After(deadline):
		require.Fail(b.t, "the server does not start")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-ended)
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) client() *messaging.Client {
	b.t.Helper()
	options, err := embedded.ClientOptions(b.dir)
	require.NoError(b.t, err)
	client, err := messaging.NewClient(options)
	require.NoError(b.t, err)
	b.t.Cleanup(client.Close)
	return client
}

func (b *bench) keys() messaging.AttestationKeys {
	b.t.Helper()
	keys, err := messaging.ReadAttestationKeys(filepath.Join(b.dir, embedded.AttestationKeysFile))
	require.NoError(b.t, err)
	return keys
}

// command is a provision command for two keys. RSA keys take long to make, so one
// test alone asks for one.
func (b *bench) command(types ...messaging.KeyType) messaging.Provision {
	b.t.Helper()
	p := messaging.Provision{
		Header: messaging.Header{Lifespan: time.Minute, Timeout: time.Minute, ExternalID: rand.Text()},
		Nonce:  rand.Text(), UserID: "anna@example.com", ServerName: "Smart ID", ProfileName: "MobileID Anna",
	}
	if len(types) == 0 {
		types = []messaging.KeyType{messaging.P256, messaging.P256}
	}
	for i, id := range []string{"auth", "signer"} {
		template, err := messaging.CSRTemplate(pkix.Name{CommonName: "Anna"})
		require.NoError(b.t, err)
		usage := []messaging.Usage{messaging.Authentication, messaging.Signature}[i]
		p.Keys = append(p.Keys, messaging.KeyRequest{KeyID: id, Usage: usage, Types: types[i : i+1], CSRTemplate: template})
	}
	b.expect(p.ExternalID)
	return p
}

func (b *bench) expect(externalID string) {
	b.inbox.set(func(i *inbox) { i.expected[externalID] = true })
}

func (b *bench) provision(p messaging.Provision) messaging.Accepted {
	b.t.Helper()
	accepted, err := b.client().Provision(b.t.Context(), p)
	require.NoError(b.t, err)
	require.Equal(b.t, "@tmp", accepted.Destinations[0].To)
	return accepted
}

// scanned is what a phone has come to.
type scanned struct {
	profile *phone.Profile
	err     error
}

// scan lets a phone read a QR code.
func (b *bench) scan(ctx context.Context, uri string, misbehave phone.Misbehaviour) <-chan scanned {
	b.t.Helper()
	done := make(chan scanned, 1)
	options := phone.Options{
		Dir: b.phones, AttestationKeyFile: filepath.Join(b.dir, embedded.AttestationKeyFile),
		ServerCAFile: filepath.Join(b.dir, embedded.ServerCAFile), Poll: moment, Misbehave: misbehave,
		Show: func(line string) { b.logs.logger().Info("phone shows", "line", line) },
	}
	go func() {
		profile, err := phone.Scan(ctx, uri, options)
		done <- scanned{profile, err}
	}()
	return done
}

func (b *bench) phone(done <-chan scanned) scanned {
	b.t.Helper()
	select {
	case s := <-done:
		return s
	case <-time.After(deadline):
		require.Fail(b.t, "the phone is not done")
		return scanned{}
	}
}

// await waits for the callback of a command.
func (b *bench) await(commandID string) messaging.Callback {
	b.t.Helper()
	var callback messaging.Callback
	require.Eventually(b.t, func() (there bool) {
		b.inbox.set(func(i *inbox) { callback, there = i.first[commandID] })
		return there
	}, deadline, moment, "no callback of command %s", commandID)
	return callback
}

func (b *bench) eventually(what string, condition func(*inbox) bool) {
	b.t.Helper()
	require.Eventually(b.t, func() (so bool) {
		b.inbox.set(func(i *inbox) { so = condition(i) })
		return so
	}, deadline, moment, what)
}

func (b *bench) deliveries(want messaging.Delivery) (count int) {
	b.inbox.set(func(i *inbox) {
		for _, d := range i.outcomes {
			if d == want {
				count++
			}
		}
	})
	return count
}

// verify measures an answer by its command.
func (b *bench) verify(p messaging.Provision, c messaging.Callback) ([]messaging.SignedRequest, error) {
	b.t.Helper()
	return messaging.Verify(c, messaging.VerifyOptions{Keys: b.keys(), Nonce: p.Nonce, UserID: p.UserID, Requests: p.Expected()})
}

// issue makes the certificate command for what a phone has sent.
func (b *bench) issue(p messaging.Provision, c messaging.Callback) messaging.Certificates {
	b.t.Helper()
	requests, err := b.verify(p, c)
	require.NoError(b.t, err)
	command := messaging.Certificates{
		Header: messaging.Header{Lifespan: time.Minute, Timeout: time.Minute, ExternalID: rand.Text()}, UserID: p.UserID, ProfileID: c.ProfileID,
	}
	for _, r := range requests {
		command.Chains = append(command.Chains, messaging.Chain{KeyID: r.KeyID, Certificates: [][]byte{b.ca.issue(b.t, r.Request), b.ca.certificate.Raw}})
	}
	b.expect(command.ExternalID)
	return command
}

// authority is a CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	issued      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{certificate: certificate, key: key, issued: 1}
}

func (a *authority) issue(t *testing.T, request *x509.CertificateRequest) []byte {
	t.Helper()
	a.issued++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.issued), Subject: request.Subject, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, request.PublicKey, a.key)
	require.NoError(t, err)
	return der
}
