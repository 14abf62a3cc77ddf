package seal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nothing opens but what was sealed, for whom it was sealed.
func FuzzOpen(f *testing.F) {
	s, err := New(key, "form", time.Now)
	require.NoError(f, err)
	good, err := s.Seal(form{User: "anna"}, 1000*time.Hour, "session")
	require.NoError(f, err)
	for _, text := range []string{good, flip(good), good + ".", good[:len(good)/2], "", "..", "a.b.c", "\x00"} {
		f.Add(text, "session")
		f.Add(text, "another")
	}
	f.Fuzz(func(t *testing.T, text, boundTo string) {
		var opened form
		if err := s.Open(text, &opened, boundTo); err != nil {
			require.Zero(t, opened)
			return
		}
		require.Equal(t, "session", boundTo)
		require.Equal(t, form{User: "anna"}, opened)
	})
}
