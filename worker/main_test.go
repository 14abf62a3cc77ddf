package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"mobileid/workflows"
)

// server is Temporal's development server, one for all tests of the package.
var server *devServer

// devServer is a process that ends with this one, however this one ends.
type devServer struct {
	address string
	client  client.Client
	cmd     *exec.Cmd
}

const (
	// limit is far more than any wait in a test takes.
	limit = 2 * time.Minute
	// moment is the pause between two looks at a condition.
	moment = 50 * time.Millisecond
)

// The test program is also the worker and the messaging server that get killed.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		for variable, run := range map[string]func(string) error{workerVariable: runPointedWorker, messagingVariable: runMessaging} {
			if spec, set := os.LookupEnv(variable); set {
				if err := run(spec); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 1
				}
				return 0
			}
		}
		program, err := findTemporal()
		if err != nil {
			fmt.Fprintln(os.Stderr, "no tests on a real server:", err)
			return m.Run()
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if server, err = startServer(ctx, program); err != nil {
			fmt.Fprintln(os.Stderr, "start Temporal's development server:", err)
			return 1
		}
		defer server.stop()
		if _, err := workflows.RegisterSearchAttributes(ctx, server.client, client.DefaultNamespace); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func startServer(ctx context.Context, program string) (*devServer, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &devServer{address: address}
	s.cmd = exec.Command(program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", port, "--log-level", "never")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		if s.client, err = client.DialContext(ctx, client.Options{HostPort: s.address, Logger: quiet(), Identity: "test"}); err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			s.stop()
			return nil, err
		}
	}
}

func (s *devServer) stop() {
	if s.client != nil {
		s.client.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

func quiet() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// freeAddress is a loopback address that nobody uses at the moment. It is none that
// the system gives to whoever asks for any, so that it is still free when it is needed
// once more.
func freeAddress() (string, error) {
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(15_000+rand.IntN(15_000)))
		listener, err := net.Listen("tcp", address)
		if err == nil {
			return address, listener.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
}

// findTemporal finds the temporal program on PATH or in .bin.
func findTemporal() (string, error) {
	if path, err := exec.LookPath("temporal"); err == nil {
		return path, nil
	}
	path, err := filepath.Abs(filepath.Join("..", ".bin", "temporal"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("the program temporal is neither on PATH nor in .bin: run 'make tools'")
	}
	return path, nil
}
