package soak

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"mobileid/starter/bench"
)

// Finding is how one measure went.
type Finding struct {
	Process string  `json:"process,omitempty"` // empty: of the locks
	Measure string  `json:"measure"`
	First   float64 `json:"first"` // median of the first quarter of the samples
	Last    float64 `json:"last"`
	Slope   float64 `json:"slopePerHour"` // of a line through all samples
	Bound   float64 `json:"bound"`        // of last; 0: shown, and not judged
	Grows   bool    `json:"grows"`
}

// bound is what a measure may grow by from the first quarter to the last: by a factor, or
// by so much, whichever is more. The latter is what comes and goes by itself.
type bound struct {
	factor, more float64
}

const mebi = 1 << 20

var (
	memoryBound = bound{1.25, 24 * mebi}
	tasksBound  = bound{1.2, 30}
	filesBound  = bound{1.2, 20}
	tookBound   = bound{2, float64(20 * time.Millisecond)}
)

// fewest is how many samples tell anything.
const fewest = 4

// judge compares the first quarter of the samples with the last.
func judge(samples []Sample, watched []Watched) []Finding {
	if len(samples) < fewest {
		return nil
	}
	all := []Finding{finding(samples, "", "p99, ms", tookBound, 1/float64(time.Millisecond), func(s Sample) float64 { return float64(s.Took.P99) })}
	for _, w := range watched {
		memory := memoryBound
		if w.Keeps {
			memory = bound{}
		}
		held := func(measure string, b bound, unit float64, of func(bench.Holds) float64) {
			all = append(all, finding(samples, w.Name, measure, b, unit, func(s Sample) float64 { return of(s.Processes[w.Name]) }))
		}
		held("memory, MiB", memory, 1.0/mebi, func(h bench.Holds) float64 { return float64(h.Memory) })
		held(w.tasks(), tasksBound, 1, func(h bench.Holds) float64 { return float64(h.Tasks) })
		held("files", filesBound, 1, func(h bench.Holds) float64 { return float64(h.Files) })
		held("connections", filesBound, 1, func(h bench.Holds) float64 { return float64(h.Connections) })
	}
	return all
}

// finding judges one measure; unit is what its values are multiplied by to be shown.
func finding(samples []Sample, process, measure string, b bound, unit float64, of func(Sample) float64) Finding {
	quarter := max(len(samples)/4, 1)
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	first, last := bench.Median(values[:quarter]), bench.Median(values[len(values)-quarter:])
	most := max(first*b.factor, first+b.more)
	f := Finding{Process: process, Measure: measure, First: first * unit, Last: last * unit, Slope: slope(samples, values) * unit}
	if b != (bound{}) {
		f.Bound, f.Grows = most*unit, last > most
	}
	return f
}

// slope of the line with the least squares, per hour.
func slope(samples []Sample, values []float64) float64 {
	n := float64(len(samples))
	var x, y, xy, xx float64
	for i, s := range samples {
		at := s.At.Hours()
		x, y, xy, xx = x+at, y+values[i], xy+at*values[i], xx+at*at
	}
	if spread := n*xx - x*x; spread != 0 {
		return (n*xy - x*y) / spread
	}
	return 0
}

// Grows reports whether anything grew beyond its bound, or nobody can tell.
func (r Report) Grows() bool {
	for _, f := range r.Findings {
		if f.Grows {
			return true
		}
	}
	return len(r.Findings) == 0
}

// Print writes the verdict as a table.
func (r Report) Print(out io.Writer) error {
	r.Place.Print(out)
	fmt.Fprintf(out, "%d locks in %s, %.1f a second\n\n", r.Locks, r.For, r.PerSecond)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tfirst quarter\tlast quarter\tper hour\tbound\t\t")
	for _, f := range r.Findings {
		limit, verdict := "none", ""
		if f.Bound != 0 {
			limit, verdict = fmt.Sprintf("%.1f", f.Bound), "holds"
		}
		if f.Grows {
			verdict = "GROWS"
		}
		name := f.Measure
		if f.Process != "" {
			name = f.Process + ", " + f.Measure
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%+.1f\t%s\t%s\t\n", name, f.First, f.Last, f.Slope, limit, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verdict := "nothing grows beyond its bound"
	switch {
	case len(r.Findings) == 0:
		verdict = "too few samples to tell"
	case r.Grows():
		verdict = "something grows beyond its bound"
	}
	_, err := fmt.Fprintf(out, "\n%s\n", verdict)
	return err
}
