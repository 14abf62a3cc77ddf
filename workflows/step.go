package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid/activities"
)

// step is one activity that the process cannot go on without.
type step struct {
	id      string // the activity id: how operators and scripts name the step
	summary string
	options func(ctx workflow.Context, id, summary string) workflow.Context
	queue   string        // the task queue, for steps that are bounded; empty: the process's own
	attempt time.Duration // of one try, for steps that are bounded; zero: boundedAttempt
	name    string        // the activity's name
	input   any
	unless  func() bool // gives the step up once true; nil: never
}

// perform runs a step until it succeeds. What fails for a passing reason is
// tried again by the engine, without a trace in the history. What the engine's
// tries cannot cure waits for an operator. A retry cancels the step, waits until
// that is certain, so that two never run at once, and schedules it anew.
//
// Its errors are a refusal, a failure of Get, errAborted and errRest.
func (p *processRun) perform(ctx workflow.Context, s step, out any) error {
	for {
		if err := p.attempt(ctx, s, out); !errors.Is(err, errInterrupted) {
			return err
		}
	}
}

// attempt is one round of perform. It returns errInterrupted when the step is
// to be scheduled anew, possibly with another input.
func (p *processRun) attempt(ctx workflow.Context, s step, out any) error {
	if p.restDue() {
		return errRest
	}
	p.running++
	defer func() { p.running-- }()
	err := p.try(ctx, s, out)
	switch {
	case err == nil:
		return nil
	case s.unless != nil && s.unless():
		return errAborted
	case asRefusal(err) != nil, activities.FailureOf(err) != nil:
		return err
	case !errors.Is(err, errInterrupted) && !temporal.IsCanceledError(err):
		p.awaitOperator(ctx, s.id, words(err), s.unless)
	}
	return errInterrupted
}

var errInterrupted = errors.New("the step was interrupted to be tried again")

// try schedules the step's activity once and waits for its end.
func (p *processRun) try(ctx workflow.Context, s step, out any) error {
	running, cancel := workflow.WithCancel(s.options(ctx, p.activityID(s.id), s.summary))
	defer cancel()
	round := p.round
	future := workflow.ExecuteActivity(running, s.name, s.input)
	await(ctx, func() bool {
		return future.IsReady() || p.round != round || p.resting || s.unless != nil && s.unless()
	})
	interrupted := !future.IsReady()
	if interrupted {
		cancel()
	}
	err := future.Get(ctx, out)
	if err != nil && interrupted {
		return errInterrupted
	}
	return err
}

// activityID is the step's own id the first time, and numbered from then on: the
// SDK fails the workflow task, for good, if an id is used again after an activity
// failed while its cancellation was under way.
func (p *processRun) activityID(step string) string {
	p.scheduled[step]++
	if n := p.scheduled[step]; n > 1 {
		return fmt.Sprintf("%s/%d", step, n)
	}
	return step
}

// awaitOperator shows what only an operator can cure, and waits for the retry.
func (p *processRun) awaitOperator(ctx workflow.Context, id, why string, unless func() bool) {
	round := p.round
	p.stuck[id] = true
	p.words = append(p.words, id+": "+why)
	p.log.Warn("Step needs an operator", "step", id, "why", why)
	p.changed()
	await(ctx, func() bool { return p.round != round || p.resting || unless != nil && unless() })
	delete(p.stuck, id)
	p.words = slices.DeleteFunc(p.words, func(line string) bool { return strings.HasPrefix(line, id+": ") })
	p.changed()
}

// restDue reports whether steps stop where they are, so that the run continues as
// new before its history grows too long: once the server suggests it, and the
// process may. Only retries can make a process that long, and a retry is what brings
// every step here.
func (p *processRun) restDue() bool {
	if p.mayRest() && workflow.GetInfo(p.root).GetContinueAsNewSuggested() {
		p.resting = true
	}
	return p.resting
}

// words are what an operator reads of a failure: the application's own message,
// without the layers that the engine wraps around it.
func words(err error) string {
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message()
	}
	return err.Error()
}
