package identitymanager

import (
	"testing"

	"github.com/stretchr/testify/require"
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
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", "locked", oneOfEach("a")...)
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
