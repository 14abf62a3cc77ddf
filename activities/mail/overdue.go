package mail

import (
	"fmt"
	"strings"
	"time"

	"mobileid"
)

// LockOverdue is sent to operators when locks are longer under way than a threshold. It
// names mobile IDs, and no person.
type LockOverdue struct {
	Threshold time.Duration
	SeenAt    time.Time
	Locks     []mobileid.OverdueLock
	More      int // beside those that are listed
}

// Kind implements [Letter].
func (LockOverdue) Kind() Kind { return KindLockOverdue }

func (l LockOverdue) ready() (Letter, error) {
	op := "write " + string(l.Kind())
	if l.Threshold <= 0 {
		return nil, invalid(op, "threshold", "is missing")
	}
	if l.SeenAt.IsZero() {
		return nil, invalid(op, "seen at", "is missing")
	}
	if len(l.Locks) == 0 {
		return nil, invalid(op, "locks", "are missing")
	}
	locks := make([]mobileid.OverdueLock, len(l.Locks))
	for i, lock := range l.Locks {
		lock.MobileID, lock.Phase, lock.Why = plain(lock.MobileID), plain(lock.Phase), plain(lock.Why)
		locks[i] = lock
	}
	l.Locks = locks
	return l, nil
}

// UserName is empty: operators are greeted without a name.
func (LockOverdue) UserName() string { return "" }

// Reference is empty: there are many processes.
func (LockOverdue) Reference() string { return "" }

// Count is how many locks the letter is about.
func (l LockOverdue) Count() int { return len(l.Locks) + l.More }

// Limit is the threshold as people say it.
func (l LockOverdue) Limit() string {
	switch {
	case l.Threshold == time.Hour:
		return "1 hour"
	case l.Threshold%time.Hour == 0:
		return fmt.Sprintf("%d hours", l.Threshold/time.Hour)
	case l.Threshold == time.Minute:
		return "1 minute"
	case l.Threshold%time.Minute == 0:
		return fmt.Sprintf("%d minutes", l.Threshold/time.Minute)
	}
	return l.Threshold.String()
}

// Step is the threshold as commands take it.
func (l LockOverdue) Step() string {
	text := strings.TrimSuffix(l.Threshold.String(), "0s")
	if strings.HasSuffix(text, "h0m") {
		return strings.TrimSuffix(text, "0m")
	}
	if text == "" || strings.HasSuffix(text, "m") || strings.HasSuffix(text, "h") {
		return text
	}
	return l.Threshold.String()
}

// Waiting reports whether one of the locks that are listed waits for an operator.
func (l LockOverdue) Waiting() bool {
	for _, lock := range l.Locks {
		if lock.NeedsOperator {
			return true
		}
	}
	return false
}
