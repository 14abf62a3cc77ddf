package cluster

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/starter/stack/stacktest"
	"mobileid/workflows"
)

// store is how Identity Manager's store is backed up and restored, as docs/operating.md
// describes it.
type store struct {
	backup  func(t *testing.T, in *installation, file string) // while everything runs
	restore func(t *testing.T, in *installation, file string) // while nothing that uses it does
}

// Identity Manager is restored to a backup, while Temporal and the CA are further. The
// audit tells what is lost, and a reconciliation finishes what is undone: nobody can use
// what was locked.
func fromBackup(t *testing.T, programs stacktest.Programs) {
	for _, test := range []struct {
		name  string
		start func(*testing.T, stacktest.Programs, stack.Options) *installation
		store store
	}{
		{"PostgreSQL", start, store{backup: dump, restore: restoreDump}},
		{"SQLite", startDevelopment, store{backup: vacuum, restore: restoreCopy}},
	} {
		t.Run(test.name, func(t *testing.T) { restored(t, test.start, programs, test.store) })
	}
}

func restored(t *testing.T, start func(*testing.T, stacktest.Programs, stack.Options) *installation, programs stacktest.Programs, store store) {
	api := newGate(t)
	in := start(t, programs, stack.Options{CA: map[string]any{"url": "https://" + api.address()}})
	api.lead(hostOf(t, in.Stack.CA.APIURL))
	ids := in.mobileIDs(t, "mid", 6)
	before, halfway, after, underWay, waiting, untouched := ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]
	in.lock(t, before)
	in.requireLocked(t, before)
	_, err := in.Locks.User(owner).Start(t.Context(), waiting, client.LockOptions{})
	require.NoError(t, err)
	api.close()
	in.lock(t, halfway)
	in.requirePhase(t, halfway, workflows.Revoking)

	file := filepath.Join(t.TempDir(), "backup")
	store.backup(t, in, file)

	api.open()
	in.retry(t, halfway)
	in.requireLocked(t, halfway)
	in.lock(t, after)
	in.requireLocked(t, after)
	api.close()
	in.lock(t, underWay)
	in.requirePhase(t, underWay, workflows.Revoking)
	in.requireCheckpoint(t)

	require.NoError(t, in.Stack.Terminate(stack.Worker))
	require.NoError(t, in.Store.Close())
	store.restore(t, in, file)
	in.Store = in.OpenStore(t)
	faults := in.auditFaults(t)
	require.NotContains(t, faults, before)
	for _, id := range []string{halfway, after, underWay} {
		require.Contains(t, faults, id, "a checkpoint saw more")
	}
	require.NoError(t, in.Stack.Restart(stack.Worker))
	require.NoError(t, in.Stack.Await(t.Context(), stack.Worker))
	api.open()
	in.retry(t, underWay)
	in.requireClosed(t, underWay)
	in.requireLocked(t, underWay) // its lock was lost with the store, and the process locked again

	in.requireReconciled(t, map[string]mobileid.Problem{halfway: mobileid.ProblemNotRevoked, after: mobileid.ProblemNotLocked})
	in.lock(t, waiting)
	for _, id := range ids[:5] {
		in.requireLocked(t, id)
	}
	require.NoError(t, in.CheckActive(t.Context(), untouched))
	code, says := in.starter(t, "reconcile", "--dry-run")
	require.Zero(t, code, says)
	require.Equal(t, "Nothing is unfinished.", says)

	require.NotEmpty(t, in.auditFaults(t), "what was lost stays lost, and verify goes on saying so")
	checkpoints := in.Config.Audit.CheckpointDir
	require.NoError(t, os.Rename(checkpoints, checkpoints+".before-the-restore"))
	in.requireCheckpoint(t)
	require.Empty(t, in.auditFaults(t))
}

// startDevelopment starts Temporal's development server and a store in SQLite.
func startDevelopment(t *testing.T, programs stacktest.Programs, options stack.Options) *installation {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("sqlite3 is missing")
	}
	options.CA["proof_wait"] = patience.String()
	return &installation{Installation: stacktest.Start(t, programs, options), programs: programs}
}

// dump and restoreDump are PostgreSQL's way.
func dump(t *testing.T, in *installation, file string) {
	t.Helper()
	server, address := in.Stack.Database()
	run(t, server.Program("pg_dump"), "--format=custom", "--file="+file, "--dbname="+address)
}

func restoreDump(t *testing.T, in *installation, file string) {
	t.Helper()
	server, address := in.Stack.Database()
	const name = "mobileid"
	require.NoError(t, server.DropDatabase(t.Context(), name))
	require.NoError(t, server.CreateDatabase(t.Context(), name))
	run(t, server.Program("pg_restore"), "--exit-on-error", "--single-transaction", "--dbname="+address, file)
}

// vacuum and restoreCopy are SQLite's way.
func vacuum(t *testing.T, in *installation, file string) {
	t.Helper()
	run(t, "sqlite3", in.Config.Store.DSN, "VACUUM INTO '"+file+"'")
}

func restoreCopy(t *testing.T, in *installation, file string) {
	t.Helper()
	dsn := in.Config.Store.DSN
	for _, beside := range []string{"-wal", "-shm"} {
		require.NoError(t, os.RemoveAll(dsn+beside))
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dsn, content, 0o600))
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err, "%s %v\n%s", program, args, output)
}

// requireCheckpoint writes a checkpoint of the audit now.
func (in *installation) requireCheckpoint(t *testing.T) {
	t.Helper()
	code, says := in.starter(t, "audit", "checkpoint")
	require.Zero(t, code, says)
}

// auditFaults are the mobile IDs of which the audit is not whole, as 'starter audit
// verify' says.
func (in *installation) auditFaults(t *testing.T) []string {
	t.Helper()
	code, says := in.starter(t, "audit", "verify", "-o", "json")
	var answer struct {
		Whole  bool
		Faults []struct{ MobileID string }
	}
	// A verdict that is bad is followed by the error, as a value of its own.
	require.NoError(t, json.NewDecoder(strings.NewReader(says)).Decode(&answer), says)
	require.Equal(t, answer.Whole, code == 0, says)
	var ids []string
	for _, fault := range answer.Faults {
		ids = append(ids, fault.MobileID)
	}
	return ids
}

// requireClosed waits until a lock is closed as locked.
func (in *installation) requireClosed(t *testing.T, id string) {
	t.Helper()
	status, err := in.Locks.Operator("test").WaitClosed(t.Context(), id, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, status.Outcome, id)
}

// requireReconciled reconciles until every mobile ID was found: what Temporal lists lags
// a moment behind.
func (in *installation) requireReconciled(t *testing.T, want map[string]mobileid.Problem) {
	t.Helper()
	found := map[string]mobileid.Problem{}
	require.Eventually(t, func() bool {
		code, says := in.starter(t, "reconcile", "-o", "json")
		require.Zero(t, code, says)
		var result workflows.ReconcileResult
		require.NoError(t, json.Unmarshal([]byte(says), &result), says)
		for _, f := range result.Findings {
			require.NotEqual(t, workflows.ActionOperator, f.Action, "%+v", f)
			found[f.MobileID] = f.Problem
		}
		return len(found) >= len(want)
	}, patience, moment)
	require.Equal(t, want, found)
}
