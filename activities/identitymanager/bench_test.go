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
		for _, others := range []int{1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", name, others), func(b *testing.B) {
				db := database(b)
				s := db.open(b)
				require.NoError(b, s.Migrate(b.Context()))
				putUsers(b, s)
				crowd(b, s, others)
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

// BenchmarkRegister measures the transaction that uses a grant up, with durable
// settings, among few and many mobile IDs.
func BenchmarkRegister(b *testing.B) {
	eachCrowd(b, func(b *testing.B, s *Store) {
		orders := make([]mobileid.RegistrationOrder, b.N)
		for i, user := range applicants(b, s, b.N) {
			orders[i] = registration(grant(b, s, user), user, "run-1")
		}
		b.ResetTimer()
		for _, o := range orders {
			_, err := s.Register(b.Context(), o)
			require.NoError(b, err)
		}
	})
}

// BenchmarkActivate measures the transaction that makes a mobile ID usable, with
// two certificates.
func BenchmarkActivate(b *testing.B) {
	eachCrowd(b, func(b *testing.B, s *Store) {
		orders := make([]mobileid.ActivationOrder, b.N)
		for i, user := range applicants(b, s, b.N) {
			id := register(b, s, user)
			require.NoError(b, s.PutProvisioning(b.Context(), provisioning(id, user, id)))
			_, err := s.RecordIssued(b.Context(), issue(id, "run-1", fmt.Sprintf("e%xe1", i), fmt.Sprintf("e%xe2", i)))
			require.NoError(b, err)
			orders[i] = activation(id, user, "run-1")
		}
		b.ResetTimer()
		for _, o := range orders {
			_, err := s.Activate(b.Context(), o)
			require.NoError(b, err)
		}
	})
}

// eachCrowd runs a benchmark on both databases, among few and many mobile IDs.
func eachCrowd(b *testing.B, benchmark func(b *testing.B, s *Store)) {
	databases := map[string]func(testing.TB) database{SQLite: sqliteDatabase, Postgres: postgresDatabase}
	for name, database := range databases {
		for _, others := range []int{1_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", name, others), func(b *testing.B) {
				s := database(b).open(b)
				require.NoError(b, s.Migrate(b.Context()))
				putUsers(b, s)
				crowd(b, s, others)
				benchmark(b, s)
			})
		}
	}
}

// applicants makes users who have nothing yet.
func applicants(b *testing.B, s *Store, n int) []string {
	b.Helper()
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("user-%d", i)
	}
	putUsers(b, s, users...)
	return users
}

// crowd makes many mobile IDs with two certificates each, by the database's own
// means.
func crowd(b testing.TB, s *Store, n int) {
	b.Helper()
	const count = `WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < $1) `
	like := certificate("1", mobileid.CertificateValid)
	now := stored(time.Now())
	for _, statement := range []struct {
		text string
		args []any
	}{
		{count + `INSERT INTO mobile_ids (id, owner, name, state, created_at)
			SELECT 'other-' || n, 'anna', '', 'active', $2 FROM counted`, []any{n, now}},
		{count + `INSERT INTO certificates (issuer, aki, serial, mobile_id, state, issuer_dn, not_before, not_after, created_at)
			SELECT $2, $3, 'c' || n || 'd' || i, 'other-' || n, 'valid', $4, $5, $6, $7
			FROM counted, (SELECT 1 AS i UNION ALL SELECT 2) AS two`,
			[]any{n, like.Issuer, like.AKI, like.IssuerDN, stored(like.NotBefore), stored(like.NotAfter), now}},
	} {
		_, err := s.write.ExecContext(b.Context(), statement.text, statement.args...)
		require.NoError(b, err)
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
			if err := s.insertCertificates(b.Context(), tx, id, two, ""); err != nil {
				return err
			}
		}
		return nil
	}))
}
