package browser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
	"mobileid/config"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/selfservice"
	"mobileid/starter/stack"
)

// patience is for what others do, on a machine that does other things, too.
const patience = time.Minute

// installation is everything, running.
type installation struct {
	*demo.Demo
	config   config.Config
	temporal sdkclient.Client
	url      string // of Self-Service
}

// start builds the programs and starts everything, with the users of the demo.
func start(t *testing.T) *installation {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	bin := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "mobileid/starter", "mobileid/worker").CombinedOutput()
	require.NoError(t, err, "%s", output)
	temporalProgram, err := exec.LookPath("temporal")
	if err != nil {
		temporalProgram = filepath.Join(root, ".bin", "temporal")
	}
	if _, err := os.Stat(temporalProgram); err != nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	program := filepath.Join(bin, "starter")
	s, err := stack.Start(t.Context(), stack.Options{
		Dir: t.TempDir(), Starter: program, Worker: filepath.Join(bin, "worker"), Temporal: temporalProgram, Fresh: true, Serve: true,
		Get: map[string]any{"key_types": []string{"EC-P-256"}},
		Setup: func(ctx context.Context, s *stack.Stack) error {
			if err := s.WriteConfig(); err != nil {
				return err
			}
			setup := exec.CommandContext(ctx, program, "setup")
			setup.Env = append(os.Environ(), s.Environment()...)
			if output, err := setup.CombinedOutput(); err != nil {
				return fmt.Errorf("setup: %w: %s", err, output)
			}
			return nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })

	t.Setenv(config.FileVariable, s.ConfigFile)
	c, err := config.Load(nil)
	require.NoError(t, err)
	store := openStore(t, c)
	temporal, err := sdkclient.DialContext(t.Context(), sdkclient.Options{HostPort: s.TemporalAddress, Logger: log.NewStructuredLogger(nil)})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	d := &demo.Demo{Out: os.Stderr, Stack: s, Store: store, Locks: client.New(temporal, c.TaskQueue)}
	require.NoError(t, errors.Join(d.Prepare(t.Context()), d.PutPasswords(t.Context())))
	return &installation{Demo: d, config: c, temporal: temporal, url: s.ServeURL}
}

func openStore(t *testing.T, c config.Config) *identitymanager.Store {
	t.Helper()
	store, err := identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// another starts one more instance of Self-Service in this process, on a store of its
// own that can be taken away, and returns its address.
func (in *installation) another(t *testing.T) (url string, store *identitymanager.Store) {
	t.Helper()
	store = openStore(t, in.config)
	server, err := selfservice.New(in.config, store, in.temporal, zap.NewNop(), selfservice.Options{})
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return "http://" + listener.Addr().String(), store
}

// scan shows a code to a phone.
func (in *installation) scan(ctx context.Context, code string) (*phone.Profile, error) {
	messaging := filepath.Join(in.Stack.Dir, "messaging")
	return phone.Scan(ctx, code, phone.Options{
		Dir: filepath.Join(in.Stack.Dir, "phone"), Poll: 50 * time.Millisecond,
		AttestationKeyFile: filepath.Join(messaging, embedded.AttestationKeyFile), ServerCAFile: filepath.Join(messaging, embedded.ServerCAFile),
	})
}

// requireState reads the mobile ID back from where it counts.
func (in *installation) requireState(t *testing.T, id string, state mobileid.State, open int) {
	t.Helper()
	m, err := in.Store.MobileID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, state, m.State)
	require.Len(t, m.Open(), open)
}
