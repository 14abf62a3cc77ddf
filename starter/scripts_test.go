package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
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
	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/encryption"
	"mobileid/encryption/codecserver"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// soon is more than anything takes on a machine that has other things to do.
const soon = 2 * time.Minute

// operatorScripts runs the scripts with one of the two programs.
type operatorScripts struct {
	dir     string // of the scripts
	program string // tctl or temporal, a path
	d       *demo.Demo
	devca   *devca.Driver
	prefix  string // of the ids that this program locks
	made    int
}

// run runs one script. Arguments reach it as they are: no shell reads them.
func (s *operatorScripts) run(t *testing.T, script string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return s.runIn(t, nil, script, args...)
}

func (s *operatorScripts) runIn(t *testing.T, env []string, script string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, script), args...)
	cmd.Env = append(append(os.Environ(), "TEMPORAL_PROGRAM="+s.program), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "%s %v: %s%s", script, args, &out, &errs)
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// mobileID makes an active mobile ID of a user, with certificates of devca.
func (s *operatorScripts) mobileID(t *testing.T, owner string, certificates int) string {
	t.Helper()
	var kept []mobileid.Certificate
	for range certificates {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: owner}}, key)
		require.NoError(t, err)
		issued, err := s.devca.Issue(t.Context(), csr, "authentication", 730)
		require.NoError(t, err)
		c, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
		require.NoError(t, err)
		kept = append(kept, c)
	}
	return s.create(t, owner, kept...)
}

// incurable makes one with a certificate of a CA that nobody has configured.
func (s *operatorScripts) incurable(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Nobody's CA"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	c, err := mobileid.NewCertificate(parsed, mobileid.CertificateValid)
	require.NoError(t, err)
	return s.create(t, "anna", c)
}

func (s *operatorScripts) create(t *testing.T, owner string, certificates ...mobileid.Certificate) string {
	t.Helper()
	s.made++
	id := fmt.Sprintf("%s.%d", s.prefix, s.made)
	require.NoError(t, s.d.Store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: id, Name: "phone", Owner: mobileid.User{ID: owner}, State: mobileid.Active, Certificates: certificates,
	}))
	return id
}

func (s *operatorScripts) requireState(t *testing.T, id string, state mobileid.State, certificates mobileid.CertificateState) {
	t.Helper()
	m, err := s.d.Store.MobileID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, state, m.State)
	for _, c := range m.Certificates {
		require.Equal(t, certificates, c.State)
	}
}

// decision is who the audit says locked a mobile ID, and by which process.
func (s *operatorScripts) decision(t *testing.T, id string) (mobileid.Decision, string) {
	t.Helper()
	trail, err := s.d.Store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	at := slices.IndexFunc(trail, func(r identitymanager.AuditRecord) bool { return r.Record.Event == mobileid.EventLocked })
	require.GreaterOrEqual(t, at, 0, "%+v", trail)
	return trail[at].Record.Decision, trail[at].Record.Process.Name
}

// closed waits until a lock is closed, and so until others can see the revocation.
func (s *operatorScripts) closed(t *testing.T, id string) client.Status {
	t.Helper()
	status, err := s.d.Locks.Operator("test").WaitClosed(t.Context(), id, nil)
	require.NoError(t, err)
	return status
}

func findTctl(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("tctl"); err == nil {
		return path
	}
	path, err := filepath.Abs(filepath.Join("..", ".bin", "tctl"))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skip("tctl is missing: run 'make tools'")
	}
	return path
}

// The same cases with both programs, on the whole installation.
func TestScripts(t *testing.T) {
	built := build(t)
	tctl := findTctl(t)
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*demoTimeout)
	defer cancel()
	err = p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
	}, func(ctx context.Context, d *demo.Demo) error {
		driver := devcaDriver(t, d)
		for _, program := range []string{built.temporal, tctl} {
			name := filepath.Base(program)
			s := &operatorScripts{dir: filepath.Join(root, "scripts"), program: program, d: d, devca: driver, prefix: name}
			t.Run(name, s.test)
		}
		t.Run("views of the operating page", func(t *testing.T) { checkViews(t, d, filepath.Join(root, "docs", "operating.md")) })
		return nil
	})
	require.NoError(t, err, out.String())
}

func devcaDriver(t *testing.T, d *demo.Demo) *devca.Driver {
	t.Helper()
	ca := filepath.Join(d.Stack.Dir, "ca")
	driver, err := devca.NewDriver(devca.DriverOptions{
		URL: d.Stack.CA.APIURL, ClientCertFile: filepath.Join(ca, "client.pem"), ClientKeyFile: filepath.Join(ca, "client.key"),
		ServerCAFile: filepath.Join(ca, "tls-ca.pem"), Timeout: soon,
	})
	require.NoError(t, err)
	return driver
}

func (s *operatorScripts) test(t *testing.T) {
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"command line", s.testCommandLine},
		{"cancelled", s.testCancelled},
		{"locked", s.testLocked},
		{"refused", s.testRefused},
		{"joins the user's lock", s.testJoinsTheUsers},
		{"resume presses nothing", s.testResumePressesNothing},
		{"the user joins the operator's", s.testUserJoins},
		{"next", s.testNext},
		{"terminated", s.testTerminated},
		{"status shows the step under way", s.testStep},
		{"needs an operator", s.testNeedsOperator},
		{"mass-lock", s.testMassLock},
		{"mass-lock resumes", s.testMassLockResumes},
		{"a codec server that only decodes", s.testCodecOnlyDecodes},
		{"no worker", s.testNoWorker},
		{"no server", s.testNoServer},
	} {
		t.Run(part.name, part.test)
	}
}

// Nothing that stands on a command line gets further than it may, and nothing is sent.
func (s *operatorScripts) testCommandLine(t *testing.T) {
	long := strings.Repeat("a", 129)
	for _, test := range []struct {
		name   string
		script string
		args   []string
		code   int
		says   string
	}{
		{"help of lock", "lock", []string{"--help"}, exitDone, "Exit codes"},
		{"help of next", "next", []string{"--help"}, exitDone, "Exit codes"},
		{"help of cancel", "cancel", []string{"-h"}, exitDone, "Exit codes"},
		{"help of retry", "retry", []string{"--help"}, exitDone, "Exit codes"},
		{"help of status", "status", []string{"--help"}, exitDone, "Exit codes"},
		{"help of list", "list", []string{"--help"}, exitDone, "Exit codes"},
		{"help of retry-all", "retry-all", []string{"--help"}, exitDone, "Exit codes"},
		{"help of mass-lock", "mass-lock", []string{"--help"}, exitDone, "Exit codes"},
		{"no mobile ID", "status", nil, exitUsage, "give one MOBILE_ID"},
		{"two mobile IDs", "status", []string{"a", "b"}, exitUsage, "give one MOBILE_ID"},
		{"unknown option", "lock", []string{"mid-1", "--owner", "anna", "--force"}, exitUsage, "unknown option --force"},
		{"an option that is a command", "lock", []string{"mid-1", "--$(touch pwned)"}, exitUsage, "unknown option"},
		{"an option of another script", "status", []string{"mid-1", "--yes"}, exitUsage, "unknown option --yes"},
		{"an option without its value", "lock", []string{"mid-1", "--owner"}, exitUsage, "--owner needs a value"},
		{"a value too much", "lock", []string{"mid-1", "--owner=anna", "--yes=1"}, exitUsage, "--yes takes no value"},
		{"no owner", "lock", []string{"mid-1"}, exitUsage, "--owner is missing"},
		{"an output that is none", "status", []string{"mid-1", "-o", "xml"}, exitUsage, "must be text or json"},
		{"a duration that is none", "list", []string{"--overdue", "15"}, exitUsage, "must be like 90s, 15m"},
		{"a duration with a query in it", "list", []string{"--overdue", "1' OR '1'='1m"}, exitUsage, "whole number"},
		{"a rate of nothing", "retry-all", []string{"--rate", "0"}, exitUsage, "must be 1 or more"},
		{"a file that is not there", "mass-lock", []string{"nowhere.csv"}, exitUsage, "cannot be read"},
		{"an empty id", "status", []string{""}, exitRefused, `"mobileId" is missing`},
		{"a path as id", "status", []string{"../x"}, exitRefused, "may hold only"},
		{"a command as id", "lock", []string{"mid-1; touch pwned", "--owner", "anna"}, exitRefused, "may hold only"},
		{"a substitution as id", "lock", []string{"$(touch pwned)", "--owner", "anna"}, exitRefused, "may hold only"},
		{"a quote in an id", "status", []string{`mid"1`}, exitRefused, "may hold only"},
		{"a line break in an id", "status", []string{"mid\n1"}, exitRefused, "may hold only"},
		{"letters beyond ASCII in an id", "status", []string{"mid-é"}, exitRefused, "may hold only"},
		{"an id that is too long", "status", []string{long}, exitRefused, "more than 128"},
		{"a line break in the owner", "lock", []string{"mid-1", "--owner", "an\nna"}, exitRefused, `"userId" holds characters`},
		{"a note that is too long", "next", []string{"mid-1", "--note", strings.Repeat("n", 1025)}, exitRefused, "more than 1024 bytes"},
		{"a reason that no lock may send", "next", []string{"mid-1", "--reason", "certificateHold"}, exitRefused, `"reason" must be`},
		{"an id that looks like an option", "status", []string{"--", "-x"}, exitRefused, "no such mobile ID"},
		{"an unknown mobile ID", "status", []string{"mid-9999"}, exitRefused, "no such mobile ID belongs to this user"},
		{"next without a lock", "next", []string{"mid-9999"}, exitRefused, "no such mobile ID belongs to this user"},
		{"cancel without a lock", "cancel", []string{"mid-9999"}, exitRefused, "no such mobile ID belongs to this user"},
		{"retry without a lock", "retry", []string{"mid-9999"}, exitRefused, "no such mobile ID belongs to this user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, test.script, test.args...)
			require.Equal(t, test.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, test.says)
			if code != exitDone {
				require.Empty(t, stdout, "errors are not on standard output")
			}
		})
	}
	require.NoFileExists(t, "pwned")

	t.Run("another program", func(t *testing.T) {
		code, _, stderr := s.runIn(t, []string{"TEMPORAL_PROGRAM=psql"}, "list")
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "must be tctl or temporal")
	})
	t.Run("the same refusal as starter's", func(t *testing.T) {
		code, ours, _ := s.run(t, "status", "mid-9999", "-o", "json")
		require.Equal(t, exitRefused, code)
		_, theirs, _ := command(t, "-o", "json", "status", "mid-9999")
		require.JSONEq(t, theirs, ours)
		_, ours, _ = s.run(t, "status", "a b", "--output=json")
		_, theirs, _ = command(t, "-o", "json", "status", "a b")
		require.JSONEq(t, theirs, ours)
	})
}

func (s *operatorScripts) testCancelled(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	for _, step := range []struct {
		name   string
		script string
		args   []string
		code   int
		says   string
	}{
		{"start", "lock", []string{"--owner", "anna", "--by", "olof"}, exitDone, "waits for Next or Cancel until 20"},
		{"status", "status", nil, exitDone, "waits for Next or Cancel"},
		{"start again", "lock", []string{"--owner", "anna"}, exitDone, "Joined the lock that is under way."},
		{"status for another", "status", []string{"--owner", "bert"}, exitRefused, "refused (MobileIDNotFound): no such mobile ID belongs to this user"},
		{"lock for another", "lock", []string{"--owner", "bert", "--yes"}, exitRefused, "refused (MobileIDNotFound): no such mobile ID belongs to this user"},
		{"next for another", "next", []string{"--owner", "bert"}, exitRefused, "no such mobile ID belongs to this user"},
		{"cancel for another", "cancel", []string{"--owner", "bert"}, exitRefused, "no such mobile ID belongs to this user"},
		{"retry for another", "retry", []string{"--owner", "bert"}, exitRefused, "no such mobile ID belongs to this user"},
		{"it still waits", "status", []string{"--owner", "anna"}, exitDone, "waits for Next or Cancel"},
		{"nothing to retry", "retry", nil, exitDone, "not retried: nothing waits"},
		{"cancel", "cancel", []string{"--by", "olof", "--note", "by mistake"}, exitDone, "cancelled. Nothing was changed."},
		{"cancel again", "cancel", nil, exitDone, "cancelled. Nothing was changed."},
		{"next too late", "next", nil, exitRefused, "refused (AlreadyCancelled)"},
		{"retry too late", "retry", nil, exitDone, "not retried: the process is closed"},
	} {
		t.Run(step.name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, step.script, append([]string{id}, step.args...)...)
			require.Equal(t, step.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, step.says)
		})
	}
	s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
	trail, err := s.d.Store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, trail, 1)
	require.Equal(t, mobileid.EventCancelled, trail[0].Record.Event)
	require.Equal(t, mobileid.Decision{By: "olof", Note: "by mistake"}, trail[0].Record.Decision)
}

// Text of every kind reaches the audit as it was typed.
func (s *operatorScripts) testLocked(t *testing.T) {
	id := s.mobileID(t, "anna", 2)
	const note = `phone "lost" \ 100% $(touch pwned) ` + "`touch pwned`" + ` 'é' {"by":"x"}`
	code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--by", `Olof "O" Olsson`, "--yes", "--reason", "superseded", "--note", note)
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "is locked, and its certificates are revoked")
	require.Contains(t, stdout, "Revoked (superseded)")
	require.Regexp(t, `requested +20\d\d-`, stdout)
	require.Contains(t, stdout, `operator Olof "O" Olsson`)
	require.NoFileExists(t, "pwned")
	s.requireState(t, id, mobileid.Locked, mobileid.CertificateRevoked)
	decision, process := s.decision(t, id)
	require.Equal(t, `Olof "O" Olsson`, decision.By)
	require.Empty(t, decision.UserID, "an operator decided, and no user")
	require.Equal(t, workflows.LockForOperator, process)
	code, stdout, _ = command(t, "audit", "show", id)
	require.Equal(t, exitDone, code)
	require.Contains(t, stdout, `operator Olof "O" Olsson`)

	t.Run("the result", func(t *testing.T) {
		code, ours, stderr := s.run(t, "status", id, "-o", "json")
		require.Equal(t, exitDone, code, stderr)
		var status client.Status
		require.NoError(t, json.Unmarshal([]byte(ours), &status), ours)
		require.Equal(t, workflows.LockWorkflowID(id), status.WorkflowID)
		require.True(t, status.Revoked)
		require.Len(t, status.Certificates, 2)
		require.Equal(t, mobileid.Superseded, status.Certificates[0].ReasonAtCA)
		require.NotEmpty(t, status.Certificates[0].Proof)
		theirs, err := s.d.Locks.Operator("test").Status(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, theirs.RunID, status.RunID)
		require.Equal(t, theirs.LockedAt, status.LockedAt)
		require.Equal(t, theirs.DecidedBy, status.DecidedBy)
	})
	s.closed(t, id)
	for _, test := range []struct {
		name   string
		script string
		args   []string
		says   string
	}{
		{"cancel too late", "cancel", []string{id}, "refused (AlreadyConfirmed)"},
		{"again", "lock", []string{id, "--owner", "anna", "--yes"}, "refused (MobileIDNotActive): the mobile ID is locked already, and nothing is left to do"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, test.script, test.args...)
			require.Equal(t, exitRefused, code, stdout+stderr)
			require.Contains(t, stderr, test.says)
		})
	}
	t.Run("resume", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--resume", "--note", note)
		require.Equal(t, exitDone, code, stdout+stderr)
		require.Contains(t, stdout, "is locked, and its certificates are revoked")
	})
}

func (s *operatorScripts) testRefused(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	for name, args := range map[string][]string{
		"another's":       {id, "--owner", "bert", "--yes"},
		"an unknown one":  {s.prefix + ".unknown", "--owner", "anna", "--yes"},
		"an unknown user": {id, "--owner", `" OR 1=1 --`},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, "lock", args...)
			require.Equal(t, exitRefused, code, stdout+stderr)
			require.Equal(t, "refused (MobileIDNotFound): no such mobile ID belongs to this user\n", stderr)
		})
	}
	s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
}

// Whoever holds Next sends it: the start that joins delivers nothing.
func (s *operatorScripts) testJoinsTheUsers(t *testing.T) {
	id := s.mobileID(t, "bert", 1)
	_, err := s.d.Locks.User("bert").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--yes")
	require.Equal(t, exitRefused, code, stdout+stderr)
	s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)

	code, stdout, stderr = s.run(t, "lock", id, "--owner", "bert", "--by", "olof", "--yes", "--reason", "privilegeWithdrawn", "--note", "left the company")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "Joined the lock that is under way.")
	s.requireState(t, id, mobileid.Locked, mobileid.CertificateRevoked)
	decision, process := s.decision(t, id)
	require.Equal(t, mobileid.Decision{By: "olof", Note: "left the company"}, decision)
	require.Equal(t, workflows.Lock, process)
	status, err := s.d.Locks.User("bert").Status(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, mobileid.PrivilegeWithdrawn, status.Certificates[0].ReasonAtCA, "the reason went with Next")
}

// To resume is to look again, never to press Next: no lock that waits for that is taken
// for a locked mobile ID.
func (s *operatorScripts) testResumePressesNothing(t *testing.T) {
	id := s.mobileID(t, "bert", 1)
	const says = `refused (InvalidRequest): "resume" is for a mobile ID that is locked already`
	refused := func(t *testing.T) {
		for _, options := range [][]string{nil, {"--yes"}} {
			code, stdout, stderr := s.run(t, "lock", append([]string{id, "--owner", "bert", "--resume"}, options...)...)
			require.Equal(t, exitRefused, code, stdout+stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, says)
			code, _, stderr = command(t, append([]string{"lock", id, "--user", "bert", "--by", "olof", "--resume"}, options...)...)
			require.Equal(t, exitRefused, code)
			require.Contains(t, stderr, `"resume" is for a mobile ID that is locked already`)
		}
		s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
	}
	t.Run("nothing runs", refused)
	_, err := s.d.Locks.User("bert").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	t.Run("one waits for Next", refused)
	status, err := s.d.Locks.User("bert").Status(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
	t.Run("the same refusal as starter's", func(t *testing.T) {
		_, ours, _ := s.run(t, "lock", id, "--owner", "bert", "--resume", "-o", "json")
		_, theirs, _ := command(t, "-o", "json", "lock", id, "--user", "bert", "--by", "olof", "--resume")
		require.JSONEq(t, theirs, ours)
	})
}

func (s *operatorScripts) testUserJoins(t *testing.T) {
	id := s.mobileID(t, "bert", 1)
	code, stdout, stderr := s.run(t, "lock", id, "--owner", "bert", "--by", "olof")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.NotContains(t, stdout, "Joined")
	_, err := s.d.Locks.User("bert").Lock(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	decision, process := s.decision(t, id)
	require.Equal(t, "bert", decision.UserID)
	require.Equal(t, workflows.LockForOperator, process)
}

func (s *operatorScripts) testNext(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	_, err := s.d.Locks.User("anna").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	code, stdout, stderr := s.run(t, "next", id, "--owner", "anna", "--by", "olof", "--no-wait", "--note", "called us", "-o", "json")
	require.Equal(t, exitDone, code, stdout+stderr)
	var status client.Status
	require.NoError(t, json.Unmarshal([]byte(stdout), &status), stdout)
	require.False(t, status.LockedAt.IsZero())
	decision, _ := s.decision(t, id)
	require.Equal(t, mobileid.Decision{By: "olof", Note: "called us"}, decision)
	code, stdout, stderr = s.run(t, "next", id)
	require.Equal(t, exitDone, code, "a repeat is no fault: %s%s", stdout, stderr)
	require.Contains(t, stdout, "is locked, and its certificates are revoked")
}

// What somebody has terminated takes no Next, and the scripts do not say it did.
func (s *operatorScripts) testTerminated(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	_, err := s.d.Locks.User("anna").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	temporalClient, err := sdkclient.DialContext(t.Context(), sdkclient.Options{HostPort: s.d.Stack.TemporalAddress})
	require.NoError(t, err)
	defer temporalClient.Close()
	require.NoError(t, temporalClient.TerminateWorkflow(t.Context(), workflows.LockWorkflowID(id), "", "test"))
	for _, script := range []string{"next", "cancel"} {
		code, stdout, stderr := s.run(t, script, id)
		require.Equal(t, exitError, code, stdout+stderr)
		require.Contains(t, stderr, "ended from outside; start the lock again")
	}
	s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
	code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--yes", "--no-wait")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.NotContains(t, stdout, "Joined")
	s.closed(t, id)
	s.requireState(t, id, mobileid.Locked, mobileid.CertificateRevoked)
}

// Tries, next try and last answer are the engine's, joined by activity id.
func (s *operatorScripts) testStep(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	ca, ok := s.d.Stack.Process("devca")
	require.True(t, ok)
	require.NoError(t, ca.Signal(syscall.SIGSTOP))
	defer func() { _ = ca.Signal(syscall.SIGCONT) }()
	code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--yes", "--no-wait")
	require.Equal(t, exitDone, code, "the lock does not wait for the CA: %s%s", stdout, stderr)
	require.Contains(t, stdout, "is locked. Its certificates are being revoked")
	require.Eventually(t, func() bool {
		code, stdout, _ := s.run(t, "status", id)
		return code == exitDone && regexp.MustCompile(`step revoke-ca/\S+: try \d+, (under way|next try 20)`).MatchString(stdout)
	}, soon, 100*time.Millisecond)
	code, stdout, stderr = s.run(t, "status", id, "-o", "json")
	require.Equal(t, exitDone, code, stderr)
	var status client.Status
	require.NoError(t, json.Unmarshal([]byte(stdout), &status), stdout)
	require.Len(t, status.Steps, 1)
	require.Contains(t, status.Steps[0].ID, "revoke-ca/")
	require.Contains(t, []string{"Scheduled", "Started"}, status.Steps[0].State)
	require.Positive(t, status.Steps[0].Attempt)
	require.NoError(t, ca.Signal(syscall.SIGCONT))
	_, err := s.d.Locks.Operator("test").Retry(t.Context(), id)
	require.NoError(t, err)
	code, stdout, stderr = s.run(t, "next", id)
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "its certificates are revoked")
	s.requireState(t, id, mobileid.Locked, mobileid.CertificateRevoked)
}

func (s *operatorScripts) testNeedsOperator(t *testing.T) {
	first, second := s.incurable(t), s.incurable(t)
	for _, id := range []string{first, second} {
		code, stdout, stderr := s.run(t, "lock", id, "--owner", "anna", "--yes", "--wait", "0")
		require.Contains(t, []int{exitDone, exitError}, code, "locked already, or not yet: %s%s", stdout, stderr)
		require.Eventually(t, func() bool {
			code, stdout, _ := s.run(t, "status", id)
			return code == exitDone && strings.Contains(stdout, "Needs an operator: mend the cause, then send retry")
		}, soon, 100*time.Millisecond)
	}
	both := func(list string) bool { return strings.Contains(list, first) && strings.Contains(list, second) }
	for name, args := range map[string][]string{
		"open": nil, "needs an operator": {"--needs-operator"}, "overdue": {"--overdue", "1s"}, "all": {"--all"},
	} {
		t.Run("list "+name, func(t *testing.T) {
			require.Eventually(t, func() bool {
				code, stdout, _ := s.run(t, "list", args...)
				return code == exitDone && both(stdout) && strings.Contains(stdout, string(workflows.NeedsOperator))
			}, soon, 100*time.Millisecond, "the list lags a moment behind")
		})
	}
	t.Run("list not overdue", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "list", "--overdue", "4h")
		require.Equal(t, exitDone, code, stderr)
		require.NotContains(t, stdout, first)
		code, stdout, stderr = s.run(t, "list", "--overdue", "4h", "-o", "json")
		require.Equal(t, exitDone, code, stderr)
		require.JSONEq(t, "[]", stdout)
	})
	t.Run("list as starter lists", func(t *testing.T) {
		code, ours, stderr := s.run(t, "list", "--needs-operator", "-o", "json")
		require.Equal(t, exitDone, code, stderr)
		var list []client.Listed
		require.NoError(t, json.Unmarshal([]byte(ours), &list), ours)
		theirs, err := s.d.Locks.List(t.Context(), client.ListFilter{NeedsOperator: true})
		require.NoError(t, err)
		require.Len(t, list, len(theirs))
		for i := range theirs {
			require.WithinDuration(t, theirs[i].RequestedAt, list[i].RequestedAt, 0)
			require.WithinDuration(t, theirs[i].StartedAt, list[i].StartedAt, 0)
			list[i].RequestedAt, list[i].StartedAt = theirs[i].RequestedAt, theirs[i].StartedAt
		}
		require.Equal(t, theirs, list)
		code, ours, _ = s.run(t, "list", "--needs-operator", "--limit", "1", "-o", "json")
		require.Equal(t, exitDone, code)
		require.NoError(t, json.Unmarshal([]byte(ours), &list), ours)
		require.Len(t, list, 1)
	})
	t.Run("retry", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "retry", first, "--by", "olof")
		require.Equal(t, exitDone, code, stderr)
		require.Equal(t, "retried\n", stdout)
		code, stdout, stderr = s.run(t, "retry", first, "-o", "json")
		require.Equal(t, exitDone, code, stderr)
		var answer workflows.RetryAnswer
		require.NoError(t, json.Unmarshal([]byte(stdout), &answer), stdout)
		require.Equal(t, first, answer.Status.MobileID)
	})
	t.Run("retry-all", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "retry-all", "--dry-run")
		require.Equal(t, exitDone, code, stderr)
		require.Contains(t, stdout, second+"\twould retry\n")
		status, err := s.d.Locks.Operator("test").Status(t.Context(), second)
		require.NoError(t, err)
		require.Zero(t, status.Retries, "a dry run sends nothing")
		code, stdout, stderr = s.run(t, "retry-all", "--rate", "6000")
		require.Equal(t, exitDone, code, stdout+stderr)
		require.Contains(t, stdout, second+"\tretried\n")
		require.Contains(t, stdout, first+"\t", "a line for each")
		status, err = s.d.Locks.Operator("test").Status(t.Context(), second)
		require.NoError(t, err)
		require.Equal(t, 1, status.Retries)
	})
}

// file writes the lines of a mass lock, and returns its name.
func file(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lost phones.csv")
	require.NoError(t, os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return name
}

func (s *operatorScripts) testMassLock(t *testing.T) {
	good, withReason, foreign, before := s.mobileID(t, "anna", 1), s.mobileID(t, "bert", 1), s.mobileID(t, "carl", 1), s.mobileID(t, "carl", 1)
	code, stdout, stderr := s.run(t, "lock", before, "--owner", "carl", "--yes")
	require.Equal(t, exitDone, code, stdout+stderr)
	s.closed(t, before)

	for name, lines := range map[string][]string{
		"no owner":          {good},
		"a path as id":      {"../x,anna"},
		"a command as id":   {"$(touch pwned),anna"},
		"an unknown reason": {good + ",anna,lost"},
		"too many parts":    {good + ",anna,superseded,now"},
		"twice":             {good + ",anna", good + ",anna"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, "mass-lock", file(t, append([]string{withReason + ",bert"}, lines...)...))
			require.Equal(t, exitUsage, code, stdout+stderr)
			require.Regexp(t, `(?m)^line [23]: `, stderr)
			require.Contains(t, stderr, "nothing was sent")
			s.requireState(t, withReason, mobileid.Active, mobileid.CertificateValid)
		})
	}
	lost := file(t, "# lost in the fire", "", good+",anna", withReason+"\tbert\tkeyCompromise\r", foreign+",anna", before+",carl,")
	t.Run("dry run", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "mass-lock", lost, "--dry-run")
		require.Equal(t, exitDone, code, stderr)
		require.Equal(t, fmt.Sprintf("3\t%s\twould lock\n4\t%s\twould lock\n5\t%s\twould lock\n6\t%s\twould lock\n", good, withReason, foreign, before), stdout)
		require.NoFileExists(t, lost+".report")
		s.requireState(t, good, mobileid.Active, mobileid.CertificateValid)
	})
	t.Run("for real", func(t *testing.T) {
		begin := time.Now()
		code, stdout, stderr := s.run(t, "mass-lock", lost, "--by", "olof", "--note", "the fire", "--reason", "superseded")
		require.Equal(t, exitRefused, code, "all done, one refused: %s%s", stdout, stderr)
		require.GreaterOrEqual(t, time.Since(begin), 2*time.Second, "four at one a second")
		require.Equal(t, fmt.Sprintf("3\t%s\tlocked\n4\t%s\tlocked\n5\t%s\trefused: MobileIDNotFound: no such mobile ID belongs to this user\n6\t%s\tlocked already\n",
			good, withReason, foreign, before), stdout)
		require.Contains(t, stderr, "3 of 4 locked, 1 refused, 0 not done")
		s.requireState(t, foreign, mobileid.Active, mobileid.CertificateValid)
		for id, reason := range map[string]mobileid.Reason{good: mobileid.Superseded, withReason: mobileid.KeyCompromise} {
			decision, _ := s.decision(t, id)
			require.Equal(t, "olof", decision.By)
			status := s.closed(t, id)
			require.Equal(t, reason, status.Certificates[0].ReasonAtCA)
		}
	})
	t.Run("again", func(t *testing.T) {
		code, stdout, stderr := s.run(t, "mass-lock", lost, "-o", "json")
		require.Equal(t, exitRefused, code, stderr)
		var results []string
		for decoder := json.NewDecoder(strings.NewReader(stdout)); decoder.More(); {
			var line struct{ Result string }
			require.NoError(t, decoder.Decode(&line), stdout)
			results = append(results, line.Result)
		}
		require.Equal(t, []string{"done before", "done before", "refused", "done before"}, results)
	})
	require.NoFileExists(t, "pwned")
}

// It stops when nothing goes any more, and goes on where it stopped.
func (s *operatorScripts) testMassLockResumes(t *testing.T) {
	var ids, lines []string
	for range 6 {
		ids = append(ids, s.mobileID(t, "anna", 0))
		lines = append(lines, ids[len(ids)-1]+",anna")
	}
	lost := file(t, lines...)
	report := filepath.Join(t.TempDir(), "report")
	code, stdout, stderr := s.runIn(t, nowhere(t), "mass-lock", lost, "--rate", "6000", "--report", report)
	require.Equal(t, exitError, code)
	require.Equal(t, 5, strings.Count(stdout, "\terror: "), stdout+stderr)
	require.Contains(t, stderr, "5 errors in a row")

	first := file(t, lines[0])
	code, stdout, stderr = s.run(t, "mass-lock", first, "--report", report)
	require.Equal(t, exitDone, code, stdout+stderr)
	code, stdout, stderr = s.run(t, "mass-lock", lost, "--rate", "6000", "--report", report)
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Equal(t, 1, strings.Count(stdout, "\tdone before\n"), stdout)
	require.Equal(t, 5, strings.Count(stdout, "\tlocked\n"), stdout)
	for _, id := range ids {
		s.requireState(t, id, mobileid.Locked, "")
	}
}

// nowhere is the environment of somebody who does not reach the server.
func nowhere(t *testing.T) []string {
	t.Helper()
	return []string{"TEMPORAL_ADDRESS=" + freeAddress(t)}
}

func (s *operatorScripts) testNoServer(t *testing.T) {
	env := nowhere(t)
	for _, script := range [][]string{
		{"lock", "mid-1", "--owner", "anna", "--yes"}, {"next", "mid-1"}, {"cancel", "mid-1"}, {"retry", "mid-1"}, {"status", "mid-1"},
		{"list"}, {"retry-all"},
	} {
		t.Run(script[0], func(t *testing.T) {
			code, stdout, stderr := s.runIn(t, env, script[0], script[1:]...)
			require.Equal(t, exitError, code, stdout+stderr)
			require.Contains(t, stderr, filepath.Base(s.program)+", ")
			require.Empty(t, stdout)
		})
	}
	for _, script := range [][]string{{"status", "mid-1"}, {"list"}, {"retry-all"}} {
		t.Run(script[0]+" in JSON", func(t *testing.T) {
			code, stdout, _ := s.runIn(t, env, script[0], append(script[1:], "-o", "json")...)
			require.Equal(t, exitError, code)
			var failed struct{ Error string }
			require.NoError(t, json.Unmarshal([]byte(stdout), &failed), stdout)
			require.NotEmpty(t, failed.Error)
		})
	}
}

// temporal has the codec server encode what it sends, queries too, and tctl does not. An
// operator is told what is to be switched on where.
func (s *operatorScripts) testCodecOnlyDecodes(t *testing.T) {
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	_, err := encryption.Create(keyset)
	require.NoError(t, err)
	codec, err := encryption.Open(keyset, nil)
	require.NoError(t, err)
	served, err := codecserver.New(config.Default().CodecServer, codec, zap.NewNop())
	require.NoError(t, err)
	server := httptest.NewServer(served.Handler())
	defer server.Close()
	id := s.mobileID(t, "anna", 1)
	_, err = s.d.Locks.User("anna").Start(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
	for _, script := range [][]string{{"status", id}, {"lock", id, "--owner", "anna"}, {"next", id}} {
		t.Run(script[0], func(t *testing.T) {
			code, stdout, stderr := s.runIn(t, []string{"TEMPORAL_CODEC_ENDPOINT=" + server.URL}, script[0], script[1:]...)
			if filepath.Base(s.program) == "tctl" {
				require.Equal(t, exitDone, code, stdout+stderr)
				return
			}
			require.Equal(t, exitError, code, stdout+stderr)
			require.Contains(t, stderr, "the codec server only decodes, and temporal has it encode what is sent: codec_server.encode must be true there\n")
			s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
		})
	}
}

// Settings of temporal's hold for tctl, also where there is no address: then it goes to
// this machine, as temporal does.
func TestScriptsLevelSettings(t *testing.T) {
	dir := t.TempDir()
	tctl := filepath.Join(dir, "tctl")
	const says = "#!/bin/sh\necho \"Error: name=$TEMPORAL_CLI_TLS_SERVER_NAME auth=${TEMPORAL_CLI_AUTH:-} address=${TEMPORAL_CLI_ADDRESS:-}.\"\n"
	require.NoError(t, os.WriteFile(tctl, []byte(says), 0o700))
	scripts, err := filepath.Abs("../scripts")
	require.NoError(t, err)
	s := &operatorScripts{dir: scripts, program: tctl}
	for name, test := range map[string]struct {
		env  []string
		says string
	}{
		"TLS":                           {[]string{"TEMPORAL_TLS=true"}, "name=127.0.0.1 auth= address=."},
		"an API key":                    {[]string{"TEMPORAL_API_KEY=secret"}, "name=127.0.0.1 auth=Bearer secret address=."},
		"TLS with an address":           {[]string{"TEMPORAL_TLS=true", "TEMPORAL_ADDRESS=temporal.example.com:7233"}, "name=temporal.example.com auth= address=temporal.example.com:7233."},
		"TLS with an address of tctl's": {[]string{"TEMPORAL_TLS=true", "TEMPORAL_CLI_ADDRESS=temporal.example.com:7233"}, "name=temporal.example.com auth= address=temporal.example.com:7233."},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := s.runIn(t, test.env, "list")
			require.Equal(t, exitError, code, stdout)
			require.Equal(t, "list: tctl, list the locks: "+test.says+"\n", stderr)
		})
	}
}

// What is sent while no worker answers is stored, and the scripts say no more than that.
func (s *operatorScripts) testNoWorker(t *testing.T) {
	id := s.mobileID(t, "anna", 1)
	for _, test := range []struct {
		name   string
		script string
		args   []string
		code   int
		says   string
	}{
		{"lock", "lock", []string{"--owner", "anna", "--yes", "--task-queue", "nobody"}, exitDone, "Stored. No worker answers now"},
		{"joined", "lock", []string{"--owner", "bert", "--yes", "--task-queue", "nobody"}, exitError, "no worker answers whose it is"},
		{"next", "next", nil, exitDone, "Stored. No worker answers now"},
		{"retry", "retry", nil, exitError, "no worker answers; what was sent is stored at the server"},
		{"status", "status", nil, exitError, "no worker answers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := s.run(t, test.script, append([]string{id}, test.args...)...)
			require.Equal(t, test.code, code, stdout+stderr)
			require.Contains(t, stdout+stderr, test.says)
		})
	}
	s.requireState(t, id, mobileid.Active, mobileid.CertificateValid)
}

// viewRow finds the rows of the table of views.
var viewRow = regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\|$")

// checkViews runs each query that the page tells people to paste, and sees what it
// finds: among locks of every kind, whose search attributes are set as the process
// sets them, because nobody can wait four hours for a test.
func checkViews(t *testing.T, d *demo.Demo, page string) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	temporalClient, err := sdkclient.DialContext(t.Context(), sdkclient.Options{HostPort: d.Stack.TemporalAddress})
	require.NoError(t, err)
	defer temporalClient.Close()

	now := time.Now()
	locks := []struct {
		id, process string
		phase       workflows.Phase
		next        time.Duration // ago; 0: not pressed
		closed      bool
	}{
		{id: "mid-1001", process: workflows.Lock, phase: workflows.AwaitingConfirmation},
		{id: "view-new", process: workflows.Lock, phase: workflows.Revoking, next: time.Minute},
		{id: "view-20m", process: workflows.LockForOperator, phase: workflows.Revoking, next: 20 * time.Minute},
		{id: "view-5h", process: workflows.Lock, phase: workflows.NeedsOperator, next: 5 * time.Hour},
		{id: "view-ended", process: workflows.LockForOperator, phase: workflows.NeedsOperator, next: 6 * time.Hour, closed: true},
	}
	var ids []string
	for _, l := range locks {
		ids = append(ids, l.id)
		attributes := []temporal.SearchAttributeUpdate{workflows.AttributeMobileID.ValueSet(l.id), workflows.AttributePhase.ValueSet(string(l.phase))}
		if l.next > 0 {
			attributes = append(attributes, workflows.AttributeRequestedAt.ValueSet(now.Add(-l.next)))
		}
		id := workflows.LockWorkflowID(l.id)
		_, err := temporalClient.ExecuteWorkflow(t.Context(), sdkclient.StartWorkflowOptions{
			ID: id, TaskQueue: "nobody", TypedSearchAttributes: temporal.NewSearchAttributes(attributes...),
		}, l.process)
		require.NoError(t, err)
		if l.closed {
			require.NoError(t, temporalClient.TerminateWorkflow(t.Context(), id, "", "test"))
		}
	}
	want := map[string][]string{
		"open":                     {"mid-1001", "view-20m", "view-5h", "view-new"},
		"needs an operator":        {"view-5h"},
		"waits for Next":           {"mid-1001"},
		"in work after Next":       {"view-20m", "view-5h", "view-new"},
		"overdue by 15 minutes":    {"view-20m", "view-5h"},
		"overdue by 4 hours":       {"view-5h"},
		"asked for by an operator": {"view-20m", "view-ended"},
		"all of one mobile ID":     {"mid-1001"},
	}
	rows := viewRow.FindAllStringSubmatch(string(text), -1)
	require.Len(t, rows, len(want), "the page's table and this one")
	ago := regexp.MustCompile(`\{(\d+) (minutes|hours) ago\}`)
	for _, row := range rows {
		t.Run(row[1], func(t *testing.T) {
			require.Contains(t, want, row[1])
			query := ago.ReplaceAllStringFunc(row[2], func(span string) string {
				part := ago.FindStringSubmatch(span)
				age, err := time.ParseDuration(part[1] + part[2][:1])
				require.NoError(t, err)
				return now.Add(-age).UTC().Format(time.RFC3339)
			})
			require.NotContains(t, query, "{")
			requireFinds(t, temporalClient, query, ids, want[row[1]])
		})
	}
	for overdue, found := range map[string][]string{"15m": want["overdue by 15 minutes"], "4h": want["overdue by 4 hours"]} {
		t.Run("list --show-query "+overdue, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(page), "..", "scripts", "list"), "--overdue", overdue, "--show-query").CombinedOutput()
			require.NoError(t, err, "%s", output)
			requireFinds(t, temporalClient, strings.TrimSpace(string(output)), ids, found)
		})
	}
}

// requireFinds checks which of the given locks a query finds. Others are left from
// other tests.
func requireFinds(t *testing.T, c sdkclient.Client, query string, among, want []string) {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = nil
		request := &workflowservice.ListWorkflowExecutionsRequest{Query: query}
		for {
			page, err := c.ListWorkflow(t.Context(), request)
			require.NoError(t, err, query)
			for _, e := range page.GetExecutions() {
				if id := strings.TrimPrefix(e.GetExecution().GetWorkflowId(), workflows.LockWorkflowID("")); slices.Contains(among, id) {
					found = append(found, id)
				}
			}
			if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
				slices.Sort(found)
				return slices.Equal(want, found)
			}
		}
	}, soon, 100*time.Millisecond, "%s finds %v, must find %v", query, &found, want)
}

// pageCommand finds the commands that the page tells people to run.
var pageCommand = regexp.MustCompile("`(scripts/[a-z-]+|starter [a-z]+ [a-z]+)( [^`]*)?`")

// Every command of the operating page exists, and takes the options that it is given.
func TestCommandsOfTheOperatingPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "operating.md"))
	require.NoError(t, err)
	commands := pageCommand.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(commands), 10)
	option := regexp.MustCompile(`--[a-z-]+`)
	for _, c := range commands {
		t.Run(c[0], func(t *testing.T) {
			var help string
			if words := strings.Fields(c[1]); words[0] == "starter" {
				code, stdout, stderr := command(t, append(words[1:], "--help")...)
				require.Equal(t, exitDone, code, stderr)
				help = stdout
				require.Contains(t, help, "starter "+words[1]+" "+words[2], "it is the command's own help")
			} else {
				output, err := exec.CommandContext(t.Context(), filepath.Join("..", c[1]), "--help").CombinedOutput()
				require.NoError(t, err, "%s", output)
				help = string(output)
			}
			for _, o := range option.FindAllString(c[2], -1) {
				require.Contains(t, help, o+" ")
			}
		})
	}
}

// The reasons that the scripts let through are those that a lock may send.
func TestScriptsKnowTheReasons(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "scripts", "common.sh"))
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^reasons='([^']*)'$`).FindStringSubmatch(string(text))
	require.Len(t, found, 2)
	var want []string
	for _, reason := range mobileid.LockReasons() {
		want = append(want, string(reason))
	}
	require.Equal(t, want, strings.Fields(found[1]))
}

// The scripts reckon with times by themselves, because date has no portable way.
func TestScriptsReckonWithTimes(t *testing.T) {
	for _, seconds := range []int64{0, 951782399, 951782400, 951868800, 1709164799, 1709251200, 1798761599, 1798761600, 4107542399, 4107542400} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `here=scripts; . scripts/common.sh; utc "$0"`, fmt.Sprint(seconds))
		cmd.Dir = ".."
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		require.Equal(t, time.Unix(seconds, 0).UTC().Format(time.RFC3339), string(output))
	}
}

// stub makes a program that writes down its settings and arguments, and lists nothing.
func stub(t *testing.T, dir, name string) {
	t.Helper()
	text := fmt.Sprintf(`#!/bin/sh
{
  echo "$@"
  env | grep -E '^TEMPORAL' | sort
} >>%q
echo '[]'
`, filepath.Join(dir, "log"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
}

// Which program is used, and under which names it gets its settings.
func TestScriptsFindTheProgramAndItsSettings(t *testing.T) {
	list, err := filepath.Abs(filepath.Join("..", "scripts", "list"))
	require.NoError(t, err)
	for _, test := range []struct {
		name     string
		programs []string
		env      []string
		code     int
		says     []string // in what the program was given, or on standard error
		not      string
	}{
		{name: "temporal comes first", programs: []string{"tctl", "temporal"}, says: []string{"workflow list "}},
		{name: "tctl alone", programs: []string{"tctl"}, says: []string{"workflow listall "}},
		{name: "the one that is named", programs: []string{"tctl", "temporal"}, env: []string{"TEMPORAL_PROGRAM=tctl"}, says: []string{"workflow listall "}},
		{
			name: "one that is not there", programs: []string{"tctl"}, env: []string{"TEMPORAL_PROGRAM=temporal"}, code: exitError,
			says: []string{"TEMPORAL_PROGRAM is temporal, which is not found"},
		},
		{
			name: "settings of temporal for tctl", programs: []string{"tctl"}, env: []string{
				"TEMPORAL_ADDRESS=a:1", "TEMPORAL_NAMESPACE=n", "TEMPORAL_TLS_CLIENT_CERT_PATH=c", "TEMPORAL_TLS_CLIENT_KEY_PATH=k",
				"TEMPORAL_TLS_SERVER_CA_CERT_PATH=s", "TEMPORAL_CODEC_ENDPOINT=e",
			},
			says: []string{
				"TEMPORAL_CLI_ADDRESS=a:1\n", "TEMPORAL_CLI_NAMESPACE=n\n", "TEMPORAL_CLI_TLS_CERT=c\n", "TEMPORAL_CLI_TLS_KEY=k\n",
				"TEMPORAL_CLI_TLS_CA=s\n", "TEMPORAL_CLI_CODEC_ENDPOINT=e\n",
			},
		},
		{
			name: "an API key for tctl", programs: []string{"tctl"}, env: []string{"TEMPORAL_ADDRESS=cloud.example:7233", "TEMPORAL_API_KEY=secret"},
			says: []string{"TEMPORAL_CLI_AUTH=Bearer secret\n", "TEMPORAL_CLI_TLS_SERVER_NAME=cloud.example\n"},
		},
		{
			name: "settings of tctl for temporal", programs: []string{"temporal"}, env: []string{"TEMPORAL_CLI_ADDRESS=a:1", "TEMPORAL_CLI_NAMESPACE=n"},
			says: []string{"TEMPORAL_ADDRESS=a:1\n", "TEMPORAL_NAMESPACE=n\n"},
		},
		{
			name: "its own come first", programs: []string{"tctl"}, env: []string{"TEMPORAL_ADDRESS=a:1", "TEMPORAL_CLI_ADDRESS=b:2"},
			says: []string{"TEMPORAL_CLI_ADDRESS=b:2\n"}, not: "TEMPORAL_CLI_ADDRESS=a:1",
		},
		{
			name: "a profile, which tctl does not read", programs: []string{"tctl"}, env: []string{"TEMPORAL_PROFILE=prod"}, code: exitUsage,
			says: []string{"tctl reads no profiles"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range test.programs {
				stub(t, dir, name)
			}
			cmd := exec.CommandContext(t.Context(), list)
			cmd.Env = append([]string{"PATH=" + dir + ":/usr/bin:/bin"}, test.env...)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				require.NoError(t, err)
			}
			require.Equal(t, test.code, cmd.ProcessState.ExitCode(), "%s", output)
			log, err := os.ReadFile(filepath.Join(dir, "log"))
			require.True(t, err == nil || errors.Is(err, os.ErrNotExist))
			for _, says := range test.says {
				require.Contains(t, string(log)+string(output), says)
			}
			if test.not != "" {
				require.NotContains(t, string(log), test.not)
			}
		})
	}
}

// Ends that take hours to wait for, and answers that no program should give.
func TestScriptsReadAnswers(t *testing.T) {
	scripts, err := filepath.Abs(filepath.Join("..", "scripts"))
	require.NoError(t, err)
	for _, test := range []struct {
		name   string
		script string
		answer string // of the process
		code   int
		says   string
	}{
		{"expired", "next", `{"mobileId":"m","phase":"closed","outcome":"expired","certificates":[]}`, exitEnded, "never answered, so the process has ended. Nothing was changed."},
		{"cancelled", "next", `{"mobileId":"m","phase":"closed","outcome":"cancelled","certificates":[]}`, exitRefused, "AlreadyCancelled"},
		{
			"words of a CA that would move the cursor", "status",
			`{"mobileId":"m","phase":"needsOperator","needs":"say \"x\" \u001b[2J\u009b1m \ud83d\ude00 \\ é\n","certificates":[]}`,
			exitDone, "Needs an operator: say \"x\"  [2J 1m 😀 \\ é",
		},
		{"no JSON", "status", `{"mobileId":`, exitError, "the status cannot be read"},
		{"another kind of JSON", "status", `{"metadata":{"encoding":"binary/encrypted"},"data":"AAAA"}`, exitError, "TEMPORAL_CODEC_ENDPOINT"},
	} {
		for name, wrap := range map[string]string{"temporal": `{"queryResult": [%s]}`, "tctl": "Query result:\n[%s]"} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				dir := t.TempDir()
				answer := filepath.Join(dir, "answer")
				require.NoError(t, os.WriteFile(answer, fmt.Appendf(nil, wrap+"\n", test.answer), 0o600))
				text := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *' query '*) cat %q ;; *) echo '{}' ;; esac\n", answer)
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
				cmd := exec.CommandContext(t.Context(), filepath.Join(scripts, test.script), "m")
				cmd.Env = []string{"PATH=/usr/bin:/bin", "TEMPORAL_PROGRAM=" + filepath.Join(dir, name)}
				output, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					require.NoError(t, err)
				}
				require.Equal(t, test.code, cmd.ProcessState.ExitCode(), "%s", output)
				require.Contains(t, string(output), test.says)
			})
		}
	}
}

// Numbers of processes are used again, so drain-worker stops workers alone; and it does
// not say that one has ended that has not.
func TestDrainWorker(t *testing.T) {
	script, err := filepath.Abs(filepath.Join("..", "scripts", "drain-worker"))
	require.NoError(t, err)
	// A script is called as its file is. It ends when its standard input does.
	stubborn := filepath.Join(t.TempDir(), "worker")
	require.NoError(t, os.WriteFile(stubborn, []byte("#!/bin/sh\ntrap '' TERM\necho ready\nread -r line\n"), 0o755))
	worker := exec.CommandContext(t.Context(), stubborn)
	stdin, err := worker.StdinPipe()
	require.NoError(t, err)
	stdout, err := worker.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, worker.Start())
	_, err = stdout.Read(make([]byte, 1))
	require.NoError(t, err)
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nothing", nil, exitUsage, "give one PID"},
		{"no number", []string{"worker"}, exitUsage, "is no process id"},
		{"a group", []string{"0"}, exitUsage, "is no process id"},
		{"nobody", []string{"999999999"}, exitError, "there is no process 999999999"},
		{"another program", []string{fmt.Sprint(os.Getpid())}, exitError, "and no worker"},
		{"one that takes longer", []string{fmt.Sprint(worker.Process.Pid), "--wait", "1"}, exitError, "still lets end what runs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), script, test.args...).CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, test.code, exit.ExitCode(), "%s", output)
			require.Contains(t, string(output), test.says)
		})
	}
	require.NoError(t, stdin.Close())
	_ = worker.Wait() // read at the end of its input is no success
}
