package identitymanager

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// BenchmarkLock measures the transaction of a lock, with durable settings, among
// few and many mobile IDs.
func BenchmarkLock(b *testing.B) {
	databases := map[string]func(testing.TB) database{SQLite: sqliteDatabase, Postgres: postgresDatabase}
	for name, database := range databases {
		for _, others := range []int{100, 20_000} {
			b.Run(fmt.Sprintf("%s/%d", name, others), func(b *testing.B) {
				db := database(b)
				s := db.open(b)
				require.NoError(b, s.Migrate(b.Context()))
				putUsers(b, s)
				fill(b, s, "other", others)
				fill(b, s, "mid", b.N)
				b.ResetTimer()
				for i := range b.N {
					_, err := s.Lock(b.Context(), order(fmt.Sprintf("mid-%d", i), "run-1"))
					require.NoError(b, err)
				}
			})
		}
	}
}

// BenchmarkRecordRevocations measures taking over 100 certificates.
func BenchmarkRecordRevocations(b *testing.B) {
	const certificates = 100
	databases := map[string]func(testing.TB) database{SQLite: sqliteDatabase, Postgres: postgresDatabase}
	for name, database := range databases {
		b.Run(name, func(b *testing.B) {
			db := database(b)
			s := db.open(b)
			require.NoError(b, s.Migrate(b.Context()))
			putUsers(b, s)
			orders := make([]mobileid.RevocationOrder, b.N)
			for i := range orders {
				id := fmt.Sprintf("mid-%d", i)
				orders[i] = revocation(id, "run-1")
				var issued []mobileid.Certificate
				for n := range certificates {
					serial := fmt.Sprintf("%x", i*certificates+n+1)
					issued = append(issued, certificate(serial, mobileid.CertificateValid))
					orders[i].Certificates = append(orders[i].Certificates, revoked(serial))
				}
				create(b, s, id, mobileid.Active, issued...)
			}
			b.ResetTimer()
			for _, o := range orders {
				_, err := s.RecordRevocations(b.Context(), o)
				require.NoError(b, err)
			}
		})
	}
}

// fill creates mobile IDs with two certificates each, all in one transaction.
func fill(b *testing.B, s *Store, prefix string, n int) {
	b.Helper()
	require.NoError(b, s.transact(b.Context(), func(tx *sql.Tx) error {
		for i := range n {
			id := fmt.Sprintf("%s-%d", prefix, i)
			const insert = `INSERT INTO mobile_ids (id, owner, name, state, created_at) VALUES ($1, 'anna', '', 'active', $2)`
			if _, err := tx.ExecContext(b.Context(), insert, id, stored(time.Now())); err != nil {
				return err
			}
			serial := strings.ToLower(fmt.Sprintf("%x", prefix+id))
			two := []mobileid.Certificate{certificate(serial[:min(len(serial), 38)]+"1", "valid"), certificate(serial[:min(len(serial), 38)]+"2", "valid")}
			if err := s.insertCertificates(b.Context(), tx, id, two); err != nil {
				return err
			}
		}
		return nil
	}))
}
