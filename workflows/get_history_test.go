package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid/activities"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/phone"
	"mobileid/workflows"
)

// What a Get may cost the engine, in events. The number of certificates does not
// count, whether of the new mobile ID or of an old one; nor do failed tries. An answer
// of a phone that comes in a task of its own costs three events more than one that
// finds a task waiting: these are the most.
const (
	budgetGet           = 80 // with the wait for Next and an update
	budgetGetConfirmed  = 72 // Next was pressed on the caller's page
	budgetGetLock       = 21 // more, to have an old one locked first
	budgetGetRetry      = 11 // more, for each retry
	budgetGetAttributes = 7  // less, without search attributes
)

// eventTypes counts the events of a Get by their type.
func (g *getInstallation) eventTypes() (total int, types map[enumspb.EventType]int) {
	g.t.Helper()
	types = map[enumspb.EventType]int{}
	iterator := g.temporal.GetWorkflowHistory(g.t.Context(), g.workflowID(), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(g.t, err)
		types[event.GetEventType()]++
		total++
	}
	return total, types
}

// The history budget of Get.
func TestGetHistoryBudget(t *testing.T) {
	threeKeys := func(g *getInstallation) {
		g.get.Keys = append(g.get.Keys, activities.KeySetting{ID: "encryption", Usage: messaging.Encryption, Procedure: "encryption"})
	}
	for _, test := range []struct {
		name    string
		options []getOption
		play    func(g *getInstallation)
		budget  int
	}{
		{name: "direct", play: wellBehaved, budget: budgetGet},
		{name: "direct, 3 certificates", options: []getOption{threeKeys}, play: wellBehaved, budget: budgetGet},
		{
			name: "direct, without attributes", options: []getOption{func(g *getInstallation) { withoutAttributes(g.installation) }},
			play: wellBehaved, budget: budgetGet - budgetGetAttributes,
		},
		{name: "confirmed", budget: budgetGetConfirmed, play: func(g *getInstallation) {
			g.grant()
			g.beginWith(object{"userId": g.userID, "confirmed": true})
			g.scan(phone.WellBehaved)
		}},
		{name: "with the lock of an old one", budget: budgetGet + budgetGetLock, play: func(g *getInstallation) {
			g.old()
			g.begin()
			_, err := g.applicant().LockFirst(g.t.Context())
			require.NoError(g.t, err)
			g.next()
			g.scan(phone.WellBehaved)
		}},
		{name: "messaging down for a while, and a retry", budget: budgetGet - 1 + budgetGetRetry, play: func(g *getInstallation) {
			g.silence()
			g.begin()
			g.signal(workflows.Next) // one event less than an update
			g.pending(activities.ProvisionName, 4)
			g.startMessaging()
			g.retry()
			g.scan(phone.WellBehaved)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := installGet(t, test.options...)
			test.play(g)
			result, err := g.end()
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeActive, result.Outcome)
			total, types := g.eventTypes()
			t.Logf("%d events, budget %d: %v", total, test.budget, types)
			require.LessOrEqual(t, total, test.budget)
		})
	}
}
