package workflows_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/activities/identitymanager"
	starter "mobileid/starter/client"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// server is Temporal's development server, one for all tests of the package.
var server *workflowtest.Server

// limit is far more than any wait in a test takes.
const limit = 90 * time.Second

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if spec := os.Getenv(childVariable); spec != "" {
			if err := runChild(spec); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
		flag.Parse()
		if flag.Lookup("test.fuzz").Value.String() != "" {
			return m.Run() // each of the fuzzer's processes would start a server
		}
		program, err := workflowtest.FindProgram("temporal")
		if err != nil {
			fmt.Fprintln(os.Stderr, "no tests on a real server:", err)
			return m.Run()
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if server, err = workflowtest.StartServer(ctx, program,
			// So that continue-as-new can be reached by a few retries.
			"--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=120"); err != nil {
			fmt.Fprintln(os.Stderr, "start Temporal's development server:", err)
			return 1
		}
		defer server.Stop()
		return m.Run()
	}())
}

var auditKey = []byte(strings.Repeat("k", 32))

// installation is one set of parts on a task queue of its own: a store, a CA,
// and a worker, all real, in this process.
type installation struct {
	t        *testing.T
	queue    string
	temporal client.Client
	store    *identitymanager.Store
	database string // of the store
	im       *gatedIM
	ca       *devcatest.CA
	second   *devcatest.CA // nil without secondCA
	driver   *gatedDriver
	settings activities.Settings
	get      *activities.Get // nil: Get mobile ID is not configured
	locks    *starter.Client
	worker   sdkworker.Worker
	wait     time.Duration // proof wait of the CA
	made     []string      // the mobile IDs that mobileID made
}

// option changes an installation before its worker starts.
type option func(*installation)

func withDeadline(d time.Duration) option {
	return func(i *installation) { i.settings.Deadline = d }
}

func withoutAttributes(i *installation) { i.settings.Attributes.Enabled = false }

func withProofWait(d time.Duration) option { return func(i *installation) { i.wait = d } }

// install makes an installation and starts its worker.
func install(t *testing.T, options ...option) *installation {
	t.Helper()
	i := installStopped(t, options...)
	i.startWorker()
	return i
}

// installStopped makes an installation whose worker does not run yet.
func installStopped(t *testing.T, options ...option) *installation {
	t.Helper()
	if server == nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	i := &installation{
		t:        t,
		queue:    "test-" + uuid.NewString(),
		temporal: server.Client,
		ca:       devcatest.Start(t),
		settings: activities.Settings{
			Deadline:   2 * time.Hour,
			Reason:     mobileid.Unspecified,
			Attributes: activities.AttributeSettings{Enabled: true, User: activities.UserPlain},
		},
	}
	i.database = filepath.Join(t.TempDir(), "im.db")
	var err error
	i.store, err = identitymanager.Open(t.Context(), identitymanager.Options{Driver: "sqlite", DSN: i.database, AuditKey: auditKey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.store.Close()) })
	require.NoError(t, i.store.Migrate(t.Context()))
	i.im = &gatedIM{IdentityManager: i.store}
	i.driver = &gatedDriver{Driver: i.ca.Driver(t)}
	i.locks = starter.New(i.temporal, i.queue, starter.WithAcceptWait(limit))
	for _, o := range options {
		o(i)
	}
	i.user("anna")
	i.user("bert")
	return i
}

// authority is the CA as the worker knows it.
func (i *installation) authority() *ca.Authority {
	i.t.Helper()
	authority, err := newAuthority("devca", i.ca.Certificate(), i.driver, i.ca.OCSPURL(), i.ca.CRLURL(), i.wait)
	require.NoError(i.t, err)
	return authority
}

func newAuthority(name string, issuer *x509.Certificate, driver ca.Driver, ocspURL, crlURL string, wait time.Duration) (*ca.Authority, error) {
	const timeout = 5 * time.Second
	ocsp, err := ca.NewOCSP(ocspURL, issuer, ca.NewHTTPClient(timeout), time.Now)
	if err != nil {
		return nil, err
	}
	crl, err := ca.NewCRL(crlURL, issuer, ca.NewHTTPClient(timeout), time.Now)
	if err != nil {
		return nil, err
	}
	return &ca.Authority{
		Name:           name,
		Issuer:         issuer,
		Driver:         driver,
		OCSP:           ocsp,
		CRL:            crl,
		RequestTimeout: timeout,
		Concurrency:    4,
		ProofWait:      wait,
		ApprovalWait:   time.Hour,
	}, nil
}

func (i *installation) startWorker(more ...*ca.Authority) {
	i.t.Helper()
	authorities, err := ca.NewAuthorities(append([]*ca.Authority{i.authority()}, more...))
	require.NoError(i.t, err)
	i.startWorkerWith(authorities)
}

func (i *installation) startWorkerWith(authorities *ca.Authorities) {
	i.t.Helper()
	a := &activities.Activities{IM: i.im, CAs: authorities, Settings: i.settings, Unfinished: i.store, Overdue: i.store, Revoked: i.store, Get: i.get}
	w := newWorker(i.temporal, i.queue, a)
	require.NoError(i.t, w.Start())
	i.worker = w
	var once sync.Once
	stop := func() { once.Do(w.Stop) }
	i.t.Cleanup(stop)
}

func (i *installation) user(id string) mobileid.User {
	i.t.Helper()
	user := mobileid.User{ID: id, Name: id, Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(i.t, i.store.PutUser(i.t.Context(), user, id+"@example.com"))
	return user
}

// mobileID makes an active mobile ID of anna's with n certificates, under an id
// that no other test uses.
func (i *installation) mobileID(n int) string {
	i.t.Helper()
	id := "mid-" + uuid.NewString()
	m := mobileid.MobileID{ID: id, Name: "phone", Owner: mobileid.User{ID: "anna"}, State: mobileid.Active}
	for range n {
		m.Certificates = append(m.Certificates, i.certificate(mobileid.CertificateValid))
	}
	require.NoError(i.t, i.store.CreateMobileID(i.t.Context(), m))
	i.made = append(i.made, id)
	return id
}

func (i *installation) certificate(state mobileid.CertificateState) mobileid.Certificate {
	i.t.Helper()
	issued, _ := i.issue()
	c, err := mobileid.NewCertificate(issued, state)
	require.NoError(i.t, err)
	return c
}

func (i *installation) issue() (*x509.Certificate, crypto.Signer) {
	return i.ca.Issue(i.t, "anna")
}

func (i *installation) anna() *starter.Caller { return i.locks.User("anna") }

// read reads a mobile ID back from the store.
func (i *installation) read(id string) mobileid.MobileID {
	i.t.Helper()
	m, err := i.store.MobileID(i.t.Context(), id)
	require.NoError(i.t, err)
	return m
}

// requireUnchanged checks that a mobile ID is as it was made, here and at the CA.
func (i *installation) requireUnchanged(id string) {
	i.t.Helper()
	m := i.read(id)
	require.Equal(i.t, mobileid.Active, m.State)
	for _, c := range m.Certificates {
		require.Equal(i.t, mobileid.CertificateValid, c.State)
		require.Equal(i.t, mobileid.StatusGood, i.statusAtCA(c))
	}
}

// requireLocked checks the three end states where they count.
func (i *installation) requireLocked(id string) {
	i.t.Helper()
	m := i.read(id)
	require.Equal(i.t, mobileid.Locked, m.State)
	for _, c := range m.Certificates {
		require.Equal(i.t, mobileid.CertificateRevoked, c.State)
		require.Equal(i.t, mobileid.StatusRevoked, i.statusAtCA(c))
	}
}

// statusAtCA asks the CA itself, past every gate.
func (i *installation) statusAtCA(c mobileid.Certificate) mobileid.Status {
	i.t.Helper()
	driver := i.driver.Driver
	if i.second != nil && c.Issuer == mobileid.HashName(i.second.Certificate().RawSubject) && c.AKI == hex.EncodeToString(i.second.Certificate().SubjectKeyId) {
		driver = i.second.Driver(i.t)
	}
	evidence, err := driver.Status(i.t.Context(), ca.Certificate{CertificateID: c.CertificateID, IssuerDN: c.IssuerDN, NotAfter: c.NotAfter})
	require.NoError(i.t, err)
	return evidence.Status
}

// events lists the audit events of a mobile ID, in order.
func (i *installation) events(id string) []mobileid.Event {
	i.t.Helper()
	trail, err := i.store.AuditTrail(i.t.Context(), id)
	require.NoError(i.t, err)
	var events []mobileid.Event
	for _, r := range trail {
		events = append(events, r.Record.Event)
	}
	return events
}

// waitFor waits until a lock's status fulfils a condition.
func (i *installation) waitFor(id string, condition func(starter.Status) bool) starter.Status {
	i.t.Helper()
	var last starter.Status
	require.Eventually(i.t, func() bool {
		status, err := i.locks.Operator("test").Status(i.t.Context(), id)
		if err != nil {
			return false
		}
		last = status
		return condition(status)
	}, limit, 50*time.Millisecond, "the last status is %+v", &last)
	return last
}

func inPhase(phase workflows.Phase) func(starter.Status) bool {
	return func(s starter.Status) bool { return s.Phase == phase }
}

// execution waits for the end of a lock and returns its result or error.
func (i *installation) execution(id string) (workflows.LockResult, error) {
	i.t.Helper()
	return i.executionWithin(id, limit)
}

func (i *installation) executionWithin(id string, limit time.Duration) (workflows.LockResult, error) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), limit)
	defer cancel()
	var result workflows.LockResult
	err := i.temporal.GetWorkflow(ctx, workflows.LockWorkflowID(id), "").Get(ctx, &result)
	require.NoError(i.t, ctx.Err())
	return result, err
}

// start starts a lock as a client in any language would: by names and JSON.
func (i *installation) start(id string, input any, change ...func(*client.StartWorkflowOptions)) client.WorkflowRun {
	i.t.Helper()
	options := client.StartWorkflowOptions{ID: workflows.LockWorkflowID(id), TaskQueue: i.queue}
	for _, c := range change {
		c(&options)
	}
	run, err := i.temporal.ExecuteWorkflow(i.t.Context(), options, workflows.Lock, input)
	require.NoError(i.t, err)
	return run
}

// errGated is what a gated part answers while it is broken.
var errGated = errors.New("the part is out of order")

// gatedIM is the real store behind a gate that tests open and close.
type gatedIM struct {
	activities.IdentityManager
	mu     sync.Mutex
	before func(ctx context.Context, method string) error
}

// gate sets what happens before each call; nil opens the gate.
func (g *gatedIM) gate(before func(ctx context.Context, method string) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = before
}

func (g *gatedIM) pass(ctx context.Context, method string) error {
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, method)
}

func (g *gatedIM) MobileID(ctx context.Context, id string) (mobileid.MobileID, error) {
	if err := g.pass(ctx, "MobileID"); err != nil {
		return mobileid.MobileID{}, err
	}
	return g.IdentityManager.MobileID(ctx, id)
}

func (g *gatedIM) Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error) {
	if err := g.pass(ctx, "Lock"); err != nil {
		return mobileid.LockReceipt{}, err
	}
	return g.IdentityManager.Lock(ctx, order)
}

func (g *gatedIM) RecordRevocations(ctx context.Context, order mobileid.RevocationOrder) (mobileid.RevocationReceipt, error) {
	if err := g.pass(ctx, "RecordRevocations"); err != nil {
		return mobileid.RevocationReceipt{}, err
	}
	return g.IdentityManager.RecordRevocations(ctx, order)
}

// gatedDriver is the real driver behind a gate that tests open and close. It
// counts the requests that pass.
type gatedDriver struct {
	ca.Driver
	mu       sync.Mutex
	revoke   func(ctx context.Context, cert ca.Certificate) error
	requests map[string]int
}

func (g *gatedDriver) gate(revoke func(ctx context.Context, cert ca.Certificate) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revoke = revoke
}

func (g *gatedDriver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	g.mu.Lock()
	revoke := g.revoke
	g.mu.Unlock()
	if revoke != nil {
		if err := revoke(ctx, cert); err != nil {
			return ca.Answer{}, err
		}
	}
	g.mu.Lock()
	if g.requests == nil {
		g.requests = map[string]int{}
	}
	g.requests[cert.Serial]++
	g.mu.Unlock()
	return g.Driver.Revoke(ctx, cert, reason)
}

// unavailable is a CA that refuses connections.
func unavailable(_ context.Context, cert ca.Certificate) error {
	return &ca.Error{Kind: ca.Unavailable, Op: "revoke " + cert.String(), Words: "connection refused"}
}

// denied is a CA that does not let us revoke.
func denied(_ context.Context, cert ca.Certificate) error {
	return &ca.Error{Kind: ca.Denied, Op: "revoke " + cert.String(), Words: "officer has no role Revoke certificate"}
}
