package workflowtest

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Limit is far more than any wait in a test takes.
const Limit = 2 * time.Minute

// Child is this test program once more, as another process whose output is kept.
type Child struct {
	Process *os.Process
	// Wait waits for its end, and says how it ended. It can be called again.
	Wait func() error
	out  buffer
}

// StartChild runs this test program with further variables, which tell its TestMain what
// to be, and waits until it says that it is ready. It ends with the test, and with this
// process, however that ends.
func StartChild(t *testing.T, ready string, env []string, args ...string) *Child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c := &Child{}
	cmd.Stdout, cmd.Stderr = &c.out, &c.out
	require.NoError(t, cmd.Start())
	c.Process, c.Wait = cmd.Process, sync.OnceValue(cmd.Wait)
	t.Cleanup(c.Kill)
	ended := make(chan struct{})
	go func() {
		_ = c.Wait() // how it ended, others ask
		close(ended)
	}()
	late := time.After(Limit)
	for !c.out.contains(ready) {
		select {
		case <-ended:
			require.Fail(t, "the child ended", "%s", &c.out)
		case <-late:
			require.Fail(t, "the child is not ready", "%s", &c.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c
}

// Kill ends it as a power switch would.
func (c *Child) Kill() {
	_ = c.Process.Kill()
	_ = c.Wait() // the error is that it was killed
}

// RequireKilled checks that it comes to the point where it kills itself.
func (c *Child) RequireKilled(t *testing.T) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", &c.out)
		status, ok := exit.Sys().(syscall.WaitStatus)
		require.True(t, ok)
		require.Equal(t, syscall.SIGKILL, status.Signal(), "%s", &c.out)
	case <-time.After(Limit):
		require.Fail(t, "the child does not come to its point", "%s", &c.out)
	}
}

// String is what it has said.
func (c *Child) String() string { return c.out.String() }

// buffer is read while a process writes it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) contains(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buf.Bytes(), []byte(text))
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
