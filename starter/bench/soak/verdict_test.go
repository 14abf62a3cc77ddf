package soak

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/starter/bench"
)

// hour makes 60 samples of which memory and p99 are as told.
func hour(memory func(minute int) int64, p99 func(minute int) time.Duration) []Sample {
	var all []Sample
	for m := range 60 {
		all = append(all, Sample{
			At: time.Duration(m+1) * time.Minute, Took: bench.Percentiles{P99: p99(m)},
			Processes: map[string]bench.Holds{"worker": {Memory: memory(m), Tasks: 200, Files: 40, Connections: 20}},
		})
	}
	return all
}

func TestVerdict(t *testing.T) {
	steady := func(int) time.Duration { return 40 * time.Millisecond }
	level := func(m int) int64 { return 100*mebi + int64(m%7)*mebi }
	leak := func(m int) int64 { return 100*mebi + int64(m)*mebi }
	for _, test := range []struct {
		name    string
		samples []Sample
		keeps   bool
		grows   string
	}{
		{"nothing grows", hour(level, steady), false, ""},
		{"a leak of a MiB a minute", hour(leak, steady), false, "worker, memory, MiB"},
		{"of a process that keeps what it is given", hour(leak, steady), true, ""},
		{"one high sample", hour(func(m int) int64 {
			if m == 58 {
				return 900 * mebi
			}
			return level(m)
		}, steady), false, ""},
		{"locks take longer and longer", hour(level, func(m int) time.Duration { return time.Duration(m+10) * 5 * time.Millisecond }), false, "p99, ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Report{Findings: judge(test.samples, []Watched{{Name: "worker", Keeps: test.keeps}})}
			require.Equal(t, test.grows != "", r.Grows())
			var text strings.Builder
			require.NoError(t, r.Print(&text))
			for line := range strings.SplitSeq(text.String(), "\n") {
				grows := test.grows != "" && strings.Contains(line, test.grows)
				require.Equal(t, grows, strings.Contains(line, "GROWS"), line)
			}
		})
	}
	require.True(t, Report{}.Grows(), "nobody can tell")
	require.Nil(t, judge(hour(level, steady)[:3], nil), "too few samples")
	leaking := judge(hour(leak, steady), []Watched{{Name: "worker"}})
	require.InDelta(t, 60, leaking[1].Slope, 0.1, "MiB an hour")
}
