package sizes

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"mobileid/starter/bench"
)

// Print writes the report as tables.
func (r Report) Print(out io.Writer) error {
	r.Place.Print(out)
	fmt.Fprintf(out, "Locks one at a time, %d at each size (fewer with many certificates)\n", r.Locks)
	for _, series := range []struct {
		title  string
		points []Point
		crl    bool
	}{
		{"certificates of the mobile ID", r.Certificates, false},
		{"revoked entries in devca", r.Entries, true},
		{"rows in Identity Manager", r.Rows, false},
	} {
		if err := printPoints(out, series.title, series.points, series.crl); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nPlans of what a worker sends to PostgreSQL while locks run; these tables have many rows, others are empty: %s\n", strings.Join(r.Filled, ", "))
	for _, p := range r.Plans {
		fmt.Fprintf(out, "\n%s\n    %s\n", p.Statement, strings.Join(p.Plan, "\n    "))
	}
	scanned := r.Scanned()
	if len(scanned) == 0 {
		_, err := fmt.Fprintf(out, "\n%d statements, and none reads one of these tables from one end to the other\n", len(r.Plans))
		return err
	}
	_, err := fmt.Fprintf(out, "\nRead from one end to the other: %s\n", strings.Join(scanned, ", "))
	return err
}

// Scanned are the tables with many rows that a statement reads from one end to the other.
func (r Report) Scanned() []string {
	var all []string
	for _, p := range r.Plans {
		for _, table := range p.Scanned {
			if slices.Contains(r.Filled, table) {
				all = append(all, table)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func printPoints(out io.Writer, title string, points []Point, crl bool) error {
	if len(points) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	names := slices.Sorted(maps.Keys(points[0].CPU))
	heads := append([]string{title, "locked, p50", "p99", "all revoked, p50", "p99"}, names...)
	if crl {
		heads = append(heads, "in the CRL after", "CRL, KiB", "devca from start to answer")
	}
	fmt.Fprintln(w, strings.Join(heads, "\t")+"\t")
	for _, p := range points {
		cells := []string{fmt.Sprint(p.Size)}
		for _, d := range []bench.Percentiles{p.Locked, p.Ended} {
			cells = append(cells, bench.Milliseconds(d.P50), bench.Milliseconds(d.P99))
		}
		for _, name := range names {
			cells = append(cells, bench.Milliseconds(p.CPU[name]))
		}
		if crl {
			cells = append(cells, bench.Milliseconds(p.Published), fmt.Sprint(p.CRL>>10), bench.Milliseconds(p.Start))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
	}
	return w.Flush()
}
