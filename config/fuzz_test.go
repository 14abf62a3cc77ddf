package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// Whatever the file holds, it is a configuration or a list of faults.
func FuzzFile(f *testing.F) {
	f.Add([]byte(Commented()))
	f.Add([]byte("task_queue: [1]\nlock:\n  deadline: 5\n"))
	f.Add([]byte("cas:\n  - {name: devca, driver: devca, proof_wait: next-crl}\n  - {name: devca}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("lock: {deadline: 99999999999h}\n? {x: y}\n: z\n"))
	f.Add([]byte("\xff\xfe\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		flags := pflag.NewFlagSet("fuzz", pflag.ContinueOnError)
		Flags(flags)
		require.NoError(t, flags.Parse([]string{"--" + FileFlag, file}))
		_, err := Load(flags)
		if err == nil {
			return
		}
		var faults *Faults
		require.True(t, errors.As(err, &faults), "%T: %v", err, err)
		require.NotEmpty(t, faults.Error())
	})
}
