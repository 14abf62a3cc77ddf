package port

import (
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReserve(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		number, err := Reserve()
		require.NoError(t, err)
		require.False(t, seen[number], "given twice")
		seen[number] = true
		l, err := net.Listen("tcp", "127.0.0.1:"+number)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}

// Another process, which has nothing of this one's memory, is not given it either.
func TestReservedForOthers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has abstract sockets")
	}
	number, err := Reserve()
	require.NoError(t, err)
	mu.Lock()
	held := claimed[number]
	delete(claimed, number)
	mu.Unlock()
	require.False(t, claim(number))
	require.NoError(t, held.Close())
	require.True(t, claim(number), "it is free when its process has ended")
}
