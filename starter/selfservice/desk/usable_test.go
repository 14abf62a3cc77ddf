package desk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
)

func TestUsableAt(t *testing.T) {
	at := time.Date(2026, time.March, 2, 12, 0, 0, 0, time.UTC)
	before, after := at.Add(-time.Hour), at.Add(time.Hour)
	record := func(event mobileid.Event, at time.Time) identitymanager.AuditRecord {
		return identitymanager.AuditRecord{Record: mobileid.Record{Event: event, At: at}}
	}
	for name, row := range map[string]struct {
		state    mobileid.State
		lockedAt time.Time
		trail    []identitymanager.AuditRecord
		usable   bool
	}{
		"imported":                 {mobileid.Active, time.Time{}, nil, true},
		"inactive now":             {mobileid.Inactive, time.Time{}, nil, true},
		"locked before":            {mobileid.Locked, before, nil, false},
		"locked since":             {mobileid.Locked, after, nil, true},
		"got before":               {mobileid.Active, time.Time{}, []identitymanager.AuditRecord{record(mobileid.EventRegistered, before), record(mobileid.EventActivated, before)}, true},
		"got since":                {mobileid.Active, time.Time{}, []identitymanager.AuditRecord{record(mobileid.EventRegistered, before), record(mobileid.EventActivated, after)}, false},
		"got and locked since":     {mobileid.Locked, after, []identitymanager.AuditRecord{record(mobileid.EventActivated, after)}, false},
		"being made":               {mobileid.Registered, time.Time{}, []identitymanager.AuditRecord{record(mobileid.EventRegistered, before)}, false},
		"did not come into being":  {mobileid.Locked, after, []identitymanager.AuditRecord{record(mobileid.EventRegistered, before), record(mobileid.EventAbandoned, after)}, false},
		"what is told of the lock": {mobileid.Active, time.Time{}, []identitymanager.AuditRecord{record(mobileid.EventCancelled, after)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			owned := identitymanager.Owned{MobileID: mobileid.MobileID{State: row.state, LockedAt: row.lockedAt}, Trail: row.trail}
			require.Equal(t, row.usable, usableAt(owned, at))
		})
	}
}
