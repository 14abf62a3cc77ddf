package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// parts are what a Get runs on, all real: a store, a CA, a messaging server that is a
// process of its own, and a place where callbacks are taken. Workers come and go.
type parts struct {
	dir       string
	file      string // the settings
	store     *identitymanager.Store
	ca        *devcatest.CA
	ocsp      ca.Source
	crl       ca.Source
	messaging *workflowtest.Child
	serving   string // the address of messaging
	callbacks string // the address where they are taken
	inbox     recordingInbox
	caTimeout time.Duration // of one call
}

// newParts makes them. Callbacks are taken here unless a worker process takes them.
func newParts(t *testing.T, takeCallbacks bool) *parts {
	t.Helper()
	if server == nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	p := &parts{dir: t.TempDir(), ca: devcatest.Start(t), caTimeout: 2 * time.Second}
	var err error
	issuer, ask := p.ca.Certificate(), ca.NewHTTPClient(10*time.Second)
	p.ocsp, err = ca.NewOCSP(p.ca.OCSPURL(), issuer, ask, time.Now)
	require.NoError(t, err)
	p.crl, err = ca.NewCRL(p.ca.CRLURL(), issuer, ask, time.Now)
	require.NoError(t, err)
	for _, address := range []*string{&p.serving, &p.callbacks} {
		*address, err = workflowtest.FreeAddress()
		require.NoError(t, err)
	}
	p.startMessaging(t)
	p.writeSettings(t)
	c := p.settings(t)
	p.store, err = identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.store.Close()) })
	require.NoError(t, p.store.Migrate(t.Context()))
	if takeCallbacks {
		p.takeCallbacks(t, c.Messaging)
	}
	return p
}

func (p *parts) messagingDir() string { return filepath.Join(p.dir, "messaging") }

func (p *parts) startMessaging(t *testing.T) {
	t.Helper()
	p.messaging = workflowtest.StartChild(t, "messaging is ready", []string{messagingVariable + "=" + p.messagingDir()}, p.serving, "https://"+p.callbacks)
}

// takeCallbacks serves the place where messaging calls back, as a worker does.
func (p *parts) takeCallbacks(t *testing.T, c config.Messaging) {
	t.Helper()
	p.inbox.Inbox = inbox{p.store, server.Client}
	receiver, tlsConfig, err := callbacks(zap.NewNop(), c, &p.inbox)
	require.NoError(t, err)
	listener, err := listenTLS(p.callbacks, tlsConfig)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, listener, receiver) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
}

// recordingInbox keeps what was delivered, so that it can be delivered once more.
type recordingInbox struct {
	messaging.Inbox
	mu        sync.Mutex
	delivered []messaging.Callback
}

func (r *recordingInbox) Deliver(ctx context.Context, callback messaging.Callback) (messaging.Delivery, error) {
	delivery, err := r.Inbox.Deliver(ctx, callback)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered = append(r.delivered, callback)
	return delivery, err
}

// of returns what came for a mobile ID, whatever became of it.
func (r *recordingInbox) of(mobileID string) []messaging.Callback {
	r.mu.Lock()
	defer r.mu.Unlock()
	var of []messaging.Callback
	for _, callback := range r.delivered {
		if callback.ExternalID == mobileID {
			of = append(of, callback)
		}
	}
	return of
}

// writeSettings writes the settings of all workers.
func (p *parts) writeSettings(t *testing.T) {
	t.Helper()
	addresses, err := embedded.ReadAddresses(p.messagingDir())
	require.NoError(t, err)
	key := filepath.Join(p.dir, "audit.key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("0a", 32)), 0o600))
	issuer := filepath.Join(p.ca.Dir, "ca.pem")
	driver := p.ca.DriverOptions()
	text, err := json.Marshal(map[string]any{
		"store":  map[string]any{"driver": "sqlite", "dsn": filepath.Join(p.dir, "im.db")},
		"audit":  map[string]any{"key_file": key, "checkpoint_dir": ""},
		"worker": map[string]any{"health_address": ""},
		"get":    map[string]any{"enabled": true, "ca": "devca", "key_types": []string{"EC-P-256"}},
		"cas": []map[string]any{{
			"name": "devca", "driver": "devca", "issuer_file": issuer, "url": driver.URL, "certificate_file": driver.ClientCertFile,
			"key_file": driver.ClientKeyFile, "server_ca_file": driver.ServerCAFile, "ocsp_url": p.ca.OCSPURL(), "crl_url": p.ca.CRLURL(),
			"call_timeout": p.caTimeout.String(),
		}},
		"messaging": map[string]any{
			"url": addresses.URL, "client_id": embedded.ClientID, "api_key_file": filepath.Join(p.messagingDir(), embedded.APIKeyFile),
			"server_ca_file":            filepath.Join(p.messagingDir(), embedded.ServerCAFile),
			"attestation_file":          filepath.Join(p.messagingDir(), embedded.AttestationKeysFile),
			"callback_certificate_file": filepath.Join(p.messagingDir(), embedded.ServerCAFile),
			"callback_key_file":         filepath.Join(p.messagingDir(), embedded.ServerKeyFile),
			"callback_user":             embedded.CallbackUser, "callback_password_file": filepath.Join(p.messagingDir(), embedded.CallbackPasswordFile),
		},
	})
	require.NoError(t, err)
	p.file = filepath.Join(p.dir, "config.yaml")
	require.NoError(t, os.WriteFile(p.file, text, 0o600))
}

// settings reads them, with changes by flags.
func (p *parts) settings(t *testing.T, args ...string) config.Config {
	t.Helper()
	c, err := load(append([]string{"--config", p.file}, args...))
	require.NoError(t, err)
	return c
}

// startWorker starts a worker process for a task queue, that ends at a point.
func (p *parts) startWorker(t *testing.T, queue string, at point, args ...string) *workflowtest.Child {
	t.Helper()
	spec, err := json.Marshal(at)
	require.NoError(t, err)
	return workflowtest.StartChild(t, "Worker is ready", []string{workerVariable + "=" + string(spec), "TEMPORAL_ADDRESS=" + server.Address},
		append([]string{"--config", p.file, "--task_queue", queue}, args...)...)
}

// work polls a task queue in this process until the test ends, or until stop.
func (p *parts) work(t *testing.T, queue string, hit func(at string), args ...string) (stop func()) {
	t.Helper()
	return p.workWith(t, queue, hit, func(driver ca.Driver) ca.Driver { return driver }, args...)
}

// workWith does so with another driver around that of the CA.
func (p *parts) workWith(t *testing.T, queue string, hit func(at string), wrap func(ca.Driver) ca.Driver, args ...string) (stop func()) {
	t.Helper()
	if hit == nil {
		hit = func(string) {}
	}
	w, err := assemble(t.Context(), p.settings(t, append([]string{"--task_queue", queue}, args...)...), p.store, hooks{hit: hit})
	require.NoError(t, err)
	w.temporal = server.Client
	for _, authority := range w.cas.All() {
		authority.Driver = wrap(authority.Driver)
	}
	poller := w.pollers(func(error) {})[queue]
	require.NoError(t, poller.Start())
	stop = sync.OnceFunc(poller.Stop)
	t.Cleanup(stop)
	return stop
}

// applicant is a user with a grant, and the Get of that user.
type applicant struct {
	*parts
	user  string
	queue string // of its own
	grant mobileid.Grant
	gets  *starter.Applicant
	phone person
}

// newApplicant makes a user whom no other test knows.
func (p *parts) newApplicant(t *testing.T) *applicant {
	t.Helper()
	id := "anna-" + uuid.NewString()
	a := &applicant{parts: p, user: id, queue: "queue-" + id}
	a.gets = starter.NewGets(server.Client, a.queue, workflows.GetWorkflowID, starter.WithAcceptWait(limit)).User(id, "")
	user := mobileid.User{ID: id, Name: "Anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, p.store.PutUser(t.Context(), user, id+"@example.com"))
	var err error
	a.grant, err = p.store.PutGrant(t.Context(), id, "test", time.Hour)
	require.NoError(t, err)
	return a
}

// withOld gives the user an active mobile ID with a certificate.
func (a *applicant) withOld(t *testing.T) string {
	t.Helper()
	issued, _ := a.ca.Issue(t, "Anna")
	certificate, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
	require.NoError(t, err)
	old := mobileid.MobileID{
		ID: "mid-" + uuid.NewString(), Name: "old phone", Owner: mobileid.User{ID: a.user}, State: mobileid.Active,
		Certificates: []mobileid.Certificate{certificate},
	}
	require.NoError(t, a.store.CreateMobileID(t.Context(), old))
	return old.ID
}

// waitForEvent waits until the history of the Get has an event of a type.
func (a *applicant) waitForEvent(t *testing.T, kind enumspb.EventType) {
	t.Helper()
	require.Eventually(t, func() bool {
		has, err := a.hasEvent(t, kind)
		return err == nil && has
	}, limit, moment, "no %s", kind)
}

// hasEvent reports whether the history of the Get has an event of a type.
func (a *applicant) hasEvent(t *testing.T, kind enumspb.EventType) (bool, error) {
	t.Helper()
	iterator := server.Client.GetWorkflowHistory(t.Context(), workflows.GetWorkflowID(a.user), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		if err != nil {
			return false, err
		}
		if event.GetEventType() == kind {
			return true, nil
		}
	}
	return false, nil
}

// object is JSON as a client in any language would send it.
type object map[string]any

// start starts the Get, with Next, and does not wait for any worker.
func (a *applicant) start(t *testing.T, more object) {
	t.Helper()
	input := object{"userId": a.user, "confirmed": true}
	for key, value := range more {
		input[key] = value
	}
	a.startProcess(t, workflows.GetWorkflowID(a.user), a.queue, workflows.Get, input)
}

func (a *applicant) startProcess(t *testing.T, id, queue, process string, input object) client.WorkflowRun {
	t.Helper()
	run, err := server.Client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: queue}, process, input)
	require.NoError(t, err)
	return run
}

// waitFor waits until the Get is in a phase.
func (a *applicant) waitFor(t *testing.T, phase workflows.Phase) {
	t.Helper()
	var last workflows.Phase
	require.Eventually(t, func() bool {
		status, err := a.gets.Status(t.Context())
		if err == nil {
			last = status.Phase
		}
		return err == nil && last == phase
	}, limit, moment, "it is %s", &last)
}

// waitForCode waits until there is a code to be scanned, and returns its content.
func (a *applicant) waitForCode(t *testing.T) (content string) {
	t.Helper()
	require.Eventually(t, func() bool {
		provisioning, err := a.store.ProvisioningOf(t.Context(), a.user)
		content = provisioning.URI
		return err == nil
	}, limit, moment)
	return content
}

// person is somebody with a phone, who scans every new code.
type person struct {
	mu      sync.Mutex
	profile *phone.Profile // of the last scan that came to its end
	leave   func()
}

// scan has the person look for codes until the test ends, or until leave.
func (a *applicant) scan(t *testing.T, wrong phone.Misbehaviour) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	a.phone.leave = func() {
		cancel()
		all.Wait()
	}
	t.Cleanup(a.phone.leave)
	all.Go(func() {
		last, stop := "", func() {}
		look := time.NewTicker(moment)
		defer look.Stop()
		for ctx.Err() == nil {
			if shown, err := a.store.ProvisioningOf(ctx, a.user); err == nil && shown.CommandID != last {
				stop()
				last = shown.CommandID
				scanning, cancelScan := context.WithCancel(ctx)
				stop = cancelScan
				all.Go(func() { a.scanCode(scanning, shown.URI, wrong) })
			}
			select {
			case <-ctx.Done():
			case <-look.C:
			}
		}
		stop()
	})
}

func (a *applicant) scanCode(ctx context.Context, content string, wrong phone.Misbehaviour) {
	profile, err := phone.Scan(ctx, content, phone.Options{
		Dir: filepath.Join(a.dir, "phone"), Poll: moment, Misbehave: wrong,
		AttestationKeyFile: filepath.Join(a.messagingDir(), embedded.AttestationKeyFile), ServerCAFile: filepath.Join(a.messagingDir(), embedded.ServerCAFile),
	})
	if err != nil {
		return // the process says what came of it
	}
	a.phone.mu.Lock()
	defer a.phone.mu.Unlock()
	a.phone.profile = profile
}

// end is how a Get ended: active, or why not.
type end string

const endActive end = "active"

// await waits for the end of the process.
func (a *applicant) await(t *testing.T) end {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var result workflows.GetResult
	err := server.Client.GetWorkflow(ctx, workflows.GetWorkflowID(a.user), "").Get(ctx, &result)
	require.NoError(t, ctx.Err(), "it does not end")
	var why *temporal.ApplicationError
	if errors.As(err, &why) {
		return end(why.Type())
	}
	require.NoError(t, err)
	return end(result.Outcome)
}

// requireEnd waits for the end, and then looks where it counts: at the store, the
// audit, and the CA's journal, OCSP responder and CRL. Whatever happened before, the
// user has one mobile ID that is active with all its certificates good, or none, and
// no certificate that can be used, known to Identity Manager or not.
func (a *applicant) requireEnd(t *testing.T, want end) {
	t.Helper()
	require.Equal(t, want, a.await(t))
	mobileIDs, err := a.store.MobileIDsOf(t.Context(), a.user)
	require.NoError(t, err)
	known := map[string]bool{}
	active := 0
	for _, m := range mobileIDs {
		usable := m.ID == a.grant.MobileID && want == endActive
		state, in, at := mobileid.Locked, mobileid.CertificateRevoked, mobileid.StatusRevoked
		if usable {
			state, in, at = mobileid.Active, mobileid.CertificateValid, mobileid.StatusGood
			active++
			require.Len(t, m.Certificates, 2)
		}
		require.Equal(t, state, m.State, m.ID)
		for _, c := range m.Certificates {
			known[c.Serial] = true
			require.Equal(t, in, c.State, c.CertificateID)
			a.requireStatus(t, c, at)
		}
		report, err := a.store.VerifyAudit(t.Context(), m.ID, nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	}
	for _, issued := range a.ca.Journal(t) {
		serial := issued.SerialNumber.Text(16)
		require.True(t, issued.Subject.SerialNumber != a.user || known[serial], "certificate %s is known to its CA alone", serial)
		delete(known, serial)
	}
	require.Empty(t, known, "the CA's journal has them all")
	if want != endActive {
		return
	}
	require.Equal(t, 1, active)
	activated := 0
	trail, err := a.store.AuditTrail(t.Context(), a.grant.MobileID)
	require.NoError(t, err)
	for _, entry := range trail {
		if entry.Record.Event == mobileid.EventActivated {
			activated++
		}
	}
	require.Equal(t, 1, activated, "it became active once")
}

// requireStatus asks everybody who could be asked about a certificate.
func (a *applicant) requireStatus(t *testing.T, c mobileid.Certificate, want mobileid.Status) {
	t.Helper()
	says := func(source ca.Source) mobileid.Status {
		evidence, err := source.Check(t.Context(), ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter})
		require.NoError(t, err)
		return evidence.Status
	}
	require.Equal(t, want, says(a.ocsp), "OCSP about %s", c.CertificateID)
	if want == mobileid.StatusRevoked {
		// The CA answers before it publishes.
		require.Eventually(t, func() bool { return says(a.crl) == want }, limit, moment, "CRL about %s", c.CertificateID)
		return
	}
	require.Equal(t, want, says(a.crl), "CRL about %s", c.CertificateID)
}

// requireOnPhone checks that the phone has what is active.
func (a *applicant) requireOnPhone(t *testing.T) {
	t.Helper()
	var profile *phone.Profile
	require.Eventually(t, func() bool {
		a.phone.mu.Lock()
		defer a.phone.mu.Unlock()
		profile = a.phone.profile
		return profile != nil
	}, limit, moment)
	m, err := a.store.MobileID(t.Context(), a.grant.MobileID)
	require.NoError(t, err)
	for _, key := range profile.KeyIDs() {
		certificate, err := profile.Certificate(key)
		require.NoError(t, err)
		known, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
		require.NoError(t, err)
		found := false
		for _, c := range m.Certificates {
			found = found || c.CertificateID == known.CertificateID
		}
		require.True(t, found, "the certificate for %s is another one", key)
		require.NoError(t, profile.Prove(key, []byte("challenge")))
	}
}
