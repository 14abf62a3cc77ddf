package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	file := filepath.Join(dir, reportFile)
	var all []Report
	if text, err := os.ReadFile(file); err == nil { //nolint:gosec // in the folder of the runs
		if err := json.Unmarshal(text, &all); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	all = slices.DeleteFunc(all, func(r Report) bool {
		return r.Seed == report.Seed && r.Locks == report.Locks && r.Gets == report.Gets
	})
	all = append(all, report)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return err
	}
	table := tableHead
	for _, r := range all {
		table += r.Row()
	}
	return os.WriteFile(filepath.Join(dir, TableFile), []byte(table), 0o600)
}
