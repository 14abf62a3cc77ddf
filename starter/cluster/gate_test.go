package cluster

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate stands before a server, and can be shut: then nobody gets through, and who was
// through is thrown out.
type gate struct {
	listener net.Listener

	mu     sync.Mutex
	target string // host:port; empty: nobody gets through
	shut   bool
	inside map[net.Conn]bool
}

func newGate(t *testing.T) *gate {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{listener: listener, inside: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.through(connection) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		g.close()
		serving.Wait()
	})
	return g
}

func (g *gate) address() string { return g.listener.Addr().String() }

func (g *gate) lead(target string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target = target
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for connection := range g.inside {
		_ = connection.Close()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// enter says where a connection leads, if anywhere.
func (g *gate) enter(connection net.Conn) (target string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut || g.target == "" {
		return "", false
	}
	g.inside[connection] = true
	return g.target, true
}

func (g *gate) leave(connection net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inside, connection)
}

// through copies both ways until either side ends.
func (g *gate) through(connection net.Conn) {
	defer connection.Close()
	target, ok := g.enter(connection)
	if !ok {
		return
	}
	defer g.leave(connection)
	server, err := net.Dial("tcp", target) //nolint:noctx // it ends with the connection
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	copied := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() { copied(server, connection) })
	copied(connection, server)
	both.Wait()
}
