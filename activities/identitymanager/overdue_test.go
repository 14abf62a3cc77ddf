package identitymanager

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// warned lists what lies in the outbox for operators: address, threshold, mobile IDs.
func warned(t testing.TB, s *Store) []string {
	t.Helper()
	var list []string
	for {
		n, found, err := s.ClaimNotice(t.Context(), time.Minute)
		require.NoError(t, err)
		if !found {
			return list
		}
		require.Equal(t, NoticeLockOverdue, n.Kind)
		require.Empty(t, n.MobileID)
		text := fmt.Sprintf("%s %s", n.Address, n.Facts.Overdue.Threshold)
		for _, l := range n.Facts.Overdue.Locks {
			text += " " + l.MobileID
		}
		if n.Facts.Overdue.More > 0 {
			text += fmt.Sprintf(" and %d", n.Facts.Overdue.More)
		}
		list = append(list, text)
		sent, err := s.NoticeIsSent(t.Context(), n)
		require.NoError(t, err)
		require.True(t, sent)
	}
}

func eachOperated(t *testing.T, test func(t *testing.T, s *Store, db database)) {
	eachDatabase(t, func(t *testing.T, db database) {
		db.Notices.Operators = []string{"night@example.com"}
		s := db.open(t)
		require.NoError(t, s.Migrate(t.Context()))
		test(t, s, db)
	})
}

const quarter, long = 15 * time.Minute, 4 * time.Hour

// Operators are told once of each step that a lock passes, whatever else is told beside.
func TestWarnOverdueOnce(t *testing.T) {
	eachOperated(t, func(t *testing.T, s *Store, _ database) {
		a := mobileid.OverdueLock{MobileID: "mid-a", RequestedAt: start, Why: "the CA is down"}
		b := mobileid.OverdueLock{MobileID: "mid-b", RequestedAt: start.Add(-time.Minute)}
		warn := func(want int, thresholds []time.Duration, locks ...mobileid.OverdueLock) {
			t.Helper()
			told, err := s.WarnOverdue(t.Context(), mobileid.OverdueOrder{Thresholds: thresholds, Locks: locks})
			require.NoError(t, err)
			require.Equal(t, want, told)
		}
		warn(1, []time.Duration{quarter}, a)
		require.Equal(t, []string{"night@example.com 15m0s mid-a"}, warned(t, s))
		warn(0, []time.Duration{quarter}, a)
		require.Empty(t, warned(t, s), "a repeat tells nothing")

		warn(1, []time.Duration{quarter}, a, b)
		require.Equal(t, []string{"night@example.com 15m0s mid-b"}, warned(t, s))
		untold, err := s.UntoldOverdue(t.Context(), long, []mobileid.OverdueLock{a, b})
		require.NoError(t, err)
		require.Len(t, untold, 2)
		warn(2, []time.Duration{quarter, long}, a, b)
		require.Equal(t, []string{"night@example.com 4h0m0s mid-b mid-a"}, warned(t, s), "the longest under way first")

		again := a
		again.RequestedAt = start.Add(time.Hour) // terminated, and asked for anew
		untold, err = s.UntoldOverdue(t.Context(), quarter, []mobileid.OverdueLock{a, b, again})
		require.NoError(t, err)
		require.Equal(t, []mobileid.OverdueLock{again}, untold)
		warn(1, []time.Duration{quarter, long}, again)
		require.Len(t, warned(t, s), 1)
		warn(0, []time.Duration{quarter}, again)
		require.Empty(t, warned(t, s), "of the step before it is not told after")
	})
}

// However many look at once, each lock is told of once.
func TestWarnOverdueSideBySide(t *testing.T) {
	eachOperated(t, func(t *testing.T, s *Store, db database) {
		var locks []mobileid.OverdueLock
		for i := range 30 {
			locks = append(locks, mobileid.OverdueLock{MobileID: fmt.Sprintf("mid-%d", i), RequestedAt: start.Add(time.Duration(i%7) * time.Second)})
		}
		stores := []*Store{s, db.open(t), db.open(t)}
		told := make([]int, len(stores))
		together(t, len(stores), func(i int) (err error) {
			told[i], err = stores[i].WarnOverdue(t.Context(), mobileid.OverdueOrder{Thresholds: []time.Duration{quarter, long}, Locks: locks})
			return err
		})
		require.Equal(t, 30, told[0]+told[1]+told[2])
		list := warned(t, s)
		require.Len(t, list, 1)
		require.Contains(t, list[0], " and 10", "a mail lists twenty")
	})
}

// Without an address nothing is remembered: who is asked for later is told of all.
func TestWarnOverdueNobody(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		order := mobileid.OverdueOrder{Thresholds: []time.Duration{quarter}, Locks: []mobileid.OverdueLock{{MobileID: "mid-1", RequestedAt: start}}}
		told, err := s.WarnOverdue(t.Context(), order)
		require.NoError(t, err)
		require.Zero(t, told)
		s.notices.Operators = []string{"a@example.com", "b@example.com"}
		told, err = s.WarnOverdue(t.Context(), order)
		require.NoError(t, err)
		require.Equal(t, 1, told)
		require.Len(t, warned(t, s), 2)
	})
}
