package identitymanager

import (
	"fmt"
	"time"
)

// timestampLayout has a fixed width, so that SQLite, which keeps times as text,
// sorts them right. PostgreSQL reads it as a timestamptz.
const timestampLayout = "2006-01-02T15:04:05.000000Z"

// microseconds is t as both databases can keep it.
func microseconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// stored is the argument of a statement for t. The zero time is NULL.
func stored(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return microseconds(t).Format(timestampLayout)
}

// timestamp scans what stored has written. NULL is the zero time.
type timestamp struct{ to *time.Time }

// Scan implements sql.Scanner.
func (t timestamp) Scan(value any) error {
	switch value := value.(type) {
	case nil:
		*t.to = time.Time{}
	case time.Time:
		*t.to = value.UTC()
	case string:
		parsed, err := time.Parse(timestampLayout, value)
		if err != nil {
			return fmt.Errorf("read time: %w", err)
		}
		*t.to = parsed
	default:
		return fmt.Errorf("read time: the database returned a %T", value)
	}
	return nil
}
