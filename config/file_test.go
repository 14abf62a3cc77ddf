package config

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The commented file at the top of the project is generated:
//
//	UPDATE_CONFIG=1 go test ./config -run TestCommentedFile
func TestCommentedFile(t *testing.T) {
	file := filepath.Join("..", "config.yaml")
	if os.Getenv("UPDATE_CONFIG") != "" {
		require.NoError(t, os.WriteFile(file, []byte(Commented()), 0o644))
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, Commented(), string(kept), "run: UPDATE_CONFIG=1 go test ./config -run TestCommentedFile")
}

// With the comments taken off, the file is valid and says the defaults.
func TestCommentedFileHoldsTheDefaults(t *testing.T) {
	flags := inFolder(t)
	text := regexp.MustCompile(`(?m)^#( *(- )?[a-z_]+:)`).ReplaceAllString(Commented(), "$1")
	text = regexp.MustCompile(`(?ms)^cas:.*?\n\n`).ReplaceAllString(text, "")
	require.NoError(t, os.WriteFile("config.yaml", []byte(text), 0o600))
	c, err := Load(flags)
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}
