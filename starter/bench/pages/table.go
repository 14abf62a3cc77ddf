package pages

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"mobileid/starter/bench"
)

// Print writes the report as a table.
func (r Report) Print(out io.Writer) error {
	r.Place.Print(out)
	fmt.Fprintf(out, "%d pairs of rounds of %s, in turns; %.0f pages a second, timed from when each was due\n", r.Pairs, r.Round, r.PerSecond)
	if err := r.Quiet.print(out, fmt.Sprintf("%d locks wait for a CA that is down", r.Open), r.Open); err != nil {
		return err
	}
	if r.Busy != nil {
		if err := r.Busy.print(out, "the same, while other locks go through", r.Open); err != nil {
			return err
		}
	}
	verdict := "met"
	if !r.Met() {
		verdict = "missed"
	}
	_, err := fmt.Fprintf(out, "\nGoal: p99 with %d open at most %.1f times p99 with none: %s\n", r.Open, r.Goal, verdict)
	return err
}

// Met reports whether the goal is met.
func (r Report) Met() bool {
	return r.Quiet.Ratio <= r.Goal && (r.Busy == nil || r.Busy.Ratio <= r.Goal)
}

func (c Comparison) print(out io.Writer, title string, open int) error {
	fmt.Fprintf(out, "\n%s\n\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tnone open, p50\tp99\t%d open, p50\tp99\tratio of p99\t\n", open)
	row := func(name string, a, b bench.Percentiles, ratio string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", name, bench.Milliseconds(a.P50), bench.Milliseconds(a.P99), bench.Milliseconds(b.P50), bench.Milliseconds(b.P99), ratio)
	}
	for _, page := range asked {
		a, b := c.None.Pages[page.name], c.Many.Pages[page.name]
		row(page.name, a, b, bench.Ratio(float64(b.P99), float64(a.P99)))
	}
	row("all", c.None.All, c.Many.All, fmt.Sprintf("%.2f", c.Ratio))
	if c.None.Locks != nil && c.Many.Locks != nil {
		row("Next to all done, as the page says", *c.None.Locks, *c.Many.Locks, "")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nRatios of the pairs: %.2f; pages asked for: %d and %d; events over the open streams: %d\n", c.Ratios, c.None.Asked, c.Many.Asked, c.Many.Events)
	var names []string
	for name := range c.None.CPU {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "CPU of %s: %.0f %% of a core, then %.0f %%\n", name, percent(c.None.CPU[name]), percent(c.Many.CPU[name]))
	}
	return nil
}

// percent of a core that a process used, from what it used in a second.
func percent(used time.Duration) float64 { return 100 * used.Seconds() }
