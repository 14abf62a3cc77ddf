package chaos

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/starter/chaos/checker"
)

// testSeed is that of the short run: CHAOS_SEED, or one that is new each day.
func testSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return uint64(time.Now().Unix() / 86_400)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "CHAOS_SEED")
	return seed
}

// The short run: every fault once, and everything that the checker can find. A failing
// seed can be run again: CHAOS_SEED=N go test -run TestChaosShort ./starter/chaos
func TestChaosShort(t *testing.T) {
	module, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir := t.TempDir()
	shifted := filepath.Join(dir, "programs")
	require.NoError(t, BuildShifted(t.Context(), module, shifted, false))
	programs, err := Find(filepath.Join(module, ".bin"), shifted)
	require.NoError(t, err)

	seed := testSeed(t)
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var log strings.Builder
	report, err := Run(ctx, Options{
		Dir: filepath.Join(dir, "run"), Programs: programs, Seed: seed, Locks: 60, Gets: 6, AtOnce: 16, Pace: 400 * time.Millisecond, Progress: &log,
		Inspect: func(ctx context.Context, o checker.Options, found checker.Report) {
			if len(found.Violations) == 0 {
				t.Run("the checker sees what is not so", func(t *testing.T) { checkChecker(ctx, t, o) })
			}
		},
	})
	require.NoError(t, err, "seed %d\n%s", seed, &log)
	report.Print(&log)
	require.Empty(t, report.Found.Violations, "seed %d\n%s", seed, &log)
	t.Log(log.String())

	kinds := report.kinds()
	for _, kind := range wanted(report.DiskFull) {
		require.Positive(t, kinds[kind], "%s never struck", kind)
	}
	require.GreaterOrEqual(t, report.Found.Accepted, 60, "locks, and those of Gets")
	require.Equal(t, 6, report.Found.GotActive, "Gets")
	require.Positive(t, report.FailedCalls+report.WrongAnswers, "somebody met a fault")
}

// wanted are the kinds of faults of a run.
func wanted(diskFull bool) []string {
	p := &place{disk: &disk{mounted: diskFull}}
	var kinds []string
	for _, l := range p.lanes() {
		for _, f := range l.faults {
			kinds = append(kinds, f.kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func TestSeedMakesTheCast(t *testing.T) {
	one, same, other := cast(7, 300, 30), cast(7, 300, 30), cast(8, 300, 30)
	require.Equal(t, one, same)
	require.NotEqual(t, one, other)
	count := map[story]int{}
	for _, p := range one {
		count[p.story]++
	}
	require.Equal(t, 30, count[getsAnother])
	require.Equal(t, 30, count[nobodyTouches])
	for _, s := range slices.Concat(lockStories, []story{lockByShell, startAndCancel}) {
		require.Positive(t, count[s], s)
	}
	ids := map[string]bool{}
	for _, p := range one {
		ids[p.mobileID] = true
	}
	require.Len(t, ids, len(one))
}

// A run is kept in the place of an earlier one of the same seed and size.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	for n, r := range []Report{{Seed: 1, Locks: 10}, {Seed: 2, Locks: 10}, {Seed: 1, Locks: 10, Calls: 5}} {
		require.NoError(t, Keep(dir, r), n)
	}
	text, err := os.ReadFile(filepath.Join(dir, TableFile))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Len(t, lines, 4, "head, line, and two runs")
	for _, line := range lines {
		require.Equal(t, strings.Count(lines[0], "|"), strings.Count(line, "|"), line)
	}

	page := filepath.Join(dir, "page.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"), 0o600))
	require.ErrorContains(t, WriteTable(dir, page), "no place for the table")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o600))
	require.NoError(t, WriteTable(dir, page))
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "before\n"+tableBegin+string(text)+tableEnd+"after\n", string(written))
	require.ErrorContains(t, WriteTable(t.TempDir(), page), "no report")
}

// What the checker says counts because it is not the word of what it checks.
func TestCheckerSharesNoCode(t *testing.T) {
	said, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "mobileid/starter/chaos/checker").Output()
	require.NoError(t, err)
	for _, name := range strings.Fields(string(said)) {
		if name != "mobileid/starter/chaos/checker" {
			require.False(t, name == "mobileid" || strings.HasPrefix(name, "mobileid/"), name)
		}
	}
}
