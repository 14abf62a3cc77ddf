package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A control without a test is a hope, and a fault without one comes back: every row of
// the threat model and of the list of faults names at least one that exists. A name is a
// package's folder and the test, with a slash before a case of it; the module's own
// folder goes by its name.
func TestTablesNameTestsThatExist(t *testing.T) {
	for page, least := range map[string]int{"threats.md": 40, "faults.md": 14} {
		t.Run(page, func(t *testing.T) { checkNamedTests(t, page, least) })
	}
}

func checkNamedTests(t *testing.T, page string, least int) {
	t.Helper()
	document, err := os.ReadFile(page)
	require.NoError(t, err)
	named := regexp.MustCompile("`([a-z0-9/]+) ((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/([^`]+))?`")
	sources := readSources(t)
	rows := 0
	for _, line := range strings.Split(string(document), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| threat") || strings.HasPrefix(line, "| fault") {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(line, -1)
		require.NotEmpty(t, tests, "no test is named: %s", line)
		for _, name := range tests {
			folder, test, row := name[1], name[2], name[3]
			if folder == "mobileid" {
				folder = "."
			}
			require.True(t, strings.Contains(sources.tests[folder], "func "+test+"("), "%s has no %s", folder, test)
			if row != "" {
				require.True(t, strings.Contains(sources.all, `"`+row+`"`), "%s has no case %q", test, row)
			}
		}
	}
	require.GreaterOrEqual(t, rows, least)
}

// sources are the Go files of the tree.
type sources struct {
	tests map[string]string // test files, by folder
	all   string
}

func readSources(t *testing.T) sources {
	t.Helper()
	read := sources{tests: map[string]string{}}
	var all strings.Builder
	root := os.DirFS("..")
	require.NoError(t, fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && len(path) > 1 && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		all.Write(text)
		if strings.HasSuffix(path, "_test.go") {
			read.tests[filepath.Dir(path)] += string(text)
		}
		return nil
	}))
	read.all = all.String()
	return read
}
