package identitymanager

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"mobileid"
)

// traced notes what is sent to PostgreSQL.
type traced struct {
	mu  sync.Mutex
	all []statement
}

func (s *traced) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, statement{data.SQL, data.Args})
	return ctx
}

func (*traced) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take returns what was sent since the last time.
func (s *traced) take() []statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

var (
	// explained are the statements that have a plan.
	explained = regexp.MustCompile(`(?i)^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b`)
	seqScan   = regexp.MustCompile(`Seq Scan on (\w+)`)
)

// On PostgreSQL, too, whatever a lock asks costs the same however many mobile IDs there
// are, whether the database has counted its rows or not. What runs with millions of rows
// shows 'starter bench sizes'.
func TestPostgresLockScansNoTable(t *testing.T) {
	const others = 5_000
	db := postgresDatabase(t)
	s := db.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	crowd(t, s, others)
	change(t, s, fmt.Sprintf(`INSERT INTO audit (mobile_id, number, record, mac, idempotency) SELECT 'other-' || n, 1, '{}', '', 'x' FROM generate_series(1, %d) AS n`, others))
	change(t, s, fmt.Sprintf(`INSERT INTO audit_heads (mobile_id, number, mac) SELECT 'other-' || n, 1, '' FROM generate_series(1, %d) AS n`, others))
	change(t, s, fmt.Sprintf(`INSERT INTO users (id, name, email, active, created_at) SELECT 'user-' || n, '', '', true, now() FROM generate_series(1, %d) AS n`, others))
	change(t, s, fmt.Sprintf(`INSERT INTO user_roles (user_id, role) SELECT 'user-' || n, 'x' FROM generate_series(1, %d) AS n`, others))
	change(t, s, fmt.Sprintf(`INSERT INTO sessions (id, user_id, method, created_at, seen_at, expires_at) SELECT lpad(n::text, 64, '0'), 'user-' || n, 'password', now(), now(), now() FROM generate_series(1, %d) AS n`, others))

	config, err := pgx.ParseConfig(db.DSN)
	require.NoError(t, err)
	sent := &traced{}
	config.Tracer = sent
	watched := *s
	watched.write = stdlib.OpenDB(*config)
	watched.read = watched.write
	t.Cleanup(func() { require.NoError(t, watched.Close()) })

	for _, statistics := range []string{"none", "fresh"} {
		if statistics == "fresh" {
			change(t, s, `ANALYZE`)
		}
		id, run := "mid-"+statistics, "run-1"
		serials := map[string]string{"none": "a", "fresh": "b"}[statistics]
		create(t, s, id, mobileid.Active, oneOfEach(serials)...)
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"MobileID", func() error {
				_, err := watched.MobileID(t.Context(), id)
				return err
			}},
			{"Lock", func() error {
				_, err := watched.Lock(t.Context(), order(id, run))
				return err
			}},
			{"RecordRevocations", func() error {
				_, err := watched.RecordRevocations(t.Context(), revocation(id, run, revoked(serials+"1"), revoked(serials+"2")))
				return err
			}},
			{"Record", func() error {
				_, err := watched.Record(t.Context(), refusal(id, run))
				return err
			}},
			{"Owned", func() error {
				_, err := watched.Owned(t.Context(), "anna", id)
				return err
			}},
			{"AuditNumbers", func() error {
				_, err := watched.AuditNumbers(t.Context(), []string{id, "other-1"})
				return err
			}},
		} {
			t.Run(step.name+", statistics "+statistics, func(t *testing.T) {
				sent.take()
				require.NoError(t, step.do())
				looked := 0
				for _, one := range sent.take() {
					if !explained.MatchString(one.query) {
						continue
					}
					looked++
					lines, err := collect(t.Context(), s.read, scanText, "EXPLAIN "+one.query, one.args...)
					require.NoError(t, err, one.query)
					require.NotRegexp(t, seqScan, strings.Join(lines, "\n"), one.query)
				}
				require.Positive(t, looked)
			})
		}
	}
	t.Run("a scan would be noticed", func(t *testing.T) {
		lines, err := collect(t.Context(), s.read, scanText, `EXPLAIN SELECT * FROM certificates WHERE serial = 'a1'`)
		require.NoError(t, err)
		require.Regexp(t, seqScan, strings.Join(lines, "\n"))
	})
}
