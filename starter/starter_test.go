package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// programs are the built programs, one build for all tests of the package.
type programs struct{ starter, worker, temporal string }

func build(t *testing.T) programs {
	t.Helper()
	temporal, err := exec.LookPath("temporal")
	if err != nil {
		if temporal, err = filepath.Abs(filepath.Join("..", ".bin", "temporal")); err == nil {
			_, err = os.Stat(temporal)
		}
	}
	if err != nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	dir := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "mobileid/starter", "mobileid/worker").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return programs{starter: filepath.Join(dir, "starter"), worker: filepath.Join(dir, "worker"), temporal: temporal}
}

// inNewFolder makes a program in a folder of its own, where nothing is configured yet:
// a stack points it at itself. What it says is in out.
func inNewFolder(t testing.TB) (p *program, out *bytes.Buffer) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("MOBILEID_CONFIG", "")
	require.NoError(t, os.Unsetenv("MOBILEID_CONFIG"))
	t.Setenv("TEMPORAL_ADDRESS", "")
	out = &bytes.Buffer{}
	p = &program{in: strings.NewReader(""), out: out, err: out}
	require.NotNil(t, p.command()) // which gives it its configuration
	return p, out
}

// command runs one command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code = execute(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// openssl runs the openssl program, which shares no code with ours.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is missing")
	}
	output, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(output), err
}

// The whole installation, as processes, with the scenes of the demo, looked at
// with other people's tools, and driven by the command line.
func TestDemoAndCommandLine(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	t.Setenv("PATH", filepath.Dir(built.starter)+string(os.PathListSeparator)+filepath.Dir(built.temporal)+string(os.PathListSeparator)+os.Getenv("PATH"))

	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
	}, func(ctx context.Context, d *demo.Demo) error {
		require.NoError(t, p.playDemo(ctx, d), out.String())
		require.NotContains(t, out.String(), "NOT AS IT MUST BE")
		require.Equal(t, 10, strings.Count(out.String(), "✓"), "five mobile IDs with two certificates each: %s", out)
		t.Run("sqlite says the end states", func(t *testing.T) { checkSQLite(t) })
		t.Run("openssl says the end states", func(t *testing.T) { checkOpenSSL(t, d.Stack.CA.PublicURL) })
		t.Run("openssl signs with the new phone", func(t *testing.T) { checkPhone(t) })
		t.Run("the code is spent", func(t *testing.T) {
			for _, id := range []string{newMobileID(t), "mid-1004"} {
				_, err := d.Store.Provisioning(ctx, id)
				require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
			}
		})
		t.Run("demo sees what is not so", func(t *testing.T) { checkDemoSees(ctx, t, p, d) })
		t.Run("command line", func(t *testing.T) { checkCommandLine(t) })
		t.Run("worker answers its probes", func(t *testing.T) { checkProbes(t, d.Stack.HealthAddress) })
		t.Run("worker lets running activities end", func(t *testing.T) { checkGracefulStop(t, d) })
		t.Run("another run in the same folder", func(t *testing.T) {
			_, err := stack.Start(ctx, stack.Options{Dir: ".dev", Fresh: true})
			require.ErrorContains(t, err, "another run uses .dev")
		})
		return nil
	})
	require.NoError(t, err, out.String())
	require.Contains(t, out.String(), "stopping what was started")
}

// Two CAs, devca and the real step-ca, which is stopped in the middle.
func TestDemoCAs(t *testing.T) {
	built := build(t)
	stepCA, err := exec.LookPath("step-ca")
	if err != nil {
		stepCA, err = stack.FindStepCA(filepath.Join("..", ".bin"))
		require.NoError(t, err)
	}
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	require.NoError(t, p.demoCAs(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
	}, stepCA), out)
	require.Equal(t, 4, strings.Count(out.String(), "✓"), "two certificates each: %s", out)
	require.NotContains(t, out.String(), "DIFFERS")
	code, stdout, _ := command(t, "ca", "check")
	require.Equal(t, exitError, code, "all is stopped by now: %s", stdout)
	require.Contains(t, stdout, "step-ca")
	require.Contains(t, stdout, "connection refused")
}

func checkSQLite(t *testing.T) {
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("sqlite3 is missing")
	}
	output, err := exec.CommandContext(t.Context(), path, ".dev/im.db",
		`SELECT m.id, m.state, c.state, count(*) FROM mobile_ids m JOIN certificates c ON c.mobile_id = m.id GROUP BY 1, 2, 3 ORDER BY 1`).CombinedOutput()
	require.NoError(t, err, "%s", output)
	fresh := newMobileID(t)
	require.ElementsMatch(t, []string{
		"mid-1001|locked|revoked|2", "mid-1002|active|valid|2", "mid-1003|active|valid|2", "mid-1004|locked|revoked|2", fresh + "|active|valid|2",
	}, strings.Fields(string(output)))
}

// newMobileID is the id of the mobile ID that Eva has got.
func newMobileID(t *testing.T) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "sqlite3", ".dev/im.db",
		`SELECT id FROM mobile_ids WHERE owner = 'eva' AND state = 'active'`).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return strings.TrimSpace(string(output))
}

// phoneFile is a file of the one profile that Eva's phone has.
func phoneFile(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(".dev", "phone", "*", name))
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

// checkPhone has openssl use what the phone has.
func checkPhone(t *testing.T) {
	key, certificate := phoneFile(t, "signature.key"), phoneFile(t, "signature.pem")
	dir := t.TempDir()
	public, signed, document := filepath.Join(dir, "public.pem"), filepath.Join(dir, "signed"), ".dev/config.yaml"
	for _, args := range [][]string{
		{"x509", "-in", certificate, "-noout", "-pubkey", "-out", public},
		{"dgst", "-sha256", "-sign", key, "-out", signed, document},
		{"dgst", "-sha256", "-verify", public, "-signature", signed, document},
	} {
		output, err := openssl(t, args...)
		require.NoError(t, err, output)
	}
}

// checkDemoSees revokes a certificate of the new mobile ID behind everybody's back.
func checkDemoSees(ctx context.Context, t *testing.T, p *program, d *demo.Demo) {
	m, err := d.Store.MobileID(ctx, newMobileID(t))
	require.NoError(t, err)
	driver, err := devca.NewDriver(devca.DriverOptions{
		URL: d.Stack.CA.APIURL, ClientCertFile: ".dev/ca/client.pem", ClientKeyFile: ".dev/ca/client.key", ServerCAFile: ".dev/ca/tls-ca.pem",
	})
	require.NoError(t, err)
	defer driver.Close()
	c := m.Certificates[0]
	_, err = driver.Revoke(ctx, ca.Certificate{CertificateID: c.CertificateID, DER: c.DER}, mobileid.KeyCompromise)
	require.NoError(t, err)
	err = d.ReadBack(ctx)
	require.ErrorContains(t, err, "certificate "+c.Serial+" of "+m.ID+": valid in IM")
	require.ErrorContains(t, err, "revoked by OCSP; must be valid and good")
	require.NotContains(t, err.Error(), "\n", "and nothing else differs")
	require.Equal(t, exitError, p.report(err))
}

// A demo that does not come out as it must says so, and its exit code does: here the
// new mobile ID has no certificate to log in with.
func TestDemoFails(t *testing.T) {
	built := build(t)
	cmd := exec.CommandContext(t.Context(), built.starter, "demo")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "MOBILEID_GET_AUTHENTICATION=false",
		"PATH="+filepath.Dir(built.temporal)+string(os.PathListSeparator)+os.Getenv("PATH"))
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", output)
	require.Equal(t, exitError, exit.ExitCode(), "%s", output)
	require.Contains(t, string(output), "Eva signs with her new phone\n   → the signature verifies", "until there all is well")
	require.Contains(t, string(output), "Eva logs in with her new phone\n   → NOT AS IT MUST BE")
	require.Contains(t, string(output), "has certificates: 1, must be: 2")
	require.NotContains(t, string(output), "All end states are as they must be.")
	require.Contains(t, string(output), "stopping what was started")
}

func checkOpenSSL(t *testing.T, publicURL string) {
	for _, profile := range []string{"authentication", "signature"} {
		for file, revoked := range map[string]bool{
			".dev/certificates/mid-1001-" + profile + ".pem": true,
			".dev/certificates/mid-1003-" + profile + ".pem": false,
			".dev/certificates/mid-1004-" + profile + ".pem": true,
			phoneFile(t, profile+".pem"):                     false,
		} {
			output, err := openssl(t, "verify", "-crl_check", "-CAfile", ".dev/ca/ca.pem", "-CRLfile", ".dev/ca/crl.pem", file)
			status, ocspErr := openssl(t, "ocsp", "-issuer", ".dev/ca/ca.pem", "-cert", file, "-url", publicURL+"/ocsp", "-CAfile", ".dev/ca/ca.pem", "-no_nonce")
			require.NoError(t, ocspErr, status)
			require.Contains(t, status, "Response verify OK")
			if revoked {
				require.Error(t, err, output)
				require.Contains(t, output, "certificate revoked")
				require.Contains(t, status, ": revoked")
				continue
			}
			require.NoError(t, err, output)
			require.Contains(t, status, ": good")
		}
	}
}

func checkCommandLine(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"--help"}, exitDone, "Exit codes"},
		{"help with messaging", []string{"messaging", "--help"}, exitDone, "attestation_file        attestation.jwks\n"},
		{"help with the phone", []string{"phone", "scan", "--help"}, exitDone, "-, which reads what 'starter get' shows in a terminal"},
		{"no such command", []string{"unlock"}, exitUsage, "unknown command"},
		{"no such flag", []string{"lock", "mid-1002", "--force"}, exitUsage, "unknown flag"},
		{"no mobile ID", []string{"lock", "--user", "bert"}, exitUsage, "MOBILE_ID"},
		{"whose", []string{"lock", "mid-1002"}, exitUsage, "--user is missing"},
		{"a fault in the configuration", []string{"list", "--log.level", "loud"}, exitUsage, "log.level"},
		{"no code", []string{"phone", "scan", "-"}, exitError, "read QR code: there is none in the text"},
		{"path tricks", []string{"lock", "../x", "--user", "bert"}, exitRefused, "mobileId"},
		{"somebody else's", []string{"lock", "mid-1003", "--user", "bert", "--yes"}, exitRefused, "MobileIDNotFound"},
		{"locked already", []string{"lock", "mid-1001", "--user", "anna", "--yes"}, exitRefused, "MobileIDNotActive"},
		{"a reason that no lock may send", []string{"lock", "mid-1002", "--user", "bert", "--yes", "--reason", "certificateHold"}, exitRefused, "reason"},
		{"setup again", []string{"setup"}, exitDone, "all registered"},
		{"no terminal, no --yes: it waits", []string{"lock", "mid-1002", "--user", "bert"}, exitDone, "waits for Next or Cancel"},
		{"nothing to retry", []string{"retry", "mid-1002"}, exitDone, "nothing waits"},
		{"whose password", []string{"password"}, exitUsage, "--user is missing"},
		{"no password", []string{"password", "--user", "anna"}, exitError, "no password on standard input"},
		{"cancel", []string{"cancel", "mid-1002", "--user", "bert"}, exitDone, "Nothing was changed"},
		{"next too late", []string{"next", "mid-1002", "--user", "bert"}, exitRefused, "AlreadyCancelled"},
		{"status of somebody else's", []string{"status", "mid-1001", "--user", "bert"}, exitRefused, "MobileIDNotFound"},
		{"an operator's lock", []string{"lock", "mid-1003", "--user", "carl", "--by", "olof", "--yes", "--reason", "superseded"}, exitDone, "is locked, and its certificates are revoked"},
		{"status", []string{"status", "mid-1003"}, exitDone, "Revoked (superseded)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, test.args...)
			require.Equal(t, test.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, test.says)
		})
	}
	t.Run("json", checkJSON)
	t.Run("audit", checkAudit)
	t.Run("ca check", func(t *testing.T) {
		code, stdout, stderr := command(t, "ca", "check")
		require.Equal(t, exitDone, code, stdout+stderr)
		require.Regexp(t, `(?m)^devca +yes +\d{4}-\S+ +yes +yes`, stdout)
	})
	t.Run("list", func(t *testing.T) {
		require.Eventually(t, func() bool {
			code, stdout, _ := command(t, "list", "--all")
			return code == exitDone && strings.Contains(stdout, "mid-1003") && strings.Contains(stdout, "locked")
		}, soon, 200*time.Millisecond, "the list lags a moment behind")
	})
}

func checkJSON(t *testing.T) {
	code, stdout, _ := command(t, "-o", "json", "status", "mid-1003", "--user", "carl")
	require.Equal(t, exitDone, code)
	var status struct {
		Revoked      bool
		Certificates []struct{ StateInIM string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &status))
	require.True(t, status.Revoked)
	require.Len(t, status.Certificates, 2)

	code, stdout, _ = command(t, "-o", "json", "lock", "mid-1003", "--user", "bert", "--yes")
	require.Equal(t, exitRefused, code)
	var refused struct{ Refusal mobileid.Refusal }
	require.NoError(t, json.Unmarshal([]byte(stdout), &refused))
	require.Equal(t, mobileid.TypeMobileIDNotFound, refused.Refusal.Type)

	code, stdout, _ = command(t, "-o", "json", "list", "--log.level", "loud")
	require.Equal(t, exitUsage, code)
	var failed struct{ Error string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &failed))
	require.Contains(t, failed.Error, "log.level")
}

// checkAudit shows and verifies the audit, runs the shown openssl commands, and
// then finds what somebody changed in the database behind the store's back.
func checkAudit(t *testing.T) {
	code, stdout, stderr := command(t, "audit", "verify")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "each as it was written, none missing")
	require.Contains(t, stdout, "Checkpoint 1 ", "the worker wrote one when it started")

	// A checkpoint vouches for what is written by then, and a lock writes until it is closed.
	require.Eventually(t, func() bool {
		code, stdout, _ := command(t, "-o", "json", "status", "mid-1003", "--user", "carl")
		var status client.Status
		return code == exitDone && json.Unmarshal([]byte(stdout), &status) == nil && status.Phase == workflows.Closed
	}, soon, 100*time.Millisecond, "the lock is closed")
	code, stdout, stderr = command(t, "audit", "checkpoint")
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "Checkpoint 2: ")

	code, stdout, _ = command(t, "audit", "show", "mid-1001")
	require.Equal(t, exitDone, code)
	require.Contains(t, stdout, "each as it was written")
	require.Contains(t, stdout, "user anna")

	code, stdout, _ = command(t, "-o", "json", "audit", "show", "mid-1001")
	require.Equal(t, exitDone, code)
	var answer shown
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	require.True(t, answer.Whole)
	require.Len(t, answer.Checks, 2, "two certificates")
	for _, check := range answer.Checks {
		require.Len(t, check.Commands, 2, "OCSP and CRL")
		for _, line := range check.Commands {
			output, err := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", line).CombinedOutput()
			require.NoError(t, err, "%s\n%s", line, output)
			require.Contains(t, strings.ToLower(string(output)), "rev", line)
			require.Contains(t, string(output), "verify OK", line)
		}
	}

	code, stdout, stderr = command(t, "audit", "show", "mid-8888")
	require.Equal(t, exitRefused, code, stdout+stderr)
	require.Contains(t, stderr, "nothing is recorded")

	output, err := exec.CommandContext(t.Context(), "sqlite3", ".dev/im.db", `DROP TRIGGER audit_is_not_removed;
		DELETE FROM audit WHERE mobile_id = 'mid-1003' AND number = (SELECT max(number) FROM audit WHERE mobile_id = 'mid-1003');
		UPDATE audit_heads SET (number, mac) = (SELECT number, mac FROM audit a WHERE a.mobile_id = 'mid-1003' ORDER BY number DESC LIMIT 1)
		WHERE mobile_id = 'mid-1003'`).CombinedOutput()
	require.NoError(t, err, "%s", output)
	code, stdout, stderr = command(t, "audit", "verify")
	require.Equal(t, exitError, code)
	require.Contains(t, stdout, "mid-1003")
	require.Contains(t, stdout, "cutOff: a checkpoint saw record")
	require.Contains(t, stderr, "not what was written")
	code, stdout, _ = command(t, "-o", "json", "audit", "verify", "mid-1001")
	require.Equal(t, exitDone, code, stdout)
}

func checkProbes(t *testing.T, address string) {
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/readyz") //nolint:noctx // a test's own probe
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var state map[string]string
		return json.NewDecoder(response.Body).Decode(&state) == nil && state["ca devca"] == "ok"
	}, soon, 100*time.Millisecond, "the worker has looked at its CAs")
	for _, path := range []string{"/healthz", "/readyz"} {
		response, err := http.Get("http://" + address + path) //nolint:noctx // a test's own probe
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
}

// The worker reports configuration faults all at once, and says what to do when
// setup was not run.
func TestWorkerStartFaults(t *testing.T) {
	built := build(t)
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		name string
		env  []string
		says []string
	}{
		{"faults", []string{"MOBILEID_STORE_DRIVER=oracle", "MOBILEID_LOCK_DEADLINE=0s"}, []string{"store.driver", "lock.deadline"}},
		{"no key", nil, []string{"audit.key_file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), built.worker)
			cmd.Env = append(os.Environ(), test.env...)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 1, exit.ExitCode())
			for _, says := range test.says {
				require.Contains(t, string(output), says)
			}
		})
	}
	t.Run("no schema", func(t *testing.T) {
		require.NoError(t, os.MkdirAll(".dev", 0o700))
		require.NoError(t, os.WriteFile(".dev/audit.key", []byte(strings.Repeat("ab", 32)), 0o600))
		output, err := exec.CommandContext(t.Context(), built.worker).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(output), "starter setup")
	})
}

// devca run by the starter stops on SIGTERM and says where it is.
func TestDevcaCommand(t *testing.T) {
	built := build(t)
	t.Chdir(t.TempDir())
	cmd := exec.CommandContext(t.Context(), built.starter, "devca", "--dir", "ca", "-o", "json")
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		_, err := os.Stat("ca/addresses.json")
		return err == nil
	}, soon, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := os.Stat("ca/crl.pem")
		return err == nil
	}, soon, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

// On a terminal, lock asks; no answer at all is Cancel.
func TestAskNext(t *testing.T) {
	for answer, want := range map[string]bool{"next\n": true, "N\n": true, "cancel\n": false, "c\n": false, "": false, "what?\n\nnext\n": true} {
		out := &bytes.Buffer{}
		p := &program{in: strings.NewReader(answer), out: out}
		require.Equal(t, want, p.askNext(), "%q", answer)
		require.Contains(t, out.String(), "Next or Cancel?")
	}
}

// On SIGTERM the worker lets a running activity end. The CA is held back until
// the worker stops; the revocation under way is then reported by that worker,
// and not tried again by another one.
func checkGracefulStop(t *testing.T, d *demo.Demo) {
	ca, ok := d.Stack.Process("devca")
	require.True(t, ok)
	worker, ok := d.Stack.Process("worker")
	require.True(t, ok)
	bert := d.Locks.User("bert")
	require.NoError(t, ca.Signal(syscall.SIGSTOP))
	defer func() { _ = ca.Signal(syscall.SIGCONT) }()
	_, err := bert.Lock(t.Context(), "mid-1002", client.LockOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := bert.Status(t.Context(), "mid-1002")
		return err == nil && len(status.Steps) == 1 && status.Steps[0].State == "Started"
	}, soon, 20*time.Millisecond, "the revocation is under way")

	require.NoError(t, worker.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(".dev/log/worker.log")
		return err == nil && strings.Contains(string(log), "Stopping: running activities may end")
	}, soon, 20*time.Millisecond)
	require.NoError(t, ca.Signal(syscall.SIGCONT))
	select {
	case <-d.Stack.Ended("worker"):
	case <-time.After(time.Minute):
		t.Fatal("the worker did not stop")
	}
	revoked := 0
	m, err := d.Store.MobileID(t.Context(), "mid-1002")
	require.NoError(t, err)
	require.Equal(t, mobileid.Locked, m.State)
	for _, c := range m.Certificates {
		out, err := openssl(t, "ocsp", "-issuer", ".dev/ca/ca.pem", "-cert", certificateFile(t, c), "-url", d.Stack.CA.PublicURL+"/ocsp", "-CAfile", ".dev/ca/ca.pem", "-no_nonce")
		require.NoError(t, err, out)
		if strings.Contains(out, ": revoked") {
			revoked++
		}
	}
	require.Equal(t, 2, revoked, "the activity under way ended")
}

// certificateFile writes a certificate for openssl.
func certificateFile(t *testing.T, c mobileid.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certificate.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), 0o600))
	return file
}

// Each part is killed in the middle of a lock and comes back on its files; the
// lock ends.
func TestPartsKilledInTheMiddle(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
	}, func(ctx context.Context, d *demo.Demo) error {
		for _, test := range []struct{ part, user, mobileID string }{
			{"devca", "anna", "mid-1001"},
			{"temporal", "bert", "mid-1002"},
			{"worker", "carl", "mid-1003"},
		} {
			t.Run(test.part, func(t *testing.T) {
				user := d.Locks.User(test.user)
				_, err := user.Start(ctx, test.mobileID, client.LockOptions{})
				require.NoError(t, err)
				process, ok := d.Stack.Process(test.part)
				require.True(t, ok)
				require.NoError(t, process.Kill())
				if test.part != "temporal" {
					// Next is accepted all the same.
					_, err = user.Next(ctx, test.mobileID, client.LockOptions{})
					require.NoError(t, err)
				}
				require.NoError(t, d.Stack.Restart(test.part))
				require.Eventually(t, func() bool {
					_, err := user.Next(ctx, test.mobileID, client.LockOptions{})
					return err == nil
				}, 2*time.Minute, time.Second)
				_, err = user.Retry(ctx, test.mobileID)
				if err != nil {
					require.ErrorIs(t, err, client.ErrNoWorker)
				}
				status, err := user.WaitClosed(ctx, test.mobileID, nil)
				require.NoError(t, err)
				require.Equal(t, workflows.OutcomeLocked, status.Outcome)
				m, err := d.Store.MobileID(ctx, test.mobileID)
				require.NoError(t, err)
				require.Equal(t, mobileid.Locked, m.State)
				for _, c := range m.Certificates {
					require.Equal(t, mobileid.CertificateRevoked, c.State)
				}
			})
		}
		return nil
	})
	require.NoError(t, err, out.String())
}

// The credentials of a CA lie with a worker in the CA's own zone, which has no
// store. The worker of the processes leaves the CA to it.
func TestWorkerInTheZoneOfACA(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	const zone = "devca-zone"
	err := p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
		CA: map[string]any{"task_queue": zone, "driver": "", "url": "", "certificate_file": "", "key_file": "", "server_ca_file": ""},
	}, func(ctx context.Context, d *demo.Demo) error {
		anna := d.Locks.User("anna")
		_, err := anna.Lock(ctx, "mid-1001", client.LockOptions{})
		require.NoError(t, err, "the mobile ID is locked without the CA")
		require.Eventually(t, func() bool {
			status, err := anna.Status(ctx, "mid-1001")
			return err == nil && len(status.Steps) == 1 && status.Steps[0].State == "Scheduled" && !status.Revoked
		}, soon, 50*time.Millisecond, "nobody serves the CA yet")

		ca, err := json.Marshal([]map[string]string{{
			"name": "devca", "driver": "devca", "task_queue": zone, "url": d.Stack.CA.APIURL, "issuer_file": ".dev/ca/ca.pem",
			"certificate_file": ".dev/ca/client.pem", "key_file": ".dev/ca/client.key", "server_ca_file": ".dev/ca/tls-ca.pem",
			"ocsp_url": d.Stack.CA.PublicURL + "/ocsp", "crl_url": d.Stack.CA.PublicURL + "/crl.der",
		}})
		require.NoError(t, err)
		config := fmt.Sprintf("worker: {serves: cas, health_address: \"\"}\nstore: {dsn: /nowhere/im.db}\naudit: {key_file: /nowhere/key}\ncas: %s\n", ca)
		require.NoError(t, os.WriteFile("zone.yaml", []byte(config), 0o600))
		require.NoError(t, d.Stack.Run("zone-worker", built.worker, "--config", "zone.yaml"))
		status, err := anna.WaitClosed(ctx, "mid-1001", nil)
		require.NoError(t, err, out)
		require.Equal(t, workflows.OutcomeLocked, status.Outcome)
		require.False(t, status.VisibleAt.IsZero())
		m, err := d.Store.MobileID(ctx, "mid-1001")
		require.NoError(t, err)
		for _, c := range m.Certificates {
			require.Equal(t, mobileid.CertificateRevoked, c.State)
		}
		code, stdout, _ := command(t, "ca", "check")
		require.Equal(t, exitDone, code, stdout)
		require.Regexp(t, `(?m)^devca +- +- +yes +yes`, stdout, "this side sees what the CA publishes")
		return nil
	})
	require.NoError(t, err, out.String())
}
