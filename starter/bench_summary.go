package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mobileid/starter/bench"
	"mobileid/starter/bench/pages"
	"mobileid/starter/bench/sizes"
	"mobileid/starter/bench/soak"
)

// What was aimed at. That of the pages is theirs.
const (
	goalThroughput = 0.95 // of the no-op's, at the least
	goalLatency    = 1.5  // times the no-op's, at the most
	goalFlat       = 1.5  // times the cost at the smallest size, at the most: as rounds scatter
)

func (p *program) benchSummaryCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Show what was measured on PostgreSQL beside the goals",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := os.ReadFile(file) //nolint:gosec // named on the command line
			if err != nil {
				return err
			}
			return summarize(p.out, text)
		},
	}
	cmd.Flags().StringVar(&file, "file", ".dev/load.json", "the reports that the other commands have written")
	return cmd
}

// goal is a line of the summary.
type goal struct {
	what, measured, aim string
	met                 bool
}

// summarize prints the goals of the reports that are there.
func summarize(out io.Writer, text []byte) error {
	var all struct {
		Load  *bench.Report `json:"postgres"`
		Sizes *sizes.Report `json:"sizes"`
		Pages *pages.Report `json:"pages/postgres"`
		Soak  *soak.Report  `json:"soak/postgres"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("reports: %w", err)
	}
	var goals []goal
	if all.Load != nil {
		goals = append(goals, loadGoals(*all.Load)...)
	}
	if all.Sizes != nil {
		goals = append(goals, sizeGoals(*all.Sizes)...)
	}
	if r := all.Pages; r != nil {
		ratio := r.Quiet.Ratio
		if r.Busy != nil {
			ratio = max(ratio, r.Busy.Ratio)
		}
		goals = append(goals, goal{fmt.Sprintf("p99 of a page with %d progress pages open, to none", r.Open), fmt.Sprintf("%.2f", ratio), fmt.Sprintf("at most %.1f", r.Goal), r.Met()})
	}
	if r := all.Soak; r != nil {
		grows := slices.ContainsFunc(r.Findings, func(f soak.Finding) bool { return f.Grows })
		goals = append(goals, goal{fmt.Sprintf("%d locks in %s", r.Locks, r.For), map[bool]string{true: "grows", false: "nothing grows"}[grows], "nothing grows", !r.Grows()})
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nGOAL\tMEASURED\tAIM\t")
	for _, g := range goals {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.what, g.measured, g.aim, map[bool]string{true: "met", false: "MISSED"}[g.met])
	}
	return w.Flush()
}

func loadGoals(r bench.Report) []goal {
	var goals []goal
	for _, t := range r.Throughput {
		if t.AtOnce > 1 {
			goals = append(goals, goal{fmt.Sprintf("throughput, %d at once, lock to no-op", t.AtOnce), fmt.Sprintf("%.2f", t.Ratio), fmt.Sprintf("at least %.2f", goalThroughput), t.Ratio >= goalThroughput})
		}
	}
	for _, l := range r.Latency {
		goals = append(goals, goal{"Next to locked by " + l.WayIn + ", p50, lock to no-op", fmt.Sprintf("%.2f", l.Ratio), fmt.Sprintf("at most %.1f", goalLatency), l.Ratio <= goalLatency})
	}
	return goals
}

// sizeGoals are about the store and the CA. That more certificates cost more is no fault.
func sizeGoals(r sizes.Report) []goal {
	var goals []goal
	for _, series := range []struct {
		name   string
		points []sizes.Point
	}{{"rows in Identity Manager", r.Rows}, {"revoked entries in the CA", r.Entries}} {
		if len(series.points) < 2 {
			continue
		}
		first, last := series.points[0], series.points[len(series.points)-1]
		ratio := float64(last.Ended.P50) / float64(first.Ended.P50)
		goals = append(goals, goal{fmt.Sprintf("all revoked, p50, with %d %s, to %d", last.Size, series.name, first.Size), fmt.Sprintf("%.2f", ratio), fmt.Sprintf("at most %.1f", goalFlat), ratio <= goalFlat})
	}
	scanned := len(r.Scanned())
	return append(goals, goal{fmt.Sprintf("tables read from end to end by %d statements", len(r.Plans)), fmt.Sprint(scanned), "0", scanned == 0 && len(r.Plans) > 0})
}
