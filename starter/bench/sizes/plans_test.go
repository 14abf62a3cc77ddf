package sizes

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadPlans(t *testing.T) {
	const log = `2026-01-02 03:04:05.678 UTC [1] LOG:  database system is ready to accept connections
2026-01-02 03:04:05.678 UTC [2] LOG:  duration: 0.012 ms  plan:
	Query Text: SELECT number
			FROM audit_heads WHERE mobile_id = $1
	Index Scan using audit_heads_pkey on audit_heads  (cost=0.42..8.44 rows=1 width=8)
	  Index Cond: (mobile_id = 'mid-1'::text)
2026-01-02 03:04:05.678 UTC [2] LOG:  duration: 0.012 ms  plan:
	Query Text: SELECT number
			FROM audit_heads WHERE mobile_id = $1
	Index Scan using audit_heads_pkey on audit_heads  (cost=0.42..8.44 rows=1 width=8)
2026-01-02 03:04:05.678 UTC [2] LOG:  duration: 9.012 ms  plan:
	Query Text: UPDATE mobile_ids SET state = 'locked'
	Update on mobile_ids  (cost=0.00..9.00 rows=0 width=0)
	  ->  Seq Scan on mobile_ids  (cost=0.00..9.00 rows=9 width=9)
2026-01-02 03:04:05.678 UTC [2] ERROR:  deadlock detected
`
	plans, err := ReadPlans(strings.NewReader(log))
	require.NoError(t, err)
	require.Equal(t, []Plan{
		{Statement: "SELECT number FROM audit_heads WHERE mobile_id = $1", Plan: []string{
			"Index Scan using audit_heads_pkey on audit_heads  (cost=0.42..8.44 rows=1 width=8)",
			"  Index Cond: (mobile_id = 'mid-1'::text)",
		}},
		{Statement: "UPDATE mobile_ids SET state = 'locked'", Scanned: []string{"mobile_ids"}, Plan: []string{
			"Update on mobile_ids  (cost=0.00..9.00 rows=0 width=0)",
			"  ->  Seq Scan on mobile_ids  (cost=0.00..9.00 rows=9 width=9)",
		}},
	}, plans)
}
