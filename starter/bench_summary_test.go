package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSummary(t *testing.T) {
	const reports = `{
		"at": "2026-01-02T03:04:05Z",
		"postgres": {
			"throughput": [{"atOnce": 1, "ratio": 0.5}, {"atOnce": 20, "ratio": 0.96}, {"atOnce": 100, "ratio": 0.94}],
			"latency": [{"wayIn": "update", "ratio": 2}, {"wayIn": "signal", "ratio": 1.3}]
		},
		"sizes": {
			"rows": [{"size": 1, "ended": {"p50": 10000000}}, {"size": 1000, "ended": {"p50": 12000000}}],
			"entries": [{"size": 1, "ended": {"p50": 10000000}}, {"size": 1000, "ended": {"p50": 90000000}}],
			"filled": ["audit"], "plans": [{"statement": "SELECT 0", "scanned": ["outbox"]}, {"statement": "SELECT 1"}, {"statement": "SELECT 2", "scanned": ["audit"]}]
		},
		"pages/postgres": {"open": 500, "goal": 2, "quiet": {"ratio": 1.2}, "busy": {"ratio": 2.1}},
		"soak/postgres": {"locks": 7, "forNanoseconds": 60000000000, "findings": [{"measure": "files", "grows": false}]}
	}`
	var out strings.Builder
	require.NoError(t, summarize(&out, []byte(reports)))
	for line, met := range map[string]bool{
		"throughput, 20 at once": true, "throughput, 100 at once": false, "by update": false, "by signal": true,
		"1000 rows in Identity Manager": true, "1000 revoked entries": false, "tables read": false, "500 progress pages": false, "7 locks in 1m0s": true,
	} {
		found := ""
		for text := range strings.SplitSeq(out.String(), "\n") {
			if strings.Contains(text, line) {
				found = text
			}
		}
		require.NotEmpty(t, found, line)
		require.Equal(t, met, !strings.Contains(found, "MISSED"), found)
	}
	require.NotContains(t, out.String(), "1 at once", "it scatters too much to be a goal")

	out.Reset()
	require.NoError(t, summarize(&out, []byte(`{}`)))
	require.NotContains(t, out.String(), "met")
	require.Error(t, summarize(&out, []byte(`[]`)))
}
