package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Find names the programs: worker and starter in the folder shifted, and the others,
// which `make` installs, in bin.
func Find(bin, shifted string) (Programs, error) {
	p := Programs{}
	for _, program := range []struct {
		path      *string
		dir, name string
	}{
		{&p.Starter, shifted, "starter"}, {&p.Worker, shifted, "worker"}, {&p.TemporalServer, bin, "temporal-server"},
		{&p.TemporalSQLTool, bin, "temporal-sql-tool"}, {&p.StepCA, bin, stepCA},
	} {
		path, err := filepath.Abs(filepath.Join(program.dir, program.name))
		if err != nil {
			return p, err
		}
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("%s is not installed: run 'make chaos': %w", program.name, err)
		}
		*program.path = path
	}
	return p, nil
}

// reportFile has all runs of a folder, as Keep has kept them.
const reportFile = "report.json"

// TableFile is where Keep writes the table of all runs of a folder, in Markdown.
const TableFile = "report.md"

// Keep adds a run to the report of a folder, in the place of an earlier one of the
// same seed and size, and writes the table anew.
func Keep(dir string, report Report) error {
	all, err := kept(dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(r Report) bool {
		return r.Seed == report.Seed && r.Locks == report.Locks && r.Gets == report.Gets
	})
	all = append(all, report)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, reportFile), append(text, '\n'), 0o600),
		os.WriteFile(filepath.Join(dir, TableFile), []byte(table(all)), 0o600),
	)
}

func kept(dir string) ([]Report, error) {
	file := filepath.Join(dir, reportFile)
	text, err := os.ReadFile(file) //nolint:gosec // in the folder of the runs
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Report
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

func table(all []Report) string {
	text := tableHead
	for _, r := range all {
		text += r.Row()
	}
	return text
}

// The lines of a page between which its table stands.
const (
	tableBegin = "<!-- chaos table: begin -->\n"
	tableEnd   = "<!-- chaos table: end -->\n"
)

// WriteTable puts the table of all runs that a folder has kept into a page.
func WriteTable(dir, page string) error {
	all, err := kept(dir)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("%s has no report of a run", dir)
	}
	text, err := os.ReadFile(page) //nolint:gosec // the page that the caller names
	if err != nil {
		return err
	}
	head, rest, begins := strings.Cut(string(text), tableBegin)
	_, tail, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the table: %q and %q", page, tableBegin, tableEnd)
	}
	return os.WriteFile(page, []byte(head+tableBegin+table(all)+tableEnd+tail), 0o600) //nolint:gosec // the page that the caller names
}
