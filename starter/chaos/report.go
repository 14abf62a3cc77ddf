package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"mobileid/starter/chaos/checker"
)

// Report is what a run was, and what came of it.
type Report struct {
	Seed         uint64         `json:"seed"`
	Locks        int            `json:"locks"`
	Gets         int            `json:"gets"`
	People       int            `json:"people"`
	Storm        time.Duration  `json:"stormNanoseconds"`  // while faults struck
	Settle       time.Duration  `json:"settleNanoseconds"` // until nothing was under way any more
	Check        time.Duration  `json:"checkNanoseconds"`
	Open         int            `json:"open"` // processes that were under way even then
	Calls        int            `json:"calls"`
	FailedCalls  int            `json:"failedCalls"`  // with an error that is no refusal
	WrongAnswers int            `json:"wrongAnswers"` // of CAs, OCSP and CRLs
	DiskFull     bool           `json:"diskFull"`     // the disk could be full: mounting is permitted here
	Faults       []struck       `json:"faults"`
	Ended        map[string]int `json:"ended"` // processes that ended by themselves and were started again
	Races        int            `json:"races"` // found by the race detector, if the programs have it
	Found        checker.Report `json:"found"`
}

// kinds counts the faults.
func (r *Report) kinds() map[string]int {
	counts := map[string]int{}
	for _, f := range r.Faults {
		counts[f.Kind]++
	}
	return counts
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	f := r.Found
	fmt.Fprintf(w, "\nseed %d: %d locks, %d Gets, %d people; faults for %s, settled %s later, checked in %s\n",
		r.Seed, r.Locks, r.Gets, r.People, r.Storm.Round(time.Second), r.Settle.Round(time.Second), r.Check.Round(time.Millisecond))
	counts := r.kinds()
	fmt.Fprintf(w, "  faults        %d:", len(r.Faults))
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, " %s %d", kind, counts[kind])
	}
	fmt.Fprintln(w)
	if !r.DiskFull {
		fmt.Fprintln(w, "  no full disk: mounting a tmpfs is not permitted here")
	}
	if len(r.Ended) > 0 {
		fmt.Fprintf(w, "  started again %v, which had ended by themselves\n", r.Ended)
	}
	fmt.Fprintf(w, "  wrong answers %d, of CAs, OCSP and CRLs\n", r.WrongAnswers)
	fmt.Fprintf(w, "  client calls  %d, of which %d ended with an error and were repeated\n", r.Calls, r.FailedCalls)
	fmt.Fprintf(w, "  looked at     %d mobile IDs, %d locked by %d accepted Nexts, %d got, %d taken back; %d certificates, %d revoked, %d OCSP answers\n",
		f.MobileIDs, f.Locked, f.Accepted, f.GotActive, f.TakenBack, f.Certificates, f.Revoked, f.OCSP)
	fmt.Fprintf(w, "                %d audit records, %d histories with %d events, %d answers to clients\n", f.Records, f.Histories, f.Events, f.Told)
	for _, d := range []struct {
		name string
		checker.Distribution
	}{{"to locked", f.ToLocked}, {"to the end", f.ToRevoked}} {
		fmt.Fprintf(w, "  Next %-9s p50 %s, p90 %s, p99 %s, longest %s\n", d.name, short(d.P50), short(d.P90), short(d.P99), short(d.Max))
	}
	if r.Races > 0 {
		fmt.Fprintf(w, "  DATA RACES    %d: see the files %s.* of the run\n", r.Races, racesFile)
	}
	if len(f.Violations) == 0 {
		fmt.Fprintln(w, "  violations    0")
		return
	}
	fmt.Fprintf(w, "  VIOLATIONS    %d\n", len(f.Violations))
	for _, v := range f.Violations {
		fmt.Fprintf(w, "    %s\n", v)
	}
	fmt.Fprintf(w, "  once more:    make chaos CHAOS_SEEDS=%d CHAOS_LOCKS=%d CHAOS_GETS=%d\n", r.Seed, r.Locks, r.Gets)
}

func short(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// tableHead is the head of the table of all runs.
const tableHead = "| seed | locks; Gets | faults | wrong answers | failed calls | mobile IDs; certificates; audit records; events | Next to locked, p50; p99; longest | Next to the end, p50; p99; longest | time | violations |\n" +
	"|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"

// Row is the run in the table of all runs.
func (r *Report) Row() string {
	f := r.Found
	cells := []string{
		fmt.Sprint(r.Seed), fmt.Sprintf("%d; %d", r.Locks, r.Gets), fmt.Sprint(len(r.Faults)), fmt.Sprint(r.WrongAnswers),
		fmt.Sprintf("%d of %d", r.FailedCalls, r.Calls), fmt.Sprintf("%d; %d; %d; %d", f.MobileIDs, f.Certificates, f.Records, f.Events),
		times(f.ToLocked), times(f.ToRevoked), (r.Storm + r.Settle + r.Check).Round(time.Second).String(), fmt.Sprint(len(f.Violations)),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func times(d checker.Distribution) string {
	return short(d.P50) + "; " + short(d.P99) + "; " + short(d.Max)
}
