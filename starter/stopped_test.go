package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/starter/client"
	"mobileid/workflows"
)

// Of what somebody terminated nobody says that it is being done.
func TestStatusOfStoppedLock(t *testing.T) {
	status := client.Status{Stopped: true}
	status.MobileID, status.Phase, status.LockedAt = "mid-1", workflows.Revoking, time.Now()
	var text strings.Builder
	p := &program{out: &text}
	require.NoError(t, p.printStatus(status))
	require.Contains(t, text.String(), "Mobile ID mid-1: the lock was ended from outside (revoking), and nothing goes on. Start it again.")
	require.NotContains(t, text.String(), "being revoked")
}
