package identitymanager

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever the last checkpoint file holds: without the MAC under the audit key it is
// not believed, and none is written behind it. With it, it is what it says or an error.
func FuzzCheckpoint(f *testing.F) {
	s := openSQLite(f)
	threeRecords(f, s, "mid-1", "mid-2")
	dir := f.TempDir()
	first, err := s.Checkpoint(f.Context(), dir)
	require.NoError(f, err)
	written, err := os.ReadFile(filepath.Join(dir, checkpointName(1)))
	require.NoError(f, err)
	body, _ := cutLastLine(written)
	f.Add(body, false)
	f.Add(body, true)
	f.Add(written[:len(written)-3], false)
	for _, text := range []string{"", "\n", "{}\n", `{"format":"` + checkpointFormat + `","number":1}` + "\nnull\n", `{"format":"` + checkpointFormat + `","number":1,"previous":"x"}` + "\n",
		`{"format":"` + checkpointFormat + `","number":1}` + "\n" + `{"mobileId":"mid-1","number":-1}` + "\n" + `{"mobileId":"mid-1","number":9}` + "\n"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, sealed bool) {
		dir := t.TempDir()
		text := body
		if sealed {
			text = append(append([]byte{}, body...), `{"mac":"`+checkpointMAC(s.key, body)+`"}`+"\n"...)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, checkpointName(1)), text, 0o600))
		read, err := s.ReadCheckpoints(dir)
		if err != nil {
			require.ErrorContains(t, err, checkpointName(1))
			_, err = s.Checkpoint(t.Context(), dir)
			require.Error(t, err)
			_, err = os.Stat(filepath.Join(dir, checkpointName(2)))
			require.ErrorIs(t, err, os.ErrNotExist)
			return
		}
		require.True(t, sealed, "it is believed without the MAC")
		require.Equal(t, int64(1), read.Last.Number)
		require.Equal(t, len(read.Marks), read.Last.Chains)
		if string(text) == string(written) {
			require.Equal(t, first, read.Last)
		}
		report, err := s.VerifyAudit(t.Context(), "", read.Marks, nil)
		require.NoError(t, err)
		for id, mark := range read.Marks { // what it claims beyond what is there is missing
			if id != "mid-1" && id != "mid-2" && mark.Number > 0 {
				require.Positive(t, report.Total, "%s", id)
			}
		}
	})
}
