// Package stacktest runs a whole installation for a test: the programs as they are
// built now, on the processes of package stack, with the people of the demo.
package stacktest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	"mobileid/config"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// Programs are those that an installation runs.
type Programs struct {
	Starter, Worker string // built now
	Temporal        string // the temporal program
}

// Build builds the programs, and finds the temporal program or skips the test.
func Build(t *testing.T) Programs {
	t.Helper()
	return BuildFrom(t, Root(t))
}

// BuildFrom is Build from another state of the sources.
func BuildFrom(t *testing.T, root string) Programs {
	t.Helper()
	temporal, err := exec.LookPath("temporal")
	if err != nil {
		temporal = filepath.Join(Bin(t), "temporal")
	}
	if _, err := os.Stat(temporal); err != nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	dir := t.TempDir()
	// Without the folder in it, so that what is built once need not be built again.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", dir, "mobileid/starter", "mobileid/worker") //nolint:gosec // a test's own folder
	build.Dir = root
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return Programs{Starter: filepath.Join(dir, "starter"), Worker: filepath.Join(dir, "worker"), Temporal: temporal}
}

// Root is the folder of this module.
func Root(t *testing.T) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	require.True(t, ok)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Bin is the folder of the programs of others that 'make tools' installs.
func Bin(t *testing.T) string {
	t.Helper()
	return filepath.Join(Root(t), ".bin")
}

// Installation is everything, running, with the people of the demo.
type Installation struct {
	*demo.Demo
	Config   config.Config
	Temporal sdkclient.Client
}

// Start starts an installation in a folder of its own, and stops it when the test ends.
// Options need not name programs or a folder. In the rest of the test MOBILEID_CONFIG and
// TEMPORAL_ADDRESS lead to the installation.
func Start(t *testing.T, programs Programs, options stack.Options) *Installation {
	t.Helper()
	options.Dir, options.Fresh = t.TempDir(), true
	options.Starter, options.Worker, options.Temporal = programs.Starter, programs.Worker, programs.Temporal
	s, err := stack.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Stop())
		if !t.Failed() {
			return
		}
		for _, name := range []string{"worker", "serve"} {
			text, err := os.ReadFile(filepath.Join(s.Dir, "log", name+".log")) //nolint:gosec // our own log
			t.Logf("%s: %s: %v", name, text[max(0, len(text)-5000):], err)
		}
	})

	t.Setenv(config.FileVariable, s.ConfigFile)
	t.Setenv("TEMPORAL_ADDRESS", s.TemporalAddress)
	in := &Installation{}
	in.Config, err = config.Load(nil)
	require.NoError(t, err)
	in.Temporal, err = sdkclient.DialContext(t.Context(), sdkclient.Options{HostPort: s.TemporalAddress, Logger: log.NewStructuredLogger(nil)})
	require.NoError(t, err)
	t.Cleanup(in.Temporal.Close)
	in.Demo = &demo.Demo{
		Out: os.Stderr, Stack: s, Store: in.OpenStore(t), Locks: client.New(in.Temporal, in.Config.TaskQueue),
		Gets: client.NewGets(in.Temporal, in.Config.TaskQueue, workflows.GetWorkflowID),
	}
	require.NoError(t, in.Prepare(t.Context()))
	return in
}

// OpenStore opens Identity Manager's store once more, until the test ends.
func (in *Installation) OpenStore(t *testing.T) *identitymanager.Store {
	t.Helper()
	store, err := identitymanager.Configured(t.Context(), in.Config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// Scan shows the URI of a QR code to a phone of its own.
func (in *Installation) Scan(ctx context.Context, code string) (*phone.Profile, error) {
	messaging := filepath.Join(in.Stack.Dir, "messaging")
	return phone.Scan(ctx, code, phone.Options{
		Dir: filepath.Join(in.Stack.Dir, "phone"), Poll: 50 * time.Millisecond,
		AttestationKeyFile: filepath.Join(messaging, embedded.AttestationKeyFile), ServerCAFile: filepath.Join(messaging, embedded.ServerCAFile),
	})
}
