package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestSDKLogger(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	logger := newSDKLogger(zap.New(core, zap.AddCaller()))

	log.With(logger, "WorkflowID", "w").Error("it failed", "error", errors.New("why"), "attempt", 3)
	entry := logs.TakeAll()[0]
	require.Equal(t, zapcore.ErrorLevel, entry.Level)
	require.Equal(t, map[string]any{"WorkflowID": "w", "error": "why", "attempt": int64(3)}, entry.ContextMap())
	require.Contains(t, entry.Caller.File, "logger_test.go", "the caller is the one who logs")

	logger.Debug("odd", "key without value")
	require.Equal(t, "key without value", logs.TakeAll()[0].ContextMap()["withoutValue"])
	logger.Info("odd", 17, "key", "value")
	require.Equal(t, map[string]any{"withoutKey": "17", "key": "value"}, logs.TakeAll()[0].ContextMap())
}
