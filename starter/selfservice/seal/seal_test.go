package seal

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var key = []byte("0123456789abcdef0123456789abcdef")

type form struct {
	User string `json:"user"`
}

func TestOpenTakesOnlyItsOwn(t *testing.T) {
	now := time.Date(2031, 3, 4, 5, 6, 7, 0, time.UTC)
	clock := func() time.Time { return now }
	forms, err := New(key, "form", clock)
	require.NoError(t, err)
	cookies, err := New(key, "cookie", clock)
	require.NoError(t, err)
	otherKey, err := New([]byte(strings.Repeat("k", 32)), "form", clock)
	require.NoError(t, err)
	text, err := forms.Seal(form{User: "anna"}, time.Hour, "session", "mid-1")
	require.NoError(t, err)
	require.NotContains(t, text, "anna")

	for _, test := range []struct {
		name   string
		sealer *Sealer
		text   string
		bound  []string
		after  time.Duration
		opens  bool
	}{
		{"as it was sealed", forms, text, []string{"session", "mid-1"}, 0, true},
		{"just in time", forms, text, []string{"session", "mid-1"}, time.Hour - 1, true},
		{"too late", forms, text, []string{"session", "mid-1"}, time.Hour, false},
		{"another session", forms, text, []string{"other", "mid-1"}, 0, false},
		{"another mobile ID", forms, text, []string{"session", "mid-2"}, 0, false},
		{"the same text in other fields", forms, text, []string{"sessionm", "id-1"}, 0, false},
		{"bound to less", forms, text, []string{"session"}, 0, false},
		{"another purpose", cookies, text, []string{"session", "mid-1"}, 0, false},
		{"another key", otherKey, text, []string{"session", "mid-1"}, 0, false},
		{"changed", forms, flip(text), []string{"session", "mid-1"}, 0, false},
		{"cut", forms, text[:len(text)-4], []string{"session", "mid-1"}, 0, false},
		{"nothing", forms, "", []string{"session", "mid-1"}, 0, false},
		{"not base64", forms, "ä" + text, []string{"session", "mid-1"}, 0, false},
		{"endless", forms, strings.Repeat("A", 1<<20), []string{"session", "mid-1"}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			now = now.Add(test.after)
			defer func() { now = now.Add(-test.after) }()
			var got form
			err := test.sealer.Open(test.text, &got, test.bound...)
			if !test.opens {
				require.ErrorIs(t, err, ErrNotSealed)
				require.Zero(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, form{User: "anna"}, got)
		})
	}
}

func TestNewRefusesAShortKey(t *testing.T) {
	_, err := New(key[:31], "form", nil)
	require.ErrorContains(t, err, "31 bytes")
}

// flip changes one bit in the middle.
func flip(text string) string {
	changed := byte('A')
	if text[20] == changed {
		changed = 'B'
	}
	return text[:20] + string(changed) + text[21:]
}
