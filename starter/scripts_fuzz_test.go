package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// Whatever operators say in the scripts' options goes to Temporal as the one value
// that they said, in JSON that can be read, or the script refuses it.
func FuzzScriptValues(f *testing.F) {
	for i, value := range []string{"anna", `a"b`, `a\`, "$(touch pwned)", "`touch pwned`", "a b", "'", "-x", "--yes", "a\nb", "\t", "å", "\xff", "%s", "", `\u0041`, "*", strings.Repeat("a", 257)} {
		said := []string{value, "lost", "mid-1", value}[i%2:]
		f.Add(said[0], said[2], "mid-1")
	}
	f.Add("anna", "olof", "$(touch pwned)")
	f.Add("anna", "olof", "../x")
	recorder := filepath.Join(f.TempDir(), "temporal")
	require.NoError(f, os.WriteFile(recorder, []byte("#!/bin/sh\nprintf '%s\\0' \"$@\" >>\"$CALLS\"\necho 'workflow not found' >&2\nexit 1\n"), 0o700))
	scripts, err := filepath.Abs("../scripts")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, owner, by, id string) {
		if strings.ContainsRune(owner+by+id, 0) {
			return // no argument
		}
		for _, script := range []string{"lock", "status"} {
			dir, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
			args := []string{"--owner=" + owner}
			if script == "lock" {
				args = append(args, "--by="+by, "--yes")
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(scripts, script), append(args, "--", id)...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TEMPORAL_PROGRAM="+recorder, "CALLS="+calls)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			require.Error(t, cmd.Run(), "Temporal says no to everything")
			require.Contains(t, []int{exitError, exitUsage, exitRefused}, cmd.ProcessState.ExitCode(), "%s", &said)
			require.NotEmpty(t, said.String())
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "it has written something")
			sent, err := os.ReadFile(calls)
			if err != nil {
				require.NotEqual(t, exitError, cmd.ProcessState.ExitCode(), "%s", &said)
				continue
			}
			words := strings.Split(string(sent), "\x00")
			require.Equal(t, "MobileIDSelfServiceProcLock/"+id, words[slices.Index(words, "--workflow-id")+1])
			var input struct{ MobileID, UserID, By string }
			at := slices.Index(words, "--input")
			require.Positive(t, at, "nothing was asked of Temporal: %q", words)
			text := words[at+1]
			require.NoError(t, json.Unmarshal([]byte(text), &input), "%q", text)
			if script == "status" && owner == "" {
				continue
			}
			want, err := json.Marshal(owner) // what is no UTF-8 is replaced in JSON
			require.NoError(t, err)
			var readable string
			require.NoError(t, json.Unmarshal(want, &readable))
			require.Equal(t, readable, input.UserID)
			if script == "lock" && by != "" {
				require.Equal(t, utf8.ValidString(by), input.By == by, "%q", input.By)
			}
		}
	})
}
