package workflows_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
	"mobileid/proptest"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// Whatever is sent in whatever order, and whatever breaks meanwhile: the rules of the
// contract hold at every moment, and once nothing breaks any more a lock whose Next was
// accepted has its three end states.
//
// The process, its activities and the store are real; the engine is the SDK's test
// environment, in which hours take milliseconds, and the CAs are models that know what
// was done to each certificate. A seed that failed is printed; run it again with
// -rapid.seed, or more cases with RAPID_CHECKS.
func TestLockKeepsItsRules(t *testing.T) {
	proptest.Checks(t, "300")
	w := newPropertyWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		l := w.prepare(rt, drawScenario(rt))
		l.run()
		l.requireRules()
	})
}

// scenario is one case: what the world is like, what is sent when, and what breaks.
type scenario struct {
	state        mobileid.State
	entitled     bool
	operator     bool
	foreign      bool // the request names somebody else
	confirmed    bool
	resume       bool
	reason       mobileid.Reason
	certificates []certificatePlan
	events       []event
	faults       map[string][]string // by part, one per call; "" is none
	public       bool                // the CAs have an OCSP responder, too
}

// certificatePlan is what a certificate is like before the lock.
type certificatePlan struct {
	ca       int
	state    mobileid.CertificateState
	lifetime time.Duration // from the start; negative: expired by then
	atCA     mobileid.Status
}

// event is what happens at a moment after the start.
type event struct {
	at     time.Duration
	what   string
	user   string // in whose name a message is sent
	reason mobileid.Reason
	cert   int
}

func (e event) String() string { return fmt.Sprintf("%s at %s by %q", e.what, e.at, e.user) }

// What can happen while a lock is open.
const (
	nextSignal    = "next by signal"
	nextUpdate    = "next by update"
	cancelSignal  = "cancel by signal"
	cancelUpdate  = "cancel by update"
	retrySignal   = "retry by signal"
	retryUpdate   = "retry by update"
	cancelRequest = "cancellation requested"
	askStatus     = "status"
	deactivate    = "deactivated"
	reactivate    = "reactivated"
	hideFromOwner = "given to another owner"
	revokeAtCA    = "revoked at the CA by somebody else"
	holdAtCA      = "put on hold at the CA by somebody else"
	suggestRest   = "the engine suggests to continue as new"
)

// moments are those at which something different is under way: inside the first task,
// while a step backs off, at the deadline, after it.
var moments = []time.Duration{
	0, time.Millisecond, 900 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 11 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, time.Hour, deadline - time.Millisecond, deadline, deadline + time.Minute, 5 * time.Hour,
}

const (
	deadline = 2 * time.Hour
	// faultless is when somebody begins to mend what is broken.
	faultless = 6 * time.Hour
	patience  = 20 * time.Minute // between two retries of the operator
	// withinTask is how long the validation may take inside the workflow task.
	withinTask = 5 * time.Second
)

// faultsOf are what can happen to a call of each part, beside nothing.
var faultsOf = map[string][]string{
	"MobileID":          {"before"},
	"Lock":              {"before", "after"},
	"RecordRevocations": {"before", "after"},
	"Record":            {"before", "after"},
	"Revoke":            {"down", "cut before", "cut after", "lie", "denied", "denied but done", "pending", "left on hold", "not found"},
	"Status":            {"down", "lags", "denied", "unknown"},
	"OCSP":              {"down"},
	// The worker's own: it dies before it does anything, or before it can tell, or is
	// given up.
	"worker": {"before", "after", "panic", "silence"},
}

func drawScenario(t *rapid.T) scenario {
	s := scenario{
		state:     rapid.SampledFrom([]mobileid.State{mobileid.Active, mobileid.Active, mobileid.Active, mobileid.Active, mobileid.Locked, mobileid.Inactive, mobileid.Registered}).Draw(t, "state"),
		entitled:  rapid.IntRange(0, 9).Draw(t, "not entitled") != 9,
		operator:  rapid.IntRange(0, 3).Draw(t, "operator") == 3,
		foreign:   rapid.IntRange(0, 19).Draw(t, "foreign") == 19,
		confirmed: rapid.IntRange(0, 3).Draw(t, "confirmed") == 3,
		reason:    rapid.SampledFrom([]mobileid.Reason{"", mobileid.Superseded}).Draw(t, "reason"),
		public:    rapid.Bool().Draw(t, "public"),
		faults:    map[string][]string{},
	}
	s.resume = s.state == mobileid.Locked && rapid.Bool().Draw(t, "resume")
	s.certificates = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) certificatePlan {
		return certificatePlan{
			ca: rapid.IntRange(0, 1).Draw(t, "ca"),
			state: rapid.SampledFrom([]mobileid.CertificateState{mobileid.CertificateValid, mobileid.CertificateValid, mobileid.CertificateIssued,
				mobileid.CertificateOnHold, mobileid.CertificateRevoked, mobileid.CertificateExpired}).Draw(t, "state"),
			lifetime: rapid.SampledFrom([]time.Duration{365 * 24 * time.Hour, 365 * 24 * time.Hour, time.Hour, -24 * time.Hour}).Draw(t, "lifetime"),
			atCA:     rapid.SampledFrom([]mobileid.Status{mobileid.StatusGood, mobileid.StatusGood, mobileid.StatusOnHold, mobileid.StatusRevoked}).Draw(t, "at the CA"),
		}
	}), 0, 4).Draw(t, "certificates")
	s.events = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			at: rapid.SampledFrom(moments).Draw(t, "at"),
			what: rapid.SampledFrom([]string{nextSignal, nextUpdate, nextUpdate, cancelSignal, cancelUpdate, retrySignal, retryUpdate, cancelRequest,
				askStatus, deactivate, reactivate, hideFromOwner, revokeAtCA, holdAtCA, suggestRest}).Draw(t, "what"),
			user:   rapid.SampledFrom([]string{"", "anna", "anna", "bert"}).Draw(t, "user"),
			reason: rapid.SampledFrom([]mobileid.Reason{"", "", "", mobileid.KeyCompromise, mobileid.CertificateHold}).Draw(t, "reason"),
			cert:   rapid.IntRange(0, 3).Draw(t, "certificate"),
		}
	}), 0, 10).Draw(t, "events")
	slices.SortStableFunc(s.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for _, part := range slices.Sorted(maps.Keys(faultsOf)) {
		// Half of the calls go well, and after six so do all.
		kinds := append(slices.Repeat([]string{""}, len(faultsOf[part])), faultsOf[part]...)
		s.faults[part] = rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 6).Draw(t, "faults of "+part)
	}
	return s
}

// propertyWorld is what all cases share.
type propertyWorld struct {
	t         *testing.T
	store     *identitymanager.Store
	clock     *propertyClock
	issuers   []modelIssuer
	bystander string
}

func newPropertyWorld(t *testing.T) *propertyWorld {
	w := &propertyWorld{t: t, clock: &propertyClock{}, issuers: []modelIssuer{newModelIssuer(t, "CA one"), newModelIssuer(t, "CA two")}}
	w.clock.follow(time.Now)
	var err error
	w.store, err = identitymanager.Open(t.Context(), identitymanager.Options{
		Driver: identitymanager.SQLite, DSN: filepath.Join(t.TempDir(), "im.db"), AuditKey: auditKey, Clock: w.clock.Now,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	require.NoError(t, w.store.Migrate(t.Context()))
	w.user("bert", true)
	w.bystander = "mid-" + uuid.NewString()
	require.NoError(t, w.store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: w.bystander, Owner: mobileid.User{ID: "bert"}, State: mobileid.Active,
		Certificates: []mobileid.Certificate{w.issuers[0].certificate(mobileid.CertificateValid, time.Now().AddDate(1, 0, 0))},
	}))
	return w
}

func (w *propertyWorld) user(id string, active bool) {
	user := mobileid.User{ID: id, Name: id, Active: active, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(w.t, w.store.PutUser(w.t.Context(), user, id+"@example.com"))
}

// propertyLock is one case under way.
type propertyLock struct {
	*propertyWorld
	rt *rapid.T
	scenario
	id    string
	model *model
	begun time.Time // on the clock of the engine
	env   *testsuite.TestWorkflowEnvironment
	rest  bool // the engine has suggested to continue as new
	runs  int

	decisions []decisionSent
	accepted  map[string]int // completed updates without an error, by what
	nexts     []workflows.LockStatus
	asked     time.Duration // when the first cancellation was requested; negative: never

	result workflows.LockResult
	err    error
}

// decisionSent is a next or cancel that counts, if it is the first.
type decisionSent struct {
	at   time.Duration
	next bool
}

func (w *propertyWorld) prepare(rt *rapid.T, s scenario) *propertyLock {
	l := &propertyLock{propertyWorld: w, rt: rt, scenario: s, id: "mid-" + uuid.NewString(), begun: time.Now(), accepted: map[string]int{}, asked: -1}
	w.clock.follow(func() time.Time { return l.begun })
	l.model = newModel(s.faults, w.store, w.clock.Now)
	w.user("anna", true)
	m := mobileid.MobileID{ID: l.id, Owner: mobileid.User{ID: "anna"}, State: mobileid.Active}
	if s.state == mobileid.Registered {
		m.State = mobileid.Registered
	}
	for _, plan := range s.certificates {
		c := w.issuers[plan.ca].certificate(plan.state, l.begun.Add(plan.lifetime))
		status := plan.atCA
		if plan.state == mobileid.CertificateRevoked {
			status = mobileid.StatusRevoked
		}
		if plan.state == mobileid.CertificateExpired {
			c.NotAfter = l.begun.Add(-time.Hour)
		}
		m.Certificates = append(m.Certificates, c)
		l.model.know(c, status)
	}
	require.NoError(rt, w.store.CreateMobileID(w.t.Context(), m))
	switch s.state {
	case mobileid.Locked:
		_, err := w.store.Lock(w.t.Context(), mobileid.LockOrder{
			MobileID: l.id, Owner: "anna", RequestedAt: l.begun.Add(-time.Hour), Reason: mobileid.CessationOfOperation,
			Process: mobileid.Process{Name: workflows.Lock, WorkflowID: workflows.LockWorkflowID(l.id), RunID: "cut short"},
		})
		require.NoError(rt, err)
		l.model.standing = mobileid.CessationOfOperation
	case mobileid.Inactive:
		require.NoError(rt, w.store.Deactivate(w.t.Context(), l.id))
	}
	w.user("anna", s.entitled)
	l.model.mayLock = s.state == mobileid.Locked
	return l
}

// authorities are the two CAs as a worker has them.
func (l *propertyLock) authorities() *ca.Authorities {
	var list []*ca.Authority
	for _, issuer := range l.issuers {
		authority := &ca.Authority{
			Name: issuer.name, Issuer: issuer.cert, Driver: modelDriver{l.model}, RequestTimeout: time.Minute, Concurrency: 2,
			ApprovalWait: time.Hour, Now: l.clock.Now,
		}
		if l.public {
			authority.OCSP = modelOCSP{l.model}
			authority.ProofWait = time.Hour
		}
		list = append(list, authority)
	}
	authorities, err := ca.NewAuthorities(list)
	require.NoError(l.rt, err)
	return authorities
}

// run plays the case to the end of the process, over as many runs as it takes.
func (l *propertyLock) run() {
	owner := "anna"
	if l.foreign {
		owner = "bert"
	}
	request := map[string]any{"mobileId": l.id, "userId": owner, "confirmed": l.confirmed, "resume": l.resume, "reason": l.reason}
	name := workflows.Lock
	if l.operator {
		name, request["by"] = workflows.LockForOperator, "olof"
	}
	if l.confirmed {
		l.model.allowLock()
	}
	var input any = request
	for {
		l.runOnce(name, input)
		var goesOn *workflow.ContinueAsNewError
		if !errors.As(l.err, &goesOn) {
			return
		}
		require.Len(l.rt, goesOn.Input.GetPayloads(), 1)
		input = converter.NewRawValue(goesOn.Input.GetPayloads()[0])
		l.rest = false
		require.Less(l.rt, l.runs, 20, "it goes on for ever")
	}
}

func (l *propertyLock) runOnce(name string, input any) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(workflowtest.Quiet())
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestWorkflowEnvironment()
	l.env = env
	from := l.begun
	if l.runs > 0 {
		from = l.clock.Now()
	}
	env.SetStartTime(from)
	l.clock.follow(env.Now)
	env.SetTestTimeout(time.Minute)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.LockWorkflowID(l.id), TaskQueue: workflows.TaskQueue})
	if l.runs > 0 {
		env.SetContinuedExecutionRunID("the run before")
	}
	l.runs++
	registerLocks(env, "first", func(string) {})
	l.registerActivities(env)
	elapsed := from.Sub(l.begun)
	for _, e := range l.events {
		if l.runs == 1 || e.at > elapsed {
			env.RegisterDelayedCallback(func() { l.happens(e) }, e.at-elapsed)
		}
	}
	l.mend(env, max(faultless-elapsed, patience), 0)
	env.ExecuteWorkflow(name, input)
	require.True(l.rt, env.IsWorkflowCompleted(), "the process ends")
	l.model.settle()
	l.result = workflows.LockResult{}
	if l.err = env.GetWorkflowError(); l.err == nil {
		require.NoError(l.rt, env.GetWorkflowResult(&l.result))
	}
}

// registerActivities registers the real ones, on a worker that may die.
func (l *propertyLock) registerActivities(env *testsuite.TestWorkflowEnvironment) {
	a := &activities.Activities{IM: l.model, CAs: l.authorities(), Settings: propertySettings}
	registerLockActivities(env, l.model, a)
	mortal(env, l.model, activities.RecordExitName, a.RecordExit)
}

var propertySettings = activities.Settings{
	Deadline: deadline, Reason: mobileid.Unspecified, Attributes: activities.AttributeSettings{Enabled: true, User: activities.UserPlain},
}

// registerLocks registers the processes of a lock, in which the engine calls the first
// run as it is told, or by its own id. begun is told the workflow id of each.
func registerLocks(env *testsuite.TestWorkflowEnvironment, firstRun string, begun func(workflowID string)) {
	for name, process := range map[string]func(workflow.Context, converter.RawValue) (*workflows.LockResult, error){
		workflows.Lock: workflows.LockMobileID, workflows.LockForOperator: workflows.LockMobileIDForOperator,
	} {
		register(env, name, firstRun, func(ctx workflow.Context, in converter.RawValue) (*workflows.LockResult, error) {
			begun(workflow.GetInfo(ctx).WorkflowExecution.ID)
			return process(ctx, in)
		})
	}
}

// register registers a process. The test environment sets time-outs where the caller
// sets none, and the process refuses them.
func register[R any](env *testsuite.TestWorkflowEnvironment, name, firstRun string, process func(workflow.Context, converter.RawValue) (*R, error)) {
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context, in converter.RawValue) (*R, error) {
		info := workflow.GetInfo(ctx)
		info.WorkflowExecutionTimeout, info.WorkflowRunTimeout = 0, 0
		info.FirstRunID = cmp.Or(firstRun, info.WorkflowExecution.RunID)
		return process(ctx, in)
	}, workflow.RegisterOptions{Name: name})
}

// registerLockActivities registers what a lock alone needs.
func registerLockActivities(env *testsuite.TestWorkflowEnvironment, m *model, a *activities.Activities) {
	mortal(env, m, activities.ValidateLockName, a.ValidateLock)
	mortal(env, m, activities.LockInIMName, a.LockInIdentityManager)
	mortal(env, m, activities.RevokeAtCAName, a.RevokeAtCA)
	mortal(env, m, activities.RevokeInIMName, a.RevokeInIdentityManager)
	mortal(env, m, activities.AwaitPublicationName, a.AwaitPublication)
}

// mend gives the mobile ID back to its owner, and presses retry as long as the lock is
// open.
func (l *propertyLock) mend(env *testsuite.TestWorkflowEnvironment, after time.Duration, times int) {
	env.RegisterDelayedCallback(func() {
		require.Less(l.rt, times, 200, "faults have ceased, an operator has pressed retry two hundred times, and the lock is open")
		_ = l.store.ChangeOwner(context.Background(), l.id, "anna")
		env.SignalWorkflow(workflows.Retry, nil)
		l.mend(env, patience, times+1)
	}, after)
}

// happens carries out an event at its time.
func (l *propertyLock) happens(e event) {
	ctx := context.Background()
	message := map[string]any{"userId": e.user, "by": "test", "reason": e.reason}
	switch e.what {
	case nextSignal, cancelSignal:
		l.signal(e, message)
	case nextUpdate, cancelUpdate:
		l.update(e, message)
	case retrySignal:
		l.env.SignalWorkflow(workflows.Retry, message)
	case retryUpdate:
		l.env.UpdateWorkflow(workflows.Retry, uuid.NewString(), &testsuite.TestUpdateCallback{}, message)
	case cancelRequest:
		if l.asked < 0 {
			l.asked = e.at
		}
		l.env.CancelWorkflow()
	case askStatus:
		if e.at > 0 { // before that there is nobody to ask
			l.requireTrueStatus()
		}
	case deactivate:
		_ = l.store.Deactivate(ctx, l.id) // refused where it cannot be
	case reactivate:
		_ = l.store.Reactivate(ctx, l.id)
	case hideFromOwner:
		_ = l.store.ChangeOwner(ctx, l.id, "bert")
	case revokeAtCA, holdAtCA:
		l.model.elsewhere(e.cert, e.what == revokeAtCA)
	case suggestRest:
		l.rest = true
		l.env.SetContinueAsNewSuggested(true)
	}
}

func (l *propertyLock) requestOwner() string {
	if l.foreign {
		return "bert"
	}
	return "anna"
}

// counts reports whether a message in a user's name is one of this process.
func (l *propertyLock) counts(user string) bool { return user == "" || user == l.requestOwner() }

func (l *propertyLock) signal(e event, message any) {
	name := workflows.Cancel
	if e.what == nextSignal {
		name = workflows.Next
	}
	if l.counts(e.user) {
		l.decisions = append(l.decisions, decisionSent{e.at, name == workflows.Next})
		if name == workflows.Next {
			l.model.allowLock()
		}
	}
	l.env.SignalWorkflow(name, message)
}

func (l *propertyLock) update(e event, message any) {
	name := workflows.Cancel
	if e.what == nextUpdate {
		name = workflows.Next
	}
	l.env.UpdateWorkflow(name, uuid.NewString(), &testsuite.TestUpdateCallback{
		OnReject: func(err error) {
			if !l.counts(e.user) && e.reason != mobileid.CertificateHold {
				require.Equal(l.rt, mobileid.TypeMobileIDNotFound, activities.RefusalOf(err).Type, "%s: %v", e, err)
			}
		},
		OnAccept: func() {
			require.True(l.rt, l.counts(e.user), "somebody else's %s is accepted", e)
			require.NotEqual(l.rt, mobileid.CertificateHold, e.reason)
			l.decisions = append(l.decisions, decisionSent{e.at, name == workflows.Next})
			if name == workflows.Next {
				l.model.allowLock()
			}
		},
		OnComplete: func(answer any, err error) {
			if err != nil {
				require.NotNil(l.rt, activities.RefusalOf(err), "%s is answered with a refusal or a status: %v", e, err)
				return
			}
			status, ok := answer.(workflows.LockStatus)
			require.True(l.rt, ok, "%T", answer)
			l.requireTrue(status)
			if name == workflows.Next {
				l.nexts = append(l.nexts, status)
			}
			// Beyond four that wait a next is answered at once, before anything is certain.
			if name == workflows.Cancel || !status.LockedAt.IsZero() {
				l.accepted[name]++
			}
		},
	}, message)
}

// requireTrueStatus asks for the status, and once in the name of somebody else.
func (l *propertyLock) requireTrueStatus() {
	answer, err := l.env.QueryWorkflow(workflows.StatusQuery, map[string]string{"userId": "nobody"})
	require.Error(l.rt, err, "%v", answer)
	answer, err = l.env.QueryWorkflow(workflows.StatusQuery)
	if err != nil {
		return // the process has no handlers yet
	}
	var status workflows.LockStatus
	require.NoError(l.rt, answer.Get(&status))
	l.requireTrue(status)
}

// requireTrue compares what a person is told with how it is.
func (l *propertyLock) requireTrue(status workflows.LockStatus) {
	if status.LockedAt.IsZero() {
		require.False(l.rt, status.Revoked)
		require.Zero(l.rt, status.RevokedAt)
		return
	}
	m, err := l.store.MobileID(context.Background(), l.id)
	require.NoError(l.rt, err)
	require.Equal(l.rt, mobileid.Locked, m.State, "the status says locked")
	require.Equal(l.rt, workflows.OutcomeLocked, outcomeOr(status.Outcome))
	if status.Revoked {
		require.Empty(l.rt, m.Open(), "the status says that the three end states stand")
	}
}

// outcomeOr takes an open lock that is locked already for one that ends so.
func outcomeOr(outcome workflows.Outcome) workflows.Outcome {
	if outcome == "" {
		return workflows.OutcomeLocked
	}
	return outcome
}

// requireRules checks what must hold however the process ended.
func (l *propertyLock) requireRules() {
	ctx := context.Background()
	require.Empty(l.rt, l.model.violations())
	m, err := l.store.MobileID(ctx, l.id)
	require.NoError(l.rt, err)
	report, err := l.store.VerifyAudit(ctx, l.id, nil, nil)
	require.NoError(l.rt, err)
	require.Empty(l.rt, report.Faults, "the audit chain is whole")
	trail, err := l.store.AuditTrail(ctx, l.id)
	require.NoError(l.rt, err)
	other, err := l.store.MobileID(ctx, l.bystander)
	require.NoError(l.rt, err)
	require.Equal(l.rt, mobileid.Active, other.State)
	require.Equal(l.rt, mobileid.CertificateValid, other.Certificates[0].State)

	var ours []mobileid.Event
	for _, r := range trail {
		if r.Record.Process.RunID == "first" {
			ours = append(ours, r.Record.Event)
		}
	}
	if len(ours) > 1 && ours[0] == mobileid.EventRefused {
		// A refusal that was recorded, and lost on the way to the process, which was
		// admitted the next time.
		ours = ours[1:]
	}
	if l.err == nil && l.result.Outcome == workflows.OutcomeLocked {
		l.requireEndStates(m)
		require.Contains(l.rt, []mobileid.Event{mobileid.EventLocked, mobileid.EventResumed}, ours[0])
		require.Equal(l.rt, trail[len(trail)-1].AuditMark, l.result.Audit, "the result carries the last record")
		require.Zero(l.rt, l.accepted[workflows.Cancel], "a cancel was answered as one that counts")
		l.requireFirstDecision(true)
		return
	}
	// Refused, cancelled or never answered: nothing has changed.
	require.Zero(l.rt, l.model.requests(), "a CA was asked")
	require.Zero(l.rt, l.model.locks(), "Identity Manager was asked to lock")
	require.Zero(l.rt, l.accepted[workflows.Next], "a next was answered as one that counts")
	require.Equal(l.rt, l.state == mobileid.Locked, m.State == mobileid.Locked)
	var canceled *temporal.CanceledError
	switch {
	case l.err == nil && l.result.Outcome == workflows.OutcomeCancelled, errors.As(l.err, &canceled):
		// A refusal that was recorded, and lost, stays.
		require.Len(l.rt, ours, 1)
		require.Contains(l.rt, []mobileid.Event{mobileid.EventCancelled, mobileid.EventRefused}, ours[0])
		l.requireFirstDecision(false)
	case l.err == nil:
		require.Equal(l.rt, workflows.OutcomeExpired, l.result.Outcome)
		require.Len(l.rt, ours, 1)
		require.Contains(l.rt, []mobileid.Event{mobileid.EventExpired, mobileid.EventRefused}, ours[0])
		for _, d := range l.decisions {
			require.GreaterOrEqual(l.rt, d.at, deadline, "it expired, and had an answer")
		}
	default:
		require.NotNil(l.rt, activities.RefusalOf(l.err), "it ends with a refusal: %v", l.err)
		require.Equal(l.rt, []mobileid.Event{mobileid.EventRefused}, ours)
	}
	if l.err == nil || canceled != nil {
		require.NotEmpty(l.rt, trail)
	}
}

// requireEndStates compares the result and Identity Manager with what the CAs know.
func (l *propertyLock) requireEndStates(m mobileid.MobileID) {
	require.Equal(l.rt, mobileid.Locked, m.State)
	require.False(l.rt, l.result.RequestedAt.IsZero())
	require.False(l.rt, l.result.LockedAt.Before(l.result.RequestedAt.Truncate(time.Microsecond)), "locked before it was asked for")
	require.Equal(l.rt, m.LockedAt, l.result.LockedAt)
	states := map[mobileid.CertificateID]mobileid.CertificateState{}
	for _, c := range m.Certificates {
		states[c.CertificateID] = c.State
		require.True(l.rt, c.State.Final(), "%s is %s", c, c.State)
		if c.State == mobileid.CertificateRevoked {
			require.Equal(l.rt, mobileid.StatusRevoked, l.model.status(c.CertificateID), "%s is revoked here and not at its CA", c)
		} else {
			require.True(l.rt, c.NotAfter.Before(l.clock.Now()), "%s is called expired", c)
		}
	}
	for _, c := range l.result.Certificates {
		require.Equal(l.rt, states[c.CertificateID], c.StateInIM)
		require.Empty(l.rt, c.CannotRevoke)
		switch c.Outcome {
		case mobileid.OutcomeRevoked, mobileid.OutcomeAlreadyRevoked:
			require.NotEmpty(l.rt, c.Proof)
			require.Equal(l.rt, mobileid.StatusRevoked, c.StatusAtCA)
			require.Equal(l.rt, l.model.revokedAt(c.CertificateID), c.RevokedAt)
			if c.Outcome == mobileid.OutcomeAlreadyRevoked {
				require.False(l.rt, l.model.revokedByUs(c.CertificateID), "%s was revoked by this lock, and the result denies it", c)
			}
		default:
			require.Equal(l.rt, mobileid.OutcomeExpiredNotRevoked, c.Outcome)
		}
	}
	for _, status := range l.nexts {
		require.Equal(l.rt, l.result.DecidedBy, status.DecidedBy, "who decided is told alike")
		if !status.LockedAt.IsZero() {
			require.Equal(l.rt, l.result.RequestedAt, status.RequestedAt, "a repeat has the same answer")
			require.Equal(l.rt, l.result.LockedAt, status.LockedAt)
		}
	}
}

// requireFirstDecision checks that the decision that was sent first has won, where it is
// certain which one that is: not within one moment, and not beside a Next that was
// pressed before the start.
func (l *propertyLock) requireFirstDecision(locked bool) {
	if l.confirmed || l.state == mobileid.Locked {
		return
	}
	never := time.Duration(1 << 62)
	first := map[bool]time.Duration{true: never, false: never}
	for _, d := range l.decisions {
		first[d.next] = min(first[d.next], d.at)
	}
	if l.asked >= 0 {
		requested := l.asked
		// While the validation runs inside the workflow task a cancellation request is
		// as good as one in the same task: a Next beside it counts.
		if locked && requested <= withinTask && first[true] <= withinTask {
			requested = withinTask
		}
		first[false] = min(first[false], requested)
	}
	require.Less(l.rt, first[locked], never, "nobody has asked for that")
	require.LessOrEqual(l.rt, first[locked], first[!locked], "the first decision wins: %v", l.events)
}
