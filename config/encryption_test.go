package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoadChecksCodecServer(t *testing.T) {
	for name, test := range map[string]struct {
		section string
		faults  []string // none: it is taken
	}{
		"loopback":              {`{address: "127.0.0.1:8085", origins: ["http://localhost:8233"]}`, nil},
		"loopback of IPv6":      {`{address: "[::1]:8085"}`, nil},
		"by name":               {`{address: "localhost:8085"}`, nil},
		"with all":              {`{address: ":8085", certificate_file: c, key_file: k, token_file: t, origins: ["https://temporal.example.com"]}`, nil},
		"no address":            {`{address: "here"}`, []string{"codec_server.address must be host:port"}},
		"plain for all":         {`{address: ":8085", token_file: t}`, []string{"codec_server.certificate_file is missing"}},
		"no token for all":      {`{address: "0.0.0.0:8085", certificate_file: c, key_file: k}`, []string{"codec_server.token_file is missing"}},
		"half a certificate":    {`{certificate_file: c}`, []string{"codec_server.key_file is missing"}},
		"the other half":        {`{key_file: k}`, []string{"codec_server.certificate_file is missing"}},
		"origins that match no": {`{origins: ["*", "https://a.example.com/", "a.example.com", "ftp://a"]}`, []string{": *", ": https://a.example.com/", ": a.example.com", ": ftp://a"}},
		"no requests":           {`{rate_limit: 0}`, []string{"codec_server.rate_limit"}},
	} {
		t.Run(name, func(t *testing.T) {
			flags := inFolder(t)
			require.NoError(t, os.WriteFile("config.yaml", []byte("codec_server: "+test.section+"\n"), 0o600))
			_, err := Load(flags)
			if test.faults == nil {
				require.NoError(t, err)
			}
			for _, fault := range test.faults {
				require.ErrorContains(t, err, fault)
			}
		})
	}
}

func TestReadSecret(t *testing.T) {
	groupOfRoot := "mode 0640"
	if os.Getuid() == 0 {
		groupOfRoot = "" // the file is root's: that is how secrets come into containers
	}
	for name, test := range map[string]struct {
		mode os.FileMode
		says string // empty: it is read
	}{
		"owner reads and writes": {0o600, ""},
		"owner reads":            {0o400, ""},
		"group reads":            {0o640, groupOfRoot},
		"group writes":           {0o620, "mode 0620"},
		"all read":               {0o644, "mode 0644"},
		"all write":              {0o602, "mode 0602"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "secret")
			require.NoError(t, os.WriteFile(file, []byte("hunter2"), 0o600))
			require.NoError(t, os.Chmod(file, test.mode))
			content, info, err := ReadSecret("a.secret_file", file)
			if test.says == "" {
				require.NoError(t, err)
				require.Equal(t, "hunter2", string(content))
				require.Equal(t, test.mode, info.Mode().Perm())
				return
			}
			require.ErrorContains(t, err, "a.secret_file")
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	t.Run("too long", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("x", maxSecret+1)), 0o600))
		_, _, err := ReadSecret("a.secret_file", file)
		require.ErrorContains(t, err, "more than")
	})
	t.Run("gone", func(t *testing.T) {
		_, _, err := ReadSecret("a.secret_file", filepath.Join(t.TempDir(), "none"))
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}
