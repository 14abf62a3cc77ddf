package workflows_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/temporalproto"
	"google.golang.org/protobuf/proto"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

const replayFolder = "testdata/replay"

// paths are the ways that a lock can take. Each has a recorded history.
var paths = []string{
	"next-by-update", "next-by-signal", "confirmed", "update-with-start", "cancel", "expired", "refused",
	"cancellation-before-next", "cancellation-after-next", "ca-retries", "needs-operator-and-retry", "on-hold",
	"expired-certificate", "two-cas", "many-certificates", "resume", "continue-as-new-first", "continue-as-new-second", "publishing",
	"then-get", "set-back-while-revoking", "set-back-while-publishing", "set-back-to-the-lock", "approval",
}

// Every recorded history replays with the code as it is now. If one does not,
// a process that is open when this code is deployed would be blocked: gate the
// change with workflow.GetVersion, or keep the old order of commands.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(replayFolder, "*.json"))
	require.NoError(t, err)
	recorded := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		recorded[strings.SplitN(name, ".", 2)[0]] = true
		t.Run(name, func(t *testing.T) {
			text, err := os.Open(file)
			require.NoError(t, err)
			defer func() { require.NoError(t, text.Close()) }()
			history, err := client.HistoryFromJSON(text, client.HistoryJSONOptions{})
			require.NoError(t, err)
			started := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()

			replayer := sdkworker.NewWorkflowReplayer()
			workflows.Register(replayer)
			require.NoError(t, replayer.ReplayWorkflowHistoryWithOptions(workflowtest.Quiet(), history, sdkworker.ReplayWorkflowHistoryOptions{
				// A process looks at its own id.
				OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
			}))
		})
	}
	want := slices.Clone(paths)
	for _, path := range getPaths() {
		want = append(want, path.name)
	}
	for _, path := range want {
		require.True(t, recorded[path], "no history of the path %q: run 'make record-histories'", path)
	}
}

// The histories are in the repository for good: they hold nothing of the machine that
// recorded them, and nothing secret.
func TestRecordedHistoriesHoldNothingPrivate(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(replayFolder, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.Open(file)
		require.NoError(t, err)
		history, err := client.HistoryFromJSON(text, client.HistoryJSONOptions{})
		require.NoError(t, errors.Join(err, text.Close()))
		wire, err := proto.Marshal(history) // where payloads stand as they are
		require.NoError(t, err)
		for what, word := range map[string]string{
			"a path": "/tmp/", "a home": "/home/", "a home of root": "/root/", "a Go file": ".go:", "the host's name": host + "@",
			"a key": "PRIVATE KEY", "the content of a QR code": "plugout:", "an address where a phone asks": "/rest/ms/", "a nonce": `"nonce"`,
		} {
			require.False(t, bytes.Contains(wire, []byte(word)), "%s is in %s", what, file)
		}
	}
}

// keep records the history of a lock as that of a path, when asked to:
//
//	make record-histories
//
// It adds to what is there and replaces nothing: histories of earlier states of
// the code are what protects the locks that are open today.
func (i *installation) keep(path, id, runID string) {
	i.t.Helper()
	require.Contains(i.t, paths, path)
	i.keepHistory(path, workflows.LockWorkflowID(id), runID)
}

// keepHistory is keep for any process.
func (i *installation) keepHistory(path, workflowID, runID string) {
	i.t.Helper()
	version := os.Getenv("RECORD_HISTORIES")
	if version == "" {
		return
	}
	file := filepath.Join(replayFolder, path+"."+version+".json")
	if _, err := os.Stat(file); err == nil {
		return
	}
	var history historypb.History
	request := &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: client.DefaultNamespace,
		Execution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
	}
	for {
		page, err := i.temporal.WorkflowService().GetWorkflowExecutionHistory(i.t.Context(), request)
		require.NoError(i.t, err)
		proto.Merge(&history, page.GetHistory())
		if len(page.GetNextPageToken()) == 0 {
			break
		}
		request.NextPageToken = page.GetNextPageToken()
	}
	text, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(&history)
	require.NoError(i.t, err)
	require.NoError(i.t, os.MkdirAll(replayFolder, 0o755))
	require.NoError(i.t, os.WriteFile(file, text, 0o644))
}
