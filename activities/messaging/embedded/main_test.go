package embedded_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"mobileid/activities/messaging/embedded"
)

// The environment variables that turn the test program into a messaging server, to
// be killed.
const (
	childFolder     = "MESSAGING_TEST_FOLDER"
	childCallbackCA = "MESSAGING_TEST_CALLBACK_CA"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		err := embedded.Run(context.Background(), embedded.RunOptions{Dir: dir, Server: embedded.Options{
			CallbackCAFile: os.Getenv(childCallbackCA), CallbackRetry: 20 * time.Millisecond,
			Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		}}, func(embedded.Addresses) { fmt.Println("ready") })
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
