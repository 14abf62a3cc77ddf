package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"mobileid/workflows/workflowtest"
)

// server is Temporal's development server, one for all tests of the package.
var server *workflowtest.Server

const (
	// limit is far more than any wait in a test takes.
	limit = workflowtest.Limit
	// moment is the pause between two looks at a condition.
	moment = 50 * time.Millisecond
)

// The test program is also the worker and the messaging server that get killed.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		for variable, run := range map[string]func(string) error{workerVariable: runPointedWorker, messagingVariable: runMessaging} {
			if spec, set := os.LookupEnv(variable); set {
				if err := run(spec); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 1
				}
				return 0
			}
		}
		program, err := workflowtest.FindProgram("temporal")
		if err != nil {
			fmt.Fprintln(os.Stderr, "no tests on a real server:", err)
			return m.Run()
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if server, err = workflowtest.StartServer(ctx, program); err != nil {
			fmt.Fprintln(os.Stderr, "start Temporal's development server:", err)
			return 1
		}
		defer server.Stop()
		return m.Run()
	}())
}
