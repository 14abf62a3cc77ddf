package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"mobileid"
	"mobileid/activities/ca"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// length counts the events of a closed lock.
//
// A worker that has not taken its task in time costs more events, whatever the process is
// like: these tasks are left out.
func (i *installation) length(id string) int {
	i.t.Helper()
	events := 0
	iterator := i.temporal.GetWorkflowHistory(i.t.Context(), workflows.LockWorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(i.t, err)
		events++
		if late := event.GetWorkflowTaskTimedOutEventAttributes(); late != nil {
			events -= 2 // it, and that the task was scheduled
			if late.GetStartedEventId() > 0 {
				events--
			}
		}
	}
	return events
}

// scheduled reports whether a lock has scheduled an activity.
func (i *installation) scheduled(id, name string) bool {
	i.t.Helper()
	found := false
	iterator := i.temporal.GetWorkflowHistory(i.t.Context(), workflows.LockWorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(i.t, err)
		found = found || event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == name
	}
	return found
}

// The history budget: what a lock may cost the engine. The number of
// certificates does not count.
func TestHistoryBudget(t *testing.T) {
	for _, test := range []struct {
		name         string
		certificates int
		options      []option
		secondCA     bool
		confirmed    bool
		budget       int
	}{
		{name: "confirmed, 1 certificate", certificates: 1, confirmed: true, budget: 28},
		{name: "confirmed, 2 certificates", certificates: 2, confirmed: true, budget: 28},
		{name: "confirmed, 10 certificates", certificates: 10, confirmed: true, budget: 28},
		{name: "confirmed, 100 certificates", certificates: 100, confirmed: true, budget: 28},
		{name: "confirmed, without attributes", certificates: 1, confirmed: true, budget: 24, options: []option{withoutAttributes}},
		{name: "confirmed, 100 certificates, without attributes", certificates: 100, confirmed: true, budget: 24, options: []option{withoutAttributes}},
		{name: "confirmed, two CAs", certificates: 2, secondCA: true, confirmed: true, budget: 28 + 12},
		{name: "confirmed, two CAs, without attributes", certificates: 2, secondCA: true, confirmed: true, budget: 24 + 12, options: []option{withoutAttributes}},
		{name: "wait and update, two CAs", certificates: 2, secondCA: true, budget: 36 + 12},
		{name: "wait and update, without attributes", certificates: 2, budget: 32, options: []option{withoutAttributes}},
		{name: "wait and update, 1 certificate", certificates: 1, budget: 36},
		{name: "wait and update, 100 certificates", certificates: 100, budget: 36},
		{name: "confirmed, with publishing", certificates: 1, confirmed: true, budget: 28 + 7, options: []option{withProofWait(time.Minute), withSlowCRL}},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := installStopped(t, test.options...)
			id := i.mobileID(test.certificates)
			var more []*ca.Authority
			if test.secondCA {
				second, authority, _ := i.secondCA()
				i.addCertificateOf(second, id)
				more = append(more, authority)
			}
			i.startWorker(more...)
			if test.confirmed {
				i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
			} else {
				i.start(id, object{"mobileId": id, "userId": "anna"})
				i.waitFor(id, inPhase(workflows.AwaitingConfirmation))
				_, err := i.anna().Next(t.Context(), id, starter.LockOptions{})
				require.NoError(t, err)
			}
			_, err := i.execution(id)
			require.NoError(t, err)
			i.requireLocked(id)
			length := i.length(id)
			t.Logf("%d events, budget %d", length, test.budget)
			require.LessOrEqual(t, length, test.budget)
			if test.certificates == 100 && test.confirmed {
				i.keep("many-certificates", id, "")
			}
		})
	}
}

// withSlowCRL has the CA publish a revocation only once Identity Manager knows of it,
// so that every lock waits for the publication.
func withSlowCRL(i *installation) {
	i.ca.PublishWhen(func() bool { return len(i.made) > 0 && i.allRevoked() })
}

// allRevoked reports that Identity Manager has every certificate as revoked.
func (i *installation) allRevoked() bool {
	for _, id := range i.made {
		m, err := i.store.MobileID(i.t.Context(), id)
		if err != nil {
			return false
		}
		for _, c := range m.Certificates {
			if c.State != mobileid.CertificateRevoked {
				return false
			}
		}
	}
	return true
}

// When the end states stand, whoever waits is answered; the process goes on
// until others can see them.
func TestPublishingWaitsUntilOthersSeeIt(t *testing.T) {
	i := install(t, withProofWait(time.Minute), withSlowCRL)
	id := i.mobileID(1)
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	status, err := i.anna().Wait(t.Context(), id, nil)
	require.NoError(t, err)
	require.True(t, status.Revoked)
	i.requireLocked(id)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.False(t, result.VisibleAt.IsZero())
	i.keep("publishing", id, "")
	require.Empty(t, result.Warning)
	sources := map[string]bool{}
	for _, p := range result.Certificates[0].Proof {
		sources[string(p.Source)] = true
	}
	require.Equal(t, map[string]bool{"ca": true, "ocsp": true, "crl": true}, sources)
	require.Contains(t, i.events(id), mobileid.EventVisible)
}
