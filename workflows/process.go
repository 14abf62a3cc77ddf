package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities"
)

// retryInterval is the shortest time between two retries that take effect.
const retryInterval = 10 * time.Second

// processRun is what the processes do alike: they perform steps until these
// succeed, take in signals, and close once every message is answered.
type processRun struct {
	// root ends with a cancellation request; ctx does not, so that nothing is
	// left half-done: every wait and every step of ours uses ctx.
	root workflow.Context
	ctx  workflow.Context
	log  log.Logger

	changed func()      // what an operator sees has changed
	mayRest func() bool // the run may continue as new
	retries *retries

	signals   []string        // the names that are received
	running   int             // steps under way
	round     int             // counts the retries that took effect, for steps to notice
	stuck     map[string]bool // steps that wait for an operator
	scheduled map[string]int  // how often each step was scheduled in this run
	words     []string        // what the operator is told, a line each
	resting   bool            // steps stop where they are, to continue as new
}

// retries are those that took effect. They are handed on when a run continues as new.
type retries struct {
	Retries   int       `json:"retries,omitempty"`
	LastRetry time.Time `json:"lastRetry,omitzero"`
}

func newProcessRun(ctx workflow.Context, retries *retries) processRun {
	disconnected, _ := workflow.NewDisconnectedContext(ctx)
	return processRun{
		root:      ctx,
		ctx:       disconnected,
		log:       workflow.GetLogger(ctx),
		retries:   retries,
		stuck:     map[string]bool{},
		scheduled: map[string]int{},
	}
}

// process names this process for records and idempotency: the first run's id is
// stable over continue-as-new and reset.
func (p *processRun) process() mobileid.Process {
	info := workflow.GetInfo(p.root)
	return mobileid.Process{Name: info.WorkflowType.Name, WorkflowID: info.WorkflowExecution.ID, RunID: info.FirstRunID}
}

// receive takes in the signals of one name for as long as the process runs.
func (p *processRun) receive(name string, take func(raw converter.RawValue)) {
	p.signals = append(p.signals, name)
	channel := workflow.GetSignalChannel(p.root, name)
	workflow.Go(p.ctx, func(ctx workflow.Context) {
		for {
			var raw converter.RawValue
			if !channel.Receive(ctx, &raw) {
				return
			}
			take(raw)
		}
	})
}

// signalsTaken reports whether every signal so far was taken in.
func (p *processRun) signalsTaken() bool {
	for _, name := range p.signals {
		if workflow.GetSignalChannel(p.root, name).Len() > 0 {
			return false
		}
	}
	return true
}

// awaitHandlers lets every message be taken in and every update be answered. It
// waits on a context that a cancellation does not reach, or it would return at
// once.
func (p *processRun) awaitHandlers() {
	await(p.ctx, func() bool { return workflow.AllHandlersFinished(p.ctx) && p.signalsTaken() })
}

// await waits for a condition on a context that is never cancelled, so it cannot
// fail. Each coroutine waits on its own context.
func await(ctx workflow.Context, condition func() bool) { _ = workflow.Await(ctx, condition) }

// retry makes every waiting step try again now, or says why it does not.
func (p *processRun) retry() string {
	if p.running == 0 {
		return "nothing waits"
	}
	if since := workflow.Now(p.ctx).Sub(p.retries.LastRetry); since < retryInterval {
		return fmt.Sprintf("was retried %d s ago; it takes effect once per %d s", int(since.Seconds()), int(retryInterval.Seconds()))
	}
	p.retries.LastRetry = workflow.Now(p.ctx)
	p.retries.Retries++
	p.round++
	return ""
}

// refuseOptions refuses the options of a start that would end a process half-way.
func refuseOptions(info *workflow.Info) error {
	switch {
	case info.WorkflowExecutionTimeout != 0:
		return mobileid.InvalidRequest("workflowExecutionTimeout", "must not be set: it would end the process half-way")
	case info.WorkflowRunTimeout != 0:
		return mobileid.InvalidRequest("workflowRunTimeout", "must not be set: it would end the process half-way")
	case info.CronSchedule != "":
		return mobileid.InvalidRequest("cronSchedule", "must not be set: the process runs once")
	case info.RetryPolicy != nil:
		return mobileid.InvalidRequest("retryPolicy", "must not be set: a refusal is final, and what can be retried is")
	}
	return nil
}

// recordExit writes to the audit how a process left that changed nothing: inside the
// workflow task if it can be, so that nobody joins a process that is as good as
// closed.
func (p *processRun) recordExit(entry mobileid.Record, mark *mobileid.AuditMark) {
	if err := workflow.ExecuteLocalActivity(withinTask(p.ctx, "Record"), activities.RecordExitName, entry).Get(p.ctx, mark); err == nil {
		return
	}
	// An error here is a run that rests, which only a retry can bring about;
	// there is nothing left to hand over.
	if err := p.perform(p.ctx, step{
		id:      "record",
		summary: "Record that it was " + string(entry.Event),
		options: withIdentityManager,
		name:    activities.RecordExitName,
		input:   entry,
	}, mark); err != nil {
		p.log.Error("Exit is not recorded", "event", entry.Event, "error", err)
	}
}
