package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	"mobileid/config"
	"mobileid/starter/client"
	"mobileid/starter/stack/port"
	"mobileid/workflows"
)

// seen is what came of one Get under one configuration: on the phone, in the store,
// and in the engine.
type seen struct {
	user     string
	profile  *phone.Profile
	mobileID mobileid.MobileID
	status   client.GetStatus
	grantFor time.Duration
	confirm  time.Duration            // the time for Next
	answer   map[string]time.Duration // by activity: the time that the phone was given
	tried    map[string]time.Duration // by activity: how long it is tried
}

// certificate is one of the phone's.
func (s *seen) certificate(key string) *x509.Certificate {
	c, err := s.profile.Certificate(key)
	if err != nil {
		panic(err) // a table below asks for what it did not order
	}
	return c
}

func (s *seen) has(key string) bool { return slices.Contains(s.profile.KeyIDs(), key) }

// optionVariants are the configurations under which a user gets a mobile ID: the flags,
// beside the defaults of every key.
var optionVariants = map[string][]string{
	"defaults": nil,
	"changed": {
		"--get.encryption=true", "--get.procedure_authentication=signature", "--get.procedure_signature=authentication",
		"--get.procedure_encryption=authentication", "--get.key_types=EC-P-256,RSA-2048", "--get.years=5", "--get.user_id=id",
		"--get.server_name=Example ID", "--get.profile_name=Phone of %s", "--get.workflow_id=hashed",
		"--search_attributes.hash_key_file=hash.key", "--get.deadline=1h", "--get.grant_for=30m", "--get.scan_wait=4m", "--get.install_wait=3m", "--get.step_wait=1m",
	},
	"no authentication": {"--get.authentication=false", "--get.encryption=true", "--get.key_types=EC-P-256"},
	"no signature":      {"--get.signature=false", "--get.key_types=EC-P-256"},
}

// is what is seen under a variant.
type is struct {
	variant string
	want    any
}

// optionCases say what each key of the section get changes, with its default and with
// another value. The keys that keep a worker from starting, or a Get from beginning,
// are in optionRefusals.
var optionCases = []struct {
	key           string
	see           func(s *seen) any
	usual, change is
}{
	{"ca", func(s *seen) any { return s.status.Certificates[0].CA }, is{}, is{"defaults", "devca"}},
	{"authentication", func(s *seen) any { return s.has("authentication") }, is{"defaults", true}, is{"no authentication", false}},
	{"signature", func(s *seen) any { return s.has("signature") }, is{"defaults", true}, is{"no signature", false}},
	{"encryption", func(s *seen) any { return s.has("encryption") }, is{"defaults", false}, is{"changed", true}},
	{
		"procedure_authentication", func(s *seen) any { return s.certificate("authentication").KeyUsage },
		is{"defaults", x509.KeyUsageDigitalSignature}, is{"changed", x509.KeyUsageContentCommitment},
	},
	{
		"procedure_signature", func(s *seen) any { return s.certificate("signature").KeyUsage },
		is{"defaults", x509.KeyUsageContentCommitment}, is{"changed", x509.KeyUsageDigitalSignature},
	},
	{
		"procedure_encryption", func(s *seen) any { return s.certificate("encryption").KeyUsage },
		is{"no authentication", x509.KeyUsageKeyAgreement}, is{"changed", x509.KeyUsageDigitalSignature},
	},
	{"key_types", func(s *seen) any {
		switch key := s.certificate("authentication").PublicKey.(type) {
		case *rsa.PublicKey:
			return fmt.Sprintf("RSA-%d", key.N.BitLen())
		case *ecdsa.PublicKey:
			return "EC-" + key.Params().Name
		}
		return "another"
	}, is{"defaults", "RSA-2048"}, is{"changed", "EC-P-256"}},
	{"years", func(s *seen) any {
		return int(math.Round(time.Until(s.mobileID.Certificates[0].NotAfter).Hours() / 24 / 365.25))
	}, is{"defaults", 2}, is{"changed", 5}},
	{
		"user_id", func(s *seen) any { return s.profile.UserID == s.user },
		is{"defaults", false}, is{"changed", true},
	},
	{"server_name", func(s *seen) any { return s.profile.ServerName }, is{"defaults", "Smart ID"}, is{"changed", "Example ID"}},
	{"profile_name", func(s *seen) any { return s.profile.Name }, is{"defaults", "MobileID Eva Ek"}, is{"changed", "Phone of Eva Ek"}},
	{"workflow_id", func(s *seen) any { return strings.Contains(s.status.WorkflowID, s.user) }, is{"defaults", true}, is{"changed", false}},
	{"deadline", func(s *seen) any { return s.confirm }, is{"defaults", 2 * time.Hour}, is{"changed", time.Hour}},
	{"grant_for", func(s *seen) any { return s.grantFor }, is{"defaults", 2 * time.Hour}, is{"changed", 30 * time.Minute}},
	{"scan_wait", func(s *seen) any { return s.answer[activities.ProvisionName] }, is{"defaults", 5 * time.Minute}, is{"changed", 4 * time.Minute}},
	{"install_wait", func(s *seen) any { return s.answer[activities.InstallCertificatesName] }, is{"defaults", 5 * time.Minute}, is{"changed", 3 * time.Minute}},
	{"step_wait", func(s *seen) any { return s.tried[activities.IssueAtCAName] }, is{"defaults", 2 * time.Minute}, is{"changed", time.Minute}},
}

// optionRefusals are flags with which no worker starts, by the key that it names.
var optionRefusals = map[string][]string{
	"get.ca":                              {"--get.ca="}, // the default
	"get.recover_encryption":              {"--get.recover_encryption=true"},
	"messaging.url":                       {"--messaging.url="},
	"messaging.client_id":                 {"--messaging.client_id="},
	"messaging.api_key_file":              {"--messaging.api_key_file="},
	"messaging.attestation_file":          {"--messaging.attestation_file="},
	"messaging.callback_certificate_file": {"--messaging.callback_certificate_file="},
	"messaging.callback_key_file":         {"--messaging.callback_key_file="},
	"messaging.callback_user":             {"--messaging.callback_user="},
	"messaging.callback_password_file":    {"--messaging.callback_password_file="},
}

// optionFailures are changes to how the worker reaches messaging that end a Get, with
// what the user is told. With the value that fits, Gets succeed.
var optionFailures = map[string]struct {
	flags   []string
	failure mobileid.FailureType
	says    string
}{
	"messaging.url":              {[]string{"--messaging.url=https://127.0.0.1:1/hermod"}, mobileid.FailureMessagingRefused, "connection refused"},
	"messaging.client_id":        {[]string{"--messaging.client_id=nobody"}, mobileid.FailureMessagingRefused, "MessagingDenied"},
	"messaging.api_key_file":     {[]string{"--messaging.api_key_file=another.key"}, mobileid.FailureMessagingRefused, "MessagingDenied"},
	"messaging.server_ca_file":   {[]string{"--messaging.server_ca_file="}, mobileid.FailureMessagingRefused, "x509"},
	"messaging.attestation_file": {[]string{"--messaging.attestation_file=another.jwks"}, mobileid.FailureBadSignature, ""},
	"messaging.call_timeout":     {[]string{"--messaging.call_timeout=1us"}, mobileid.FailureMessagingRefused, "deadline"},
}

// anotherKey is in the place of an API key and of a password.
const anotherKey = "another-key-of-nobody-0123456789"

// callbackKeys are seen at the address where the worker takes callbacks.
var callbackKeys = []string{"callback_address", "callback_certificate_file", "callback_key_file", "callback_user", "callback_password_file"}

// elsewhere are keys whose effect is tested with the mails.
var elsewhere = []string{"qr", "notify"}

// keysOf lists the keys of a section.
func keysOf(section any) []string {
	var keys []string
	for i := range reflect.TypeOf(section).NumField() {
		keys = append(keys, reflect.TypeOf(section).Field(i).Tag.Get("mapstructure"))
	}
	return keys
}

// Who adds a key says here what it changes.
func TestEveryOptionOfGetHasACase(t *testing.T) {
	known := append([]string{"enabled", "recover_encryption"}, elsewhere...)
	for _, option := range optionCases {
		known = append(known, option.key)
	}
	for _, key := range keysOf(config.Get{}) {
		require.Contains(t, known, key, "get.%s: add a case to optionCases", key)
	}
	for _, key := range keysOf(config.Messaging{}) {
		if !slices.Contains(callbackKeys, key) {
			require.Contains(t, optionFailures, "messaging."+key, "add a case to optionFailures")
		}
	}
}

// everyOption has every key of the sections get and messaging take effect, with its
// default and with another value, in workers of their own on the running stack. The
// stack's own worker takes the callbacks.
func (g *getting) everyOption(ctx context.Context, t *testing.T, worker string) {
	t.Helper()
	require.NoError(t, os.WriteFile("another.key", []byte(anotherKey), 0o600))
	g.secrets.keep("another key", anotherKey)
	require.NoError(t, os.WriteFile("another.jwks", anotherAttestation(t), 0o600))
	_, err := config.MakeKey("hash.key")
	require.NoError(t, err)
	base := g.withoutGetSettings(t)

	var mu sync.Mutex
	results := map[string]*seen{}
	t.Run("worker", func(t *testing.T) {
		for name, flags := range optionVariants {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := g.getUnder(ctx, t, worker, append(slices.Clone(base), flags...))
				mu.Lock()
				defer mu.Unlock()
				results[name] = s
			})
		}
		for key, row := range optionFailures {
			t.Run(key, func(t *testing.T) {
				t.Parallel()
				g.failUnder(ctx, t, worker, append(slices.Clone(base), row.flags...), row.failure, row.says)
			})
		}
		for key, flags := range optionRefusals {
			t.Run("no start without "+key, func(t *testing.T) {
				t.Parallel()
				args := append(append(slices.Clone(base), "--messaging.callback_address=127.0.0.1:0"), flags...)
				output, err := exec.CommandContext(ctx, worker, args...).CombinedOutput()
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit, "%s", output)
				require.Contains(t, string(output), key)
			})
		}
		t.Run("enabled", func(t *testing.T) {
			t.Parallel()
			g.notEnabled(ctx, t, worker, base)
		})
		t.Run("callbacks", func(t *testing.T) {
			t.Parallel()
			g.callbacksUnder(ctx, t, worker, base)
		})
	})
	for _, option := range optionCases {
		t.Run(option.key, func(t *testing.T) {
			for _, row := range []is{option.usual, option.change} {
				if row.variant == "" {
					continue // its default is in optionRefusals
				}
				require.Contains(t, results, row.variant)
				require.Equal(t, row.want, option.see(results[row.variant]), "with %s", row.variant)
			}
		})
	}
}

// withoutGetSettings are flags for the stack's configuration with the defaults of get,
// as far as there are any, and without callbacks.
func (g *getting) withoutGetSettings(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(g.demo.Stack.ConfigFile)
	require.NoError(t, err)
	var settings map[string]any
	require.NoError(t, json.Unmarshal(text, &settings))
	settings["get"] = map[string]any{"enabled": true, "ca": "devca"}
	text, err = json.Marshal(settings)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("options.yaml", text, 0o600))
	return []string{"--config=options.yaml", "--audit.checkpoint_dir=", "--messaging.callback_address=", "--log.level=debug"}
}

// anotherAttestation is the key set of phones that nobody has.
func anotherAttestation(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	server, err := embedded.Open(t.Context(), dir, embedded.Options{PublicURL: "https://127.0.0.1:1" + embedded.BasePath})
	require.NoError(t, err)
	require.NoError(t, server.Close())
	text, err := os.ReadFile(filepath.Join(dir, embedded.AttestationKeysFile))
	require.NoError(t, err)
	return text
}

// underway is a worker on a task queue of its own, with a user of its own.
type underway struct {
	flags []string // what worker and starter run with
	user  string
	log   string // its file
	gets  *client.Gets
}

// startWorker starts a worker, which ends with the test.
func (g *getting) startWorker(ctx context.Context, t *testing.T, worker string, flags []string) *underway {
	t.Helper()
	name := filepath.Base(t.Name()) // no other of these tests has it
	health := freeAddress(t)
	w := &underway{user: "eva-" + name, log: filepath.Join(t.TempDir(), "worker.log")}
	w.flags = append(slices.Clone(flags), "--task_queue="+name)
	log, err := os.Create(w.log)
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, worker, append(slices.Clone(w.flags), "--worker.health_address="+health)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		require.NoError(t, cmd.Wait())
		text, err := os.ReadFile(w.log)
		require.NoError(t, err)
		g.secrets.look("log of worker "+t.Name(), text)
		require.NoError(t, log.Close())
	})
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + health + "/readyz") //nolint:noctx // a test's own probe
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "the worker is ready")

	user := mobileid.User{ID: w.user, Name: "Eva Ek", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, g.demo.Store.PutUser(ctx, user, w.user+"@example.com"))
	var key []byte
	if slices.Contains(flags, "--get.workflow_id=hashed") {
		key, err = config.ReadKey("search_attributes.hash_key_file", "hash.key")
		require.NoError(t, err)
	}
	w.gets = client.NewGets(g.temporal, name, workflows.GetWorkflowIDs(key), client.WithAcceptWait(soon))
	return w
}

func freeAddress(t *testing.T) string {
	t.Helper()
	number, err := port.Reserve()
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", number)
}

// begin has starter write the grant and start the Get.
func (g *getting) begin(t *testing.T, w *underway) {
	t.Helper()
	code, stdout, stderr := g.command(t, append([]string{"get", "--user", w.user}, w.flags...)...)
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "Waits for Next or Cancel until")
}

// getUnder gets a mobile ID under a configuration.
func (g *getting) getUnder(ctx context.Context, t *testing.T, worker string, flags []string) *seen {
	t.Helper()
	w := g.startWorker(ctx, t, worker, flags)
	g.begin(t, w)
	s := &seen{user: w.user, answer: map[string]time.Duration{}, tried: map[string]time.Duration{}}
	applicant, err := g.demo.Store.Applicant(ctx, w.user)
	require.NoError(t, err)
	s.grantFor = applicant.Grant.ExpiresAt.Sub(applicant.Grant.CreatedAt)

	get := w.gets.User(w.user, "")
	_, err = get.Next(ctx)
	require.NoError(t, err)
	shown, err := get.Wait(ctx, nil, func(s client.GetStatus) bool { return s.Phase == workflows.AwaitingPhone })
	require.NoError(t, err)
	s.profile, err = g.scan(ctx, g.code(ctx, t, shown.WorkflowID, shown.MobileID), phone.WellBehaved)
	require.NoError(t, err)
	s.status, err = get.WaitClosed(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeActive, s.status.Outcome)
	s.mobileID, err = g.demo.Store.MobileID(ctx, shown.MobileID)
	require.NoError(t, err)
	g.lookAtProcess(ctx, t, shown.WorkflowID, "")
	g.readTimes(ctx, t, s)
	return s
}

// readTimes reads from the history of a Get how long it gives everybody.
func (g *getting) readTimes(ctx context.Context, t *testing.T, s *seen) {
	t.Helper()
	names := map[int64]string{}
	iterator := g.temporal.GetWorkflowHistory(ctx, s.status.WorkflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(t, err)
		if a := event.GetTimerStartedEventAttributes(); a != nil && s.confirm == 0 {
			s.confirm = a.GetStartToFireTimeout().AsDuration()
		}
		if a := event.GetActivityTaskScheduledEventAttributes(); a != nil {
			names[event.GetEventId()] = a.GetActivityType().GetName()
			s.tried[a.GetActivityType().GetName()] = a.GetScheduleToCloseTimeout().AsDuration().Round(10 * time.Second)
		}
		if a := event.GetActivityTaskCompletedEventAttributes(); a != nil && len(a.GetResult().GetPayloads()) > 0 {
			var sent activities.CommandSent
			if json.Unmarshal(a.GetResult().GetPayloads()[0].GetData(), &sent) == nil && !sent.ExpiresAt.IsZero() {
				s.answer[names[a.GetScheduledEventId()]] = sent.ExpiresAt.Sub(event.GetEventTime().AsTime()).Round(time.Minute)
			}
		}
	}
}

// failUnder begins a Get under a configuration with which it cannot succeed.
func (g *getting) failUnder(ctx context.Context, t *testing.T, worker string, flags []string, want mobileid.FailureType, says string) {
	t.Helper()
	stepWait := "2s"
	if want != mobileid.FailureMessagingRefused {
		stepWait = "15s" // in which the steps before it succeed
	}
	w := g.startWorker(ctx, t, worker, append(flags, "--get.step_wait="+stepWait, "--get.key_types=EC-P-256"))
	g.begin(t, w)
	get := w.gets.User(w.user, "")
	status, err := get.Status(ctx)
	require.NoError(t, err)
	require.NoError(t, g.temporal.SignalWorkflow(ctx, status.WorkflowID, "", workflows.Next, nil))
	if want != mobileid.FailureMessagingRefused {
		shown, err := get.Wait(ctx, nil, func(s client.GetStatus) bool { return s.Phase == workflows.AwaitingPhone })
		require.NoError(t, err)
		code := g.code(ctx, t, shown.WorkflowID, shown.MobileID)
		scanning, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { _, _ = g.scan(scanning, code, phone.WellBehaved) }() // the process says what came of it
	}
	// While it is tried, too: a pending activity shows its last failure.
	done, err := get.WaitClosed(ctx, func(client.GetStatus) { g.lookAtProcess(ctx, t, status.WorkflowID, "") })
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeFailed, done.Outcome)
	require.Equal(t, want, done.Failure.Type, done.Failure.Message)
	require.Contains(t, done.Failure.Message, says)
	g.lookAtProcess(ctx, t, done.WorkflowID, "")
}

// notEnabled sees that a Get is not offered unless it is configured.
func (g *getting) notEnabled(ctx context.Context, t *testing.T, worker string, flags []string) {
	t.Helper()
	w := g.startWorker(ctx, t, worker, append(slices.Clone(flags), "--get.enabled=false"))
	code, stdout, stderr := g.command(t, append([]string{"get", "--user", w.user}, w.flags...)...)
	require.Equal(t, exitUsage, code, stdout)
	require.Contains(t, stderr, "get.enabled is false")
	_, err := g.demo.Store.PutGrant(ctx, w.user, "test", time.Hour)
	require.NoError(t, err)
	_, err = w.gets.User(w.user, "").Start(ctx)
	require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
	require.ErrorContains(t, err, "is not configured")
}

// callbacksUnder sees who may call back where, with the keys at their defaults (no
// address: nowhere) and changed.
func (g *getting) callbacksUnder(ctx context.Context, t *testing.T, worker string, flags []string) {
	t.Helper()
	const serving = "Serving messaging.callback_address"
	without := g.startWorker(ctx, t, worker, flags)
	dir := t.TempDir()
	server, err := embedded.Open(ctx, dir, embedded.Options{PublicURL: "https://127.0.0.1:1" + embedded.BasePath}) // for its certificate
	require.NoError(t, err)
	require.NoError(t, server.Close())
	address := freeAddress(t)
	with := g.startWorker(ctx, t, worker, append(slices.Clone(flags), "--messaging.callback_address="+address,
		"--messaging.callback_certificate_file="+filepath.Join(dir, embedded.ServerCAFile), "--messaging.callback_key_file="+filepath.Join(dir, embedded.ServerKeyFile),
		"--messaging.callback_user=somebody", "--messaging.callback_password_file=another.key"))
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(with.log)
		return err == nil && strings.Contains(string(text), serving)
	}, soon, 50*time.Millisecond)
	text, err := os.ReadFile(without.log) // of which the beginning is long over
	require.NoError(t, err)
	require.NotContains(t, string(text), serving)

	trusted, err := os.ReadFile(filepath.Join(dir, embedded.ServerCAFile))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(trusted))
	caller := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer caller.CloseIdleConnections()
	password, err := os.ReadFile(filepath.Join(g.demo.Stack.Dir, "messaging", embedded.CallbackPasswordFile))
	require.NoError(t, err)
	for user, row := range map[string]struct {
		password string
		code     int
	}{
		"somebody":            {anotherKey, http.StatusBadRequest}, // let in, with an empty callback
		embedded.CallbackUser: {strings.TrimSpace(string(password)), http.StatusUnauthorized},
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/rest/callback/provision", strings.NewReader("{}"))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+row.password)))
		response, err := caller.Do(request)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, response.Body)
		require.NoError(t, response.Body.Close())
		require.Equal(t, row.code, response.StatusCode, user)
	}
}
