package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Percentiles of a duration, in nanoseconds.
type Percentiles struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
}

// PercentilesOf finds them; of nothing they are zero.
func PercentilesOf(all []time.Duration) Percentiles {
	if len(all) == 0 {
		return Percentiles{}
	}
	sorted := slices.Sorted(slices.Values(all))
	return Percentiles{P50: sorted[len(sorted)/2], P99: sorted[(len(sorted)*99-1)/100]}
}

// Median is the middle one, the upper of two. There must be one.
func Median[T cmp.Ordered](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// Milliseconds writes a duration for a table.
func Milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// Ratio writes a to b for a table, and nothing where there is no b.
func Ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}
