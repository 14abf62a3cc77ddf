package identitymanager

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// someNotices locks n mobile IDs of otto, who has one address.
func someNotices(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("mid-%d", i)
		m := mobileid.MobileID{ID: id, Name: "Phone", Owner: mobileid.User{ID: "otto"}, State: mobileid.Active}
		m.Certificates = []mobileid.Certificate{certificate(fmt.Sprintf("c%x", i), "valid")}
		require.NoError(t, s.CreateMobileID(t.Context(), m))
		o := order(id, "run-1")
		o.Owner = "otto"
		_, err := s.Lock(t.Context(), o)
		require.NoError(t, err)
	}
}

func claim(t testing.TB, s *Store) (Notice, bool) {
	t.Helper()
	n, found, err := s.ClaimNotice(t.Context(), time.Minute)
	require.NoError(t, err)
	return n, found
}

// yes expects that the claim was held.
func yes(t testing.TB, own bool, err error) {
	t.Helper()
	require.NoError(t, err)
	require.True(t, own)
}

func TestClaimNotice(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		_, found := claim(t, s)
		require.False(t, found)
		someNotices(t, s, 1)
		first, found := claim(t, s)
		require.True(t, found)
		require.Equal(t, NoticeLockRequested, first.Kind)
		require.Equal(t, "mid-0", first.MobileID)
		require.Equal(t, "otto@example.com", first.Address)
		require.Equal(t, "The otto", first.Facts.UserName)
		require.Equal(t, microseconds(start), first.CreatedAt)
		require.Equal(t, 1, first.Attempts)
		require.Len(t, first.ID, 64)
		_, found = claim(t, s)
		require.False(t, found, "it is taken")

		// The sender dies: the next one takes it, and the first one's word counts no more.
		db.clock.advance(time.Minute)
		second, found := claim(t, s)
		require.True(t, found)
		require.Equal(t, first.ID, second.ID)
		require.Equal(t, 2, second.Attempts)
		expectNothingWritten(t, s, func() {
			for _, end := range []func() (bool, error){
				func() (bool, error) { return s.NoticeIsSent(t.Context(), first) },
				func() (bool, error) { return s.DropNotice(t.Context(), first, "x") },
				func() (bool, error) { return s.FailNotice(t.Context(), first, "x") },
				func() (bool, error) { return s.RetryNotice(t.Context(), first, s.now(), "x") },
			} {
				own, err := end()
				require.NoError(t, err)
				require.False(t, own)
			}
		})

		own, err := s.RetryNotice(t.Context(), second, s.now().Add(time.Second), "the server is down")
		yes(t, own, err)
		_, found = claim(t, s)
		require.False(t, found)
		db.clock.advance(time.Second)
		third, found := claim(t, s)
		require.True(t, found)
		require.Equal(t, first.Facts, third.Facts)
		own, err = s.NoticeIsSent(t.Context(), third)
		yes(t, own, err)
		db.clock.advance(time.Hour)
		_, found = claim(t, s)
		require.False(t, found)
		text := strings.Join(dump(t, s)["outbox"], "\n")
		require.NotContains(t, text, "otto", "whom it was for is gone")
		require.Contains(t, text, "sent")
	})
}

func TestDropNotice(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
		someNotices(t, s, 1)
		n, _ := claim(t, s)
		own, err := s.DropNotice(t.Context(), n, "it is of no use")
		yes(t, own, err)
		require.Equal(t, NoticeDropped, outbox(t, s, "mid-0")[0].state)
		require.NotContains(t, strings.Join(dump(t, s)["outbox"], "\n"), "otto")
		open, err := s.OpenNotices(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, open)
	})
}

// What was given up stays, is shown without the person, and can be tried again.
func TestFailNotice(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		someNotices(t, s, 2)
		n, _ := claim(t, s)
		own, err := s.FailNotice(t.Context(), n, strings.Repeat("x", 2*maxProblem)+"\x00\xff")
		yes(t, own, err)
		db.clock.advance(time.Hour)
		open, err := s.OpenNotices(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, open, 2)
		states := map[NoticeState]OpenNotice{open[0].State: open[0], open[1].State: open[1]}
		require.Equal(t, OpenNotice{
			ID: n.ID, Kind: NoticeLockRequested, MobileID: n.MobileID, State: NoticeFailed, CreatedAt: microseconds(start),
			DueAt: microseconds(start.Add(time.Minute)), Attempts: 1, Problem: strings.Repeat("x", maxProblem) + "…",
		}, states[NoticeFailed])
		require.NotContains(t, fmt.Sprint(open), "@")
		few, err := s.OpenNotices(t.Context(), 1)
		require.NoError(t, err)
		require.Len(t, few, 1)

		other, found := claim(t, s)
		require.True(t, found)
		require.NotEqual(t, n.ID, other.ID, "what was given up is not tried")
		for _, id := range []string{other.ID, "nobody"} {
			again, err := s.RequeueNotice(t.Context(), id)
			require.NoError(t, err)
			require.False(t, again)
		}
		again, err := s.RequeueNotice(t.Context(), n.ID)
		yes(t, again, err)
		tried, found := claim(t, s)
		require.True(t, found)
		require.Equal(t, n.ID, tried.ID)
		require.Equal(t, n.Address, tried.Address)
	})
}

// Many senders in several processes: each notice is taken by one.
func TestManySenders(t *testing.T) {
	const notices, senders = 60, 8
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		someNotices(t, s, notices)
		stores := []*Store{s, db.open(t), db.open(t), db.open(t)}
		var mu sync.Mutex
		taken := map[string]int{}
		together(t, senders, func(i int) error {
			for {
				n, found, err := stores[i%len(stores)].ClaimNotice(t.Context(), time.Minute)
				if err != nil || !found {
					return err
				}
				mu.Lock()
				taken[n.ID]++
				mu.Unlock()
			}
		})
		// A look may miss what is taken and not taken back, so some may be left.
		for {
			n, found := claim(t, s)
			if !found {
				break
			}
			taken[n.ID]++
		}
		require.Len(t, taken, notices)
		for _, times := range taken {
			require.Equal(t, 1, times)
		}
	})
}

// While another transaction takes a notice, the next one is taken, and nobody waits.
func TestPostgresSkipsWhatIsTaken(t *testing.T) {
	db := postgresDatabase(t)
	db.Notices = everyNotice
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	someNotices(t, s, 2)
	tx, err := s.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback()
	now := stored(s.now())
	var ids [2]string
	var ignored any
	require.NoError(t, tx.QueryRowContext(t.Context(), claimNotice(s.dialect), now, "x", now).Scan(&ids[0], &ignored, &ignored, &ignored, &ignored, &ignored, &ignored))
	n, found := claim(t, s)
	require.True(t, found)
	require.NotEqual(t, ids[0], n.ID)
	_, found = claim(t, s)
	require.False(t, found)
	require.NoError(t, tx.Rollback())
	n, found = claim(t, s)
	require.True(t, found)
	require.Equal(t, ids[0], n.ID, "it was not taken after all")
}

func TestNoticeShowsNobody(t *testing.T) {
	n := Notice{ID: "id", MobileID: "mid-1", Address: "anna@example.com", Facts: NoticeFacts{UserName: "Anna"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		require.NotContains(t, strings.ToLower(fmt.Sprintf(verb, n)), "anna")
	}
	var text strings.Builder
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "notice", n)
	require.NotContains(t, strings.ToLower(text.String()), "anna")
}
