package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the report as a table.
func (r Report) Print(out io.Writer) error {
	r.Place.Print(out)
	fmt.Fprintf(out, "%d rounds of each, in turns; medians\n\n", r.Rounds)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") }
	row("", "lock", "no-op", "bare", "to no-op", "to bare")
	for _, t := range r.Throughput {
		row(fmt.Sprintf("per second, %d at once", t.AtOnce), fmt.Sprintf("%.1f", t.Lock), fmt.Sprintf("%.1f", t.NoOp), fmt.Sprintf("%.1f", t.Bare),
			fmt.Sprintf("%.2f", t.Ratio), fmt.Sprintf("%.2f", t.OfBare))
	}
	if len(r.HalfLoad) == 3 {
		lock, noOp, bare := r.HalfLoad[0], r.HalfLoad[1], r.HalfLoad[2]
		row("at half of that, per second", fmt.Sprintf("%.1f", lock.PerSecond), fmt.Sprintf("%.1f", noOp.PerSecond), fmt.Sprintf("%.1f", bare.PerSecond), "", "")
		for _, p := range []struct {
			name string
			of   func(Percentiles) time.Duration
		}{{"from start to end, p50", func(p Percentiles) time.Duration { return p.P50 }}, {"p99", func(p Percentiles) time.Duration { return p.P99 }}} {
			a, b, c := p.of(lock.Took), p.of(noOp.Took), p.of(bare.Took)
			row(p.name, Milliseconds(a), Milliseconds(b), Milliseconds(c), Ratio(float64(a), float64(b)), Ratio(float64(a), float64(c)))
		}
	}
	for _, l := range r.Latency {
		row("Next to locked, "+l.WayIn+", p50", Milliseconds(l.Locked.P50), Milliseconds(l.NoOp.P50), "", fmt.Sprintf("%.2f", l.Ratio), "")
		row("p99", Milliseconds(l.Locked.P99), Milliseconds(l.NoOp.P99), "", "", "")
		row("Next to all revoked, p50", Milliseconds(l.AllRevoked.P50), "", "", "", "")
		row("p99", Milliseconds(l.AllRevoked.P99), "", "", "", "")
	}
	for _, c := range []struct {
		name       string
		lock, noOp int64
	}{
		{"events", r.Cost.Events, r.NoOpCost.Events},
		{"state transitions", r.Cost.Transitions, r.NoOpCost.Transitions},
		{"bytes of history", r.Cost.Bytes, r.NoOpCost.Bytes},
	} {
		row(c.name, fmt.Sprint(c.lock), fmt.Sprint(c.noOp), "", Ratio(float64(c.lock), float64(c.noOp)), "")
	}
	var names []string
	for name := range r.Cost.CPU {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row("CPU of "+name, Milliseconds(r.Cost.CPU[name]), Milliseconds(r.NoOpCost.CPU[name]), Milliseconds(r.BareCost.CPU[name]), "", "")
	}
	if len(r.Footprints) == 3 {
		r.footprintRows(row)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Waiting.Locks > 0 {
		fmt.Fprintf(out, "\nWorker memory with %d locks that wait for Next: %d MiB (before: %d MiB)\n",
			r.Waiting.Locks, r.Waiting.Bytes>>20, r.Waiting.Before>>20)
	}
	fmt.Fprintf(out, "From start to ready: %s\n", Milliseconds(r.Ready))
	return nil
}

// footprintRows are what a run leaves in PostgreSQL.
func (r Report) footprintRows(row func(...string)) {
	number := func(name, format string, of func(Footprint) float64) {
		lock, noOp, bare := of(r.Footprints[0]), of(r.Footprints[1]), of(r.Footprints[2])
		if lock == 0 && noOp == 0 && bare == 0 {
			return
		}
		row(name, fmt.Sprintf(format, lock), fmt.Sprintf(format, noOp), fmt.Sprintf(format, bare), "", "")
	}
	tables, databases := map[string]bool{}, map[string]bool{}
	for _, f := range r.Footprints {
		for table := range f.Rows {
			tables[table] = true
		}
		for database := range f.Bytes {
			databases[database] = true
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		number("rows in "+table, "%.2f", func(f Footprint) float64 { return f.Rows[table] })
	}
	for _, database := range slices.Sorted(maps.Keys(databases)) {
		number("KiB in "+database, "%.1f", func(f Footprint) float64 { return f.Bytes[database] / 1024 })
	}
	number("KiB of write-ahead log", "%.1f", func(f Footprint) float64 { return f.WAL / 1024 })
}
