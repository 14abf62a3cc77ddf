package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"mobileid/activities/identitymanager"
	"mobileid/config"
)

func TestCheckpointIfDue(t *testing.T) {
	store, err := identitymanager.Open(t.Context(), identitymanager.Options{
		Driver: identitymanager.SQLite, DSN: filepath.Join(t.TempDir(), "im.db"), AuditKey: make([]byte, 32),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	c := config.Audit{CheckpointDir: filepath.Join(t.TempDir(), "checkpoints"), CheckpointEvery: 24 * time.Hour}
	core, logs := observer.New(zap.InfoLevel)
	now := time.Now()
	for _, step := range []struct {
		name string
		at   time.Time
		last int64
	}{
		{"none yet", now, 1},
		{"not due", now.Add(23 * time.Hour), 1},
		{"due", now.Add(25 * time.Hour), 2},
	} {
		require.NoError(t, checkpointIfDue(t.Context(), zap.New(core), c, store, step.at), step.name)
		read, err := store.ReadCheckpoints(c.CheckpointDir)
		require.NoError(t, err)
		require.Equal(t, step.last, read.Last.Number, step.name)
		require.Equal(t, read.Last.MAC, logs.All()[step.last-1].ContextMap()["mac"], "the log is a witness")
	}
	require.NoError(t, os.Remove(filepath.Join(c.CheckpointDir, "00000001.jsonl")))
	require.ErrorContains(t, checkpointIfDue(t.Context(), zap.New(core), c, store, now.Add(72*time.Hour)), "missing")
}
