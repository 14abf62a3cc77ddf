package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/workflows"
)

// Gets starts and steers Gets.
type Gets struct {
	temporal   client.Client
	taskQueue  string
	workflowID func(userID string) string
	choices
}

// NewGets makes a client for the Gets of a task queue. workflowID is the one of
// workflows.GetWorkflowIDs that fits the worker's configuration.
func NewGets(temporal client.Client, taskQueue string, workflowID func(userID string) string, options ...Option) *Gets {
	return &Gets{temporal: temporal, taskQueue: taskQueue, workflowID: workflowID, choices: choose(options)}
}

// User acts on behalf of a self-service user. by names an operator who acts for the
// user; empty if the user does.
func (g *Gets) User(userID, by string) *Applicant {
	return &Applicant{gets: g, userID: userID, by: by, id: g.workflowID(userID)}
}

// Applicant is a Gets on behalf of one user, who has one Get at a time.
type Applicant struct {
	gets       *Gets
	userID, by string
	id         string
	patience   time.Duration
	requestID  string
}

// Within returns the same applicant, whose Next answers with Stored if the QR code
// cannot be shown within patience, counted from when Next is accepted.
func (a *Applicant) Within(patience time.Duration) *Applicant {
	within := *a
	within.patience = patience
	return &within
}

// Once returns the same applicant, whose message has this id: a repeat of it has the same
// answer. Two different messages need two.
func (a *Applicant) Once(requestID string) *Applicant {
	once := *a
	once.requestID = requestID
	return &once
}

// GetStatus is where a Get stands.
type GetStatus struct {
	workflows.GetStatus
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId,omitempty"`
	// Stored reports that no worker has answered in time; see Status.Stored.
	Stored bool `json:"stored,omitempty"`
	// Stopped reports that the process was ended from outside before it was done; see
	// Status.Stopped.
	Stopped bool `json:"stopped,omitempty"`
}

// getStopped says what to do about a Get that was ended from outside.
func getStopped() error {
	return fmt.Errorf("Get mobile ID: %w; start it again (reconciliation takes back what was begun)", ErrStopped)
}

// Start starts a Get that waits for Next or Cancel, or joins the running one, and
// returns when it is validated. A refusal is the error.
func (a *Applicant) Start(ctx context.Context) (GetStatus, error) {
	run, err := a.gets.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       a.id,
		TaskQueue:                a.gets.taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            workflows.GetSummary,
	}, workflows.Get, workflows.GetRequest{UserID: a.userID, By: a.by})
	if err != nil {
		return GetStatus{}, fmt.Errorf("start Get: %w", err)
	}
	pause := firstPoll
	runID, stopped := run.GetRunID(), false // before it was asked
	for {
		status, err := a.query(ctx, runID)
		switch {
		case errors.Is(err, ErrNoWorker):
			return GetStatus{WorkflowID: a.id, RunID: runID, Stored: true}, nil
		case err != nil:
			return GetStatus{}, err
		case status.Phase != workflows.Validating:
			return status, nil
		case stopped:
			return GetStatus{}, getStopped()
		}
		// What cannot be seen now is seen the next time.
		if description, err := a.gets.temporal.DescribeWorkflowExecution(ctx, a.id, ""); err == nil {
			runID, stopped = latest(description), endedOutside(description)
		}
		if err := sleep(ctx, &pause); err != nil {
			return GetStatus{}, err
		}
	}
}

// LockFirst has the active mobile ID locked before a new one is made.
func (a *Applicant) LockFirst(ctx context.Context) (GetStatus, error) {
	return a.update(ctx, workflows.LockFirst)
}

// Next sends Next, and returns when the QR code can be shown.
func (a *Applicant) Next(ctx context.Context) (GetStatus, error) {
	return a.update(ctx, workflows.Next)
}

// Cancel keeps what is there. What was begun is taken back.
func (a *Applicant) Cancel(ctx context.Context) (GetStatus, error) {
	return a.update(ctx, workflows.Cancel)
}

// Retry makes the waiting step try again now.
func (a *Applicant) Retry(ctx context.Context) (workflows.GetRetryAnswer, error) {
	var answer workflows.GetRetryAnswer
	err := a.send(ctx, workflows.Retry, &answer)
	return answer, err
}

func (a *Applicant) update(ctx context.Context, name string) (GetStatus, error) {
	status := GetStatus{WorkflowID: a.id}
	err := a.send(ctx, name, &status.GetStatus)
	if errors.Is(err, ErrNoWorker) {
		return GetStatus{WorkflowID: a.id, Stored: true}, nil
	}
	return status, err
}

// send sends a message as an update. If no worker accepts it in time, it is stored at
// the server as a signal, and the error is ErrNoWorker.
func (a *Applicant) send(ctx context.Context, name string, answer any) error {
	message := workflows.Message{UserID: a.userID, By: a.by, RequestID: a.requestID}
	if message.RequestID == "" {
		message.RequestID = uuid.NewString()
	}
	accepting, cancel := context.WithTimeout(ctx, a.gets.acceptWait)
	defer cancel()
	handle, err := a.gets.temporal.UpdateWorkflow(accepting, client.UpdateWorkflowOptions{
		UpdateID: message.RequestID, WorkflowID: a.id, UpdateName: name, Args: []any{message}, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	if unanswered(ctx, err) {
		if err = a.gets.temporal.SignalWorkflow(ctx, a.id, "", name, message); err == nil {
			return ErrNoWorker
		}
	}
	answering := ctx
	if a.patience > 0 {
		var stop context.CancelFunc
		answering, stop = context.WithTimeout(ctx, a.patience)
		defer stop()
	}
	if err == nil {
		err = handle.Get(answering, answer)
	}
	if a.patience > 0 && unanswered(ctx, err) {
		return ErrNoWorker
	}
	if gone(err) {
		return mobileid.NotFound()
	}
	return asRefusal(err, a.gets.failures)
}

// Status tells where the Get stands. A process that was refused ends with the
// refusal as the error.
func (a *Applicant) Status(ctx context.Context) (GetStatus, error) { return a.Look().Status(ctx) }

// Running reports whether a Get of the user is open. It needs no worker.
func (a *Applicant) Running(ctx context.Context) (bool, error) {
	description, err := a.gets.temporal.DescribeWorkflowExecution(ctx, a.id, "")
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("describe Get: %w", err)
	}
	return description.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

func (a *Applicant) query(ctx context.Context, runID string) (GetStatus, error) {
	status := GetStatus{WorkflowID: a.id, RunID: runID}
	asking, cancel := context.WithTimeout(ctx, a.gets.acceptWait)
	defer cancel()
	value, err := a.gets.temporal.QueryWorkflow(asking, a.id, runID, workflows.StatusQuery, workflows.Message{UserID: a.userID})
	switch {
	case unanswered(ctx, err):
		return GetStatus{}, ErrNoWorker
	case gone(err):
		return GetStatus{}, mobileid.NotFound()
	case err != nil:
		return GetStatus{}, asRefusal(err, a.gets.failures)
	}
	if err := value.Get(&status.GetStatus); err != nil {
		return GetStatus{}, fmt.Errorf("read status of Get: %w", err)
	}
	if status.Refusal != nil {
		return GetStatus{}, status.Refusal
	}
	return status, nil
}

// Wait returns when the status is what is waited for. It calls progress, if not nil,
// with every status it sees on the way. While no worker answers it keeps waiting. A
// process that was ended from outside is ErrStopped.
func (a *Applicant) Wait(ctx context.Context, progress func(GetStatus), done func(GetStatus) bool) (GetStatus, error) {
	pause := firstPoll
	look := a.Look()
	for {
		status, err := look.Status(ctx)
		if err != nil && !errors.Is(err, ErrNoWorker) {
			return GetStatus{}, err
		}
		if err == nil {
			if progress != nil {
				progress(status)
			}
			if done(status) {
				return status, nil
			}
			if status.Stopped {
				return GetStatus{}, getStopped()
			}
		}
		if err := sleep(ctx, &pause); err != nil {
			return GetStatus{}, fmt.Errorf("wait for Get: %w", err)
		}
	}
}

// WaitClosed returns when the process is closed.
func (a *Applicant) WaitClosed(ctx context.Context, progress func(GetStatus)) (GetStatus, error) {
	return a.Wait(ctx, progress, func(s GetStatus) bool { return s.Phase == workflows.Closed })
}
