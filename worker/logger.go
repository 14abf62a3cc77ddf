package main

import (
	"fmt"

	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
)

// sdkLogger lets the Temporal SDK log through zap. The SDK has no adapter of its
// own for zap.
type sdkLogger struct{ zap *zap.Logger }

var (
	_ log.Logger          = sdkLogger{}
	_ log.WithLogger      = sdkLogger{}
	_ log.WithSkipCallers = sdkLogger{}
)

func newSDKLogger(z *zap.Logger) log.Logger {
	return sdkLogger{zap: z.WithOptions(zap.AddCallerSkip(1))}
}

func (l sdkLogger) Debug(msg string, keyvals ...any) { l.zap.Debug(msg, fields(keyvals)...) }
func (l sdkLogger) Info(msg string, keyvals ...any)  { l.zap.Info(msg, fields(keyvals)...) }
func (l sdkLogger) Warn(msg string, keyvals ...any)  { l.zap.Warn(msg, fields(keyvals)...) }
func (l sdkLogger) Error(msg string, keyvals ...any) { l.zap.Error(msg, fields(keyvals)...) }

// With implements log.WithLogger.
func (l sdkLogger) With(keyvals ...any) log.Logger {
	return sdkLogger{zap: l.zap.With(fields(keyvals)...)}
}

// WithCallerSkip implements log.WithSkipCallers.
func (l sdkLogger) WithCallerSkip(depth int) log.Logger {
	return sdkLogger{zap: l.zap.WithOptions(zap.AddCallerSkip(depth))}
}

// fields pairs keys and values. A value without a key, or a key that is no
// string, is logged all the same: losing it would hide the fault.
func fields(keyvals []any) []zap.Field {
	list := make([]zap.Field, 0, (len(keyvals)+1)/2)
	for len(keyvals) > 0 {
		key, ok := keyvals[0].(string)
		switch {
		case ok && len(keyvals) > 1:
			list = append(list, zap.Any(key, keyvals[1]))
			keyvals = keyvals[2:]
		case ok:
			list = append(list, zap.String("withoutValue", key))
			keyvals = keyvals[1:]
		default:
			list = append(list, zap.String("withoutKey", fmt.Sprint(keyvals[0])))
			keyvals = keyvals[1:]
		}
	}
	return list
}
