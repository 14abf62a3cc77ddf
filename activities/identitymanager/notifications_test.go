package identitymanager

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestNotifications(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		sent := func(key string) bool {
			sent, err := s.NotificationSent(t.Context(), key)
			require.NoError(t, err)
			return sent
		}
		require.False(t, sent("run-1/ready"))
		stores := []*Store{s, db.open(t)}
		together(t, 10, func(i int) error {
			return stores[i%2].MarkNotificationSent(t.Context(), "run-1/ready", "anna@example.com")
		})
		require.True(t, sent("run-1/ready"))
		require.False(t, sent("run-2/ready"))
		expectNothingWritten(t, s, func() {
			require.NoError(t, s.MarkNotificationSent(t.Context(), "run-1/ready", "other@example.com"))
			require.ErrorIs(t, s.MarkNotificationSent(t.Context(), "", "anna@example.com"), mobileid.ErrInvalidRequest)
			require.ErrorIs(t, s.MarkNotificationSent(t.Context(), "run-2/ready", ""), mobileid.ErrInvalidRequest)
			_, err := s.NotificationSent(t.Context(), "x\x00")
			require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
		})
	})
}
