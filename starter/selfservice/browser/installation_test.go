package browser

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice"
	"mobileid/starter/selfservice/browser/chromium"
	"mobileid/starter/stack"
	"mobileid/starter/stack/stacktest"
)

// patience is for what others do, on a machine that does other things, too.
const patience = 2 * time.Minute

// installation is everything, running.
type installation struct {
	stacktest.Installation
	url      string // of Self-Service
	chromium *chromium.Browser
	book     *chromium.Book
}

// start builds the programs and starts everything, with the users of the demo.
func start(t *testing.T) *installation {
	t.Helper()
	in := stacktest.Start(t, stacktest.Build(t), stack.Options{Serve: true, Get: map[string]any{"key_types": []string{"EC-P-256"}}})
	require.NoError(t, in.PutPasswords(t.Context()))
	return &installation{Installation: *in, url: in.Stack.ServeURL, chromium: chromium.Start(t), book: chromium.NewBook(t, "browser")}
}

// another starts one more instance of Self-Service in this process, on a store of its
// own that can be taken away, and returns its address.
func (in *installation) another(t *testing.T) (url string, store *identitymanager.Store) {
	t.Helper()
	store = in.OpenStore(t)
	server, err := selfservice.New(in.Config, store, in.Temporal, zap.NewNop(), selfservice.Options{})
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

// requireState reads the mobile ID back from where it counts.
func (in *installation) requireState(t *testing.T, id string, state mobileid.State, open int) {
	t.Helper()
	m, err := in.Store.MobileID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, state, m.State)
	require.Len(t, m.Open(), open)
}
