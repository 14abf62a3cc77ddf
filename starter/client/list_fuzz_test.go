package client

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/workflows"
)

// Whatever an owner is called, the filter holds it as one value, and nothing that was
// in it steers the filter.
func FuzzQuery(f *testing.F) {
	for _, user := range []string{"anna", "", "o'otto", `\`, `\'`, `' OR ''='`, "' OR ExecutionStatus = 'Running", "a\\' b", "\"", "\x00\xff", "å"} {
		f.Add(user, true, int64(time.Minute))
		f.Add(user, false, int64(-1))
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, user string, closed bool, overdue int64) {
		filter := ListFilter{Closed: closed, NeedsOperator: true, OverdueAfter: time.Duration(overdue), User: user}
		query := filter.Query(now)
		filter.User = ""
		without := filter.Query(now)
		if user == "" {
			require.Equal(t, without, query)
			return
		}
		rest, ok := strings.CutPrefix(query, without+" AND "+workflows.AttributeUser.GetName()+" = '")
		require.True(t, ok, "%s", query)
		// As the server reads a text: a backslash takes the next character as it is.
		var read strings.Builder
		for at := 0; at < len(rest); at++ {
			switch rest[at] {
			case '\\':
				at++
				require.Less(t, at, len(rest), "%s", query)
				read.WriteByte(rest[at])
			case '\'':
				require.Equal(t, len(rest)-1, at, "something follows the value: %s", query)
			default:
				read.WriteByte(rest[at])
			}
		}
		require.Equal(t, user, read.String())
		require.True(t, strings.HasSuffix(rest, "'"))
	})
}
