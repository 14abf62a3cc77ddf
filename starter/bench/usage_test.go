package bench

import (
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeldBy(t *testing.T) {
	before, err := HeldBy(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, before.Memory)
	require.Positive(t, before.Tasks)

	const more = 20
	for range more {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, listener.Close()) }()
	}
	after, err := HeldBy(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, after.Connections-before.Connections, more)
	require.GreaterOrEqual(t, after.Files-before.Files, more)
}
