package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/starter/stack/stacktest"
	"mobileid/workflows"
)

// clients is how many press Next at the same time.
const clients = 16

// A part is killed, or restarted, while locks and Gets run; all of them end. Before each
// fault a share of the locks is decided, by updates and by signals, while the CA
// answers nobody, so that each fault meets locks that have their Next and are not done.
// Some more are decided during the fault.
func underFaults(t *testing.T, programs stacktest.Programs) {
	in := start(t, programs, stack.Options{Workers: 2, Get: map[string]any{"key_types": []string{"EC-P-256"}}})
	second := stack.Worker + "-2"
	faults := []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"a worker is killed", func(ctx context.Context) error { return in.bounce(ctx, in.Stack.Kill, stack.Worker) }},
		{"the Temporal server is killed", func(ctx context.Context) error { return in.bounce(ctx, in.Stack.Kill, stack.Temporal) }},
		{"PostgreSQL is restarted", func(ctx context.Context) error { return in.bounce(ctx, in.Stack.Terminate, stack.Postgres) }},
		{"PostgreSQL is killed, and the other worker", func(ctx context.Context) error {
			return errors.Join(in.Stack.Kill(second), in.bounce(ctx, in.Stack.Kill, stack.Postgres), in.bounce(ctx, in.Stack.Terminate, stack.Worker))
		}},
	}
	n := wants(t, 200)
	ids := in.mobileIDs(t, "lock", n)
	bystander := in.mobileIDs(t, "bystander", 1)[0]
	share := (n + len(faults) - 1) / len(faults)
	var during errgroup.Group
	var got []string
	for i, fault := range faults {
		batch := ids[min(n, i*share):min(n, (i+1)*share)]
		before, later := batch[len(batch)/10:], batch[:len(batch)/10]
		applicant := fmt.Sprintf("applicant-%d", i)
		got = append(got, in.apply(t, applicant))

		require.NoError(t, in.Stack.Pause(stack.DevCA))
		in.decide(t, before)
		require.Positive(t, in.open(t, before), "%s: no lock is under way", fault.name)
		for _, id := range later {
			during.Go(func() error { return in.insist(t.Context(), id) })
		}
		during.Go(func() error { return in.scan(t.Context(), applicant) })
		require.NoError(t, in.Stack.Resume(stack.DevCA))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		require.NoError(t, fault.do(ctx), fault.name)
		cancel()
		t.Logf("%s: %d of %d locks with Next are not done", fault.name, in.open(t, ids[:min(n, (i+1)*share)]), min(n, (i+1)*share))
	}
	require.NoError(t, during.Wait())
	for _, id := range ids {
		in.requireLocked(t, id)
	}
	for _, id := range got {
		require.NoError(t, in.CheckActive(t.Context(), id))
	}
	require.NoError(t, in.CheckActive(t.Context(), bystander))
	code, says := in.starter(t, "audit", "verify")
	require.Zero(t, code, says)
	code, says = in.starter(t, "reconcile", "--dry-run")
	require.Zero(t, code, says)
	require.Equal(t, "Nothing is unfinished.", says)
}

// bounce ends a part in a way, and brings it back.
func (in *installation) bounce(ctx context.Context, end func(name string) error, name string) error {
	if err := end(name); err != nil {
		return err
	}
	if err := in.Stack.Restart(name); err != nil {
		return err
	}
	return in.Stack.Await(ctx, name)
}

// decide starts locks, and presses Next: by an update, by one that goes with the start,
// and by a signal without payload, as the Web UI sends it. It returns when the mobile
// IDs of all are locked in Identity Manager.
func (in *installation) decide(t *testing.T, ids []string) {
	t.Helper()
	user := in.Locks.User(owner)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(clients)
	for i, id := range ids {
		group.Go(func() error {
			if i%3 == 0 {
				_, err := user.Lock(ctx, id, client.LockOptions{})
				return err
			}
			if _, err := user.Start(ctx, id, client.LockOptions{}); err != nil {
				return err
			}
			if i%3 == 1 {
				_, err := user.Next(ctx, id, client.LockOptions{})
				return err
			}
			return in.Temporal.SignalWorkflow(ctx, workflows.LockWorkflowID(id), "", workflows.Next, nil)
		})
	}
	require.NoError(t, group.Wait())
	for _, id := range ids {
		require.Eventually(t, func() bool {
			m, err := in.Store.MobileID(t.Context(), id)
			return err == nil && m.State == mobileid.Locked
		}, patience, moment, id)
	}
}

// open counts the mobile IDs that are not at their end in Identity Manager.
func (in *installation) open(t *testing.T, ids []string) int {
	t.Helper()
	open := 0
	for _, id := range ids {
		m, err := in.Store.MobileID(t.Context(), id)
		require.NoError(t, err)
		if m.State != mobileid.Locked || len(m.Open()) > 0 {
			open++
		}
	}
	return open
}

// insist presses Next as somebody does whose page shows an error: once more, until it is
// answered. It is the same Next each time.
func (in *installation) insist(ctx context.Context, id string) error {
	options := client.LockOptions{RequestID: "next-of-" + id}
	return until(ctx, func(ctx context.Context) error {
		_, err := in.Locks.User(owner).Lock(ctx, id, options)
		return err
	})
}

// until repeats what fails for as long as the test is patient.
func until(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(moment)
	defer look.Stop()
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-look.C:
		}
	}
}

// apply brings a new user to where the code is shown, and returns the id of the mobile
// ID that the user is about to get.
func (in *installation) apply(t *testing.T, userID string) (mobileID string) {
	t.Helper()
	user := mobileid.User{ID: userID, Name: userID, Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, in.Store.PutUser(t.Context(), user, userID+"@example.com"))
	_, err := in.Store.PutGrant(t.Context(), userID, "test", time.Hour)
	require.NoError(t, err)
	applicant := in.Gets.User(userID, "")
	_, err = applicant.Start(t.Context())
	require.NoError(t, err)
	_, err = applicant.Next(t.Context())
	require.NoError(t, err)
	shown, err := applicant.Wait(t.Context(), nil, func(s client.GetStatus) bool { return s.Phase == workflows.AwaitingPhone })
	require.NoError(t, err)
	return shown.MobileID
}

// scan shows the code to the user's phone, and returns when the mobile ID is active.
func (in *installation) scan(ctx context.Context, userID string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var code string
	if err := until(ctx, func(ctx context.Context) error {
		shown, err := in.Store.ProvisioningOf(ctx, userID)
		code = shown.URI
		return err
	}); err != nil {
		return fmt.Errorf("code of %s: %w", userID, err)
	}
	if _, err := in.Scan(ctx, code); err != nil {
		return fmt.Errorf("phone of %s: %w", userID, err)
	}
	return until(ctx, func(ctx context.Context) error {
		status, err := in.Gets.User(userID, "").WaitClosed(ctx, nil)
		if err == nil && status.Outcome != workflows.OutcomeActive {
			err = fmt.Errorf("%s has got nothing: %s", userID, status.Outcome)
		}
		return err
	})
}
