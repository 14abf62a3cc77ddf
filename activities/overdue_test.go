package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"mobileid"
)

// list is Temporal with locks alone, which it lists the newest first, a thousand at once.
type list struct {
	client.Client
	requestedAt []time.Time
}

func (l *list) ListWorkflow(_ context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	const page = 1000
	var before, after string
	if n, err := fmt.Sscanf(request.GetQuery(), "open AND at < %s AND at >= %s", &before, &after); n == 0 {
		return nil, err
	}
	var found []time.Time
	for _, at := range l.requestedAt {
		if text := "'" + at.UTC().Format(time.RFC3339Nano) + "'"; text < before && text >= after {
			found = append(found, at)
		}
	}
	slices.SortFunc(found, func(a, b time.Time) int { return b.Compare(a) })
	begin, _ := strconv.Atoi(string(request.GetNextPageToken()))
	answer := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, at := range found[begin:min(begin+page, len(found))] {
		payload, err := converter.GetDefaultDataConverter().ToPayload(at)
		if err != nil {
			return nil, err
		}
		answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution:        &commonpb.WorkflowExecution{WorkflowId: "lock/" + at.Format(time.RFC3339Nano)},
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"at": payload}},
		})
	}
	if begin+page < len(found) {
		answer.NextPageToken = []byte(strconv.Itoa(begin + page))
	}
	return answer, nil
}

func (*list) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	return nil, errors.New("no worker")
}

func (*list) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{}, nil
}

// teller remembers of what it has told, as the store does.
type teller struct {
	told map[time.Duration]map[string]bool
}

func (t *teller) UntoldOverdue(_ context.Context, threshold time.Duration, locks []mobileid.OverdueLock) ([]mobileid.OverdueLock, error) {
	return slices.DeleteFunc(slices.Clone(locks), func(l mobileid.OverdueLock) bool { return t.told[threshold][l.MobileID] }), nil
}

func (t *teller) WarnOverdue(_ context.Context, order mobileid.OverdueOrder) (int, error) {
	for _, threshold := range order.Thresholds {
		if t.told[threshold] == nil {
			t.told[threshold] = map[string]bool{}
		}
		for _, l := range order.Locks {
			t.told[threshold][l.MobileID] = true
		}
	}
	return len(order.Locks), nil
}

// After an outage locks are overdue by the thousands. The oldest are told of first, and
// look by look all of them.
func TestOverdueLocksByTheThousands(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	temporal := &list{}
	for i := range 13_000 {
		temporal.requestedAt = append(temporal.requestedAt, now.Add(-time.Hour-time.Duration(i)*time.Millisecond))
	}
	temporal.requestedAt = append(temporal.requestedAt, now.Add(-25*time.Hour), now.Add(-30*time.Hour), now.Add(-time.Minute))
	steps := []time.Duration{15 * time.Minute, 24 * time.Hour}
	known := &teller{told: map[time.Duration]map[string]bool{}}
	look := overdueLook{WarnOverdueInput: WarnOverdueInput{Query: "open", RequestedAt: "at", LockPrefix: "lock/"}, temporal: temporal, teller: known}
	for _, want := range []WarnOverdueResult{
		{Told: map[string]int{"15m0s": 5000, "24h0m0s": 2}},
		{Told: map[string]int{"15m0s": 5000, "24h0m0s": 0}},
		{Told: map[string]int{"15m0s": 3000, "24h0m0s": 0}},
		{Told: map[string]int{"15m0s": 0, "24h0m0s": 0}},
	} {
		want.Overdue = map[string]int{"15m0s": 13_000, "24h0m0s": 2}
		result, err := look.all(t.Context(), now, steps)
		require.NoError(t, err)
		require.Equal(t, want, *result)
	}
	require.Len(t, known.told[steps[0]], 13_002, "who passed a day has passed a quarter of an hour")
	require.Len(t, known.told[steps[1]], 2)
}
