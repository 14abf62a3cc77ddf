package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// Any arguments after a word that starts or steers a lock: it ends with one of the
// documented codes, says why, and what it does not understand is wrong usage.
func FuzzArguments(f *testing.F) {
	for _, line := range []string{"mid-1\n--user\nanna\n--yes", "--help", "mid-1\n-o\njson", "mid-1\n--user", "../x\n--user\nanna", "-", "--", "mid-1\nmid-2",
		"--config\nnowhere.yaml", "mid-1\n--log.level=", "mid-1\n--temporal.address\n\x00", "mid-1\n--user\n\xff"} {
		for word := range fuzzedCommands {
			f.Add(uint8(word), line)
		}
	}
	f.Setenv("MOBILEID_TEMPORAL_ADDRESS", "127.0.0.1:1") // nobody is to be reached
	f.Fuzz(func(t *testing.T, word uint8, line string) {
		args := append([]string{fuzzedCommands[int(word)%len(fuzzedCommands)]}, strings.Split(line, "\n")...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, said bytes.Buffer
		code := execute(ctx, args, strings.NewReader(""), &out, &said)
		require.Contains(t, []int{exitDone, exitError, exitUsage, exitRefused, exitEnded}, code)
		if code != exitDone {
			require.NotEmpty(t, said.String()+out.String(), "%q ends with %d and says nothing", args, code)
		}
	})
}

var fuzzedCommands = []string{"lock", "next", "cancel", "retry", "status", "list", "get"}

// The script checks a whole file before anything is sent. What it lets pass is what
// the process would let pass.
func FuzzMassLockFile(f *testing.F) {
	for _, text := range []string{"mid-1,anna\n", "mid-1\tanna\tsuperseded\r\n", "# lost\n\nmid-1,anna,\nmid-2,bert,keyCompromise", "mid-1,anna\nmid-1,anna\n",
		"../x,anna\n", "$(touch pwned),anna\n", "mid-1,anna,lost\n", "mid-1,a\"nna\\\n", "-x,anna\n", "mid-1,\x01\n", "mid-1,anna\x00\n", "mid-1,\xff\n"} {
		f.Add(text)
	}
	script, err := filepath.Abs("../scripts/mass-lock")
	require.NoError(f, err)
	// A program that says no to everything stands for the one that asks Temporal. It
	// bears its name, or the script would not get as far as the file.
	nobody := filepath.Join(f.TempDir(), "temporal")
	require.NoError(f, os.WriteFile(nobody, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		file := filepath.Join(dir, "lost.csv")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		cmd := exec.CommandContext(t.Context(), script, file, "--dry-run", "--by", "olof")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TEMPORAL_PROGRAM="+nobody)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		_ = cmd.Run()
		require.Contains(t, []int{exitDone, exitUsage}, cmd.ProcessState.ExitCode(), "%s%s", &out, &said)
		require.NotContains(t, said.String(), "TEMPORAL_PROGRAM", "the file was not looked at")
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "it has written something")
		if cmd.ProcessState.ExitCode() != exitDone {
			require.NotEmpty(t, said.String())
			return
		}
		for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if line == "" {
				continue
			}
			parts := strings.Split(line, "\t")
			require.Len(t, parts, 3, "%q", line)
			require.NoError(t, mobileid.CheckID("mobileId", parts[1]), "%q", line)
			require.Equal(t, "would lock", parts[2])
		}
	})
}
