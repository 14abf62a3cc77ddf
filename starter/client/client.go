// Package client is the library for backends and scripts in Go that start and
// steer locks. The command line uses nothing else.
//
// A [Client] is used on behalf of somebody: [Client.User] for a self-service
// user, whom the backend has signed in and whose ownership it has itself seen,
// or [Client.Operator]. A user's calls never show anything of a process that is
// not the user's own: they end with mobileid.ErrMobileIDNotFound, in the same
// words as for an unknown mobile ID.
//
// Refusals are *mobileid.Refusal: test with errors.Is against the Err values of
// package mobileid.
package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities"
	"mobileid/workflows"
)

const (
	// acceptWait is what WithAcceptWait changes.
	acceptWait = 3 * time.Second

	// firstPoll and lastPoll bound the time between two looks at a status.
	firstPoll = 50 * time.Millisecond
	lastPoll  = time.Second
)

// ErrNoWorker reports that the server is there but no worker answers. What was
// sent is stored and takes effect when one does.
var ErrNoWorker = errors.New("no worker answers; what was sent is stored at the server")

// ErrStopped reports that a process was ended from outside before it was done, as by
// somebody who terminated it. It will do nothing more, and how far it came stands in
// Identity Manager: what to do is said by the error.
var ErrStopped = errors.New("the process was ended from outside before it was done")

// lockStopped says what to do about a lock that was ended from outside.
func lockStopped(mobileID string) error {
	return fmt.Errorf("lock of %s: %w; start it again, it goes on from where it was (after Next, reconciliation does so, too)", mobileID, ErrStopped)
}

// Client starts and steers locks.
type Client struct {
	temporal  client.Client
	taskQueue string
	choices
}

// Option is a choice of New and NewGets.
type Option func(*choices)

type choices struct {
	failures   converter.FailureConverter
	acceptWait time.Duration
}

// WithFailures is needed where payloads are encrypted: the FailureConverter of the
// options that the Temporal client was made with. Without it refusals that answer a
// query, and the last errors of steps, cannot be read.
func WithFailures(failures converter.FailureConverter) Option {
	return func(c *choices) {
		if failures != nil {
			c.failures = failures
		}
	}
}

// WithAcceptWait changes how long a message waits for a worker to take it, before it is
// stored at the server as a signal, which needs no worker; default 3 s. A question for a
// status waits as long, and ends with ErrNoWorker. It is for whoever would rather wait
// than hear that something is stored.
func WithAcceptWait(wait time.Duration) Option {
	return func(c *choices) { c.acceptWait = wait }
}

func choose(options []Option) choices {
	c := choices{failures: temporal.GetDefaultFailureConverter(), acceptWait: acceptWait}
	for _, option := range options {
		option(&c)
	}
	return c
}

// New makes a Client for the processes of a task queue.
func New(temporal client.Client, taskQueue string, options ...Option) *Client {
	return &Client{temporal: temporal, taskQueue: taskQueue, choices: choose(options)}
}

// User acts on behalf of a self-service user. The backend takes the user id from
// its own sign-in, never from a request.
func (c *Client) User(userID string) *Caller { return &Caller{client: c, userID: userID} }

// Operator acts on behalf of an operator or a script, named for the audit.
func (c *Client) Operator(by string) *Caller { return &Caller{client: c, by: by} }

// Caller is a Client on somebody's behalf.
type Caller struct {
	client *Client
	userID string
	by     string
}

// LockOptions are the choices of a lock.
type LockOptions struct {
	Reason  mobileid.Reason // empty: the configured default
	ThenGet bool            // go on to Get mobile ID
	Owner   string          // operators: the owner of the mobile ID

	// Resume is for operators: check every certificate of a locked mobile ID at its CA
	// again. It presses no Next: where a lock waits for that, Start and Lock refuse, as
	// for any mobile ID that is not locked.
	Resume bool

	// RequestID makes a repeated call the same call. Empty: a new one.
	RequestID string

	// Patience is how long Lock and Next wait for the mobile ID to be locked once
	// Next is accepted; then they answer with Stored. 0: until it is locked.
	Patience time.Duration
}

// Status is where a lock stands.
type Status struct {
	workflows.LockStatus
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId,omitempty"`
	Steps      []Step `json:"steps,omitempty"` // that are under way

	// Stored reports that no worker has answered in time: none is up, or all have
	// their hands full, or Identity Manager is away. What was sent is stored at the
	// server and takes effect when one does; Wait tells. All else is empty then.
	Stored bool `json:"stored,omitempty"`

	// Stopped reports that the process was ended from outside before it was done. The
	// phase is the one in which that happened, and nothing goes on; see ErrStopped.
	Stopped bool `json:"stopped,omitempty"`
}

// Step is an activity under way, as the engine knows it.
type Step struct {
	ID        string    `json:"id"`
	State     string    `json:"state"` // Scheduled (waits for a worker or its next try), Started, CancelRequested, Paused
	Attempt   int32     `json:"attempt"`
	LastError string    `json:"lastError,omitempty"`
	NextTry   time.Time `json:"nextTry,omitzero"`
}

// Start starts a lock that waits for Next or Cancel, or joins the running one,
// and returns when it is validated. A refusal is the error.
func (c *Caller) Start(ctx context.Context, mobileID string, options LockOptions) (Status, error) {
	request := c.request(mobileID, options)
	run, err := c.client.temporal.ExecuteWorkflow(ctx, c.startOptions(mobileID), c.process(), request)
	if err != nil {
		return Status{}, fmt.Errorf("start lock of %s: %w", mobileID, err)
	}
	if err := c.checkOwner(ctx, mobileID, run.GetRunID(), options); err != nil {
		return Status{}, err
	}
	status, err := c.poll(ctx, mobileID, run.GetRunID(), true, func(s Status) bool { return s.Phase != workflows.Validating })
	if err == nil && options.Resume && status.Phase == workflows.AwaitingConfirmation {
		// It was joined. A new one has refused by itself.
		return Status{}, mobileid.NotLocked()
	}
	return status, err
}

// Lock starts a lock with Next already pressed, or sends Next to the running
// one, and returns when the mobile ID is locked. The certificates follow: see
// Wait. With Resume it sends nothing.
func (c *Caller) Lock(ctx context.Context, mobileID string, options LockOptions) (Status, error) {
	if options.Resume {
		return c.resume(ctx, mobileID, options)
	}
	request := c.request(mobileID, options)
	request.Confirmed = true
	message := c.message(options)
	if c.userID == "" && options.Owner != "" {
		return c.lockForOwner(ctx, mobileID, request, message, options)
	}
	start := c.client.temporal.NewWithStartWorkflowOperation(c.startOptions(mobileID), c.process(), request)
	return c.next(ctx, mobileID, options.Patience, request, message, func(ctx context.Context) (client.WorkflowUpdateHandle, error) {
		return c.client.temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions:          updateOptions(mobileID, workflows.Next, message),
		})
	})
}

// resume is Lock of a mobile ID that is locked already: its process goes on without
// being asked.
func (c *Caller) resume(ctx context.Context, mobileID string, options LockOptions) (Status, error) {
	answering, stop := patient(ctx, options.Patience)
	defer stop()
	status, err := c.Start(answering, mobileID, options)
	if err == nil && !status.Stored && !settled(status) {
		status, err = c.poll(answering, mobileID, status.RunID, false, settled)
	}
	if options.Patience > 0 && unanswered(ctx, err) {
		return Status{WorkflowID: workflows.LockWorkflowID(mobileID), Stored: true}, nil
	}
	return status, err
}

// patient bounds how long an answer is waited for; 0 does not.
func patient(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if patience > 0 {
		return context.WithTimeout(ctx, patience)
	}
	return ctx, func() {}
}

// lockForOwner is Lock by an operator. Between start and Next it looks whose process
// it is: a start that joins delivers nothing of its request, and an operator's message
// names no user, so nobody else would notice a wrong owner.
func (c *Caller) lockForOwner(ctx context.Context, mobileID string, request workflows.LockRequest, message workflows.Message, options LockOptions) (Status, error) {
	run, err := c.client.temporal.ExecuteWorkflow(ctx, c.startOptions(mobileID), c.process(), request)
	if err != nil {
		return Status{}, fmt.Errorf("start lock of %s: %w", mobileID, err)
	}
	if err := c.checkOwner(ctx, mobileID, run.GetRunID(), options); err != nil {
		return Status{}, err
	}
	return c.next(ctx, mobileID, options.Patience, request, message, func(ctx context.Context) (client.WorkflowUpdateHandle, error) {
		return c.client.temporal.UpdateWorkflow(ctx, updateOptions(mobileID, workflows.Next, message))
	})
}

// checkOwner refuses, in the words for an unknown mobile ID, a process of anybody but
// the owner whom an operator names. Without a worker nobody can tell.
func (c *Caller) checkOwner(ctx context.Context, mobileID, runID string, options LockOptions) error {
	if c.userID != "" || options.Owner == "" {
		return nil
	}
	_, err := c.client.User(options.Owner).query(ctx, mobileID, runID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) {
		return err
	}
	return nil // anything else is told by what follows
}

// Next sends Next to the waiting lock and returns when the mobile ID is locked.
func (c *Caller) Next(ctx context.Context, mobileID string, options LockOptions) (Status, error) {
	message := c.message(options)
	return c.next(ctx, mobileID, options.Patience, c.request(mobileID, options), message, func(ctx context.Context) (client.WorkflowUpdateHandle, error) {
		return c.client.temporal.UpdateWorkflow(ctx, updateOptions(mobileID, workflows.Next, message))
	})
}

// next sends the update, and waits for its answer. If no worker accepts it in
// time, Next is stored as a signal.
func (c *Caller) next(ctx context.Context, mobileID string, patience time.Duration, request workflows.LockRequest, message workflows.Message,
	send func(context.Context) (client.WorkflowUpdateHandle, error),
) (Status, error) {
	accepting, cancel := context.WithTimeout(ctx, c.client.acceptWait)
	defer cancel()
	handle, err := send(accepting)
	if unanswered(ctx, err) {
		return c.storeNext(ctx, mobileID, request, message)
	}
	status := Status{WorkflowID: workflows.LockWorkflowID(mobileID)}
	answering, stop := patient(ctx, patience)
	defer stop()
	if err == nil {
		status.RunID = handle.RunID()
		err = handle.Get(answering, &status.LockStatus)
	}
	if err == nil && !settled(status) {
		// More wait than the process lets wait: look until it is locked.
		status, err = c.poll(answering, mobileID, status.RunID, false, settled)
	}
	switch {
	case patience > 0 && unanswered(ctx, err):
		return Status{WorkflowID: workflows.LockWorkflowID(mobileID), Stored: true}, nil
	case gone(err):
		return c.afterEnd(ctx, mobileID, mobileid.AlreadyCancelled())
	case err != nil:
		return Status{}, asRefusal(err, c.client.failures)
	}
	return status, nil
}

// settled reports that a Next has its answer.
func settled(s Status) bool { return !s.LockedAt.IsZero() || s.Phase == workflows.Closed }

// storeNext leaves Next at the server, which stores it without a worker. For an
// operator's message to a process whose owner is not known here, the process
// must be there already.
func (c *Caller) storeNext(ctx context.Context, mobileID string, request workflows.LockRequest, message workflows.Message) (Status, error) {
	id := workflows.LockWorkflowID(mobileID)
	var err error
	if request.UserID == "" {
		err = c.client.temporal.SignalWorkflow(ctx, id, "", workflows.Next, message)
	} else {
		request.Confirmed = false
		_, err = c.client.temporal.SignalWithStartWorkflow(ctx, id, workflows.Next, message, c.startOptions(mobileID), c.process(), request)
	}
	if gone(err) {
		return Status{}, mobileid.NotFound()
	}
	if err != nil {
		return Status{}, fmt.Errorf("store next for %s: %w", mobileID, err)
	}
	return Status{WorkflowID: id, Stored: true}, nil
}

// Cancel closes the lock before Next. After Next it is refused with
// mobileid.ErrAlreadyConfirmed.
func (c *Caller) Cancel(ctx context.Context, mobileID string, options LockOptions) (Status, error) {
	status := Status{WorkflowID: workflows.LockWorkflowID(mobileID)}
	err := c.update(ctx, mobileID, workflows.Cancel, c.message(options), &status.LockStatus)
	if gone(err) {
		return c.afterEnd(ctx, mobileID, mobileid.AlreadyConfirmed())
	}
	return status, err
}

// Retry makes the waiting step try again now. The answer says whether it did.
func (c *Caller) Retry(ctx context.Context, mobileID string) (workflows.RetryAnswer, error) {
	var answer workflows.RetryAnswer
	err := c.update(ctx, mobileID, workflows.Retry, c.message(LockOptions{}), &answer)
	if gone(err) {
		status, err := c.Status(ctx, mobileID)
		return workflows.RetryAnswer{Why: "the process is closed", Status: status.LockStatus}, err
	}
	return answer, err
}

// update sends a message that is answered at once by a worker.
func (c *Caller) update(ctx context.Context, mobileID, name string, message workflows.Message, answer any) error {
	accepting, cancel := context.WithTimeout(ctx, c.client.acceptWait)
	defer cancel()
	handle, err := c.client.temporal.UpdateWorkflow(accepting, updateOptions(mobileID, name, message))
	if unanswered(ctx, err) {
		err := c.client.temporal.SignalWorkflow(ctx, workflows.LockWorkflowID(mobileID), "", name, message)
		if err != nil && !gone(err) {
			return fmt.Errorf("store %s for %s: %w", name, mobileID, err)
		}
		if err == nil {
			return ErrNoWorker
		}
	}
	if err == nil {
		err = handle.Get(ctx, answer)
	}
	if gone(err) {
		return err
	}
	return asRefusal(err, c.client.failures)
}

// afterEnd answers a decision that came after the end of the process: with its
// status if that is what was asked for, else with the refusal.
func (c *Caller) afterEnd(ctx context.Context, mobileID string, tooLate *mobileid.Refusal) (Status, error) {
	status, err := c.Status(ctx, mobileID)
	if err != nil {
		return Status{}, err
	}
	if status.Stopped {
		return Status{}, lockStopped(mobileID)
	}
	locked := status.Outcome == workflows.OutcomeLocked
	if locked == (tooLate.Type == mobileid.TypeAlreadyConfirmed) && status.Outcome != workflows.OutcomeExpired {
		return Status{}, tooLate
	}
	return status, nil
}

// Status tells where the lock stands, with the steps under way. A process that
// was refused ends with the refusal as the error.
func (c *Caller) Status(ctx context.Context, mobileID string) (Status, error) {
	return c.Look(mobileID).Status(ctx)
}

// lastError is what a failed try says, decoded.
func (c *Client) lastError(failure *failurepb.Failure) string {
	if failure.GetEncodedAttributes() == nil {
		return failure.GetMessage()
	}
	err := c.failures.FailureToError(failure)
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message()
	}
	return err.Error()
}

// query asks the process itself, on behalf of the caller.
func (c *Caller) query(ctx context.Context, mobileID, runID string) (Status, error) {
	if err := mobileid.CheckID("mobileId", mobileID); err != nil {
		return Status{}, err
	}
	status := Status{WorkflowID: workflows.LockWorkflowID(mobileID), RunID: runID}
	asking, cancel := context.WithTimeout(ctx, c.client.acceptWait)
	defer cancel()
	value, err := c.client.temporal.QueryWorkflow(asking, status.WorkflowID, runID, workflows.StatusQuery, c.message(LockOptions{}))
	if unanswered(ctx, err) {
		return Status{}, ErrNoWorker
	}
	if gone(err) {
		return Status{}, mobileid.NotFound()
	}
	if err != nil {
		return Status{}, asRefusal(err, c.client.failures)
	}
	if err := value.Get(&status.LockStatus); err != nil {
		return Status{}, fmt.Errorf("read status of %s: %w", mobileID, err)
	}
	if status.Refusal != nil {
		return Status{}, status.Refusal
	}
	return status, nil
}

// Wait returns when the three end states stand, or the process ends otherwise.
// It calls progress, if not nil, with every status it sees on the way. While no
// worker answers it keeps waiting. A process that was ended from outside is
// ErrStopped.
func (c *Caller) Wait(ctx context.Context, mobileID string, progress func(Status)) (Status, error) {
	return c.watch(ctx, mobileID, progress, func(s Status) bool { return s.Revoked || s.Phase == workflows.Closed })
}

// WaitClosed is Wait until the process is closed, and so until others can see
// the revocation or are not waited for any longer.
func (c *Caller) WaitClosed(ctx context.Context, mobileID string, progress func(Status)) (Status, error) {
	return c.watch(ctx, mobileID, progress, func(s Status) bool { return s.Phase == workflows.Closed })
}

func (c *Caller) watch(ctx context.Context, mobileID string, progress func(Status), done func(Status) bool) (Status, error) {
	pause := firstPoll
	look := c.Look(mobileID)
	for {
		status, err := look.Status(ctx)
		if err != nil && !errors.Is(err, ErrNoWorker) {
			return Status{}, err
		}
		if err == nil {
			if progress != nil {
				progress(status)
			}
			if done(status) {
				return status, nil
			}
			if status.Stopped {
				return Status{}, lockStopped(mobileID)
			}
		}
		if err := sleep(ctx, &pause); err != nil {
			return Status{}, fmt.Errorf("wait for lock of %s: %w", mobileID, err)
		}
	}
}

// poll looks at the status of a run, or of the one that goes on where it rested or was
// reset, until it is what is waited for. With stored set it gives up when no worker
// answers, because what was sent is stored. A process that was ended from outside is
// ErrStopped.
func (c *Caller) poll(ctx context.Context, mobileID, runID string, stored bool, done func(Status) bool) (Status, error) {
	pause := firstPoll
	stopped := false // before it was asked
	for {
		status, err := c.query(ctx, mobileID, runID)
		switch {
		case errors.Is(err, ErrNoWorker) && stored:
			return Status{WorkflowID: workflows.LockWorkflowID(mobileID), RunID: runID, Stored: true}, nil
		case err != nil && !errors.Is(err, ErrNoWorker):
			return Status{}, err
		case err == nil && done(status):
			return status, nil
		case err == nil && stopped:
			return Status{}, lockStopped(mobileID)
		}
		// What cannot be seen now is seen the next time.
		if description, err := c.client.temporal.DescribeWorkflowExecution(ctx, workflows.LockWorkflowID(mobileID), ""); err == nil {
			runID, stopped = latest(description), endedOutside(description)
		}
		if err := sleep(ctx, &pause); err != nil {
			return Status{}, fmt.Errorf("wait for lock of %s: %w", mobileID, err)
		}
	}
}

// sleep pauses, longer every time.
func sleep(ctx context.Context, pause *time.Duration) error {
	timer := time.NewTimer(*pause)
	defer timer.Stop()
	*pause = min(*pause*3/2, lastPoll)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Caller) process() string {
	if c.userID == "" {
		return workflows.LockForOperator
	}
	return workflows.Lock
}

func (c *Caller) request(mobileID string, options LockOptions) workflows.LockRequest {
	owner := c.userID
	if owner == "" {
		owner = options.Owner
	}
	return workflows.LockRequest{
		MobileID: mobileID,
		UserID:   owner,
		By:       c.by,
		ThenGet:  options.ThenGet,
		Reason:   options.Reason,
		Resume:   options.Resume,
	}
}

func (c *Caller) message(options LockOptions) workflows.Message {
	id := options.RequestID
	if id == "" {
		id = uuid.NewString()
	}
	return workflows.Message{UserID: c.userID, By: c.by, RequestID: id, ThenGet: options.ThenGet, Reason: options.Reason}
}

func (c *Caller) startOptions(mobileID string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                       workflows.LockWorkflowID(mobileID),
		TaskQueue:                c.client.taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            workflows.LockSummary(mobileID),
	}
}

func updateOptions(mobileID, name string, message workflows.Message) client.UpdateWorkflowOptions {
	return client.UpdateWorkflowOptions{
		UpdateID:     message.RequestID,
		WorkflowID:   workflows.LockWorkflowID(mobileID),
		UpdateName:   name,
		Args:         []any{message},
		WaitForStage: client.WorkflowUpdateStageAccepted,
	}
}

// unanswered reports that a call ended because no worker took it in time, and
// not because the caller's own context ended.
func unanswered(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var timeout *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var deadline *serviceerror.DeadlineExceeded
	var notReady *serviceerror.WorkflowNotReady
	return errors.As(err, &timeout) || errors.As(err, &deadline) || errors.As(err, &notReady) ||
		errors.Is(err, context.DeadlineExceeded)
}

// gone reports that there is no running process to take a message, or none at
// all to ask.
func gone(err error) bool {
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return true
	}
	var application *temporal.ApplicationError
	return errors.As(err, &application) && application.Type() == acceptedUpdateCompletedWorkflow
}

// acceptedUpdateCompletedWorkflow is the type of the server's error for an
// update whose process closed before it was answered.
const acceptedUpdateCompletedWorkflow = "AcceptedUpdateCompletedWorkflow"

// asRefusal returns the refusal that an error carries, or the error.
func asRefusal(err error, failures converter.FailureConverter) error {
	if refusal := activities.RefusalOf(err); refusal != nil {
		return refusal
	}
	var failed *serviceerror.QueryFailed
	if errors.As(err, &failed) && failed.Failure != nil {
		converted := failures.FailureToError(failed.Failure)
		if refusal := activities.RefusalOf(converted); refusal != nil {
			return refusal
		}
	}
	return err
}
