package identitymanager

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// threeRecords makes mobile IDs whose chains have three records each.
func threeRecords(t testing.TB, s *Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		create(t, s, id, mobileid.Active)
		for _, run := range []string{"run-1", "run-2", "run-3"} {
			_, err := s.Lock(t.Context(), order(id, run))
			require.NoError(t, err)
		}
	}
}

func change(t testing.TB, s *Store, statements string) {
	t.Helper()
	for statement := range strings.SplitSeq(statements, ";") {
		_, err := s.write.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

// kinds are the faults by mobile ID and kind, in order.
func kinds(report AuditReport) []string {
	list := []string{}
	for _, fault := range report.Faults {
		list = append(list, fault.MobileID+" "+string(fault.Kind))
	}
	return list
}

func TestVerifyAuditFinds(t *testing.T) {
	tests := map[string]struct {
		statements string
		without    []string // what is found with the database alone
		with       []string // and with a checkpoint from before
	}{
		"nothing":               {`UPDATE audit SET record = record`, nil, nil},
		"record altered":        {`UPDATE audit SET record = replace(record, 'anna', 'otto') WHERE mobile_id = 'mid-1' AND number = 2`, []string{"mid-1 altered"}, nil},
		"a space more":          {`UPDATE audit SET record = record || ' ' WHERE mobile_id = 'mid-1' AND number = 1`, []string{"mid-1 altered"}, nil},
		"no record any more":    {`UPDATE audit SET record = 'x' WHERE mobile_id = 'mid-1' AND number = 2`, []string{"mid-1 altered", "mid-1 altered"}, nil},
		"removed in between":    {`DELETE FROM audit WHERE mobile_id = 'mid-1' AND number = 2`, []string{"mid-1 removed"}, nil},
		"first removed":         {`DELETE FROM audit WHERE mobile_id = 'mid-1' AND number = 1`, []string{"mid-1 removed", "mid-1 cutOff"}, nil},
		"removed and closed up": {`DELETE FROM audit WHERE mobile_id = 'mid-1' AND number = 2; UPDATE audit SET number = 2 WHERE mobile_id = 'mid-1' AND number = 3`, []string{"mid-1 altered", "mid-1 cutOff"}, []string{"mid-1 altered", "mid-1 cutOff", "mid-1 cutOff"}},
		"inserted at the end":   {`INSERT INTO audit SELECT mobile_id, 4, record, mac, 'x' FROM audit WHERE mobile_id = 'mid-1' AND number = 3`, []string{"mid-1 inserted"}, nil},
		"inserted, head moved": {`INSERT INTO audit SELECT mobile_id, 4, record, mac, 'x' FROM audit WHERE mobile_id = 'mid-1' AND number = 3;
			UPDATE audit_heads SET number = 4 WHERE mobile_id = 'mid-1'`, []string{"mid-1 altered"}, nil},
		"inserted in between": {`UPDATE audit SET number = 4 WHERE mobile_id = 'mid-1' AND number = 3;
			INSERT INTO audit SELECT mobile_id, 3, record, mac, 'x' FROM audit WHERE mobile_id = 'mid-1' AND number = 2;
			UPDATE audit_heads SET number = 4 WHERE mobile_id = 'mid-1'`, []string{"mid-1 altered", "mid-1 altered"}, []string{"mid-1 altered", "mid-1 altered", "mid-1 altered"}},
		"from another chain": {`UPDATE audit SET mobile_id = 'mid-3' WHERE mobile_id = 'mid-1'; UPDATE audit SET mobile_id = 'mid-1' WHERE mobile_id = 'mid-2'`,
			[]string{
				"mid-1 altered", "mid-1 altered", "mid-1 altered", "mid-1 altered", "mid-1 altered", "mid-1 altered", "mid-1 altered", "mid-1 cutOff",
				"mid-3 altered", "mid-3 altered", "mid-3 altered", "mid-3 altered", "mid-3 altered", "mid-3 altered", "mid-3 removed", "mid-2 removed", "mid-2 removed",
			}, nil},
		"cut off": {`DELETE FROM audit WHERE mobile_id = 'mid-1' AND number = 3`, []string{"mid-1 cutOff"}, []string{"mid-1 cutOff", "mid-1 cutOff"}},
		"cut off, head set back": {`DELETE FROM audit WHERE mobile_id = 'mid-1' AND number = 3;
			UPDATE audit_heads SET number = 2, mac = (SELECT mac FROM audit WHERE mobile_id = 'mid-1' AND number = 2) WHERE mobile_id = 'mid-1'`,
			nil, []string{"mid-1 cutOff"}},
		"head removed":         {`DELETE FROM audit_heads WHERE mobile_id = 'mid-1'`, []string{"mid-1 removed"}, nil},
		"all records removed":  {`DELETE FROM audit WHERE mobile_id = 'mid-1'`, []string{"mid-1 removed", "mid-1 removed"}, []string{"mid-1 removed", "mid-1 removed", "mid-1 removed"}},
		"chain removed":        {`DELETE FROM audit WHERE mobile_id = 'mid-1'; DELETE FROM audit_heads WHERE mobile_id = 'mid-1'`, []string{"mid-1 removed"}, []string{"mid-1 removed", "mid-1 removed"}},
		"everything removed":   {`DELETE FROM audit; DELETE FROM audit_heads; DELETE FROM mobile_ids`, nil, []string{"mid-1 removed", "mid-2 removed"}},
		"altered in both":      {`UPDATE audit SET record = record || ' ' WHERE number = 2`, []string{"mid-1 altered", "mid-2 altered"}, nil},
		"MAC of another place": {`UPDATE audit_heads SET mac = (SELECT mac FROM audit WHERE mobile_id = 'mid-1' AND number = 1) WHERE mobile_id = 'mid-1'`, []string{"mid-1 altered"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				threeRecords(t, s, "mid-1", "mid-2")
				dir := t.TempDir()
				_, err := s.Checkpoint(t.Context(), dir)
				require.NoError(t, err)
				checkpoints, err := s.ReadCheckpoints(dir)
				require.NoError(t, err)
				allowAuditChanges(t, s)
				change(t, s, test.statements)

				report, err := s.VerifyAudit(t.Context(), "", nil, nil)
				require.NoError(t, err)
				require.ElementsMatch(t, test.without, kinds(report))
				require.Equal(t, int64(len(report.Faults)), report.Total)

				expected := test.with
				if expected == nil {
					expected = test.without
				}
				report, err = s.VerifyAudit(t.Context(), "", checkpoints.Marks, nil)
				require.NoError(t, err)
				if name == "from another chain" { // a checkpoint sees the other records too
					require.Greater(t, report.Total, int64(len(expected)))
					return
				}
				require.ElementsMatch(t, expected, kinds(report))

				for _, fault := range report.Faults {
					if fault.MobileID == "mid-2" {
						continue
					}
					one, err := s.VerifyAudit(t.Context(), "mid-1", checkpoints.Marks, nil)
					require.NoError(t, err)
					require.NotEmpty(t, one.Faults, "one chain alone shows the same")
					for _, f := range one.Faults {
						require.Equal(t, "mid-1", f.MobileID)
					}
					break
				}
			})
		})
	}
}

func TestVerifyAuditWithAnotherKey(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		threeRecords(t, s, "mid-1", "mid-2")
		s.key = []byte(strings.Repeat("x", 32))
		report, err := s.VerifyAudit(t.Context(), "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, int64(6), report.Total)
		require.Equal(t, int64(6), report.Records)
		require.Equal(t, int64(2), report.Chains)
	})
}

func TestCheckpointsFollowEachOther(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		dir := filepath.Join(t.TempDir(), "new", "checkpoints")
		none, err := s.ReadCheckpoints(dir)
		require.NoError(t, err)
		require.Zero(t, none.Last)

		threeRecords(t, s, "mid-1", "mid-2")
		first, err := s.Checkpoint(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, []int64{1, 2, 2}, []int64{first.Number, int64(first.Chains), int64(first.Moved)})

		_, err = s.Lock(t.Context(), order("mid-1", "run-4"))
		require.NoError(t, err)
		second, err := s.Checkpoint(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, []int64{2, 2, 1}, []int64{second.Number, int64(second.Chains), int64(second.Moved)}, "only what moved")

		read, err := s.ReadCheckpoints(dir)
		require.NoError(t, err)
		require.Equal(t, second, read.Last)
		require.Equal(t, int64(4), read.Marks["mid-1"].Number)
		require.Equal(t, int64(3), read.Marks["mid-2"].Number)
		report, err := s.VerifyAudit(t.Context(), "", read.Marks, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)

		_, err = s.Lock(t.Context(), order("mid-2", "run-4"))
		require.NoError(t, err)
		report, err = s.VerifyAudit(t.Context(), "", read.Marks, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults, "what comes after a checkpoint is no fault")
	})
}

func TestCheckpointIsNotWrittenOverAChainThatWentBack(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		threeRecords(t, s, "mid-1")
		dir := t.TempDir()
		_, err := s.Checkpoint(t.Context(), dir)
		require.NoError(t, err)
		change(t, s, `UPDATE audit_heads SET number = 2`)
		_, err = s.Checkpoint(t.Context(), dir)
		require.ErrorContains(t, err, "mid-1 went back")
	})
}

func TestChangedCheckpointsAreNotRead(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"altered":             func(t *testing.T, dir string) { rewrite(t, dir, 2, "mid-1", "mid-9") },
		"cut off":             func(t *testing.T, dir string) { rewrite(t, dir, 2, "\n", "") },
		"first one removed":   func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, checkpointName(1)))) },
		"middle one removed":  func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, checkpointName(2)))) },
		"two exchanged":       exchange,
		"a file too many":     func(t *testing.T, dir string) { write(t, dir, "00000001-copy.jsonl", "x") },
		"empty":               func(t *testing.T, dir string) { write(t, dir, checkpointName(2), "") },
		"renumbered":          func(t *testing.T, dir string) { rewrite(t, dir, 3, `"number":3`, `"number":4`) },
		"a line of something": func(t *testing.T, dir string) { write(t, dir, checkpointName(2), "x\n{}\n") },
	} {
		t.Run(name, func(t *testing.T) {
			s := openSQLite(t)
			dir := t.TempDir()
			for _, id := range []string{"mid-1", "mid-2", "mid-3"} {
				threeRecords(t, s, id)
				_, err := s.Checkpoint(t.Context(), dir)
				require.NoError(t, err)
			}
			harm(t, dir)
			_, err := s.ReadCheckpoints(dir)
			require.Error(t, err)
			_, err = s.Checkpoint(t.Context(), dir)
			require.Error(t, err, "and none is written after them")
		})
	}
}

func rewrite(t *testing.T, dir string, number int64, before, after string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, checkpointName(number)))
	require.NoError(t, err)
	changed := strings.Replace(string(content), before, after, 1)
	if changed == string(content) {
		changed = strings.Replace(string(content), "mid-", "mid-x", 1)
	}
	write(t, dir, checkpointName(number), changed)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func exchange(t *testing.T, dir string) {
	t.Helper()
	one, two := filepath.Join(dir, checkpointName(1)), filepath.Join(dir, checkpointName(2))
	require.NoError(t, os.Rename(one, one+".tmp"))
	require.NoError(t, os.Rename(two, one))
	require.NoError(t, os.Rename(one+".tmp", two))
}

// Several workers share a folder: one of them writes the checkpoint.
func TestCheckpointAtOnce(t *testing.T) {
	s := openSQLite(t)
	threeRecords(t, s, "mid-1")
	dir := t.TempDir()
	const writers = 8
	var group sync.WaitGroup
	errs := make([]error, writers)
	for n := range writers {
		group.Go(func() { _, errs[n] = s.Checkpoint(t.Context(), dir) })
	}
	group.Wait()
	written := 0
	for _, err := range errs {
		if err == nil {
			written++
			continue
		}
		require.True(t, errors.Is(err, ErrCheckpointTaken), "%v", err)
	}
	read, err := s.ReadCheckpoints(dir)
	require.NoError(t, err)
	require.Equal(t, int64(written), read.Last.Number)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, written, "no drafts are left")
}

// openSQLite is for what does not depend on the database.
func openSQLite(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "im.db"), AuditKey: auditKey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	return s
}
