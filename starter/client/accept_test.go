package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"mobileid/workflows"
)

// How long a message waits for a worker is a choice, and then it is stored.
func TestWithAcceptWait(t *testing.T) {
	for name, row := range map[string]struct {
		options []Option
		want    time.Duration
	}{
		"default": {nil, 3 * time.Second},
		"longer":  {[]Option{WithAcceptWait(time.Minute)}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				temporal := &mocks.Client{}
				temporal.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil,
					func(ctx context.Context, _ client.UpdateWorkflowOptions) error {
						<-ctx.Done() // no worker takes it
						return ctx.Err()
					})
				stored := 0
				temporal.On("SignalWorkflow", mock.Anything, mock.Anything, "", workflows.Cancel, mock.Anything).Return(
					func(context.Context, string, string, string, any) error {
						stored++
						return nil
					})
				began := time.Now()
				_, err := New(temporal, "queue", row.options...).User("anna").Cancel(t.Context(), "mid-1", LockOptions{})
				require.ErrorIs(t, err, ErrNoWorker)
				require.Equal(t, row.want, time.Since(began))
				require.Equal(t, 1, stored)

				began = time.Now()
				status, err := NewGets(temporal, "queue", workflows.GetWorkflowID, row.options...).User("anna", "").Cancel(t.Context())
				require.NoError(t, err)
				require.True(t, status.Stored)
				require.Equal(t, row.want, time.Since(began))
				require.Equal(t, 2, stored)
			})
		})
	}
}
