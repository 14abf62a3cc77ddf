package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// checkpointLook is how often a worker looks whether a checkpoint is due. Several
// workers may share the folder.
const checkpointLook = 10 * time.Minute

// keepCheckpoints writes a checkpoint of the audit chains when the last one is
// older than configured, until ctx ends. One that fails is logged and tried again:
// locks do not wait for it.
func keepCheckpoints(ctx context.Context, log *zap.Logger, c config.Audit, store *identitymanager.Store) {
	if c.CheckpointDir == "" {
		return
	}
	look := time.NewTicker(min(checkpointLook, c.CheckpointEvery))
	defer look.Stop()
	for {
		if err := checkpointIfDue(ctx, log, c, store, time.Now()); err != nil && ctx.Err() == nil {
			log.Error("Audit checkpoint could not be written", zap.String("folder", c.CheckpointDir), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func checkpointIfDue(ctx context.Context, log *zap.Logger, c config.Audit, store *identitymanager.Store, now time.Time) error {
	before, err := store.ReadCheckpoints(c.CheckpointDir)
	if err != nil {
		return err
	}
	if before.Last.Number > 0 && now.Sub(before.Last.At) < c.CheckpointEvery {
		return nil
	}
	written, err := store.Checkpoint(ctx, c.CheckpointDir)
	if errors.Is(err, identitymanager.ErrCheckpointTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	// The MAC in a log that is kept elsewhere is a witness of its own.
	log.Info("Audit checkpoint is written", zap.Int64("number", written.Number), zap.Int("chains", written.Chains),
		zap.Int("moved", written.Moved), zap.String("mac", written.MAC))
	return nil
}
