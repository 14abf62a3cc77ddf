package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	temporal "go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// story is what happens to one mobile ID.
type story string

// The stories. Every one with a Next in it counts as a lock.
const (
	lockByBackend    story = "lock"            // update with start
	lockInTwoSteps   story = "start and next"  // two calls, as a page has them
	lockBySignal     story = "signal"          // as scripts send it, without a user
	lockByShell      story = "shell"           // the command line, a process of its own
	lockByPages      story = "pages"           // Self-Service, in a browser
	lockTwice        story = "duplicate"       // two clients at once, and one call that is repeated
	lockReordered    story = "reordered"       // Next reaches the server before the start does
	lockOrCancel     story = "next and cancel" // at the same time: the first one wins
	startAndCancel   story = "cancel"
	nobodyTouches    story = "bystander"
	getsAnother      story = "get"
	callPatience           = 20 * time.Second
	mostCalls              = 40
	pauseBetween           = 500 * time.Millisecond
	shareOfBystander       = 10 // one in that many, beside the locks
	shareOfCancels         = 10
)

// lockStories are those with Next, as often as they are in the list.
var lockStories = []story{
	lockByBackend, lockByBackend, lockByBackend, lockByBackend, lockInTwoSteps, lockInTwoSteps, lockBySignal, lockBySignal,
	lockByPages, lockTwice, lockTwice, lockReordered, lockOrCancel,
}

// crowd is the clients.
type crowd struct {
	temporal temporal.Client
	queue    string
	locks    *client.Client
	gets     *client.Gets
	store    *identitymanager.Store
	shell    func(ctx context.Context, args ...string) *exec.Cmd
	pages    string // URL of Self-Service
	journal  *journal
	phone    phoneOptions

	mu    sync.Mutex
	calls int
	wrong int // calls that ended with an error of the machinery, not with a refusal
}

// cast is who is in the run: so many locks and Gets, and others beside them.
func cast(seed uint64, locks, gets int) []person {
	draw := rand.New(rand.NewPCG(seed, hashOf("cast"))) //nolint:gosec // a cast that can be had again
	var people []person
	add := func(s story) {
		n := len(people) + 1
		people = append(people, person{number: n, userID: fmt.Sprintf("user-%05d", n), mobileID: fmt.Sprintf("mid-%05d", n), story: s})
	}
	shells := min(max(1, locks/50), 20) // each is a process, which costs a hundredfold
	for n := range locks {
		switch {
		case n < shells:
			add(lockByShell)
		case n < shells+len(lockStories):
			add(lockStories[n-shells]) // each at least once
		default:
			add(pick(draw, lockStories))
		}
	}
	for range max(1, locks/shareOfCancels) {
		add(startAndCancel)
	}
	for range max(1, locks/shareOfBystander) {
		add(nobodyTouches)
	}
	for range gets {
		add(getsAnother)
	}
	draw.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
	return people
}

// ask makes one call of a client, with its journal.
func (c *crowd) ask(ctx context.Context, p person, call string, act func(context.Context) (any, error)) error {
	c.journal.write(Entry{Moment: before, Call: call, MobileID: p.mobileID, UserID: p.userID})
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	answer, err := act(ctx)
	e := Entry{Moment: after, Call: call, MobileID: p.mobileID, UserID: p.userID, Answer: answer}
	var refusal *mobileid.Refusal
	switch {
	case errors.As(err, &refusal):
		e.Refusal, e.Answer = string(refusal.Type), nil
	case err != nil:
		e.Error, e.Answer = err.Error(), nil
	}
	c.journal.write(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if e.Error != "" {
		c.wrong++
	}
	return err
}

// insist repeats a call until it is answered, as people do who see an error page. A
// refusal is an answer, too.
func (c *crowd) insist(ctx context.Context, p person, call string, act func(context.Context) (any, error)) error {
	var err error
	for range mostCalls {
		err = c.ask(ctx, p, call, act)
		var refusal *mobileid.Refusal
		if err == nil || errors.As(err, &refusal) || ctx.Err() != nil {
			return err
		}
		sleep(ctx, pauseBetween)
	}
	return fmt.Errorf("%s of %s is never answered: %w", call, p.mobileID, err)
}

// The calls, as the checker reads them.
const (
	callStart   = "start"
	callNext    = "next"
	callCancel  = "cancel"
	callReceipt = "receipt" // at Self-Service, when all is over
	callStatus  = "status"
)

// play plays the story of one person. A refusal is no error: the checker says whether
// it was right.
func (c *crowd) play(ctx context.Context, p person) error {
	var err error
	switch p.story {
	case nobodyTouches:
	case lockByBackend:
		err = c.insist(ctx, p, callNext, c.lock(p, client.LockOptions{}))
	case lockInTwoSteps:
		if err = c.insist(ctx, p, callStart, c.start(p)); err == nil {
			err = c.insist(ctx, p, callNext, c.next(p))
		}
	case lockBySignal:
		err = c.insist(ctx, p, callNext, c.signal(p))
	case lockByPages:
		err = c.insist(ctx, p, callNext, c.byPages(p))
	case lockByShell:
		err = c.insist(ctx, p, callNext, c.byShell(p))
	case lockTwice:
		once := client.LockOptions{RequestID: uuid.NewString()}
		err = together(
			func() error { return c.insist(ctx, p, callNext, c.lock(p, once)) },
			func() error { return c.insist(ctx, p, callNext, c.lock(p, once)) },
			func() error { return c.insist(ctx, p, callNext, c.lock(p, client.LockOptions{})) },
		)
	case lockReordered:
		err = together(
			func() error { return c.insist(ctx, p, callNext, c.signal(p)) },
			func() error { return c.insist(ctx, p, callStart, c.start(p)) },
		)
	case lockOrCancel:
		if err = c.insist(ctx, p, callStart, c.start(p)); err == nil {
			err = together(
				func() error { return c.insist(ctx, p, callNext, c.next(p)) },
				func() error { return c.insist(ctx, p, callCancel, c.cancel(p)) },
			)
		}
	case startAndCancel:
		if err = c.insist(ctx, p, callStart, c.start(p)); err == nil {
			err = c.insist(ctx, p, callCancel, c.cancel(p))
		}
	case getsAnother:
		return c.getAnother(ctx, p)
	}
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}

// together runs clients at the same time, and returns what went wrong with any. A
// refusal of one of them is no error.
func together(acts ...func() error) error {
	var group sync.WaitGroup
	errs := make([]error, len(acts))
	for n, act := range acts {
		group.Go(func() {
			err := act()
			var refusal *mobileid.Refusal
			if !errors.As(err, &refusal) {
				errs[n] = err
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *crowd) start(p person) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		return answered(c.locks.User(p.userID).Start(ctx, p.mobileID, client.LockOptions{}))
	}
}

// lock is Next that starts, too.
func (c *crowd) lock(p person, options client.LockOptions) func(context.Context) (any, error) {
	options.Patience = callPatience / 2
	return func(ctx context.Context) (any, error) {
		return answered(c.locks.User(p.userID).Lock(ctx, p.mobileID, options))
	}
}

func (c *crowd) next(p person) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		return answered(c.locks.User(p.userID).Next(ctx, p.mobileID, client.LockOptions{Patience: callPatience / 2}))
	}
}

func (c *crowd) cancel(p person) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		status, err := c.locks.User(p.userID).Cancel(ctx, p.mobileID, client.LockOptions{})
		if errors.Is(err, client.ErrNoWorker) {
			status, err = client.Status{Stored: true}, nil
		}
		return answered(status, err)
	}
}

// answered is what of a status the checker compares.
func answered(s client.Status, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// signal is what scripts do: a start, and a signal without any payload. The server's
// answer says that Next is stored.
func (c *crowd) signal(p person) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		_, err := c.temporal.SignalWithStartWorkflow(ctx, workflows.LockWorkflowID(p.mobileID), workflows.Next, nil, temporal.StartWorkflowOptions{
			TaskQueue: c.queue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, workflows.Lock, workflows.LockRequest{MobileID: p.mobileID, UserID: p.userID})
		if err != nil {
			return nil, err
		}
		return client.Status{Stored: true}, nil
	}
}
