// Package proptest says how often a property test tries. rapid has one number for all
// of them, and a case on PostgreSQL takes a hundred times as long as one in memory.
package proptest

import (
	"flag"
	"os"
	"testing"
)

// checksFlag is rapid's own number of cases.
const checksFlag = "rapid.checks"

// Checks makes the properties that the test checks be tried n times each. Whoever wants
// more or fewer sets RAPID_CHECKS, or the flag -rapid.checks, and gets as many of every
// property. It is rapid's flag that is set, so tests that call it do not run in
// parallel.
func Checks(t *testing.T, n string) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == checksFlag })
	if given {
		return
	}
	if asked := os.Getenv("RAPID_CHECKS"); asked != "" {
		n = asked
	}
	// By its value: a flag that flag.Set has set would be taken for one that was given.
	value := flag.Lookup(checksFlag).Value
	before := value.String()
	if err := value.Set(n); err != nil {
		t.Fatal("RAPID_CHECKS:", err)
	}
	t.Cleanup(func() { _ = value.Set(before) })
}
