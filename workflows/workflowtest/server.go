// Package workflowtest has what tests of processes run on: Temporal's development server,
// and child processes that get killed.
package workflowtest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"mobileid/starter/stack/port"
	"mobileid/workflows"
)

// Server is Temporal's development server, with our search attributes. It is a process
// that ends with this one, however this one ends.
type Server struct {
	Address string
	Client  client.Client
	cmd     *exec.Cmd
}

// StartServer starts one, and waits until it answers or until the context ends. Further
// arguments go to `temporal server start-dev`.
func StartServer(ctx context.Context, program string, args ...string) (*Server, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &Server{Address: address}
	s.cmd = exec.Command(program, append([]string{ //nolint:gosec // a program of the test's own
		"server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", port, "--log-level", "never",
	}, args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.dial(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// dial waits for the server.
func (s *Server) dial(ctx context.Context) error {
	for {
		var err error
		if s.Client, err = client.DialContext(ctx, client.Options{HostPort: s.Address, Logger: Quiet(), Identity: "test"}); err == nil {
			_, err = workflows.RegisterSearchAttributes(ctx, s.Client, client.DefaultNamespace)
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// Stop ends it.
func (s *Server) Stop() {
	if s.Client != nil {
		s.Client.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait() // the error is that it was asked to end
}

// Quiet is a logger for clients whose words nobody needs.
func Quiet() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// FindProgram finds a program on PATH or in the .bin folder of a parent folder.
func FindProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".bin", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("the program %s is neither on PATH nor in .bin: run 'make tools'", name)
		}
	}
}

// FreeAddress is a loopback address that nobody uses, still free when it is needed once
// more: see [port.Reserve].
func FreeAddress() (string, error) {
	number, err := port.Reserve()
	return net.JoinHostPort("127.0.0.1", number), err
}
