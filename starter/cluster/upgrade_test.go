package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/config"
	"mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/starter/stack/stacktest"
	"mobileid/workflows"
)

const (
	// earlier is the commit of the old build: the first one whose workers can have a
	// version.
	earlier = "2f488eb2e0ea7f345c0837560c2beca2aa3a757a"

	deployment = "mobileid"
	oldBuild   = "old"
	newBuild   = "new"
	newWorker  = "new-worker"

	// anotherCA is of the mobile ID that waits for an operator: its CA is not
	// configured until the upgrade.
	anotherCA = "another-ca"
)

// The cluster is upgraded in place, as docs/operating.md describes it, with locks open in
// every phase: old workers, a new build beside them, which is made the current one, the
// way back to the old one, and forward again, now without the old workers. No lock is
// lost, each was worked on by both builds, and all end.
func upgraded(t *testing.T, programs stacktest.Programs) {
	api, list := newGate(t), newGate(t)
	in := start(t, buildEarlier(t, programs), stack.Options{
		Workers: 2,
		WorkerEnv: append(version(oldBuild),
			"MOBILEID_WORKER_STOP_TIMEOUT=1s"), // so that a step that is held does not hold the test up
		CA: map[string]any{"url": "https://" + api.address(), "crl_url": "http://" + list.address() + "/crl.der"},
	})
	api.lead(hostOf(t, in.Stack.CA.APIURL))
	list.lead(hostOf(t, in.Stack.CA.PublicURL))
	in.setCurrent(t, oldBuild)
	other := in.startAnotherCA(t)

	user := in.Locks.User(owner)
	closed, awaiting := in.mobileIDs(t, "closed", 1)[0], in.mobileIDs(t, "awaiting", 6)
	publishing, revoking, locking := in.mobileIDs(t, "publishing", 2), in.mobileIDs(t, "revoking", 2), in.mobileIDs(t, "locking", 2)
	stuck, certificate := in.mobileIDOf(t, other)
	t.Run("old build", func(t *testing.T) {
		in.lock(t, closed)
		in.requireLocked(t, closed)
		for _, id := range awaiting {
			_, err := user.Start(t.Context(), id, client.LockOptions{})
			require.NoError(t, err)
			in.requirePhase(t, id, workflows.AwaitingConfirmation)
		}
		in.lock(t, stuck)
		in.requirePhase(t, stuck, workflows.NeedsOperator)
		list.close()
		for _, id := range publishing {
			in.lock(t, id)
			in.requirePhase(t, id, workflows.Publishing)
		}
		api.close()
		for _, id := range revoking {
			in.lock(t, id)
			in.requirePhase(t, id, workflows.Revoking)
		}
	})
	release := in.hold(t, locking)
	for _, id := range locking {
		_, err := user.Start(t.Context(), id, client.LockOptions{})
		require.NoError(t, err)
		require.NoError(t, in.Temporal.SignalWorkflow(t.Context(), workflows.LockWorkflowID(id), "", workflows.Next, nil))
		in.requirePhase(t, id, workflows.Locking)
	}

	t.Run("new build beside the old one", func(t *testing.T) {
		in.Stack.AddCA(other.section())
		require.NoError(t, in.Stack.WriteConfig())
		setup := exec.CommandContext(t.Context(), programs.Starter, "setup")
		setup.Env = append(os.Environ(), in.Stack.Environment()...)
		output, err := setup.CombinedOutput()
		require.NoError(t, err, "%s", output)
		for _, name := range []string{newWorker, newWorker + "-2"} {
			_, err := in.Stack.StartWorker(t.Context(), name, stack.WorkerOptions{Program: programs.Worker, Env: version(newBuild)})
			require.NoError(t, err)
		}
		in.setCurrent(t, newBuild)
		in.next(t, awaiting[:2])
		in.requireBuild(t, newBuild, awaiting[:2]...)
	})
	t.Run("the way back", func(t *testing.T) {
		in.setCurrent(t, oldBuild)
		in.next(t, awaiting[2:4])
		in.requireBuild(t, oldBuild, awaiting[2:4]...)
	})
	t.Run("forward, without the old build", func(t *testing.T) {
		in.setCurrent(t, newBuild)
		for _, name := range []string{stack.Worker, stack.Worker + "-2"} {
			require.NoError(t, in.Stack.Terminate(name))
		}
		in.next(t, awaiting[4:])
	})
	release()
	list.open()
	api.open()
	var open []string
	for _, ids := range [][]string{awaiting, publishing, revoking, locking, {stuck}} {
		open = append(open, ids...)
	}
	for _, id := range open {
		in.retry(t, id)
	}
	for _, id := range open {
		if id != stuck {
			in.requireLocked(t, id)
		}
		in.requireBoth(t, id)
	}
	status, err := in.Locks.Operator("test").WaitClosed(t.Context(), stuck, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, status.Outcome)
	evidence, err := other.driver.Status(t.Context(), certificate)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
	require.Zero(t, in.open(t, append(open, closed)))
	code, says := in.starter(t, "audit", "verify")
	require.Zero(t, code, says)
}

// buildEarlier builds the programs of an earlier state of this repository. Where the
// history is missing, today's stand in for them under the old build's name.
func buildEarlier(t *testing.T, today stacktest.Programs) stacktest.Programs {
	t.Helper()
	dir := t.TempDir()
	var archive, says bytes.Buffer
	git := exec.CommandContext(t.Context(), "git", "-C", stacktest.Root(t), "archive", earlier)
	git.Stdout, git.Stderr = &archive, &says
	if err := git.Run(); err != nil {
		t.Logf("the old build is today's, without the history of this repository: %v: %s", err, says.String())
		return today
	}
	tar := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	tar.Stdin = &archive
	output, err := tar.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return stacktest.BuildFrom(t, dir)
}

// version is how a worker is told its version.
func version(build string) []string {
	return []string{config.DeploymentNameVariable + "=" + deployment, config.BuildIDVariable + "=" + build}
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// setCurrent makes a build the current one, as the operating page says.
func (in *installation) setCurrent(t *testing.T, build string) {
	t.Helper()
	args := []string{"worker", "deployment", "set-current-version", "--deployment-name", deployment, "--build-id", build, "--yes"}
	var output []byte
	require.Eventually(t, func() bool {
		var err error
		output, err = exec.CommandContext(t.Context(), in.programs.Temporal, args...).CombinedOutput()
		return err == nil
	}, patience, moment, "Temporal learns of a new build from its polls: %s", output)
}

// lock starts a lock with Next, and does not wait for more than an answer.
func (in *installation) lock(t *testing.T, id string) {
	t.Helper()
	_, err := in.Locks.User(owner).Lock(t.Context(), id, client.LockOptions{})
	require.NoError(t, err)
}

// next presses Next on waiting locks, and waits until the mobile IDs are locked.
func (in *installation) next(t *testing.T, ids []string) {
	t.Helper()
	for _, id := range ids {
		_, err := in.Locks.User(owner).Next(t.Context(), id, client.LockOptions{Patience: patience})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			m, err := in.Store.MobileID(t.Context(), id)
			return err == nil && m.State == mobileid.Locked
		}, patience, moment, id)
	}
}

// retry tells a lock to try again now, as 'scripts/retry-all' does.
func (in *installation) retry(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, until(t.Context(), func(ctx context.Context) error {
		_, err := in.Locks.Operator("test").Retry(ctx, id)
		return err
	}), id)
}

// hold keeps mobile IDs from being changed, as another program's transaction would,
// until release is called.
func (in *installation) hold(t *testing.T, ids []string) (release func()) {
	t.Helper()
	_, address := in.Stack.Database()
	connection, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	tx, err := connection.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT 1 FROM mobile_ids WHERE id = ANY($1) FOR UPDATE", ids)
	require.NoError(t, err)
	return func() {
		t.Helper()
		require.NoError(t, tx.Rollback(t.Context()))
		require.NoError(t, connection.Close(t.Context()))
	}
}

// builds are the builds that worked on a lock, one for each workflow task.
func (in *installation) builds(t *testing.T, id string) []string {
	t.Helper()
	var builds []string
	history := in.Temporal.GetWorkflowHistory(t.Context(), workflows.LockWorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(t, err)
		if done := event.GetWorkflowTaskCompletedEventAttributes(); done != nil {
			builds = append(builds, done.GetDeploymentVersion().GetBuildId())
		}
	}
	return builds
}

// requireBuild requires that the steps of locks are a build's by now. Each retry is a
// step, and Temporal may need a moment to hand out the next one to another build.
func (in *installation) requireBuild(t *testing.T, build string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.Eventually(t, func() bool {
			in.retry(t, id)
			builds := in.builds(t, id)
			return builds[len(builds)-1] == build
		}, patience, moment, "%s: %s", id, build)
	}
}

// requireBoth requires that a lock was begun by the old build, and finished by the new one.
func (in *installation) requireBoth(t *testing.T, id string) {
	t.Helper()
	builds := in.builds(t, id)
	require.Equal(t, oldBuild, builds[0], "%s: %v", id, builds)
	require.Equal(t, newBuild, builds[len(builds)-1], "%s: %v", id, builds)
}

// secondCA is another devca.
type secondCA struct {
	dir       string
	addresses devca.Addresses
	driver    *devca.Driver
}

// startAnotherCA starts one that nobody has configured.
func (in *installation) startAnotherCA(t *testing.T) *secondCA {
	t.Helper()
	c := &secondCA{dir: filepath.Join(in.Stack.Dir, anotherCA)}
	require.NoError(t, in.Stack.Run(anotherCA, in.programs.Starter, "devca", "--dir", c.dir))
	require.NoError(t, until(t.Context(), func(context.Context) (err error) {
		c.addresses, err = devca.ReadAddresses(c.dir)
		return err
	}))
	var err error
	c.driver, err = devca.NewDriver(devca.DriverOptions{
		URL: c.addresses.APIURL, ClientCertFile: filepath.Join(c.dir, "client.pem"), ClientKeyFile: filepath.Join(c.dir, "client.key"),
		ServerCAFile: filepath.Join(c.dir, "tls-ca.pem"),
	})
	require.NoError(t, err)
	t.Cleanup(c.driver.Close)
	return c
}

// section is the CA in the configuration.
func (c *secondCA) section() map[string]any {
	return map[string]any{
		"name": anotherCA, "driver": "devca", "issuer_file": filepath.Join(c.dir, "ca.pem"), "url": c.addresses.APIURL,
		"certificate_file": filepath.Join(c.dir, "client.pem"), "key_file": filepath.Join(c.dir, "client.key"),
		"server_ca_file": filepath.Join(c.dir, "tls-ca.pem"),
		"ocsp_url":       c.addresses.PublicURL + "/ocsp", "crl_url": c.addresses.PublicURL + "/crl.der",
	}
}

// mobileIDOf makes a mobile ID with a certificate of another CA.
func (in *installation) mobileIDOf(t *testing.T, other *secondCA) (string, ca.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: owner}}, key)
	require.NoError(t, err)
	var issued *x509.Certificate
	require.NoError(t, until(t.Context(), func(ctx context.Context) (err error) {
		issued, err = other.driver.Issue(ctx, csr, string(devca.ProfileAuthentication), 365)
		return err
	}))
	kept, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
	require.NoError(t, err)
	const id = "stuck"
	require.NoError(t, in.Store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: id, Name: id, Owner: mobileid.User{ID: owner}, State: mobileid.Active, Certificates: []mobileid.Certificate{kept},
	}))
	return id, ca.Certificate{CertificateID: kept.CertificateID, DER: kept.DER}
}
