package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// Reconciliation is the process that finds what other processes have left between two
// states, because somebody terminated them or a database was restored, and starts what
// brings it to its end. It runs by a schedule of the same name, and on demand.
const Reconciliation = "MobileIDReconciliation"

// reconciler is how reconciliation stands in the audit as the one who decides.
const reconciler = Reconciliation

const (
	// reconcilePage is how many are looked up by one step.
	reconcilePage = 100
	// reconcileLimit is for how many one reconciliation starts something, the next one goes
	// on, and how many it lists beside those.
	reconcileLimit = 500
	// defaultMinAge is the age at which what a Get registered counts as left behind: more
	// than all the time that its waits may take by default.
	defaultMinAge = 24 * time.Hour
)

// ReconcileRequest is the input of a reconciliation.
type ReconcileRequest struct {
	DryRun bool `json:"dryRun,omitempty"` // only look
	// MinAge is how long ago a Get must have registered a mobile ID to count as left
	// behind; zero is 24 h. One that runs is never touched.
	MinAge time.Duration `json:"minAge,omitempty"`
}

// ReconcileResult is the report of a reconciliation.
type ReconcileResult struct {
	StartedAt time.Time `json:"startedAt"`
	DryRun    bool      `json:"dryRun,omitempty"`
	Findings  []Finding `json:"findings"`
	// More reports that there is more than one reconciliation takes on.
	More bool `json:"more,omitempty"`
	// Unlisted is how many were found beside the findings, because a list has an end.
	// Nothing was done about them: a process is at them, or only an operator can help.
	Unlisted int `json:"unlisted,omitempty"`
	// EndedUnknown reports that locks that have ended after Next were not looked for,
	// because the search attributes are not registered.
	EndedUnknown bool `json:"endedUnknown,omitempty"`
	// Compared is what was looked up at each CA of what Identity Manager calls revoked.
	Compared []activities.Comparison `json:"compared,omitempty"`
}

// Finding is one mobile ID that is not at its end, and what was done.
type Finding struct {
	mobileid.Unfinished
	Action Action `json:"action"`
	Why    string `json:"why,omitempty"` // of ActionOperator
}

// Action is what a reconciliation did.
type Action string

// The actions of a reconciliation.
const (
	ActionRunning  Action = "running"       // nothing: a process is at it
	ActionStarted  Action = "started"       // started the process that finishes it
	ActionNone     Action = "none"          // nothing: a dry run
	ActionOperator Action = "needsOperator" // nothing: only an operator can say what shall become of it
)

// Reconcile is the process Reconciliation.
func Reconcile(ctx workflow.Context, request ReconcileRequest) (*ReconcileResult, error) {
	r := &reconciliation{ctx: ctx, request: request, result: ReconcileResult{
		StartedAt: workflow.Now(ctx).UTC(), DryRun: request.DryRun, Findings: []Finding{},
	}}
	if err := r.lookInIM(); err != nil {
		return nil, err
	}
	if err := r.lookAtEnded(); err != nil {
		return nil, err
	}
	// It comes last, so that what runs while it is deployed goes on with it.
	if err := r.compareWithCAs(); err != nil {
		return nil, err
	}
	return &r.result, nil
}

type reconciliation struct {
	ctx     workflow.Context
	request ReconcileRequest
	result  ReconcileResult
	started int // processes
}

// lookInIM finds what Identity Manager knows of.
func (r *reconciliation) lookInIM() error {
	minAge := r.request.MinAge
	if minAge <= 0 {
		minAge = defaultMinAge
	}
	in := activities.FindUnfinishedInput{
		RegisteredBefore: r.result.StartedAt.Add(-minAge), LockPrefix: LockWorkflowID(""), Limit: reconcilePage,
	}
	for page := 1; ; page++ {
		var found activities.FindUnfinishedResult
		if err := r.find(fmt.Sprintf("find-unfinished/%d", page), "Look in Identity Manager", activities.FindUnfinishedName, in, &found); err != nil {
			return err
		}
		if full := r.takeOn(found.Found); full || found.Next == "" {
			return nil
		}
		in.After = found.Next
	}
}

// lookAtEnded finds locks with Next that have ended, and whose mobile ID is not
// locked: somebody ended the process before it was, or the store was restored to a
// time before. Temporal alone knows of both. It needs the search attributes.
func (r *reconciliation) lookAtEnded() error {
	if r.stopped() {
		return nil
	}
	in := activities.FindEndedInput{Query: endedQuery(), LockPrefix: LockWorkflowID(""), Limit: reconcilePage}
	var found activities.FindEndedResult
	if err := r.find("find-ended", "Look for locks that have ended after Next and left nothing locked", activities.FindEndedName, in, &found); err != nil {
		return err
	}
	r.result.EndedUnknown = found.Unsearchable
	if full := r.takeOn(found.Found); !full {
		r.result.More = r.result.More || found.More
	}
	return nil
}

// compareWithCAs finds what is revoked in Identity Manager and not at its CA.
func (r *reconciliation) compareWithCAs() error {
	in := activities.CompareRevokedInput{LockPrefix: LockWorkflowID(""), Limit: reconcilePage}
	for number := 1; !r.stopped(); number++ {
		var found activities.CompareRevokedResult
		if err := r.find(fmt.Sprintf("compare/%d", number), "Look up what is revoked at its CA", activities.CompareRevokedName, in, &found); err != nil {
			return err
		}
		if found.CA != "" {
			r.result.Compared = append(r.result.Compared, found.Comparison)
		}
		if full := r.takeOn(found.Found); full || found.Next == "" {
			return nil
		}
		in.CA = found.Next
	}
	return nil
}

// endedQuery finds locks with Next that have ended, in whatever way.
func endedQuery() string {
	return fmt.Sprintf("WorkflowType IN ('%s', '%s') AND ExecutionStatus IN ('Completed', 'Terminated', 'Failed', 'TimedOut', 'Canceled') AND %s > '1970-01-01T00:00:00Z'",
		Lock, LockForOperator, AttributeRequestedAt.GetName())
}

func (r *reconciliation) find(id, summary, name string, in, out any) error {
	return workflow.ExecuteActivity(withReconciliation(r.ctx, id, summary), name, in).Get(r.ctx, out)
}

// full reports that nothing more can be started.
func (r *reconciliation) full() bool {
	return len(r.result.Findings) >= reconcileLimit && r.limited()
}

// stopped reports that what is left is for the next reconciliation.
func (r *reconciliation) stopped() bool { return r.result.More && r.limited() }

// limited reports that what is started has come to the limit. What runs already, or waits
// for an operator, is found each time: were it to count, what comes after so many would
// never be reached. It counted once, and histories of then are as long as that made them.
func (r *reconciliation) limited() bool {
	return r.started >= reconcileLimit ||
		workflow.GetVersion(r.ctx, "only what is started counts", workflow.DefaultVersion, 1) == workflow.DefaultVersion
}

// takeOn deals with what was found, and reports that no more can be taken on.
func (r *reconciliation) takeOn(found []activities.FoundUnfinished) (full bool) {
	for _, f := range found {
		if r.full() {
			r.result.More = true
			return true
		}
		finding := Finding{Unfinished: f.Unfinished, Action: ActionRunning}
		if !f.Running {
			finding.Action, finding.Why = r.act(f.Unfinished)
		}
		if finding.Action == ActionStarted {
			r.started++
		} else if len(r.result.Findings)-r.started >= reconcileLimit {
			r.result.Unlisted++
			continue
		}
		r.result.Findings = append(r.result.Findings, finding)
	}
	return false
}

// act starts what finishes one.
func (r *reconciliation) act(u mobileid.Unfinished) (Action, string) {
	if u.State == mobileid.Inactive && u.Problem != mobileid.ProblemForgotten {
		return ActionOperator, "it is inactive by now, and only an active one can be locked"
	}
	if u.Problem == mobileid.ProblemForgotten && u.State != mobileid.Locked {
		return ActionOperator, "a certificate of it is revoked in Identity Manager and not at its CA, and it is not locked"
	}
	if r.request.DryRun {
		return ActionNone, ""
	}
	if u.Problem == mobileid.ProblemNeverActive {
		if err := r.abandon(u.MobileID); err != nil {
			return ActionOperator, words(err)
		}
	}
	started, err := startConfirmedLock(r.ctx, LockRequest{
		MobileID: u.MobileID, UserID: u.UserID, By: reconciler, Resume: u.Problem != mobileid.ProblemNotLocked,
	})
	switch {
	case err != nil:
		return ActionOperator, words(err)
	case !started:
		return ActionRunning, ""
	}
	return ActionStarted, ""
}

// abandon makes what a Get registered locked, with its secrets forgotten.
func (r *reconciliation) abandon(mobileID string) error {
	info := workflow.GetInfo(r.ctx)
	order := mobileid.AbandonOrder{
		MobileID: mobileID,
		Process:  mobileid.Process{Name: Reconciliation, WorkflowID: info.WorkflowExecution.ID, RunID: info.FirstRunID},
		Decision: mobileid.Decision{By: reconciler},
		Failure:  &mobileid.Failure{Type: mobileid.FailureConflict, Message: "its process was ended"},
	}
	ctx := withReconciliation(r.ctx, "abandon/"+mobileID, "Lock "+mobileID+", which does not come into being")
	return workflow.ExecuteActivity(ctx, activities.AbandonMobileIDName, order).Get(r.ctx, nil)
}

// startConfirmedLock starts a lock on behalf of a process, which goes on by itself. It
// reports false if one runs already.
func startConfirmedLock(ctx workflow.Context, request LockRequest) (started bool, err error) {
	request.Confirmed = true
	ctx = workflow.WithChildOptions(ctx, abandonedChild(LockWorkflowID(request.MobileID), LockSummary(request.MobileID)))
	err = workflow.ExecuteChildWorkflow(ctx, LockForOperator, request).GetChildWorkflowExecution().Get(ctx, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return false, nil
	}
	return err == nil, err
}
