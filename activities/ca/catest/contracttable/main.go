// Contracttable makes the table of the driver contract, driver by case, from the
// events of a test run (go test -json) on its standard input.
//
//	contracttable <test.json                 prints it
//	contracttable -check docs/cas.md <test.json  fails if the file holds another one
//	contracttable -write docs/cas.md <test.json  puts it into the file
//
// In the file it stands between two comments that name it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"mobileid/activities/ca/catest"
)

const (
	begin = "<!-- contract table: begin -->\n"
	end   = "<!-- contract table: end -->"
)

// event is one of test2json.
type event struct{ Action, Package, Test, Output string }

// column is a driver, and how each case ended.
type column struct {
	driver, product, kind string
	cases                 map[string]string
}

func main() {
	check := flag.String("check", "", "file that must hold the table")
	write := flag.String("write", "", "file to put the table into")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *check, *write); err != nil {
		fmt.Fprintln(os.Stderr, "contracttable:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, check, write string) error {
	columns, err := read(in)
	if err != nil {
		return err
	}
	text := table(columns)
	file := check + write
	if file == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	content, err := os.ReadFile(file) //nolint:gosec // named on the command line
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(content), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table", file)
	}
	if write != "" {
		return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644) //nolint:gosec // a document
	}
	if old != text {
		return fmt.Errorf("the table in %s is not that of this test run, which is:\n%s", file, text)
	}
	return nil
}

var headline = regexp.MustCompile(`driver (\S+) against (.+) \((real|fake)\)`)

// read collects the runs of TestContract. Names of subtests have underscores for
// spaces, so they are compared that way.
func read(in io.Reader) ([]*column, error) {
	byPackage := map[string]*column{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // what other programs print
		}
		parent, name, isCase := strings.Cut(e.Test, "/")
		if parent != "TestContract" || strings.Contains(name, "/") {
			continue
		}
		c := byPackage[e.Package]
		if c == nil {
			c = &column{cases: map[string]string{}}
			byPackage[e.Package] = c
		}
		if found := headline.FindStringSubmatch(e.Output); !isCase && found != nil {
			c.driver, c.product, c.kind = found[1], found[2], found[3]
		}
		switch {
		case !isCase:
		case e.Action == "run":
			delete(c.cases, name) // the last run counts
		case e.Action == "output" && strings.Contains(e.Output, "not applicable: "):
			c.cases[name] = "–"
		case e.Action == "pass" && c.cases[name] == "":
			c.cases[name] = "✓"
		case e.Action == "fail" || e.Action == "skip":
			c.cases[name] = "**" + e.Action + "**"
		}
	}
	var columns []*column
	for path, c := range byPackage {
		if c.driver == "" {
			return nil, fmt.Errorf("%s does not say which driver it runs: is it a run with -v or -json?", path)
		}
		columns = append(columns, c)
	}
	if len(columns) == 0 {
		return nil, errors.New("no run of TestContract is among the events")
	}
	slices.SortFunc(columns, func(a, b *column) int { return strings.Compare(a.driver, b.driver) })
	return columns, lines.Err()
}

func table(columns []*column) string {
	var b strings.Builder
	row := func(first string, cell func(*column) string) {
		fmt.Fprintf(&b, "| %s |", first)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", cell(c))
		}
		b.WriteString("\n")
	}
	row("case", func(c *column) string { return "`" + c.driver + "`" })
	row("---", func(*column) string { return ":---:" })
	row("*against*", func(c *column) string { return c.kind + ": " + c.product })
	for _, name := range catest.Cases() {
		row(name, func(c *column) string {
			if how := c.cases[strings.ReplaceAll(name, " ", "_")]; how != "" {
				return how
			}
			return "**not run**"
		})
	}
	return b.String()
}
