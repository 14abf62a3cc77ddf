package browser

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/workflows"
)

// lookEvery is how often something is looked at that others do.
const lookEvery = 50 * time.Millisecond

// scraped are the metrics of the instance that runs as a program.
func scraped(t *testing.T, in *installation) {
	response, err := http.Get(in.url + "/sign-in") //nolint:noctx // a test
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	response, err = http.Get("http://" + in.Stack.MetricsAddress + "/metrics") //nolint:noctx // a test
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `mobileid_serve_request_seconds_count{class="2xx",route="/sign-in"} `)
	require.Contains(t, string(text), "mobileid_serve_streams_open ")
	require.Contains(t, string(text), "temporal_request")
}

// operatorLocks: the process is the operators' one, and the audit has who did it.
func operatorLocks(t *testing.T, in *installation, p *provider, url string) {
	require.NoError(t, in.Add(t.Context(), "nora", "Nora Nord", "mid-4201"))
	require.NoError(t, in.Add(t.Context(), "oda", "Oda Ost", "mid-4202"))
	olof := p.operator(t, "olof")
	operator := func(id, step, body string) (int, string) {
		t.Helper()
		return callAPI(t, url, olof, http.MethodPost, "/operator/mobile-ids/"+id+"/lock"+step, body, "Idempotency-Key", "once")
	}
	code, text := operator("mid-4201", "", `{"owner": "oda"}`)
	require.Equal(t, http.StatusNotFound, code, text)
	code, text = operator("mid-4201", "/next", `{"owner": "nora"}`)
	require.Equal(t, http.StatusConflict, code, text)
	require.Contains(t, text, "urn:mobileid:problem:NoLock")
	code, text = operator("mid-4201", "", `{"owner": "nora"}`)
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"stage":"waiting"`)
	in.requireState(t, "mid-4201", mobileid.Active, 2)
	execution, err := in.Temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID("mid-4201"), "")
	require.NoError(t, err)
	require.Equal(t, workflows.LockForOperator, execution.GetWorkflowExecutionInfo().GetType().GetName())
	code, text = operator("mid-4201", "/next", `{"owner": "nora", "reason": "keyCompromise"}`)
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, code, text)
	// The owner sees it, too, and so does the operator.
	code, text = callAPI(t, url, p.token(t, "nora"), http.MethodGet, "/mobile-ids/mid-4201/lock/events", "")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, "event: over")
	require.Eventually(t, func() bool {
		code, text = callAPI(t, url, olof, http.MethodGet, "/operator/mobile-ids/mid-4201/lock", "")
		return strings.Contains(text, `"stage":"visible"`)
	}, patience, lookEvery)
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"owner":"nora"`)
	code, text = operator("mid-4201", "/cancel", `{"owner": "nora"}`)
	require.Equal(t, http.StatusConflict, code, text)
	require.Contains(t, text, "urn:mobileid:problem:AlreadyConfirmed")
	code, text = operator("mid-4201", "/retry", `{"owner": "nora"}`)
	require.Equal(t, http.StatusOK, code, text)
	in.requireState(t, "mid-4201", mobileid.Locked, 0)
	trail, err := in.Store.AuditTrail(t.Context(), "mid-4201")
	require.NoError(t, err)
	locked := slices.IndexFunc(trail, func(e identitymanager.AuditRecord) bool { return e.Record.Event == mobileid.EventLocked })
	require.GreaterOrEqual(t, locked, 0, trail)
	require.Equal(t, mobileid.Decision{By: "olof"}, trail[locked].Record.Decision)

	// A second operator joins the owner's process.
	code, text = callAPI(t, url, p.token(t, "oda"), http.MethodPost, "/mobile-ids/mid-4202/lock", "")
	require.Equal(t, http.StatusOK, code, text)
	code, text = operator("mid-4202", "", `{"owner": "oda", "confirmed": true}`)
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, code, text)
	execution, err = in.Temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID("mid-4202"), "")
	require.NoError(t, err)
	require.Equal(t, workflows.Lock, execution.GetWorkflowExecutionInfo().GetType().GetName())
	require.Eventually(t, func() bool {
		trail, err := in.Store.AuditTrail(t.Context(), "mid-4202")
		for _, entry := range trail {
			if entry.Record.Event == mobileid.EventLocked {
				return entry.Record.Decision.By == "olof"
			}
		}
		require.NoError(t, err)
		return false
	}, patience, lookEvery)
}

// getByAPI is Get with a lock before, by the API alone.
func getByAPI(t *testing.T, in *installation, p *provider, url string) {
	require.NoError(t, in.Add(t.Context(), "pia", "Pia Park", "mid-4203"))
	pia, other := p.token(t, "pia"), p.token(t, "oda")
	type status struct {
		Phase, Live, MobileID, Outcome, Failure string
		CanCancel, Finished                     bool
		Code                                    *struct{ Until string }
	}
	steer := func(want int, step, body string) (read status) {
		t.Helper()
		code, text := callAPI(t, url, pia, http.MethodPost, "/get"+step, body)
		require.Equal(t, want, code, text)
		if code == http.StatusOK {
			require.NoError(t, json.Unmarshal([]byte(text), &read))
		}
		return read
	}
	look := func() (read status) {
		t.Helper()
		code, text := callAPI(t, url, pia, http.MethodGet, "/get", "")
		require.Equal(t, http.StatusOK, code, text)
		require.NoError(t, json.Unmarshal([]byte(text), &read))
		return read
	}
	until := func(phase workflows.Phase) {
		t.Helper()
		require.Eventually(t, func() bool { return look().Phase == string(phase) }, patience, lookEvery)
	}
	require.Equal(t, "none", look().Phase)
	steer(http.StatusConflict, "/next", "")
	steer(http.StatusConflict, "/lock", "")
	require.Equal(t, "mid-4203", steer(http.StatusOK, "", "").Live)
	steer(http.StatusConflict, "/next", "")
	steer(http.StatusConflict, "", `{"confirmed": true}`)
	in.requireState(t, "mid-4203", mobileid.Active, 2)
	require.Equal(t, string(workflows.Closed), steer(http.StatusOK, "/cancel", "").Phase)
	in.requireState(t, "mid-4203", mobileid.Active, 2)

	steer(http.StatusOK, "", "")
	steer(http.StatusOK, "/lock", "")
	code, text := callAPI(t, url, pia, http.MethodPost, "/get/next", "")
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, code, text)
	until(workflows.AwaitingPhone)
	in.requireState(t, "mid-4203", mobileid.Locked, 0)
	code, text = callAPI(t, url, pia, http.MethodPost, "/get/retry", "")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"retried":false`)

	// The code is its owner's alone.
	code, text = callAPI(t, url, pia, http.MethodGet, "/get/code", "")
	require.Equal(t, http.StatusOK, code, text)
	var scannable struct{ URI string }
	require.NoError(t, json.Unmarshal([]byte(text), &scannable))
	code, text = callAPI(t, url, pia, http.MethodGet, "/get/code.png", "")
	require.Equal(t, http.StatusOK, code)
	require.True(t, strings.HasPrefix(text, "\x89PNG"))
	for _, token := range []string{other, p.operator(t, "olof")} {
		for _, path := range []string{"/get/code", "/get/code.png"} {
			code, text = callAPI(t, url, token, http.MethodGet, path, "")
			require.Contains(t, []int{http.StatusNotFound, http.StatusForbidden}, code)
			require.NotContains(t, text, scannable.URI)
		}
	}
	scanned := make(chan error, 1)
	go func() {
		_, err := in.Scan(t.Context(), scannable.URI)
		scanned <- err
	}()
	code, text = callAPI(t, url, pia, http.MethodGet, "/get/events", "")
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, <-scanned)
	require.Contains(t, text, "event: over")
	require.Contains(t, text, `"outcome":"active"`)
	require.NotContains(t, text, scannable.URI)
	in.requireState(t, look().MobileID, mobileid.Active, 2)
	code, _ = callAPI(t, url, pia, http.MethodGet, "/get/code", "")
	require.Equal(t, http.StatusNotFound, code)
}
