package devca_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"mobileid/activities/ca/devca"
)

// childFolder is the environment variable that turns the test program into a CA
// for the folder that it names, to be killed.
const childFolder = "DEVCA_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		err := devca.Run(context.Background(), devca.RunOptions{Dir: dir, Server: devca.Options{CRLInterval: time.Millisecond}},
			func(devca.Addresses) { fmt.Println("ready") })
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
