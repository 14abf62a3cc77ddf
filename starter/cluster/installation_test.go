package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/starter/stack/postgres"
	"mobileid/starter/stack/stacktest"
	"mobileid/workflows"
)

const (
	// patience is for what others do, on a machine that does other things, too.
	patience = 5 * time.Minute
	// moment is between two looks.
	moment = 100 * time.Millisecond
	// owner has all mobile IDs that are not somebody's in particular.
	owner = "olga"
)

// installation is the cluster, and the programs that it was started with.
type installation struct {
	*stacktest.Installation
	programs stacktest.Programs
}

// start starts the cluster from programs, or skips the test where a part is missing.
func start(t *testing.T, programs stacktest.Programs, options stack.Options) *installation {
	t.Helper()
	cluster, err := stack.FindCluster(stacktest.Bin(t))
	if err != nil {
		t.Skip(err)
	}
	if !postgres.Installed() {
		t.Skip(postgres.ErrMissing)
	}
	options.Cluster = cluster
	if options.CA == nil {
		options.CA = map[string]any{}
	}
	// Faults take longer than the CA takes to publish, and the record shall tell of that.
	options.CA["proof_wait"] = patience.String()
	return &installation{Installation: stacktest.Start(t, programs, options), programs: programs}
}

// mobileIDs makes n of them with certificates.
func (in *installation) mobileIDs(t *testing.T, prefix string, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%03d", prefix, i)
		require.NoError(t, in.AddMobileID(t.Context(), owner, "Olga Olsson", ids[i]))
	}
	return ids
}

// wants is how many locks a test runs: LOCKS, or the number that is asked for.
func wants(t *testing.T, n int) int {
	t.Helper()
	text := os.Getenv("LOCKS")
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "LOCKS")
	return n
}

// status asks the lock itself. It is empty while nobody answers.
func (in *installation) status(ctx context.Context, id string) client.Status {
	status, err := in.Locks.Operator("test").Status(ctx, id)
	if err != nil {
		return client.Status{}
	}
	return status
}

// requirePhase waits until a lock is in a phase.
func (in *installation) requirePhase(t *testing.T, id string, phase workflows.Phase) {
	t.Helper()
	require.Eventually(t, func() bool { return in.status(t.Context(), id).Phase == phase }, patience, moment, "%s: %s", id, phase)
}

// requireLocked waits until a lock is closed, and reads the end states back: from the
// store, the CRL and OCSP, and from the audit, which must tell of one lock, of the
// revocation of both certificates and of its publication.
func (in *installation) requireLocked(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	status, err := in.Locks.Operator("test").WaitClosed(ctx, id, nil)
	require.NoError(t, err, id)
	require.Equal(t, workflows.OutcomeLocked, status.Outcome, id)
	require.NoError(t, in.CheckLocked(ctx, id))
	in.requireRecords(t, id, 1)
}

// requireRecords looks at what the audit tells of a mobile ID.
func (in *installation) requireRecords(t *testing.T, id string, locks int) {
	t.Helper()
	trail, err := in.Store.AuditTrail(t.Context(), id)
	require.NoError(t, err)
	locked := 0
	revoked, visible := map[mobileid.CertificateID]bool{}, map[mobileid.CertificateID]bool{}
	for _, entry := range trail {
		if entry.Record.Event == mobileid.EventLocked {
			locked++
		}
		for _, c := range entry.Record.Certificates {
			revoked[c.CertificateID] = revoked[c.CertificateID] || c.StateInIM == mobileid.CertificateRevoked && len(c.Proof) > 0
			visible[c.CertificateID] = visible[c.CertificateID] || !c.VisibleAt.IsZero()
		}
	}
	require.Equal(t, locks, locked, "%s: locked in the audit", id)
	m, err := in.Store.MobileID(t.Context(), id)
	require.NoError(t, err)
	for _, c := range m.Certificates {
		require.True(t, revoked[c.CertificateID], "%s: a record has the proof for %s", id, c.Serial)
		require.True(t, visible[c.CertificateID], "%s: a record says that others see it of %s", id, c.Serial)
	}
}

// starter runs a command line of the starter, and returns its exit code with all that it
// says.
func (in *installation) starter(t *testing.T, args ...string) (code int, says string) {
	t.Helper()
	cmd := in.Stack.Command(t.Context(), args...)
	output, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		output = append(output, failed.Stderr...) // of one that did not fail it is not what it has found
	} else {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(output))
}
