package workflows_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/messaging"
	"mobileid/proptest"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// Whatever is sent in whatever order, whatever the phone answers, and whatever breaks
// meanwhile: a Get ends with one active mobile ID, or with nothing left behind.
//
// The process, the locks that it starts, its activities and the store are real; engine,
// CA, messaging and phone are models, as in TestLockKeepsItsRules. RAPID_CHECKS gives
// more cases.
func TestGetKeepsItsRules(t *testing.T) {
	proptest.Checks(t, "200")
	w := newPropertyWorld(t)
	keys := newPhoneKeys(t)
	rapid.Check(t, func(rt *rapid.T) {
		g := w.prepareGet(rt, drawGet(rt), keys)
		g.run()
		g.requireRules()
	})
}

// getScenario is one case: what the world is like, what is sent when, what the phone
// answers, and what breaks.
type getScenario struct {
	old       string
	granted   bool
	entitled  bool
	operator  bool
	confirmed bool
	lock      bool
	afterLock bool
	joined    bool // a lock of the old one runs already, which nobody has confirmed
	events    []event
	phone     map[string][]phoneAct
	faults    map[string][]string
}

// What the user has before the Get.
const (
	noOld      = "none"
	activeOld  = "active"
	inactive   = "inactive"
	halfLocked = "locked, with certificates that are not revoked"
	leftBehind = "registered, by a Get that was terminated"
)

// What can happen while a Get is open, beside what can happen while a lock is.
const (
	lockSignal   = "lock by signal"
	lockUpdate   = "lock by update"
	wrongWord    = "word of a command that nobody sent"
	noWord       = "word of nothing"
	loseRole     = "the user loses the role"
	regainRole   = "the user has the role again"
	anotherGrant = "another grant"
	cancelJoined = "the lock that runs is cancelled"
)

const (
	scanWait    = 5 * time.Minute
	installWait = 4 * time.Minute
	stepWait    = 2 * time.Minute
)

var getMoments = slices.Concat(moments, []time.Duration{
	2 * time.Minute, 4 * time.Minute, scanWait + time.Second, scanWait + time.Minute, 2 * scanWait,
})

// getFaultsOf are what can happen to a call of each part, beside nothing.
var getFaultsOf = map[string][]string{
	"Applicant":         {"before"},
	"Register":          {"before", "after"},
	"PutProvisioning":   {"before", "after"},
	"PutCommand":        {"before", "after"},
	"Provisioning":      {"before"},
	"Installation":      {"before"},
	"Answer":            {"before"},
	"RecordIssued":      {"before", "after"},
	"Activate":          {"before", "after"},
	"Abandon":           {"before", "after"},
	"Record":            {"before", "after"},
	"Lock":              {"before", "after"},
	"RecordRevocations": {"before", "after"},
	"messaging":         {"down", "cut after", "denied"},
	"Issue":             {"down", "cut before", "cut after", "done late", "denied"},
	"Issued":            {"down", "denied"},
	"Revoke":            {"down", "cut after", "denied"},
	"Status":            {"down", "lags"},
	"worker":            {"before", "after", "panic", "silence"},
}

func drawGet(t *rapid.T) getScenario {
	s := getScenario{
		old:       rapid.SampledFrom([]string{noOld, noOld, noOld, activeOld, activeOld, activeOld, inactive, halfLocked, leftBehind}).Draw(t, "old"),
		granted:   rapid.IntRange(0, 9).Draw(t, "not granted") != 9,
		entitled:  rapid.IntRange(0, 14).Draw(t, "not entitled") != 14,
		operator:  rapid.IntRange(0, 4).Draw(t, "operator") == 4,
		confirmed: rapid.IntRange(0, 2).Draw(t, "confirmed") == 2,
		lock:      rapid.IntRange(0, 3).Draw(t, "lock") == 3,
		afterLock: rapid.IntRange(0, 5).Draw(t, "after a lock") == 5,
		joined:    rapid.IntRange(0, 2).Draw(t, "joined") == 2,
		phone:     map[string][]phoneAct{},
		faults:    map[string][]string{},
	}
	s.joined = s.joined && s.old == activeOld
	s.events = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			at: rapid.SampledFrom(getMoments).Draw(t, "at"),
			what: rapid.SampledFrom([]string{nextSignal, nextSignal, nextUpdate, nextUpdate, nextUpdate, lockSignal, lockUpdate, lockUpdate, cancelSignal, cancelUpdate,
				retrySignal, retryUpdate, cancelRequest, askStatus, wrongWord, noWord, loseRole, regainRole, anotherGrant, cancelJoined}).Draw(t, "what"),
			user: rapid.SampledFrom([]string{"", "own", "own", "own", "bert"}).Draw(t, "user"),
		}
	}), 0, 8).Draw(t, "events")
	pressed := rapid.IntRange(0, 1).Draw(t, "Next is pressed") == 1
	if pressed {
		// Else most cases would never come to the phone.
		s.events = append(s.events, event{at: time.Second, what: lockUpdate, user: "own"}, event{at: 2 * time.Second, what: nextUpdate, user: "own"})
	}
	slices.SortStableFunc(s.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for _, kind := range []messaging.CommandKind{messaging.KindProvision, messaging.KindCertificate} {
		wrong := []string{phoneDeclines, phoneTimesOut, wrongNonce, wrongKey, wrongSubject}
		if kind == messaging.KindCertificate {
			wrong = []string{phoneDeclines, phoneTimesOut, halfInstalled}
		}
		s.phone[string(kind)] = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) phoneAct {
			return phoneAct{
				what: rapid.SampledFrom(append(slices.Repeat([]string{phoneProof}, 4*len(wrong)), wrong...)).Draw(t, "what"),
				after: rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Second, 30 * time.Second, 3 * time.Minute, installWait, scanWait,
					scanWait + 10*time.Second, scanWait + 31*time.Second, scanWait + 2*time.Hour}).Draw(t, "after"),
			}
		}), 0, 3).Draw(t, "phone at "+string(kind))
		if pressed {
			answer := phoneAct{what: phoneProof, after: 10 * time.Second}
			s.phone[string(kind)] = append(s.phone[string(kind)], answer)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(getFaultsOf)) {
		// Most calls go well, or no Get would come far, and after four all do.
		kinds := append(slices.Repeat([]string{""}, 5*len(getFaultsOf[part])), getFaultsOf[part]...)
		s.faults[part] = rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 4).Draw(t, "faults of "+part)
	}
	return s
}

// propertyGet is one case under way.
type propertyGet struct {
	*propertyWorld
	rt *rapid.T
	getScenario
	userID  string
	oldID   string
	before  mobileid.MobileID // the old one
	model   *getModel
	begun   time.Time
	env     *testsuite.TestWorkflowEnvironment
	history *recordingConverter
	locks   map[string]bool // that have begun, by their workflow id

	hears     bool // the Get has begun, after the lock that it is to join
	open      int  // updates that are accepted and not answered
	nexts     []workflows.GetStatus
	cancelled int // updates of cancel that were answered without a refusal
	phase     workflows.Phase

	result workflows.GetResult
	err    error
}

func (w *propertyWorld) prepareGet(rt *rapid.T, s getScenario, keys phoneKeys) *propertyGet {
	g := &propertyGet{
		propertyWorld: w, rt: rt, getScenario: s, userID: "user-" + uuid.NewString(), begun: time.Now(),
		locks: map[string]bool{}, history: &recordingConverter{DataConverter: converter.GetDefaultDataConverter()},
	}
	w.clock.follow(func() time.Time { return g.begun })
	g.model = &getModel{
		model: newModel(s.faults, w.store, w.clock.Now), store: w.store, issuer: w.issuers[0], phone: s.phone, keys: keys,
		sent: map[string]*sentCommand{}, issued: map[string]*x509.Certificate{}, answer: g.phoneAnswers,
	}
	g.model.schedule = func(after time.Duration, what func()) { g.env.RegisterDelayedCallback(what, after) }
	g.model.allowLock() // the model of Get tells which may be locked when
	g.model.allow(s.confirmed, s.lock || s.joined)
	g.entitle(true)
	g.makeOld()
	if s.granted {
		_, err := w.store.PutGrant(w.t.Context(), g.userID, "test", 24*time.Hour)
		require.NoError(rt, err)
	}
	g.entitle(s.entitled)
	return g
}

func (g *propertyGet) entitle(entitled bool) {
	user := mobileid.User{ID: g.userID, Name: g.userID, Active: true}
	if entitled {
		user.Roles = []string{mobileid.SelfServiceRole}
	}
	require.NoError(g.rt, g.store.PutUser(context.Background(), user, g.userID+"@example.com"))
}

// makeOld makes what the user has before.
func (g *propertyGet) makeOld() {
	if g.old == noOld {
		return
	}
	ctx := context.Background()
	g.oldID = "mid-" + uuid.NewString()
	g.model.old = g.oldID
	m := mobileid.MobileID{ID: g.oldID, Owner: mobileid.User{ID: g.userID}, State: mobileid.Active}
	if g.old == leftBehind {
		m.State = mobileid.Registered
	}
	for range 2 {
		c := g.issuers[0].certificate(mobileid.CertificateValid, g.begun.AddDate(1, 0, 0))
		m.Certificates = append(m.Certificates, c)
		g.model.know(c, mobileid.StatusGood)
	}
	require.NoError(g.rt, g.store.CreateMobileID(ctx, m))
	switch g.old {
	case inactive:
		require.NoError(g.rt, g.store.Deactivate(ctx, g.oldID))
	case halfLocked:
		g.model.allow(false, true)
		_, err := g.store.Lock(ctx, mobileid.LockOrder{
			MobileID: g.oldID, Owner: g.userID, RequestedAt: g.begun, Reason: mobileid.Unspecified,
			Process: mobileid.Process{Name: workflows.Lock, WorkflowID: workflows.LockWorkflowID(g.oldID), RunID: "cut short"},
		})
		require.NoError(g.rt, err)
	case leftBehind:
		g.model.allow(false, true)
	}
	var err error
	g.before, err = g.store.MobileID(ctx, g.oldID)
	require.NoError(g.rt, err)
}

func (g *propertyGet) workflowID() string { return workflows.GetWorkflowID(g.userID) }

// run plays the case to the end of the process, and of the locks that it has started.
func (g *propertyGet) run() {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(workflowtest.Quiet())
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestWorkflowEnvironment()
	g.env = env
	env.SetStartTime(g.begun)
	g.clock.follow(env.Now)
	env.SetDataConverter(g.history)
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // the store is read between two steps
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: g.workflowID(), TaskQueue: workflows.TaskQueue})
	registerLocks(env, "", func(workflowID string) { g.locks[workflowID] = true })
	register(env, workflows.Get, "first", func(ctx workflow.Context, in converter.RawValue) (*workflows.GetResult, error) {
		if g.joined {
			if err := g.startJoined(ctx); err != nil {
				return nil, err
			}
		}
		g.hears = true
		return workflows.GetMobileID(ctx, in)
	})
	g.registerActivities()
	for _, e := range g.events {
		env.RegisterDelayedCallback(func() { g.happens(e) }, e.at)
	}
	g.mend(faultless, 0)
	request := map[string]any{"userId": g.userID, "confirmed": g.confirmed, "lock": g.lock}
	if g.operator {
		request["by"] = "olof"
	}
	if g.afterLock {
		request["afterLock"] = workflows.Execution{WorkflowID: "lock", RunID: "run"}
	}
	env.ExecuteWorkflow(workflows.Get, request)
	require.True(g.rt, env.IsWorkflowCompleted(), "the process ends")
	g.model.settle()
	if g.err = env.GetWorkflowError(); g.err == nil {
		require.NoError(g.rt, env.GetWorkflowResult(&g.result))
	}
}

// startJoined starts a lock that waits for its Next, as somebody else would. The test
// environment cannot signal one that has not begun, so that is waited for.
func (g *propertyGet) startJoined(ctx workflow.Context) error {
	id := workflows.LockWorkflowID(g.oldID)
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id, ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON})
	workflow.ExecuteChildWorkflow(ctx, workflows.Lock, workflows.LockRequest{MobileID: g.oldID, UserID: g.userID})
	for !g.locks[id] {
		if err := workflow.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// registerActivities registers the real ones, on a worker that may die. Those that read
// the clock of the machine are given that of the engine.
func (g *propertyGet) registerActivities() {
	issuer := g.issuers[0]
	authorities, err := ca.NewAuthorities([]*ca.Authority{{
		Name: issuer.name, Issuer: issuer.cert, Driver: modelIssuing{modelDriver{g.model.model}, g.model}, RequestTimeout: time.Minute, Concurrency: 2,
		ApprovalWait: time.Hour, Now: g.clock.Now,
	}})
	require.NoError(g.rt, err)
	a := &activities.Activities{IM: g.model, CAs: authorities, Settings: propertySettings, Get: &activities.Get{
		Applicants: modelApplicants{g.store, g.model}, Messaging: modelMessenger{g.model}, Attestation: g.model.keys.trusted(),
		Settings: activities.GetSettings{
			Deadline: deadline, CA: issuer.name, KeyTypes: []messaging.KeyType{messaging.P256}, Years: 2,
			Keys: []activities.KeySetting{
				{ID: "authentication", Usage: messaging.Authentication, Procedure: "authentication"},
				{ID: "signature", Usage: messaging.Signature, Procedure: "signature"},
			},
			UserID: activities.UserByID, ServerName: "Smart ID", ProfileName: "MobileID %s",
			ScanWait: scanWait, InstallWait: installWait, StepWait: stepWait, WorkflowID: workflows.GetWorkflowIDs(nil),
		},
	}}
	m := g.model.model
	registerLockActivities(g.env, m, a)
	mortal(g.env, m, activities.RecordExitName, a.RecordExit)
	mortal(g.env, m, activities.ValidateGetName, looked(g, a.ValidateGet))
	mortal(g.env, m, activities.RegisterMobileIDName, looked(g, a.RegisterMobileID))
	mortal(g.env, m, activities.ProvisionName, looked(g, func(ctx context.Context, in activities.ProvisionInput) (*activities.CommandSent, error) {
		return g.model.expiry(a.Provision(ctx, in))
	}))
	mortal(g.env, m, activities.ReadKeysName, looked(g, a.ReadKeys))
	mortal(g.env, m, activities.IssueAtCAName, looked(g, a.IssueAtCA))
	mortal(g.env, m, activities.FindIssuedName, looked(g, a.FindIssued))
	mortal(g.env, m, activities.RecordIssuedName, looked(g, a.RecordIssued))
	mortal(g.env, m, activities.InstallCertificatesName, looked(g, func(ctx context.Context, in activities.InstallInput) (*activities.CommandSent, error) {
		return g.model.expiry(a.InstallCertificates(ctx, in))
	}))
	mortal(g.env, m, activities.ReadInstallationName, looked(g, func(ctx context.Context, in activities.ReadInstallationInput) (any, error) {
		return nil, a.ReadInstallation(ctx, in)
	}))
	mortal(g.env, m, activities.ActivateMobileIDName, looked(g, a.ActivateMobileID))
	mortal(g.env, m, activities.AbandonMobileIDName, looked(g, a.AbandonMobileID))
	mortal(g.env, m, activities.AwaitNoneLiveName, looked(g, g.model.awaitNoneLive))
}

// looked has the status asked for at every step.
func looked[I, O any](g *propertyGet, perform func(context.Context, I) (O, error)) func(context.Context, I) (O, error) {
	return func(ctx context.Context, in I) (O, error) {
		g.env.RegisterDelayedCallback(g.requireTrueStatus, 0)
		return perform(ctx, in)
	}
}

// mend gives the user the role again, and presses retry wherever it can be, until
// everything has ended.
func (g *propertyGet) mend(after time.Duration, times int) {
	g.env.RegisterDelayedCallback(func() {
		require.Less(g.rt, times, 200, "faults have ceased, an operator has pressed retry two hundred times, and the Get or a lock of it is open")
		g.entitle(true)
		if !g.env.IsWorkflowCompleted() {
			g.env.SignalWorkflow(workflows.Retry, nil)
		}
		for _, id := range g.mobileIDs() {
			g.signalLock(id.ID, workflows.Retry)
		}
		g.mend(patience, times+1)
	}, after)
}

// signalLock sends a lock a message, if it runs. The test environment cannot signal one
// that has not begun.
func (g *propertyGet) signalLock(mobileID, name string) {
	if id := workflows.LockWorkflowID(mobileID); g.locks[id] {
		_ = g.env.SignalWorkflowByID(id, name, nil) // one that has ended is told in vain
	}
}

// mobileIDs are all of the user's.
func (g *propertyGet) mobileIDs() []mobileid.MobileID {
	applicant, err := g.store.Applicant(context.Background(), g.userID)
	require.NoError(g.rt, err)
	return applicant.MobileIDs
}

// phoneAnswers takes a callback in, as a worker does.
func (g *propertyGet) phoneAnswers(commandID, kind string, body []byte) {
	delivery, err := g.store.Deliver(context.Background(), commandID, kind, body)
	require.NoError(g.rt, err)
	if delivery.WorkflowID == g.workflowID() && !g.env.IsWorkflowCompleted() {
		g.env.SignalWorkflow(workflows.Answered, workflows.AnsweredMessage{CommandID: commandID})
	}
	g.requireTrueStatus()
}

// happens carries out an event at its time.
func (g *propertyGet) happens(e event) {
	if g.env.IsWorkflowCompleted() {
		return
	}
	if g.joined && !g.hears {
		g.env.RegisterDelayedCallback(func() { g.happens(e) }, time.Millisecond)
		return
	}
	if e.user == "own" {
		e.user = g.userID
	}
	message := map[string]any{"userId": e.user, "by": "test"}
	own := e.user != "bert"
	switch e.what {
	case nextSignal:
		g.model.allow(own, false)
		g.env.SignalWorkflow(workflows.Next, message)
	case lockSignal:
		g.model.allow(false, own)
		g.env.SignalWorkflow(workflows.LockFirst, message)
	case cancelSignal:
		g.env.SignalWorkflow(workflows.Cancel, message)
	case retrySignal:
		g.env.SignalWorkflow(workflows.Retry, message)
	case nextUpdate:
		g.update(workflows.Next, own, message)
	case lockUpdate:
		g.update(workflows.LockFirst, own, message)
	case cancelUpdate:
		g.update(workflows.Cancel, own, message)
	case retryUpdate:
		g.env.UpdateWorkflow(workflows.Retry, uuid.NewString(), &testsuite.TestUpdateCallback{}, message)
	case cancelRequest:
		g.env.CancelWorkflow()
	case askStatus:
		if e.at > 0 { // before that there is nobody to ask
			g.requireTrueStatus()
		}
	case wrongWord:
		g.env.SignalWorkflow(workflows.Answered, workflows.AnsweredMessage{CommandID: uuid.NewString()})
	case noWord:
		g.env.SignalWorkflow(workflows.Answered, "nothing")
	case loseRole, regainRole:
		g.entitle(e.what == regainRole)
	case anotherGrant:
		_, err := g.store.PutGrant(context.Background(), g.userID, "test", 24*time.Hour)
		require.NoError(g.rt, err)
	case cancelJoined:
		g.signalLock(g.oldID, workflows.Cancel)
	}
}

func (g *propertyGet) update(name string, own bool, message any) {
	g.env.UpdateWorkflow(name, uuid.NewString(), &testsuite.TestUpdateCallback{
		OnReject: func(err error) {
			require.NotNil(g.rt, activities.RefusalOf(err), "%s is rejected with a refusal: %v", name, err)
		},
		OnAccept: func() {
			require.True(g.rt, own, "somebody else's %s is accepted", name)
			g.open++
			g.model.allow(name == workflows.Next, name == workflows.LockFirst)
		},
		OnComplete: func(answer any, err error) {
			g.open--
			if err != nil {
				require.NotNil(g.rt, activities.RefusalOf(err), "%s is answered with a refusal or a status: %v", name, err)
				return
			}
			status, ok := answer.(workflows.GetStatus)
			require.True(g.rt, ok, "%T", answer)
			g.requireTrue(status)
			switch name {
			case workflows.Next:
				// One that comes too late is answered with the other outcome.
				if !status.RequestedAt.IsZero() {
					g.nexts = append(g.nexts, status)
				}
			case workflows.Cancel:
				g.cancelled++
			}
		},
	}, message)
}

// getPhases are the phases in their order.
var getPhases = []workflows.Phase{
	workflows.Validating, workflows.AwaitingConfirmation, workflows.LockingOld, workflows.Provisioning, workflows.AwaitingPhone,
	workflows.Issuing, workflows.Installing, workflows.Activating, workflows.TakingBack, workflows.Closed,
}

// requireTrueStatus asks for the status, and once in the name of somebody else.
func (g *propertyGet) requireTrueStatus() {
	answer, err := g.env.QueryWorkflow(workflows.StatusQuery)
	if err != nil {
		return // the process has no handlers yet
	}
	var status workflows.GetStatus
	require.NoError(g.rt, answer.Get(&status))
	g.requireTrue(status)
	_, err = g.env.QueryWorkflow(workflows.StatusQuery, map[string]string{"userId": "nobody"})
	require.Error(g.rt, err, "somebody else is told of the Get")
}

// requireTrue compares what a person is told with how it is.
func (g *propertyGet) requireTrue(status workflows.GetStatus) {
	if status.Phase != workflows.NeedsOperator {
		at, before := slices.Index(getPhases, status.Phase), slices.Index(getPhases, g.phase)
		require.GreaterOrEqual(g.rt, at, 0, "the phase %q is none of a Get", status.Phase)
		require.GreaterOrEqual(g.rt, at, before, "the phase went back from %q to %q", g.phase, status.Phase)
		g.phase = status.Phase
	}
	all := g.mobileIDs()
	at := slices.IndexFunc(all, func(m mobileid.MobileID) bool { return status.MobileID != "" && m.ID == status.MobileID })
	state := mobileid.State("")
	if at >= 0 {
		state = all[at].State
	}
	g.requireOneActive(all)
	switch status.Phase {
	case workflows.Validating, workflows.AwaitingConfirmation, workflows.LockingOld:
		require.Empty(g.rt, state, "the status says %s, and the mobile ID is made", status.Phase)
	case workflows.AwaitingPhone, workflows.Issuing, workflows.Installing:
		require.Equal(g.rt, mobileid.Registered, state, "the status says %s", status.Phase)
		require.NotZero(g.rt, status.RequestedAt)
	}
	if status.Outcome == workflows.OutcomeActive || !status.ActivatedAt.IsZero() {
		require.Equal(g.rt, mobileid.Active, state, "the status says that it is active")
	}
	if status.Live != "" {
		require.Equal(g.rt, g.oldID, status.Live, "what stands in the way")
	}
}

func (g *propertyGet) requireOneActive(all []mobileid.MobileID) {
	active := 0
	for _, m := range all {
		if m.State == mobileid.Active {
			active++
		}
	}
	require.LessOrEqual(g.rt, active, 1, "the user has two active mobile IDs")
}

// requireRules checks what must hold however the process ended.
func (g *propertyGet) requireRules() {
	require.Empty(g.rt, g.model.violations())
	require.NoError(g.rt, g.history.found(g.model.secrets))
	require.Zero(g.rt, g.open, "updates were accepted and never answered")
	all := g.mobileIDs()
	g.requireOneActive(all)
	for _, m := range all {
		report, err := g.store.VerifyAudit(context.Background(), m.ID, nil, nil)
		require.NoError(g.rt, err)
		require.Empty(g.rt, report.Faults, "the audit chain of %s is whole", m.ID)
		if m.ID == g.oldID {
			g.requireOld(m)
		} else {
			require.NotEqual(g.rt, mobileid.Registered, m.State, "%s is still being made after the end", m.ID)
		}
	}
	if g.err == nil && g.result.Outcome == workflows.OutcomeActive {
		g.requireActive(all)
		return
	}
	require.Empty(g.rt, g.model.good(), "the Get ended without a mobile ID, and these certificates are good")
	for _, m := range all {
		require.True(g.rt, m.ID == g.oldID || m.State == mobileid.Locked && len(m.Open()) == 0,
			"the Get ended without a mobile ID, and %s is %s with %d open certificates", m.ID, m.State, len(m.Open()))
	}
	g.requireTruthfulEnd(all)
}

// requireOld checks that the old mobile ID is as it was, unless its lock was asked for.
func (g *propertyGet) requireOld(m mobileid.MobileID) {
	if g.model.oldMayBeLocked() {
		return
	}
	require.Equal(g.rt, g.before.State, m.State, "the old mobile ID was touched, and nobody had asked for its lock")
	require.Equal(g.rt, g.before.Certificates, m.Certificates)
	for _, c := range m.Certificates {
		require.Equal(g.rt, mobileid.StatusGood, g.model.status(c.CertificateID), "a certificate of the old mobile ID was revoked")
	}
}

func (g *propertyGet) requireActive(all []mobileid.MobileID) {
	at := slices.IndexFunc(all, func(m mobileid.MobileID) bool { return m.ID == g.result.MobileID })
	require.GreaterOrEqual(g.rt, at, 0, "the result names a mobile ID that is none of the user's")
	m := all[at]
	require.NotEqual(g.rt, g.oldID, m.ID)
	require.Equal(g.rt, mobileid.Active, m.State, "the result says that it is active")
	require.Zero(g.rt, g.cancelled, "a cancel was answered as one that counts, and the Get has gone on")
	require.Nil(g.rt, g.result.Failure)
	require.False(g.rt, g.result.RequestedAt.IsZero())
	require.False(g.rt, g.result.ActivatedAt.Before(g.result.RequestedAt.Truncate(time.Microsecond)), "active before it was asked for")
	require.Len(g.rt, m.Certificates, 2)
	var known, told []mobileid.CertificateID
	for _, c := range m.Certificates {
		require.Equal(g.rt, mobileid.CertificateValid, c.State)
		require.Equal(g.rt, mobileid.StatusGood, g.model.status(c.CertificateID))
		known = append(known, c.CertificateID)
	}
	for _, c := range g.result.Certificates {
		require.Equal(g.rt, mobileid.CertificateValid, c.StateInIM)
		told = append(told, c.CertificateID)
	}
	require.ElementsMatch(g.rt, known, told, "the result names the certificates that the store has")
	require.ElementsMatch(g.rt, known, g.model.good(), "what the CA has issued is what the store has")
	trail, err := g.store.AuditTrail(context.Background(), m.ID)
	require.NoError(g.rt, err)
	require.Equal(g.rt, trail[len(trail)-1].AuditMark, g.result.Audit, "the result carries the last record")
	for _, other := range all {
		require.True(g.rt, other.ID == m.ID || len(other.Open()) == 0 && other.State == mobileid.Locked, "%s is %s beside the new one", other.ID, other.State)
	}
	g.requireNexts(g.result)
}

// requireNexts checks that every Next that was accepted has led to this end.
func (g *propertyGet) requireNexts(end workflows.GetResult) {
	for _, status := range g.nexts {
		require.Equal(g.rt, status.RequestedAt, end.RequestedAt, "a Next was accepted, and the end tells of another")
		require.Equal(g.rt, status.DecidedBy, end.DecidedBy, "who decided is told alike")
	}
}

// requireTruthfulEnd checks what a Get says that ended without a mobile ID.
func (g *propertyGet) requireTruthfulEnd(all []mobileid.MobileID) {
	made := slices.ContainsFunc(all, func(m mobileid.MobileID) bool { return m.ID != g.oldID })
	var canceled *temporal.CanceledError
	var application *temporal.ApplicationError
	switch {
	case g.err == nil && g.result.Outcome == workflows.OutcomeExpired:
		require.False(g.rt, made, "it was never answered, and a mobile ID was made")
		require.Empty(g.rt, g.nexts, "it is expired, and had a Next")
		require.Zero(g.rt, g.result.RequestedAt)
	case g.err == nil:
		require.Equal(g.rt, workflows.OutcomeCancelled, g.result.Outcome)
		require.False(g.rt, made && g.result.Failure == nil, "a mobile ID was made, and the result does not say that it failed")
		g.requireNexts(g.result)
	case errors.As(g.err, &canceled):
		if canceled.HasDetails() {
			var result workflows.GetResult
			require.NoError(g.rt, canceled.Details(&result))
			require.Equal(g.rt, workflows.OutcomeCancelled, result.Outcome)
			g.requireNexts(result)
			return
		}
		require.False(g.rt, made, "cancelled before Next, and a mobile ID was made")
		require.Empty(g.rt, g.nexts)
	default:
		var panicked *temporal.PanicError
		if errors.As(g.err, &panicked) {
			require.Fail(g.rt, "the process panics", "%v\n%s", panicked, panicked.StackTrace())
		}
		require.ErrorAs(g.rt, g.err, &application)
		var result workflows.GetResult
		if application.HasDetails() && application.Details(&result) == nil && result.Outcome == workflows.OutcomeFailed {
			require.NotNil(g.rt, result.Failure, "a Get that failed says why")
			require.Equal(g.rt, string(result.Failure.Type), application.Type())
			require.Zero(g.rt, g.cancelled, "a cancel was answered as one that counts, and the Get says that it has failed")
			g.requireNexts(result)
			return
		}
		require.NotNil(g.rt, activities.RefusalOf(g.err), "it ends with a refusal or a failure: %v", g.err)
		require.False(g.rt, made, "it is refused, and a mobile ID was made")
	}
}
