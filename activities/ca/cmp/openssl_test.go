package cmp_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
	"mobileid/activities/ca/cmp/cmptest"
)

// opensslTimeout is for one run of the program.
const opensslTimeout = 30 * time.Second

// openssl returns a command that does not read the machine's configuration. Debian 12
// has version 3.0, the first with CMP.
func openssl(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "openssl", append([]string{"cmp", "-config", ""}, args...)...)
}

func requireOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing (Debian package openssl)")
	}
}

// OpenSSL's client is another implementation of CMP. It takes the responder of these
// tests for one: its requests pass, and it verifies the answers.
func TestOpenSSLClient(t *testing.T) {
	requireOpenSSL(t)
	fake := cmptest.Start(t, someName)
	// It leaves a certificate that vouches for itself out of extraCerts.
	fake.Officer, fake.Auditor = issuedCredentials(t, fake.Issuer), issuedCredentials(t, fake.Issuer)
	bySignature := []string{"-cert", fake.Officer.CertFile, "-key", fake.Officer.KeyFile, "-trusted", fake.IssuerFile()}
	bySecret := []string{"-ref", cmptest.Reference, "-secret", "pass:" + fake.Secret}
	byAuditor := []string{"-cert", fake.Auditor.CertFile, "-key", fake.Auditor.KeyFile, "-trusted", fake.IssuerFile()}
	stranger := catest.NewIssuer(t, someName)
	for _, row := range []struct {
		name   string
		args   []string
		reason string
		change func(*cmptest.Answer)
		output string // empty: it succeeds
		code   int    // the reason at the CA; negative: not revoked
	}{
		{"by signature", bySignature, "4", nil, "", 4},
		{"by signature, without a reason", bySignature, "-1", nil, "", 0},
		{"by secret", bySecret, "1", nil, "", 1},
		{"by secret, HMAC-SHA-256", append([]string{"-mac", "hmacWithSHA256"}, bySecret...), "9", nil, "", 9},
		{"not authorised", byAuditor, "4", nil, "notAuthorized", -1},
		{"wrong secret", []string{"-ref", cmptest.Reference, "-secret", "pass:wrong", "-unprotected_errors"}, "4", nil, "badMessageCheck", -1},
		{"reason 0 is said by leaving it out", bySignature, "0", nil, "badRequest", -1},
		{"a stranger's answer", bySignature, "4", func(a *cmptest.Answer) { a.Signer = stranger }, "error validating protection", 4},
		{"an answer without protection", bySignature, "4", func(a *cmptest.Answer) { a.Unprotected = true }, "missing protection", 4},
		{"another transaction", bySignature, "4", func(a *cmptest.Answer) { a.TransactionID = make([]byte, 16) }, "transactionid unmatched", 4},
		{"another nonce", bySignature, "4", func(a *cmptest.Answer) { a.RecipNonce = make([]byte, 16) }, "recipnonce unmatched", 4},
		{"waiting", bySignature, "4", status(3), "waiting", 4},
		{"an announcement, which it takes for success", bySignature, "4", status(4), "", 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			cert := fake.Issue(t, catest.IssueRequest{})
			fake.Change = row.change
			args := append([]string{
				"-cmd", "rr", "-server", strings.TrimPrefix(fake.PlainURL, "http://"), "-no_proxy", "127.0.0.1",
				"-oldcert", catest.WritePEM(t, "victim.pem", "CERTIFICATE", cert.Raw), "-revreason", row.reason,
			}, row.args...)
			ctx, cancel := context.WithTimeout(t.Context(), opensslTimeout)
			defer cancel()
			output, err := openssl(ctx, args...).CombinedOutput()
			if row.output == "" {
				require.NoError(t, err, "%s", output)
			} else {
				require.Error(t, err, "%s", output)
				require.Contains(t, string(output), row.output)
			}
			revoked, reason := fake.Revocation(cert)
			require.Equal(t, row.code >= 0, revoked)
			require.Equal(t, max(0, row.code), reason)
		})
	}
}

// serverRow is a case of OpenSSL's server, which has no state: what it answers is told
// on its command line.
type serverRow struct {
	name    string
	args    []string
	options func(*testing.T, *cmp.Options)
	outcome ca.Outcome
	kind    ca.Kind
	words   string // in the error
}

const serverSecret = "an example secret"

func bySecret(secret string) func(*testing.T, *cmp.Options) {
	return func(t *testing.T, o *cmp.Options) {
		o.CertFile, o.KeyFile = "", ""
		o.SecretFile, o.Reference = cmptest.WriteSecret(t, secret), "ref"
	}
}

func byCredentials(make func(testing.TB) catest.Credentials) func(*testing.T, *cmp.Options) {
	return func(t *testing.T, o *cmp.Options) {
		c := make(t)
		o.CertFile, o.KeyFile = c.CertFile, c.KeyFile
	}
}

var withSecret = []string{"-srv_ref", "ref", "-srv_secret", "pass:" + serverSecret}

func serverRows() []serverRow {
	return []serverRow{
		{name: "accepted", outcome: ca.Revoked},
		{name: "RSA key", options: byCredentials(rsaCredentials), outcome: ca.Revoked},
		{name: "P-384 key", options: byCredentials(p384Credentials), outcome: ca.Revoked},
		{name: "granted with modifications", args: []string{"-pkistatus", "1"}, outcome: ca.Revoked},
		{name: "a revocation has occurred", args: []string{"-pkistatus", "5"}, outcome: ca.Revoked},
		{name: "already revoked", args: []string{"-pkistatus", "2", "-failure", "10", "-statusstring", "already revoked"}, outcome: ca.AlreadyRevoked},
		{name: "unknown certificate", args: []string{"-pkistatus", "2", "-failure", "4", "-statusstring", "no such one"}, kind: ca.NotFound, words: "rejection (badCertId): no such one"},
		{name: "system failure", args: []string{"-pkistatus", "2", "-failure", "25"}, kind: ca.Ambiguous, words: "systemFailure"},
		{name: "not authorised", args: []string{"-pkistatus", "2", "-failure", "23"}, kind: ca.Denied, words: "notAuthorized"},
		{name: "two grounds", args: []string{"-pkistatus", "2", "-failurebits", "1040"}, kind: ca.Ambiguous, words: "badCertId, certRevoked"},
		{name: "waiting", args: []string{"-pkistatus", "3"}, outcome: ca.Pending},
		{name: "a revocation is imminent", args: []string{"-pkistatus", "4"}, outcome: ca.Pending},
		{name: "error message", args: []string{"-send_error", "-pkistatus", "2", "-failure", "2"}, kind: ca.Unsupported, words: "badRequest"},
		{name: "unprotected", args: []string{"-send_unprotected"}, kind: ca.Ambiguous, words: "not protected"},
		{name: "unprotected error", args: []string{"-send_error", "-send_unprot_err", "-pkistatus", "2", "-failure", "1"}, kind: ca.Ambiguous, words: "not protected"},
		{name: "secret", args: withSecret, options: bySecret(serverSecret), outcome: ca.Revoked},
		{name: "secret, already revoked", args: append([]string{"-pkistatus", "2", "-failure", "10"}, withSecret...), options: bySecret(serverSecret), outcome: ca.AlreadyRevoked},
		{name: "wrong secret", args: withSecret, options: bySecret("another secret"), kind: ca.Ambiguous},
		{name: "an RA that is not trusted", options: byCredentials(func(t testing.TB) catest.Credentials { return catest.NewCredentials(t, "stranger") }), kind: ca.Unsupported, words: "no suitable sender cert"},
	}
}

// insideNamespace says that the test runs in a network of its own.
const insideNamespace = "CMP_TEST_INSIDE_NAMESPACE"

// OpenSSL's server listens on all addresses and cannot be told otherwise. So both ends
// run in a network namespace, where there is nothing but loopback: this test runs
// itself there, and sees that all cases were run.
func TestOpenSSLServer(t *testing.T) {
	requireOpenSSL(t)
	if os.Getenv(insideNamespace) != "" {
		againstOpenSSLServer(t)
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is missing (Debian package iproute2)")
	}
	if output, err := exec.CommandContext(t.Context(), "unshare", "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("unshare -n is not permitted here, it needs root: %v: %s", err, output)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-c", `ip link set lo up && exec "$0" "$@"`,
		self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count", "1")
	command.Env = append(os.Environ(), insideNamespace+"=1")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Equal(t, len(serverRows())+2, strings.Count(string(output), "--- PASS: "+t.Name()+"/"), "all cases ran: %s", output)
	require.NotContains(t, string(output), "--- SKIP")
}

func againstOpenSSLServer(t *testing.T) {
	addresses, err := exec.CommandContext(t.Context(), "ip", "-oneline", "link").Output()
	require.NoError(t, err)
	require.Equal(t, 1, bytes.Count(addresses, []byte("\n")), "nothing but loopback is here: %s", addresses)

	issuer, officer := catest.NewIssuer(t, someName), catest.NewCredentials(t, "RA officer")
	issuerFile := catest.WritePEM(t, "issuer.pem", "CERTIFICATE", issuer.Certificate.Raw)
	cert := issuer.Sign(t, catest.IssueRequest{})
	start := func(t *testing.T, args []string, options func(*testing.T, *cmp.Options)) *cmp.Driver {
		t.Helper()
		o := cmp.Options{IssuerFile: issuerFile, CertFile: officer.CertFile, KeyFile: officer.KeyFile}
		if options != nil {
			options(t, &o)
		}
		trusted := officer.CertFile
		if o.CertFile != "" && !strings.Contains(t.Name(), "not_trusted") {
			trusted = o.CertFile
		}
		o.URL = startOpenSSLServer(t, append([]string{
			"-srv_cert", issuerFile, "-srv_key", writeKey(t, issuer.Key), "-srv_trusted", trusted,
			"-rsp_cert", catest.WritePEM(t, "victim.pem", "CERTIFICATE", cert.Raw),
		}, args...))
		return newDriver(t, o)
	}
	for _, row := range serverRows() {
		t.Run(row.name, func(t *testing.T) {
			answer, err := revokeOnceUp(t, start(t, row.args, row.options), catest.Name(t, cert))
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err), "%v", err)
				require.ErrorContains(t, err, row.words)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.outcome, answer.Outcome)
		})
	}
	t.Run("another certificate", func(t *testing.T) {
		other := issuer.Sign(t, catest.IssueRequest{})
		_, err := revokeOnceUp(t, start(t, nil, nil), catest.Name(t, other))
		require.Equal(t, ca.Unsupported, kindOf(t, err), "%v", err)
		require.ErrorContains(t, err, "badRequest")
	})
	t.Run("check", func(t *testing.T) {
		d := start(t, nil, nil)
		require.Eventually(t, func() bool {
			err := d.Check(t.Context())
			if err != nil {
				require.Equal(t, ca.Unavailable, kindOf(t, err), "%v", err)
			}
			return err == nil
		}, opensslTimeout, 20*time.Millisecond)
	})
}

// revokeOnceUp asks until the server listens: it takes one message and ends.
func revokeOnceUp(t *testing.T, d *cmp.Driver, cert ca.Certificate) (answer ca.Answer, err error) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err = d.Revoke(t.Context(), cert, mobileid.KeyCompromise)
		return err == nil || kindOf(t, err) != ca.Unavailable
	}, opensslTimeout, 20*time.Millisecond)
	return answer, err
}

var nextPort = 8800 // of the namespace's own network

// startOpenSSLServer starts a server for one message, and returns its URL.
func startOpenSSLServer(t *testing.T, args []string) string {
	t.Helper()
	nextPort++
	log := filepath.Join(t.TempDir(), "server.log")
	file, err := os.Create(log)
	require.NoError(t, err)
	// Under timeout, so that it ends even if this process is killed.
	server := openssl(context.Background(), append([]string{"-port", strconv.Itoa(nextPort), "-max_msgs", "1"}, args...)...)
	command := exec.Command("timeout", append([]string{strconv.Itoa(int(opensslTimeout.Seconds()))}, server.Args...)...)
	command.Stdout, command.Stderr = file, file
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // it has ended by itself, unless the test failed; timeout passes it on
		_ = command.Wait()
		_ = file.Close()
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("openssl said: %s", text)
		}
	})
	return fmt.Sprintf("http://127.0.0.1:%d/", nextPort)
}
