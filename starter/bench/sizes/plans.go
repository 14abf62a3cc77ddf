package sizes

import (
	"bufio"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Plan is how PostgreSQL carried out a statement.
type Plan struct {
	Statement string   `json:"statement"`
	Plan      []string `json:"plan"`
	// Scanned are the tables that were read from one end to the other.
	Scanned []string `json:"scanned,omitempty"`
}

var (
	// A line of the log begins with its time; the lines that belong to it with a tab.
	entryLine = regexp.MustCompile(`^\S`)
	planNode  = regexp.MustCompile(`\(cost=`)
	seqScan   = regexp.MustCompile(`Seq Scan on (\S+)`)
	spaces    = regexp.MustCompile(`\s+`)
)

// mostLine is how long a line of the log may be: a statement stands in it as it was sent.
const mostLine = 1 << 20

// ReadPlans reads what auto_explain has written into the server's log, each statement
// once.
func ReadPlans(log io.Reader) ([]Plan, error) {
	var all []Plan
	var entry []string
	take := func() {
		p, ok := parsePlan(entry)
		if ok && !slices.ContainsFunc(all, func(known Plan) bool { return known.Statement == p.Statement }) {
			all = append(all, p)
		}
	}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, mostLine)
	for lines.Scan() {
		if entryLine.MatchString(lines.Text()) {
			take()
			entry = nil
		}
		entry = append(entry, lines.Text())
	}
	take()
	return all, lines.Err()
}

// parsePlan takes apart
//
//	2026-01-02 03:04:05 UTC [1] LOG:  duration: 0.012 ms  plan:
//		Query Text: SELECT …
//		Index Scan using …  (cost=…)
func parsePlan(entry []string) (Plan, bool) {
	if len(entry) == 0 || !strings.HasSuffix(entry[0], "plan:") {
		return Plan{}, false
	}
	first := slices.IndexFunc(entry, planNode.MatchString)
	if first < 0 {
		return Plan{}, false
	}
	text := strings.TrimSpace(spaces.ReplaceAllString(strings.Join(entry[1:first], " "), " "))
	p := Plan{Statement: strings.TrimPrefix(text, "Query Text: ")}
	for _, line := range entry[first:] {
		p.Plan = append(p.Plan, strings.TrimPrefix(line, "\t"))
		if found := seqScan.FindStringSubmatch(line); found != nil {
			p.Scanned = append(p.Scanned, found[1])
		}
	}
	return p, true
}
