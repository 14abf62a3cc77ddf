package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes the report as a table.
func (r Report) Print(out io.Writer) error {
	fmt.Fprintf(out, "\nTemporal: %s\nIdentity Manager: %s\n", r.Server, r.Store)
	fmt.Fprintf(out, "Durability: %s\n%d rounds of each, in turns; medians\n\n", Settings(r.Durability), r.Rounds)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") }
	row("", "lock", "no-op", "ratio")
	for _, t := range r.Throughput {
		row(fmt.Sprintf("per second, %d at once", t.AtOnce), fmt.Sprintf("%.1f", t.Lock), fmt.Sprintf("%.1f", t.NoOp), fmt.Sprintf("%.2f", t.Ratio))
	}
	for _, l := range r.Latency {
		row("Next to locked, "+l.WayIn+", p50", Milliseconds(l.Locked.P50), Milliseconds(l.NoOp.P50), fmt.Sprintf("%.2f", l.Ratio))
		row("p99", Milliseconds(l.Locked.P99), Milliseconds(l.NoOp.P99), "")
		row("Next to all revoked, p50", Milliseconds(l.AllRevoked.P50), "", "")
		row("p99", Milliseconds(l.AllRevoked.P99), "", "")
	}
	for _, c := range []struct {
		name       string
		lock, noOp int64
	}{
		{"events", r.Cost.Events, r.NoOpCost.Events},
		{"state transitions", r.Cost.Transitions, r.NoOpCost.Transitions},
		{"bytes of history", r.Cost.Bytes, r.NoOpCost.Bytes},
	} {
		row(c.name, fmt.Sprint(c.lock), fmt.Sprint(c.noOp), Ratio(float64(c.lock), float64(c.noOp)))
	}
	var names []string
	for name := range r.Cost.CPU {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row("CPU of "+name, Milliseconds(r.Cost.CPU[name]), Milliseconds(r.NoOpCost.CPU[name]), "")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWorker memory with %d locks that wait for Next: %d MiB (before: %d MiB)\nFrom start to ready: %s\n",
		r.Waiting.Locks, r.Waiting.Bytes>>20, r.Waiting.Before>>20, Milliseconds(r.Ready))
	return nil
}
