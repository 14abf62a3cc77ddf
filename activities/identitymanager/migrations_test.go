package identitymanager

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestMigrateIsIdempotent(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		before := dump(t, s)
		require.NotEmpty(t, before["users"])
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.CheckSchema(t.Context()))
		require.Equal(t, before, dump(t, s))
	})
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		stores := make([]*Store, 5)
		for i := range stores {
			stores[i] = db.open(t)
		}
		together(t, len(stores), func(i int) error { return stores[i].Migrate(t.Context()) })
		for _, s := range stores {
			require.NoError(t, s.CheckSchema(t.Context()))
		}
		provider, err := stores[0].migrationProvider()
		require.NoError(t, err)
		var applied int
		require.NoError(t, stores[0].read.QueryRowContext(t.Context(),
			"SELECT count(*) FROM "+schemaTable+" WHERE version_id > 0").Scan(&applied))
		require.Len(t, provider.ListSources(), applied, "each migration once")
	})
}

func TestCheckSchema(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		s := db.open(t)
		err := s.CheckSchema(t.Context())
		var schema *SchemaError
		require.ErrorAs(t, err, &schema)
		require.Zero(t, schema.Have)
		require.ErrorContains(t, err, "missing; run: starter setup")
		// Looking has not made anything.
		version, err := s.schemaVersion(t.Context())
		require.NoError(t, err)
		require.Zero(t, version)

		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.CheckSchema(t.Context()))

		_, err = s.write.ExecContext(t.Context(), "INSERT INTO "+schemaTable+" (version_id, is_applied) VALUES (99, true)")
		require.NoError(t, err)
		require.NoError(t, s.CheckSchema(t.Context()), "a newer schema serves an older program")
	})
}

func TestSchemaErrorSaysWhatToDo(t *testing.T) {
	require.EqualError(t, &SchemaError{Have: 1, Want: 3},
		"the schema of Identity Manager is version 1 and this program needs 3; run: starter setup")
}

// What the store never does is refused by the database as well.
func TestDatabaseRefuses(t *testing.T) {
	tests := map[string]string{
		"audit changed":                  `UPDATE audit SET record = '{}'`,
		"audit removed":                  `DELETE FROM audit`,
		"unlocked":                       `UPDATE mobile_ids SET state = 'active', locked_at = NULL`,
		"locked without a time":          `UPDATE mobile_ids SET locked_at = NULL`,
		"mobile ID in no known state":    `INSERT INTO mobile_ids (id, owner, name, state, created_at) VALUES ('x', 'anna', '', 'lost', '2031-01-01T00:00:00.000000Z')`,
		"mobile ID of nobody":            `INSERT INTO mobile_ids (id, owner, name, state, created_at) VALUES ('x', 'nobody', '', 'active', '2031-01-01T00:00:00.000000Z')`,
		"revoked certificate made valid": `UPDATE certificates SET state = 'valid' WHERE state = 'revoked'`,
		"expired certificate revoked":    `UPDATE certificates SET state = 'revoked' WHERE state = 'expired'`,
		"certificate in no known state":  `UPDATE certificates SET state = 'good' WHERE state = 'valid'`,
		"owner removed":                  `DELETE FROM users WHERE id = 'anna'`,
		"grant of nobody":                `INSERT INTO grants (mobile_id, user_id, granted_by, created_at, expires_at) VALUES ('x', 'nobody', 'x', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z')`,
		"grant by nobody":                `INSERT INTO grants (mobile_id, user_id, granted_by, created_at, expires_at) VALUES ('x', 'otto', '', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z')`,
		"grant used by nobody":           `UPDATE grants SET used_at = created_at WHERE user_id = 'otto'`,
		"secrets of no mobile ID":        `INSERT INTO provisionings (mobile_id, user_id, workflow_id, command_id, nonce, uri, expires_at, created_at) VALUES ('x', 'otto', 'x', 'x', 'x', 'x', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z')`,
		"command of no known kind":       `INSERT INTO messages (command_id, mobile_id, workflow_id, kind, expires_at) VALUES ('x', 'mid-1', 'x', 'other', '2031-01-01T00:00:00.000000Z')`,
		"notice of no known kind":        `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem) VALUES ('x', 'other', 'x', '', '', 'pending', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z', 0, '')`,
		"mail that is sent and kept":     `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem, ended_at) VALUES ('x', 'getQR', 'x', 'x', '', 'sent', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z', 1, '', '2031-01-01T00:00:00.000000Z')`,
		"mail that is sent without time": `INSERT INTO outbox (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, problem) VALUES ('x', 'getQR', 'x', '', '', 'sent', '2031-01-01T00:00:00.000000Z', '2031-01-01T00:00:00.000000Z', 1, '')`,
		"command of no mobile ID":        `INSERT INTO messages (command_id, mobile_id, workflow_id, kind, expires_at) VALUES ('x', 'x', 'x', 'provision', '2031-01-01T00:00:00.000000Z')`,
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", "locked", oneOfEach("a")...)
		grant(t, s, "otto")
		before := dump(t, s)
		for name, statement := range tests {
			t.Run(name, func(t *testing.T) {
				_, err := s.write.ExecContext(t.Context(), statement)
				require.Error(t, err)
				require.Equal(t, before, dump(t, s))
			})
		}
	})
}

// While a new version is rolled out, the version before works on the new schema,
// and what stands from before works with the new version.
func TestMigrationKeepsWhatStands(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		s := db.open(t)
		provider, err := s.migrationProvider()
		require.NoError(t, err)
		_, err = provider.UpTo(t.Context(), 1)
		require.NoError(t, err)
		// As the version before wrote a user and their mobile ID.
		change(t, s, `INSERT INTO users (id, name, email, active, created_at) VALUES ('anna', 'Anna', 'anna@example.com', '1', '2031-01-01T00:00:00.000000Z');
			INSERT INTO user_roles (user_id, role) VALUES ('anna', 'BaseRoleSelfServiceUser')`)
		create(t, s, "mid-1", mobileid.Active, certificate("a1", mobileid.CertificateRevoked))
		var schema *SchemaError
		require.ErrorAs(t, s.CheckSchema(t.Context()), &schema)
		require.Equal(t, int64(1), schema.Have)
		_, err = provider.UpTo(t.Context(), schema.Want-1)
		require.NoError(t, err)
		_, err = s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err, "it needs nothing of the newest schema")

		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.CheckSchema(t.Context()))
		verify(t, s, "mid-1", mobileid.EventLocked)
		a, err := s.Applicant(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, []string{"anna@example.com"}, a.Emails)
		require.Empty(t, a.Live())
		register(t, s, "anna")
	})
}
