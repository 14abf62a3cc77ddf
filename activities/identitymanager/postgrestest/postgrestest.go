// Package postgrestest gives tests databases of a private PostgreSQL server: see
// package postgres.
//
// A test process has one server. It starts with the first test that asks for it,
// and ends with the test process, however that ends. Each test gets databases of
// its own:
//
//	url := postgrestest.Start(t).NewDatabase(t)
//
// Where PostgreSQL is not installed, the test is skipped and says so.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"mobileid/starter/stack/postgres"
)

// Server is a running PostgreSQL server.
type Server struct {
	server *postgres.Server
	last   atomic.Int64 // number of the last database
}

// shared is the server of this test process.
var shared struct {
	sync.Once
	server Server
	err    error
}

// Start returns the server of this test process, and starts it if no test has
// asked for it before. It skips the test if PostgreSQL is not installed.
func Start(t testing.TB) *Server {
	t.Helper()
	shared.Do(func() { shared.server.server, shared.err = postgres.Start() })
	if errors.Is(shared.err, postgres.ErrMissing) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatalf("start PostgreSQL: %v", shared.err)
	}
	return &shared.server
}

// NewDatabase creates an empty database and returns its URL. It is dropped when
// the test ends.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.last.Add(1))
	if err := s.server.CreateDatabase(t.Context(), name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := s.server.DropDatabase(context.Background(), name); err != nil {
			t.Logf("drop database: %v", err)
		}
	})
	return s.server.URL(name)
}

// Kill ends the server as a power cut would: with SIGKILL. Whatever runs in any
// database breaks off, so a test that kills does not run in parallel with others.
// It must be followed by Restart.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.server.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Restart starts the server again after Kill, under the same URLs, and returns
// when it has recovered.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.server.Restart(); err != nil {
		t.Fatalf("restart PostgreSQL: %v", err)
	}
}
