package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page of settings is generated, as config.yaml is:
//
//	UPDATE_CONFIG=1 go test ./config
func TestReference(t *testing.T) {
	file := filepath.Join("..", "docs", "configuration.md")
	if os.Getenv("UPDATE_CONFIG") != "" {
		require.NoError(t, os.WriteFile(file, []byte(Reference()), 0o644))
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, Reference(), string(kept), "run: UPDATE_CONFIG=1 go test ./config")
}

// Every setting has one row, whose cells are all there, and its variable sets it.
func TestReferenceHasEverySetting(t *testing.T) {
	rows := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|(.*)\\|$").FindAllStringSubmatch(Reference(), -1) {
		require.NotContains(t, rows, row[1], "it stands twice")
		for _, cell := range regexp.MustCompile(`[^\\]\|`).Split(row[2], -1) {
			rows[row[1]] = append(rows[row[1]], strings.TrimSpace(cell))
		}
		require.NotContains(t, rows[row[1]], "")
	}
	keys := 0
	count := func(v reflect.Value, prefix string, cells int) {
		for _, s := range settings(v, prefix) {
			if s.sections() && cells == 4 {
				continue
			}
			keys++
			require.Len(t, rows[s.key], cells, s.key)
		}
	}
	count(reflect.ValueOf(Default()), "", 4)
	count(reflect.ValueOf(CA{}), "cas[].", 3)
	require.Len(t, rows, keys)

	flags := inFolder(t)
	require.Equal(t, "`MOBILEID_SERVE_OPENID_CLIENT_ID`", rows["serve.openid.client_id"][2])
	t.Setenv("MOBILEID_SERVE_OPENID_CLIENT_ID", "x")
	c, err := Load(flags)
	require.NoError(t, err)
	require.Equal(t, "x", c.Serve.OpenID.ClientID)
}
