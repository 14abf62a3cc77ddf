package workflows_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// getInstallation is an installation with what a Get needs beside a lock: messaging,
// phones, and a worker that takes callbacks. One user gets a mobile ID on it.
type getInstallation struct {
	*installation
	userID   string
	get      activities.GetSettings
	gate     getGate
	client   messaging.Options // change it before the worker starts
	dir      string            // of messaging
	callback *httptest.Server
	silence  func() // stops messaging
	receiver atomic.Pointer[messaging.Receiver]
}

// getOption changes one before its worker starts.
type getOption func(*getInstallation)

// installGet makes an installation whose worker runs.
func installGet(t *testing.T, options ...getOption) *getInstallation {
	t.Helper()
	g := &getInstallation{installation: installStopped(t), userID: "user-" + uuid.NewString(), dir: t.TempDir()}
	g.user(g.userID)
	g.get = activities.GetSettings{
		Deadline: 2 * time.Hour, CA: "devca", KeyTypes: []messaging.KeyType{messaging.P256}, Years: 2,
		Keys: []activities.KeySetting{
			{ID: "authentication", Usage: messaging.Authentication, Procedure: "authentication"},
			{ID: "signature", Usage: messaging.Signature, Procedure: "signature"},
		},
		UserID: activities.UserByEmail, ServerName: "Smart ID", ProfileName: "MobileID %s",
		ScanWait: 5 * time.Minute, InstallWait: 5 * time.Minute, StepWait: 2 * time.Minute,
		WorkflowID: workflows.GetWorkflowIDs(nil),
	}
	g.takeCallbacks()
	g.startMessaging()
	var err error
	g.client, err = embedded.ClientOptions(g.dir)
	require.NoError(t, err)
	receiver, err := messaging.NewReceiver(g, messaging.ReceiverOptions{
		User: embedded.CallbackUser, PasswordFile: filepath.Join(g.dir, embedded.CallbackPasswordFile),
	})
	require.NoError(t, err)
	g.receiver.Store(receiver)
	for _, o := range options {
		o(g)
	}
	g.startGetWorker()
	return g
}

// takeCallbacks starts the site that messaging calls back, which has its receiver
// once messaging has made the password.
func (g *getInstallation) takeCallbacks() {
	g.t.Helper()
	g.callback = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if receiver := g.receiver.Load(); receiver != nil {
			receiver.ServeHTTP(w, r)
			return
		}
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	}))
	g.t.Cleanup(g.callback.Close)
}

// startMessaging starts the embedded messaging server, or starts it again where it
// was.
func (g *getInstallation) startMessaging() {
	g.t.Helper()
	trust := filepath.Join(g.t.TempDir(), "callback.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.callback.Certificate().Raw})
	require.NoError(g.t, os.WriteFile(trust, text, 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- embedded.Run(ctx, embedded.RunOptions{Dir: g.dir, Server: embedded.Options{
			CallbackURL: g.callback.URL, CallbackCAFile: trust, CallbackRetry: 20 * time.Millisecond,
		}}, func(embedded.Addresses) { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		require.NoError(g.t, err)
	case <-time.After(limit):
		cancel()
		require.Fail(g.t, "messaging does not start")
	}
	g.silence = sync.OnceFunc(func() {
		cancel()
		require.NoError(g.t, <-ended)
	})
	g.t.Cleanup(g.silence)
}

// Deliver implements [messaging.Inbox], as a worker does.
func (g *getInstallation) Deliver(ctx context.Context, callback messaging.Callback) (messaging.Delivery, error) {
	body, err := callback.Encode()
	if err != nil {
		return "", err
	}
	delivery, err := g.store.Deliver(ctx, callback.CommandID, string(callback.Kind), body)
	if err != nil {
		return "", err
	}
	switch delivery.Outcome {
	case identitymanager.DeliveryUnknown:
		return "", errors.New("the command is not known yet")
	case identitymanager.DeliveryNew, identitymanager.DeliveryDuplicate:
		err := g.temporal.SignalWorkflow(ctx, delivery.WorkflowID, "", workflows.Answered, workflows.AnsweredMessage{CommandID: callback.CommandID})
		var closed *serviceerror.NotFound
		if err != nil && !errors.As(err, &closed) {
			return "", err
		}
	case identitymanager.DeliveryLate:
	}
	return messaging.Delivery(strings.ToLower(string(delivery.Outcome))), nil
}

func (g *getInstallation) startGetWorker() {
	g.t.Helper()
	issuer, ok := g.driver.Driver.(ca.Issuer)
	require.True(g.t, ok)
	authority, err := newAuthority("devca", g.ca.Certificate(), &gatedIssuer{gatedDriver: g.driver, Issuer: issuer, gate: &g.gate}, g.ca.OCSPURL(), g.ca.CRLURL(), 0)
	require.NoError(g.t, err)
	authorities, err := ca.NewAuthorities([]*ca.Authority{authority})
	require.NoError(g.t, err)
	messages, err := messaging.NewClient(g.client)
	require.NoError(g.t, err)
	g.t.Cleanup(messages.Close)
	attestation, err := messaging.ReadAttestationKeys(filepath.Join(g.dir, embedded.AttestationKeysFile))
	require.NoError(g.t, err)
	w := newWorker(g.temporal, g.queue, &activities.Activities{
		IM: g.im, CAs: authorities, Settings: g.settings,
		Get: &activities.Get{
			Applicants: &gatedApplicants{Applicants: g.store, gate: &g.gate}, Messaging: messages, Attestation: attestation, Settings: g.get,
		},
	})
	require.NoError(g.t, w.Start())
	g.worker = w
	g.t.Cleanup(w.Stop)
}

// getGate is what happens at a call of a part, as a test orders it.
type getGate struct {
	mu sync.Mutex
	at func(ctx context.Context, call string) error
}

// set orders what happens from now on; nil is nothing.
func (g *getGate) set(at func(ctx context.Context, call string) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = at
}

func (g *getGate) pass(ctx context.Context, call string) error {
	g.mu.Lock()
	at := g.at
	g.mu.Unlock()
	if at == nil {
		return nil
	}
	return at(ctx, call)
}

// gateFailing has some calls fail with an error.
func gateFailing(err error, calls ...string) func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		for _, c := range calls {
			if c == call {
				return err
			}
		}
		return nil
	}
}

// gateHeld has a call wait until it is let go, which a retry of it finds done.
func gateHeld(name string, until <-chan struct{}) func(context.Context, string) error {
	return func(ctx context.Context, call string) error {
		if call != name {
			return nil
		}
		select {
		case <-until:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gatedIssuer is the real driver behind a gate, for issuing, too.
type gatedIssuer struct {
	*gatedDriver
	ca.Issuer
	gate *getGate
}

func (g *gatedIssuer) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	if err := g.gate.pass(ctx, "IssueOnce/before"); err != nil {
		return nil, err
	}
	issued, err := g.Issuer.IssueOnce(ctx, request)
	if lost := g.gate.pass(ctx, "IssueOnce/after"); lost != nil {
		return nil, lost
	}
	return issued, err
}

func (g *gatedIssuer) Issued(ctx context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	if err := g.gate.pass(ctx, "Issued"); err != nil {
		return nil, err
	}
	return g.Issuer.Issued(ctx, csr)
}

// gatedApplicants is the real store behind a gate.
type gatedApplicants struct {
	activities.Applicants
	gate *getGate
}

func (g *gatedApplicants) Applicant(ctx context.Context, userID string) (mobileid.Applicant, error) {
	if err := g.gate.pass(ctx, "Applicant"); err != nil {
		return mobileid.Applicant{}, err
	}
	return g.Applicants.Applicant(ctx, userID)
}

func (g *gatedApplicants) Activate(ctx context.Context, order mobileid.ActivationOrder) (mobileid.Receipt, error) {
	if err := g.gate.pass(ctx, "Activate"); err != nil {
		return mobileid.Receipt{}, err
	}
	return g.Applicants.Activate(ctx, order)
}

// workflowID is that of the user's Get.
func (g *getInstallation) workflowID() string { return workflows.GetWorkflowID(g.userID) }

// applicant is the user, at a Self-Service.
func (g *getInstallation) applicant() *starter.Applicant {
	return starter.NewGets(g.temporal, g.queue, workflows.GetWorkflowIDs(nil), starter.WithAcceptWait(limit)).User(g.userID, "")
}

// grant lets the user get a mobile ID.
func (g *getInstallation) grant() {
	g.t.Helper()
	_, err := g.store.PutGrant(g.t.Context(), g.userID, "test", time.Hour)
	require.NoError(g.t, err)
}

// old makes an active mobile ID of the user's with two certificates.
func (g *getInstallation) old() string {
	g.t.Helper()
	m := mobileid.MobileID{ID: "mid-" + uuid.NewString(), Name: "old phone", Owner: mobileid.User{ID: g.userID}, State: mobileid.Active}
	m.Certificates = append(m.Certificates, g.certificate(mobileid.CertificateValid), g.certificate(mobileid.CertificateValid))
	require.NoError(g.t, g.store.CreateMobileID(g.t.Context(), m))
	return m.ID
}

// begin writes a grant and starts a Get, which waits for an answer.
func (g *getInstallation) begin() {
	g.t.Helper()
	g.grant()
	_, err := g.applicant().Start(g.t.Context())
	require.NoError(g.t, err)
	g.at(workflows.AwaitingConfirmation)
}

// beginWith starts a Get as a client in any language would: by names and JSON.
func (g *getInstallation) beginWith(input any) {
	g.t.Helper()
	_, err := g.temporal.ExecuteWorkflow(g.t.Context(), client.StartWorkflowOptions{ID: g.workflowID(), TaskQueue: g.queue}, workflows.Get, input)
	require.NoError(g.t, err)
}

// signal sends the Get a message that nobody answers.
func (g *getInstallation) signal(name string) {
	g.t.Helper()
	require.NoError(g.t, g.temporal.SignalWorkflow(g.t.Context(), g.workflowID(), "", name, nil))
}

// until waits for a status of the Get.
func (g *getInstallation) until(condition func(starter.GetStatus) bool) starter.GetStatus {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	status, err := g.applicant().Wait(ctx, nil, condition)
	require.NoError(g.t, err)
	return status
}

// at waits for a phase of the Get.
func (g *getInstallation) at(phase workflows.Phase) starter.GetStatus {
	g.t.Helper()
	return g.until(func(s starter.GetStatus) bool { return s.Phase == phase })
}

// next presses Next, and waits until there is a code to scan.
func (g *getInstallation) next() starter.GetStatus {
	g.t.Helper()
	_, err := g.applicant().Next(g.t.Context())
	require.NoError(g.t, err)
	return g.at(workflows.AwaitingPhone)
}

// scan has a phone scan the code, and returns how to take the phone away. What came
// of it the process says.
func (g *getInstallation) scan(wrong phone.Misbehaviour) (away func()) {
	g.t.Helper()
	provisioning, err := g.store.Provisioning(g.t.Context(), g.at(workflows.AwaitingPhone).MobileID)
	require.NoError(g.t, err)
	dir := g.t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var scanning sync.WaitGroup
	scanning.Go(func() {
		_, _ = phone.Scan(ctx, provisioning.URI, phone.Options{
			Dir: dir, Poll: 20 * time.Millisecond, Misbehave: wrong,
			AttestationKeyFile: filepath.Join(g.dir, embedded.AttestationKeyFile), ServerCAFile: filepath.Join(g.dir, embedded.ServerCAFile),
		})
	})
	away = func() {
		cancel()
		scanning.Wait()
	}
	g.t.Cleanup(away)
	return away
}

// end waits for the end of the Get, and returns its result or error.
func (g *getInstallation) end() (workflows.GetResult, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	var result workflows.GetResult
	err := g.temporal.GetWorkflow(ctx, g.workflowID(), "").Get(ctx, &result)
	require.NoError(g.t, ctx.Err())
	return result, err
}
