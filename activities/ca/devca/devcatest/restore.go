package devcatest

import (
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/devca"
)

// site is a handler that can be exchanged while it is served.
type site struct{ handler atomic.Pointer[http.Handler] }

func (s *site) set(h http.Handler) { s.handler.Store(&h) }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.handler.Load()).ServeHTTP(w, r) }

// open opens the CA in its folder.
func (c *CA) open(t testing.TB) {
	t.Helper()
	server, err := devca.Open(c.Dir, c.options)
	require.NoError(t, err)
	c.Server = server
	c.publicSite.set(c.withheld.wrap(server.Public()))
	c.calls.set(server.API())
}

// Backup copies all that the CA knows, and returns the folder of the copy. Meanwhile the
// CA is stopped: what one copies from under it may fit together badly, or be gone.
func (c *CA) Backup(t testing.TB) string {
	t.Helper()
	require.NoError(t, c.Server.Close())
	backup := t.TempDir()
	require.NoError(t, os.CopyFS(backup, os.DirFS(c.Dir)))
	c.open(t)
	return backup
}

// Restore brings the CA back to what it was when the backup was made, at the same
// addresses. change, which may be left out, adapts the options that it goes on with.
func (c *CA) Restore(t testing.TB, backup string, change ...func(*devca.Options)) {
	t.Helper()
	require.NoError(t, c.Server.Close())
	require.NoError(t, os.RemoveAll(c.Dir))
	require.NoError(t, os.CopyFS(c.Dir, os.DirFS(backup)))
	for _, f := range change {
		f(&c.options)
	}
	c.open(t)
}
