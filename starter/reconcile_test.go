package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// Reconciliation takes a worker. Who reconciles, or restores, while all are stopped is told
// what it waits for, and it goes on when one comes.
func TestReconcileTellsThatNoWorkerRuns(t *testing.T) {
	program, err := workflowtest.FindProgram("temporal")
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	server, err := workflowtest.StartServer(ctx, program)
	require.NoError(t, err)
	defer server.Stop()
	inNewFolder(t)
	t.Setenv("TEMPORAL_ADDRESS", server.Address)

	require.NoError(t, os.WriteFile("audit.key", []byte(strings.Repeat("6b", 32)), 0o600)) // sqliteStore's
	path, backup := "im.db", filepath.Join(t.TempDir(), "backup.db")
	sqliteStore(t, path)
	sqliteExec(t, path, "VACUUM INTO ?", backup)
	for name, args := range map[string][]string{
		"reconcile":         {"reconcile"},
		"reconcile in JSON": {"reconcile", "-o", "json"},
		"restore":           {"restore", backup, "--store.dsn", path, "--audit.key_file", "audit.key"},
	} {
		t.Run(name, func(t *testing.T) {
			queue := strings.ReplaceAll(name, " ", "-")
			reader, stderr := io.Pipe()
			defer func() { require.NoError(t, reader.Close()) }()
			var stdout bytes.Buffer
			code := make(chan int, 1)
			go func() {
				code <- execute(ctx, append(args, "--task_queue", queue), strings.NewReader(""), &stdout, stderr)
				_ = stderr.Close()
			}()
			lines := bufio.NewScanner(reader)
			require.True(t, lines.Scan(), "it has ended")
			require.Equal(t, "No worker has taken the reconciliation on yet. It goes on when one does.", lines.Text())

			w := worker.New(server.Client, queue, worker.Options{})
			w.RegisterWorkflowWithOptions(func(workflow.Context, workflows.ReconcileRequest) (workflows.ReconcileResult, error) {
				return workflows.ReconcileResult{}, nil
			}, workflow.RegisterOptions{Name: workflows.Reconciliation})
			require.NoError(t, w.Start())
			defer w.Stop()
			require.False(t, lines.Scan(), "it says so once: %s", lines.Text())
			require.Equal(t, exitDone, <-code, stdout.String())
			if name != "reconcile in JSON" {
				require.Contains(t, stdout.String(), "Nothing is unfinished.")
			}
		})
	}
}
