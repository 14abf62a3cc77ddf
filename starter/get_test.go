package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkclient "go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// getting is a running stack with what a Get needs.
type getting struct {
	demo     *demo.Demo
	temporal sdkclient.Client
	queue    string // task queue of the worker
	secrets  secrets

	mu   sync.Mutex
	gets []string // workflow ids of Gets that showed a code
}

// scan shows the code to a phone, and returns what the phone says of it.
func (g *getting) scan(ctx context.Context, code string, wrong phone.Misbehaviour) (*phone.Profile, error) {
	messaging := filepath.Join(g.demo.Stack.Dir, "messaging")
	return phone.Scan(ctx, code, phone.Options{
		Dir: filepath.Join(g.demo.Stack.Dir, "phone"), Poll: 50 * time.Millisecond, Misbehave: wrong,
		AttestationKeyFile: filepath.Join(messaging, embedded.AttestationKeyFile), ServerCAFile: filepath.Join(messaging, embedded.ServerCAFile),
	})
}

// A user who lost a phone ends with a new mobile ID on another one, and whatever a
// phone does wrong, nothing is left behind.
func TestGetMobileID(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
		Get: map[string]any{"key_types": []string{"EC-P-256"}},
	}, func(ctx context.Context, d *demo.Demo) error {
		temporal, c, err := p.connect(ctx)
		require.NoError(t, err)
		defer temporal.Close()
		g := &getting{demo: d, temporal: temporal, queue: c.TaskQueue}
		gets := client.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(nil), client.WithAcceptWait(soon))
		d.Locks = client.New(temporal, c.TaskQueue, client.WithAcceptWait(soon))

		t.Run("without a grant", func(t *testing.T) {
			_, err := gets.User("anna", "").Start(ctx)
			require.ErrorIs(t, err, mobileid.ErrNotEntitled)
		})
		t.Run("after the lock of the old one", func(t *testing.T) { g.afterLock(ctx, t, gets.User("anna", "")) })
		t.Run("command line", func(t *testing.T) { g.commandLine(ctx, t) })
		t.Run("a phone that misbehaves", func(t *testing.T) { g.misbehaving(ctx, t, gets.User("carl", "")) })
		t.Run("the command line alone", func(t *testing.T) { g.commandLineAlone(ctx, t) })
		t.Run("every option", func(t *testing.T) { g.everyOption(ctx, t, built.worker) })
		t.Run("nothing secret is seen", func(t *testing.T) { g.requireNothingSeen(ctx, t) })
		code, stdout, stderr := command(t, "audit", "verify")
		require.Equal(t, exitDone, code, stdout+stderr)
		return nil
	})
	require.NoError(t, err, out.String())
}

// commandLine keeps the old mobile ID first, and then has a lock go on to a new one.
func (g *getting) commandLine(ctx context.Context, t *testing.T) {
	t.Helper()
	for range 2 { // the second one joins, and leaves the grant as it is
		code, stdout, stderr := g.command(t, "get", "--user", "bert")
		require.Equal(t, exitDone, code, stderr)
		require.Contains(t, stdout, "Mobile ID mid-1002 is active: lock it first (--lock), or keep it")
	}
	code, stdout, stderr := g.command(t, "get", "cancel", "--user", "bert")
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "Cancelled. Nothing was changed.")
	m, err := g.demo.Store.MobileID(ctx, "mid-1002")
	require.NoError(t, err)
	require.Equal(t, mobileid.Active, m.State)

	code, _, stderr = g.command(t, "lock", "mid-1002", "--user", "bert", "--yes", "--then-get")
	require.Equal(t, exitDone, code, stderr)
	var shown client.GetStatus
	require.Eventually(t, func() bool {
		code, stdout, _ := g.command(t, "-o", "json", "get", "status", "--user", "bert")
		return code == exitDone && json.Unmarshal([]byte(stdout), &shown) == nil && shown.Phase == workflows.AwaitingConfirmation
	}, soon, 100*time.Millisecond)
	code, stdout, stderr = g.command(t, "audit", "show", shown.MobileID)
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "granted")
	require.Regexp(t, `for +bert`, stdout)
	code, stdout, stderr = g.command(t, "get", "cancel", "--user", "bert")
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "Cancelled. No new mobile ID was made; the lock of the old one stays.")
}

// What a Get says of itself is true, and in words.
func TestGetHeadline(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	status := func(change func(*client.GetStatus)) client.GetStatus {
		var s client.GetStatus
		s.MobileID, s.Phase = "mid-2", workflows.Closed
		change(&s)
		return s
	}
	failure := &mobileid.Failure{Type: mobileid.FailurePhoneSilent, Message: "the phone did not answer in time"}
	locked := &workflows.Execution{WorkflowID: workflows.LockWorkflowID("mid-1")}
	for _, row := range []struct {
		name   string
		status client.GetStatus
		says   string
	}{
		{"no worker", client.GetStatus{Stored: true}, "Stored. No worker answers now"},
		{"active", status(func(s *client.GetStatus) {
			s.Outcome, s.Certificates = workflows.OutcomeActive, make([]mobileid.CertificateResult, 2)
		}), "The new mobile ID mid-2 is active: it is on the phone, with 2 certificates."},
		{"cancelled", status(func(s *client.GetStatus) { s.Outcome = workflows.OutcomeCancelled }), "Cancelled. Nothing was changed."},
		{"cancelled after a lock", status(func(s *client.GetStatus) { s.Outcome, s.Lock = workflows.OutcomeCancelled, locked }), "the lock of the old one stays"},
		{"expired", status(func(s *client.GetStatus) { s.Outcome = workflows.OutcomeExpired }), "Never answered, so the process has ended. Nothing was changed."},
		{"expired after a lock", status(func(s *client.GetStatus) { s.Outcome, s.Lock = workflows.OutcomeExpired, locked }), "the lock of the old one stays"},
		{"failed", status(func(s *client.GetStatus) { s.Outcome, s.Failure = workflows.OutcomeFailed, failure }), "No mobile ID came of it: the phone did not answer in time. Nothing is left behind"},
		{"being taken back", status(func(s *client.GetStatus) { s.Phase, s.Failure = workflows.TakingBack, failure }), "What was issued is being revoked."},
		{"an old one", status(func(s *client.GetStatus) {
			s.Phase, s.Live, s.Deadline = workflows.AwaitingConfirmation, "mid-1", at
		}), "Mobile ID mid-1 is active: lock it first (--lock), or keep it, until 2026-03-01T12:00:00Z."},
		{"unanswered", status(func(s *client.GetStatus) { s.Phase, s.Deadline = workflows.AwaitingConfirmation, at }), "Waits for Next or Cancel until 2026"},
		{"shown", status(func(s *client.GetStatus) { s.Phase, s.Deadline = workflows.AwaitingPhone, at }), "The QR code waits to be scanned until 2026"},
		{"ended from outside", status(func(s *client.GetStatus) { s.Phase, s.Stopped = workflows.AwaitingPhone, true }), "It was ended from outside (awaitingPhone), and nothing goes on."},
		{"under way", status(func(s *client.GetStatus) { s.Phase = workflows.Issuing }), "The CA certifies the phone's keys."},
	} {
		t.Run(row.name, func(t *testing.T) { require.Contains(t, getHeadline(row.status), row.says) })
	}
}

// commandLineAlone gets a mobile ID by nothing but commands, those of the phone, too.
func (g *getting) commandLineAlone(ctx context.Context, t *testing.T) {
	t.Helper()
	user := mobileid.User{ID: "dora", Name: "Dora Dahl", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	require.NoError(t, g.demo.Store.PutUser(ctx, user, "dora@example.com"))
	picture := filepath.Join(t.TempDir(), "qr.png")
	got := make(chan struct{})
	go func() {
		defer close(got)
		code, stdout, stderr := g.command(t, "get", "--user", "dora", "--yes", "--qr-file", picture)
		assert.Equal(t, exitDone, code, stderr)
		assert.Regexp(t, `^The new mobile ID mid-[0-9a-f]{32} is active: it is on the phone, with 2 certificates\.\n`, stdout)
		assert.Contains(t, stderr, "Scan "+picture+" with the app until ")
		assert.Contains(t, stderr, "The phone is waited for ...\n")
	}()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(picture)
		if err != nil || len(text) == 0 {
			return false
		}
		_, err = phone.ReadPNG(bytes.NewReader(text))
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	id := workflows.GetWorkflowID("dora")
	provisioning, err := g.demo.Store.ProvisioningOf(ctx, "dora")
	require.NoError(t, err)
	require.Equal(t, provisioning.URI, g.code(ctx, t, id, provisioning.MobileID))
	if zbarimg, err := exec.LookPath("zbarimg"); err == nil {
		read, err := exec.CommandContext(ctx, zbarimg, "--quiet", "--raw", picture).Output()
		require.NoError(t, err)
		require.Equal(t, provisioning.URI+"\n", string(read), "an independent decoder reads what the store holds")
	}
	for _, args := range [][]string{{"get", "status", "--user", "dora"}, {"-o", "json", "get", "status", "--user", "dora"}} {
		code, stdout, stderr := g.command(t, args...)
		require.Equal(t, exitDone, code, stderr)
		require.Contains(t, stdout, provisioning.MobileID)
	}
	code, stdout, stderr := g.command(t, "phone", "scan", picture, "--dir", filepath.Join(g.demo.Stack.Dir, "phone"), "--messaging", filepath.Join(g.demo.Stack.Dir, "messaging"))
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, `The phone has "MobileID Dora Dahl"`)
	<-got
}

// afterLock goes the way of the dashboard: lock the old one, then get a new one.
func (g *getting) afterLock(ctx context.Context, t *testing.T, anna *client.Applicant) {
	t.Helper()
	_, err := g.demo.Store.PutGrant(ctx, "anna", "test", time.Hour)
	require.NoError(t, err)
	_, err = g.demo.Locks.User("anna").Lock(ctx, "mid-1001", client.LockOptions{ThenGet: true})
	require.NoError(t, err)
	lock, err := g.demo.Locks.User("anna").WaitClosed(ctx, "mid-1001", nil)
	require.NoError(t, err)
	require.NotNil(t, lock.Get, "the lock shows what it goes on to")
	require.Equal(t, workflows.GetWorkflowID("anna"), lock.Get.WorkflowID)

	waiting, err := anna.Wait(ctx, nil, func(s client.GetStatus) bool { return s.Phase == workflows.AwaitingConfirmation })
	require.NoError(t, err)
	require.Equal(t, workflows.LockWorkflowID("mid-1001"), waiting.Lock.WorkflowID, "and the Get shows where it comes from")
	shown, err := anna.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, workflows.AwaitingPhone, shown.Phase)
	profile, err := g.scan(ctx, g.code(ctx, t, shown.WorkflowID, shown.MobileID), phone.WellBehaved)
	require.NoError(t, err)
	require.NoError(t, profile.Prove("authentication", []byte("challenge")))
	done, err := anna.WaitClosed(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeActive, done.Outcome)

	fresh, err := g.demo.Store.MobileID(ctx, shown.MobileID)
	require.NoError(t, err)
	require.Equal(t, mobileid.Active, fresh.State)
	require.Len(t, fresh.Certificates, 2)
	for _, c := range fresh.Certificates {
		require.Equal(t, mobileid.CertificateValid, c.State)
	}
	old, err := g.demo.Store.MobileID(ctx, "mid-1001")
	require.NoError(t, err)
	require.Equal(t, mobileid.Locked, old.State)
	require.Empty(t, old.Open())
}

// misbehaving tries phones that do something wrong, one after the other.
func (g *getting) misbehaving(ctx context.Context, t *testing.T, carl *client.Applicant) {
	t.Helper()
	_, err := g.demo.Locks.User("carl").Lock(ctx, "mid-1003", client.LockOptions{})
	require.NoError(t, err)
	_, err = g.demo.Locks.User("carl").WaitClosed(ctx, "mid-1003", nil)
	require.NoError(t, err)
	for wrong, want := range map[phone.Misbehaviour]mobileid.FailureType{
		phone.WrongNonce:       mobileid.FailureWrongNonce,
		phone.ForeignKey:       mobileid.FailureBadSignature,
		phone.ForeignSubject:   mobileid.FailureBadRequest,
		phone.BrokenRequest:    mobileid.FailureBadRequest,
		phone.RefuseKeys:       mobileid.FailurePhoneRefused,
		phone.RefuseInstalling: mobileid.FailurePhoneRefused,
	} {
		t.Run(string(wrong), func(t *testing.T) {
			_, err := g.demo.Store.PutGrant(ctx, "carl", "test", time.Hour)
			require.NoError(t, err)
			_, err = carl.Start(ctx)
			require.NoError(t, err)
			shown, err := carl.Next(ctx)
			require.NoError(t, err)
			scanning, cancel := context.WithCancel(ctx)
			defer cancel()
			code := g.code(ctx, t, shown.WorkflowID, shown.MobileID)
			go func() { _, _ = g.scan(scanning, code, wrong) }() // the process says what came of it
			done, err := carl.WaitClosed(ctx, nil)
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeFailed, done.Outcome)
			require.Equal(t, want, done.Failure.Type, done.Failure.Message)
			m, err := g.demo.Store.MobileID(ctx, shown.MobileID)
			require.NoError(t, err)
			require.Equal(t, mobileid.Locked, m.State)
			require.Empty(t, m.Open(), "nothing live is left behind")
		})
	}
}
