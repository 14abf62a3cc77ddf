package identitymanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// idsPerStatement is how many ids one statement asks for.
const idsPerStatement = 500

// AuditNumbers returns the number of the last audit record of each mobile ID, 0 where
// there is none.
func (s *Store) AuditNumbers(ctx context.Context, mobileIDs []string) (map[string]int64, error) {
	numbers := make(map[string]int64, len(mobileIDs))
	for some := range slices.Chunk(mobileIDs, idsPerStatement) {
		args := make([]any, len(some))
		places := make([]string, len(some))
		for i, id := range some {
			numbers[id], args[i], places[i] = 0, id, "$"+strconv.Itoa(i+1)
		}
		query := `SELECT mobile_id, number FROM audit_heads WHERE mobile_id IN (` + strings.Join(places, ", ") + `)`
		_, err := collect(ctx, s.read, func(rows *sql.Rows) (struct{}, error) {
			var id string
			var number int64
			err := rows.Scan(&id, &number)
			numbers[id] = number
			return struct{}{}, err
		}, query, args...)
		if err != nil {
			return nil, fmt.Errorf("read numbers of audit records: %w", err)
		}
	}
	return numbers, nil
}
