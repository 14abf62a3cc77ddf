package identitymanager

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestAuditNumbers(t *testing.T) {
	for name, database := range map[string]func(testing.TB) database{SQLite: sqliteDatabase, Postgres: postgresDatabase} {
		t.Run(name, func(t *testing.T) {
			s := database(t).open(t)
			require.NoError(t, s.Migrate(t.Context()))
			putUsers(t, s)
			create(t, s, "mid-1", mobileid.Active, certificate("a1", mobileid.CertificateValid))
			_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
			require.NoError(t, err)

			ids := []string{"mid-1"} // and more than one statement asks for
			for n := range idsPerStatement {
				ids = append(ids, fmt.Sprintf("none-%d", n))
			}
			numbers, err := s.AuditNumbers(t.Context(), ids)
			require.NoError(t, err)
			require.Len(t, numbers, len(ids))
			require.EqualValues(t, 1, numbers["mid-1"])
			require.Zero(t, numbers["none-1"])

			_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a1")))
			require.NoError(t, err)
			numbers, err = s.AuditNumbers(t.Context(), []string{"mid-1"})
			require.NoError(t, err)
			require.Equal(t, map[string]int64{"mid-1": 2}, numbers)

			numbers, err = s.AuditNumbers(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, numbers)
		})
	}
}
