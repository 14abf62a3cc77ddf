package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkclient "go.temporal.io/sdk/client"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/encryption"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/starter/stack/postgres"
	"mobileid/workflows"
)

// operator has what stands on the operating page, and an installation to do it on.
type operator struct {
	*operatorScripts
	built    programs
	temporal sdkclient.Client // without the keys, so it sees what the server has
	commands map[string]string
	env      []string
	keyset   string
	database string // URL of the store
	stuck    string // a mobile ID whose lock waits for an operator
}

// taskRow finds the rows of the page's table of tasks.
var taskRow = regexp.MustCompile("(?m)^\\| ([a-zA-Z ]+) \\| `([^`]+)` \\| [^|]+ \\|$")

// readTasks reads the table, which is the one under its heading.
func readTasks(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Twelve tasks\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	commands := map[string]string{}
	for _, row := range taskRow.FindAllStringSubmatch(section, -1) {
		commands[row[1]] = row[2]
	}
	return commands
}

// Each task of the operating page is done by its one command, as it stands there, on
// the whole installation with the store on PostgreSQL and encrypted histories. What came
// of it is read from the store, the CA, the server and the processes.
func TestOperatorTasks(t *testing.T) {
	built := build(t)
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	server, err := postgres.Start()
	if errors.Is(err, postgres.ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	require.NoError(t, server.CreateDatabase(t.Context(), "im"))

	p, out := inNewFolder(t)
	require.NoError(t, os.Symlink(filepath.Join(root, "scripts"), "scripts"))
	codec := freeAddress(t)
	o := &operator{
		built: built, commands: readTasks(t, filepath.Join(root, "docs", "operating.md")), database: server.URL("im"),
		keyset: filepath.Join(t.TempDir(), "keyset.json"),
		env: []string{
			"PATH=" + strings.Join([]string{filepath.Dir(built.starter), filepath.Dir(built.temporal), os.Getenv("PATH")}, string(os.PathListSeparator)),
			"TEMPORAL_PROGRAM=" + built.temporal, "TEMPORAL_CODEC_ENDPOINT=http://" + codec,
		},
	}
	_, err = encryption.Create(o.keyset)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*demoTimeout)
	defer cancel()
	err = p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
		CA: map[string]any{"call_timeout": "1m"}, // while it stands still, a call is not given up
		Sections: map[string]any{
			"store":        map[string]any{"driver": "postgres", "dsn": o.database},
			"encryption":   map[string]any{"keyset_file": o.keyset},
			"codec_server": map[string]any{"address": codec, "encode": true},
		},
	}, func(ctx context.Context, d *demo.Demo) error {
		o.operatorScripts = &operatorScripts{d: d, devca: devcaDriver(t, d), prefix: "task"}
		o.temporal, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: d.Stack.TemporalAddress})
		require.NoError(t, err)
		defer o.temporal.Close()
		require.NoError(t, d.Stack.Run("codec", built.starter, "codec", "serve"))
		o.test(t)
		return nil
	})
	require.NoError(t, err, out.String())
}

func (o *operator) test(t *testing.T) {
	tasks := []struct {
		name string
		test func(t *testing.T, command string)
	}{
		{"find what is stuck", o.findStuck},
		{"see why", o.seeWhy},
		{"retry one", o.retryOne},
		{"retry all after an outage", o.retryAll},
		{"lock for a user", o.lockForAUser},
		{"cancel before Next", o.cancelBeforeNext},
		{"prove a lock for an audit", o.proveALock},
		{"see what expires at the CAs", o.seeWhatExpires},
		{"drain a worker", o.drainAWorker},
		{"roll back a build", o.rollBackABuild},
		{"rotate the codec key", o.rotateTheCodecKey},
		{"restore the store", o.restoreTheStore},
	}
	require.Len(t, tasks, 12)
	require.Len(t, o.commands, len(tasks), "the page's table and this one: %v", o.commands)
	for _, task := range tasks {
		passed := t.Run(task.name, func(t *testing.T) {
			command := o.commands[task.name]
			require.NotEmpty(t, command, "it stands on the page")
			task.test(t, command)
		})
		if !passed {
			return // the next ones go on where it stopped
		}
	}
}

// do has a shell run a command of the page, with ids of ours in the place of those of
// the page, and returns what it says once it is done.
func (o *operator) do(t *testing.T, command string, replace ...string) string {
	t.Helper()
	code, stdout, stderr := o.shell(t, replaced(t, command, replace...))
	require.Equal(t, exitDone, code, stdout+stderr)
	return stdout
}

// until runs a command that changes nothing until it says something, and returns all
// that it says then.
func (o *operator) until(t *testing.T, line, says string) string {
	t.Helper()
	var code int
	var stdout, stderr string
	for end := time.Now().Add(2 * soon); ; {
		code, stdout, stderr = o.shell(t, line)
		if code == exitDone && strings.Contains(stdout, says) {
			return stdout
		}
		require.True(t, time.Now().Before(end), "%s: exit code %d\n%s%s", line, code, stdout, stderr)
	}
}

func replaced(t *testing.T, command string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, command, replace[i], "the command of the page has it")
	}
	return strings.NewReplacer(replace...).Replace(command)
}

func (o *operator) shell(t *testing.T, line string) (code int, stdout, stderr string) {
	t.Helper()
	return o.begin(t, line)()
}

// begin starts a command line, and end waits for its end.
func (o *operator) begin(t *testing.T, line string) (end func() (code int, stdout, stderr string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), o.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Start())
	return func() (int, string, string) {
		defer cancel()
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			require.NoError(t, err, line)
		}
		require.NoError(t, ctx.Err(), "%s\n%s%s", line, &out, &errs)
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
}

// requireAtCA asks the CA itself about the certificates of a mobile ID.
func (o *operator) requireAtCA(t *testing.T, id string, status mobileid.Status) {
	t.Helper()
	m, err := o.d.Store.MobileID(t.Context(), id)
	require.NoError(t, err)
	require.NotEmpty(t, m.Certificates)
	for _, c := range m.Certificates {
		evidence, err := o.devca.Status(t.Context(), ca.Certificate{CertificateID: c.CertificateID, DER: c.DER})
		require.NoError(t, err)
		require.Equal(t, status, evidence.Status)
	}
}

// requireLocked looks for the three end states.
func (o *operator) requireLocked(t *testing.T, id string) client.Status {
	t.Helper()
	status := o.closed(t, id)
	o.requireState(t, id, mobileid.Locked, mobileid.CertificateRevoked)
	o.requireAtCA(t, id, mobileid.StatusRevoked)
	return status
}

// requested is a mobile ID of Anna whose lock waits for Next.
func (o *operator) requested(t *testing.T) string {
	t.Helper()
	id := o.mobileID(t, "anna", 1)
	_, err := o.d.Locks.User("anna").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	return id
}

// next presses Next and does not wait.
func (o *operator) next(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, o.temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
}

// findStuck finds a lock whose mobile ID changed hands between the page and Next, and
// no other.
func (o *operator) findStuck(t *testing.T, command string) {
	healthy := o.requested(t)
	o.stuck = o.requested(t)
	require.NoError(t, o.d.Store.ChangeOwner(t.Context(), o.stuck, "bert"))
	o.next(t, o.stuck)
	list := o.until(t, command, o.stuck) // the list lags a moment behind
	require.NotContains(t, list, healthy)
	require.Contains(t, list, string(workflows.NeedsOperator))
	o.requireState(t, o.stuck, mobileid.Active, mobileid.CertificateValid)
	o.requireAtCA(t, o.stuck, mobileid.StatusGood)
}

func (o *operator) seeWhy(t *testing.T, command string) {
	said := o.until(t, replaced(t, command, "mid-1001", o.stuck), "Needs an operator: mend the cause, then send retry")
	require.Contains(t, said, "belongs to another user by now")
}

func (o *operator) retryOne(t *testing.T, command string) {
	require.NoError(t, o.d.Store.ChangeOwner(t.Context(), o.stuck, "anna")) // the cause is mended
	require.Equal(t, "retried\n", o.do(t, command, "mid-1001", o.stuck))
	require.Equal(t, 1, o.requireLocked(t, o.stuck).Retries)
}

// retryAll is sent a moment before the CA is back, so that no lock can have gone on by
// itself.
func (o *operator) retryAll(t *testing.T, command string) {
	ids := []string{o.requested(t), o.requested(t), o.requested(t)}
	process, ok := o.d.Stack.Process("devca")
	require.True(t, ok)
	require.NoError(t, process.Kill())
	<-o.d.Stack.Ended("devca")
	for _, id := range ids {
		o.next(t, id)
	}
	all := func(text string) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return !strings.Contains(text, id+"\t") && !strings.Contains(text, id+" ") })
	}
	require.Eventually(t, func() bool {
		_, list, _ := o.shell(t, "scripts/list --overdue 5s")
		return all(list)
	}, 2*soon, 100*time.Millisecond)
	said := o.do(t, command)
	require.NoError(t, o.d.Stack.Restart("devca"))
	require.True(t, all(said), said)
	require.Equal(t, len(ids), strings.Count(said, "\tretried\n"), said)
	for _, id := range ids {
		require.Equal(t, 1, o.requireLocked(t, id).Retries)
	}
}

func (o *operator) lockForAUser(t *testing.T, command string) {
	id := o.mobileID(t, "anna", 2)
	require.Contains(t, o.do(t, command, "mid-1001", id, "anna", "anna"), "is locked, and its certificates are revoked")
	o.requireLocked(t, id)
	decision, process := o.decision(t, id)
	require.Empty(t, decision.UserID, "an operator decided, and no user")
	require.NotEmpty(t, decision.By)
	require.Equal(t, workflows.LockForOperator, process)
}

func (o *operator) cancelBeforeNext(t *testing.T, command string) {
	id := o.requested(t)
	require.Contains(t, o.do(t, command, "mid-1001", id), "Nothing was changed")
	require.Equal(t, workflows.OutcomeCancelled, o.closed(t, id).Outcome)
	o.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
	o.requireAtCA(t, id, mobileid.StatusGood)
	trail, err := o.d.Store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, mobileid.EventCancelled, trail[len(trail)-1].Record.Event)
}

// proveALock runs what the record says anybody can run, and the same about a
// certificate that nobody has revoked.
func (o *operator) proveALock(t *testing.T, command string) {
	id, bystander := o.mobileID(t, "anna", 1), o.mobileID(t, "anna", 1)
	_, err := o.d.Locks.User("anna").Lock(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	o.requireLocked(t, id)
	said := o.do(t, command, "mid-1001", id)
	require.Contains(t, said, "each as it was written, none missing")
	require.Contains(t, said, "user anna")
	ocsp := regexp.MustCompile(`(?m)^  (openssl ocsp .*)$`).FindStringSubmatch(said)
	crl := regexp.MustCompile(`(?m)^  (curl .*)$`).FindStringSubmatch(said)
	require.Len(t, ocsp, 2, said)
	require.Len(t, crl, 2, said)
	_, stdout, stderr := o.shell(t, ocsp[1])
	require.Contains(t, stdout+stderr, "Response verify OK")
	require.Contains(t, stdout, ": revoked")
	_, stdout, stderr = o.shell(t, crl[1])
	require.Contains(t, stdout+stderr, "verify OK")
	require.Contains(t, stdout, "Revocation Date")

	serial := func(id string) string {
		m, err := o.d.Store.MobileID(t.Context(), id)
		require.NoError(t, err)
		return m.Certificates[0].Serial
	}
	_, stdout, stderr = o.shell(t, strings.ReplaceAll(ocsp[1], serial(id), serial(bystander)))
	require.Contains(t, stdout, ": good", stderr)
}

// seeWhatExpires compares with the files of the CA.
func (o *operator) seeWhatExpires(t *testing.T, command string) {
	said := o.do(t, command)
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(".dev", "ca", name))
		require.NoError(t, err)
		block, _ := pem.Decode(text)
		require.NotNil(t, block)
		return block.Bytes
	}
	for _, name := range []string{"client.pem", "ca.pem"} {
		c, err := x509.ParseCertificate(read(name))
		require.NoError(t, err)
		require.Contains(t, said, when(c.NotAfter), name)
	}
	crl, err := x509.ParseRevocationList(read("crl.pem"))
	require.NoError(t, err)
	require.Contains(t, said, when(crl.NextUpdate))
}

// runWorker starts one more worker, under a version unless build is empty.
func (o *operator) runWorker(t *testing.T, name, build string) {
	t.Helper()
	if build != "" {
		for variable, value := range map[string]string{"TEMPORAL_DEPLOYMENT_NAME": "mobileid", "TEMPORAL_WORKER_BUILD_ID": build} {
			require.NoError(t, os.Setenv(variable, value))
			defer os.Unsetenv(variable)
		}
	}
	require.NoError(t, o.d.Stack.Run(name, o.built.worker, "--worker.health_address", "", "--messaging.callback_address", ""))
}

// drainAWorker stops the one that holds a revocation, which the CA is slow with: it is
// not cut off, and the rest of the lock goes on at another worker.
func (o *operator) drainAWorker(t *testing.T, command string) {
	devca, ok := o.d.Stack.Process("devca")
	require.True(t, ok)
	worker, ok := o.d.Stack.Process("worker")
	require.True(t, ok)
	id := o.mobileID(t, "anna", 1)
	require.NoError(t, devca.Signal(syscall.SIGSTOP))
	defer func() { _ = devca.Signal(syscall.SIGCONT) }()
	_, err := o.d.Locks.User("anna").Lock(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := o.d.Locks.User("anna").Status(t.Context(), id)
		return err == nil && len(status.Steps) == 1 && status.Steps[0].State == "Started"
	}, soon, 20*time.Millisecond, "the revocation is under way")

	end := o.begin(t, replaced(t, command, "4711", fmt.Sprint(worker.Pid)))
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(filepath.Join(".dev", "log", "worker.log"))
		return err == nil && strings.Contains(string(log), "Stopping: running activities may end")
	}, soon, 20*time.Millisecond)
	select {
	case <-o.d.Stack.Ended("worker"):
		require.Fail(t, "it has not waited for what runs")
	default:
	}
	o.runWorker(t, "worker-2", "")
	require.NoError(t, devca.Signal(syscall.SIGCONT))
	code, stdout, stderr := end()
	require.Equal(t, exitDone, code, stderr)
	require.Equal(t, fmt.Sprintf("worker %d has ended\n", worker.Pid), stdout)
	<-o.d.Stack.Ended("worker")
	o.requireLocked(t, id)
	tries, revocation := 0, int64(0)
	for _, e := range o.history(t, id) {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.GetActivityType().GetName() == activities.RevokeAtCAName {
			revocation = e.GetEventId()
		}
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil && a.GetScheduledEventId() == revocation {
			require.EqualValues(t, 1, a.GetAttempt(), "it was not cut off")
			tries++
		}
	}
	require.Equal(t, 1, tries)
}

// history is what the server has of the last lock of a mobile ID.
func (o *operator) history(t *testing.T, id string) []*historypb.HistoryEvent {
	t.Helper()
	var events []*historypb.HistoryEvent
	all := o.temporal.GetWorkflowHistory(t.Context(), workflows.LockWorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for all.HasNext() {
		event, err := all.Next()
		require.NoError(t, err)
		events = append(events, event)
	}
	return events
}

// build is the version of the worker that had the last task of a lock.
func (o *operator) build(t *testing.T, id string) string {
	t.Helper()
	described, err := o.temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID(id), "")
	require.NoError(t, err)
	return described.GetWorkflowExecutionInfo().GetVersioningInfo().GetDeploymentVersion().GetBuildId()
}

// rollBackABuild goes back from v8 to v7: new locks run there, and one that was open.
func (o *operator) rollBackABuild(t *testing.T, command string) {
	o.runWorker(t, "worker-v7", "v7")
	o.runWorker(t, "worker-v8", "v8")
	deployment := o.temporal.WorkerDeploymentClient().GetHandle("mobileid")
	require.Eventually(t, func() bool {
		described, err := deployment.Describe(t.Context(), sdkclient.WorkerDeploymentDescribeOptions{})
		return err == nil && len(described.Info.VersionSummaries) == 2
	}, soon, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := deployment.SetCurrentVersion(t.Context(), sdkclient.WorkerDeploymentSetCurrentVersionOptions{BuildID: "v8"})
		return err == nil
	}, soon, 100*time.Millisecond)
	lockAt := func(build string) {
		require.Eventually(t, func() bool { // routing spreads through the server
			id := o.mobileID(t, "anna", 1)
			_, err := o.d.Locks.User("anna").Lock(t.Context(), id, client.LockOptions{})
			require.NoError(t, err)
			o.requireLocked(t, id)
			return o.build(t, id) == build
		}, soon, 10*time.Millisecond)
	}
	lockAt("v8")
	open := o.requested(t)
	require.Equal(t, "v8", o.build(t, open))

	o.do(t, command, "v7", "v7")
	lockAt("v7")
	o.next(t, open)
	o.requireLocked(t, open)
	require.Equal(t, "v7", o.build(t, open))
}

// keyOf is the key that a payload is encrypted under.
func keyOf(t *testing.T, payloads *commonpb.Payloads) string {
	t.Helper()
	require.Len(t, payloads.GetPayloads(), 1)
	return string(payloads.GetPayloads()[0].GetMetadata()[encryption.MetadataKeyID])
}

// rotateTheCodecKey looks at what is stored: input of a client, result of a worker.
func (o *operator) rotateTheCodecKey(t *testing.T, command string) {
	lock := func() (id, input, result string) {
		id = o.mobileID(t, "anna", 1)
		_, err := o.d.Locks.User("anna").Lock(t.Context(), id, client.LockOptions{})
		require.NoError(t, err)
		o.requireLocked(t, id)
		history := o.history(t, id)
		return id, keyOf(t, history[0].GetWorkflowExecutionStartedEventAttributes().GetInput()),
			keyOf(t, history[len(history)-1].GetWorkflowExecutionCompletedEventAttributes().GetResult())
	}
	before, err := encryption.List(o.keyset)
	require.NoError(t, err)
	require.Len(t, before, 1)
	earlier, input, result := lock()
	require.Equal(t, []string{fmt.Sprint(before[0].ID), fmt.Sprint(before[0].ID)}, []string{input, result})

	o.do(t, command)
	after, err := encryption.List(o.keyset)
	require.NoError(t, err)
	require.Len(t, after, 2)
	require.Equal(t, before[0].ID, after[0].ID)
	require.True(t, after[1].Primary)
	_, input, result = lock()
	require.Equal(t, []string{fmt.Sprint(after[1].ID), fmt.Sprint(after[1].ID)}, []string{input, result})
	_, stdout, stderr := o.shell(t, "scripts/status "+earlier)
	require.Contains(t, stdout, "is locked, and its certificates are revoked", "what is under the old key is read: %s", stderr)
}

// restoreTheStore sets it back to before a lock.
func (o *operator) restoreTheStore(t *testing.T, command string) {
	kept, forgotten := o.mobileID(t, "anna", 1), o.mobileID(t, "anna", 2)
	anna := o.d.Locks.User("anna")
	_, err := anna.Lock(t.Context(), kept, client.LockOptions{})
	require.NoError(t, err)
	o.requireLocked(t, kept)
	backup := filepath.Join(t.TempDir(), "of this night.dump")
	output, err := exec.CommandContext(t.Context(), "pg_dump", "--format=custom", "--file="+backup, "--dbname="+o.database).CombinedOutput()
	require.NoError(t, err, "%s", output)
	_, err = anna.Lock(t.Context(), forgotten, client.LockOptions{})
	require.NoError(t, err)
	o.requireLocked(t, forgotten)
	before := o.closed(t, forgotten)

	said := o.do(t, command, "im.dump", "'"+backup+"'")
	require.Contains(t, said, "each as it was written, none missing")
	require.Regexp(t, `(?m)^`+regexp.QuoteMeta(forgotten)+` .* started$`, said)
	require.NotRegexp(t, `(?m)^`+regexp.QuoteMeta(kept)+` `, said)
	status := o.requireLocked(t, forgotten)
	require.NotEqual(t, before.RunID, status.RunID)
	for _, c := range status.Certificates {
		require.Equal(t, mobileid.OutcomeAlreadyRevoked, c.Outcome)
	}
	decision, _ := o.decision(t, forgotten)
	require.Equal(t, workflows.Reconciliation, decision.By, "the store has forgotten who locked it first")
	decision, _ = o.decision(t, kept)
	require.Equal(t, "anna", decision.UserID)
	report, err := o.d.Store.VerifyAudit(t.Context(), "", nil, nil)
	require.NoError(t, err)
	require.Zero(t, report.Total)
}
