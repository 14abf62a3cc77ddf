package cluster

import (
	"testing"

	"mobileid/starter/stack/stacktest"
)

func TestCluster(t *testing.T) {
	programs := stacktest.Build(t)
	t.Run("locks under faults", func(t *testing.T) { underFaults(t, programs) })
	t.Run("upgraded with open locks", func(t *testing.T) { upgraded(t, programs) })
	t.Run("restored from a backup", func(t *testing.T) { fromBackup(t, programs) })
}
