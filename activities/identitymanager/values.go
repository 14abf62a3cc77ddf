package identitymanager

import (
	"fmt"
	"strings"
)

// maxRowsPerStatement keeps a statement for many rows far below the number of
// arguments that the databases allow (32766 and 65535).
const maxRowsPerStatement = 500

// values collects the rows of a VALUES list. Its text holds placeholders alone,
// so that it can be joined with a statement.
type values struct {
	text strings.Builder
	args []any
}

// add adds a row.
func (v *values) add(row ...any) {
	for i, arg := range row {
		switch {
		case i > 0:
			v.text.WriteString(", ")
		case len(v.args) > 0:
			v.text.WriteString("), (")
		default:
			v.text.WriteString("VALUES (")
		}
		v.args = append(v.args, arg)
		fmt.Fprintf(&v.text, "$%d", len(v.args))
	}
}

// String is the list.
func (v *values) String() string { return v.text.String() + ")" }
