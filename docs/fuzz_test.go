package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What comes from outside has a target each, and security.md says which: all that are
// in the source stand in its table, and no others. A corpus is of a target that is there.
func TestSecurityNamesEveryFuzzTarget(t *testing.T) {
	document, err := os.ReadFile("security.md")
	require.NoError(t, err)
	var listed, there []string
	for _, row := range regexp.MustCompile("(?m)^\\|[^|]+\\|((?: `[a-z0-9/]+ Fuzz[A-Za-z0-9_]+`,?)+) \\|").FindAllStringSubmatch(string(document), -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			listed = append(listed, name[1])
		}
	}
	target := regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]+)\(f \*testing\.F\)`)
	for folder, text := range readSources(t).tests {
		if folder == "." {
			folder = "mobileid"
		}
		for _, name := range target.FindAllStringSubmatch(text, -1) {
			there = append(there, folder+" "+name[1])
		}
	}
	slices.Sort(listed)
	slices.Sort(there)
	require.Equal(t, there, listed)

	for _, pattern := range []string{"../testdata/fuzz/*", "../*/testdata/fuzz/*", "../*/*/testdata/fuzz/*", "../*/*/*/testdata/fuzz/*"} {
		folders, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, folder := range folders {
			of, err := filepath.Rel("..", filepath.Dir(filepath.Dir(filepath.Dir(folder))))
			require.NoError(t, err)
			if of == "." {
				of = "mobileid"
			}
			require.Contains(t, there, of+" "+filepath.Base(folder))
		}
	}
}
