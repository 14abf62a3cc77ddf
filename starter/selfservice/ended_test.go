package selfservice

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"go.uber.org/zap"

	"mobileid"
	starter "mobileid/starter/client"
	"mobileid/starter/selfservice/desk"
	"mobileid/starter/selfservice/session"
	"mobileid/workflows"
)

// on is the same place with a Temporal that answers.
func (p *place) on(t *testing.T, temporal client.Client) *place {
	t.Helper()
	server, err := New(p.server.config, p.store, temporal, zap.NewNop(), Options{})
	require.NoError(t, err)
	there := &place{Server: httptest.NewServer(server.Handler()), server: server, store: p.store, logs: p.logs}
	t.Cleanup(there.Close)
	return there
}

// process is a Temporal with one process for every id, which is described and answers so.
func process(t *testing.T, how enumspb.WorkflowExecutionStatus, status any) *mocks.Client {
	t.Helper()
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(&workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{RunId: "run-1"}, Status: how, HistoryLength: 40},
	}, nil)
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(status)
	require.NoError(t, err)
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(client.NewValue(payloads), nil)
	return temporal
}

// noProcess is a Temporal that knows of none.
func noProcess() *mocks.Client {
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(nil, serviceerror.NewNotFound("none"))
	return temporal
}

// taking makes a Temporal take a lock with Next, and returns whose it was, once it did.
func taking(temporal *mocks.Client) (owners *[]string) {
	owners = &[]string{}
	temporal.On("NewWithStartWorkflowOperation", mock.Anything, mock.Anything, mock.Anything).Return(
		func(_ client.StartWorkflowOptions, _ any, args ...any) client.WithStartWorkflowOperation {
			request, _ := args[0].(workflows.LockRequest)
			*owners = append(*owners, request.UserID+" "+request.MobileID)
			return nil // it is handed on, and not looked at
		})
	handle := &mocks.WorkflowUpdateHandle{}
	handle.On("RunID").Return("run-2")
	handle.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		status, _ := args.Get(1).(*workflows.LockStatus)
		status.Phase, status.LockedAt = workflows.Revoking, time.Now()
	}).Return(nil)
	temporal.On("UpdateWithStartWorkflow", mock.Anything, mock.Anything).Return(handle, nil)
	return owners
}

func processOf(id string) mobileid.Process {
	return mobileid.Process{Name: workflows.Lock, WorkflowID: workflows.LockWorkflowID(id), RunID: "run-1"}
}

// lockInIM is what the first step of a lock does.
func (p *place) lockInIM(t *testing.T, user string) {
	t.Helper()
	p.lockFor(t, user, "")
}

// lockFor is lockInIM, with Next pressed by a request.
func (p *place) lockFor(t *testing.T, user, requestID string) {
	t.Helper()
	_, err := p.store.Lock(t.Context(), mobileid.LockOrder{
		MobileID: "mid-" + user, Owner: user, RequestID: requestID, Decision: mobileid.Decision{UserID: user}, RequestedAt: time.Now(), Reason: mobileid.Unspecified, Process: processOf("mid-" + user),
	})
	require.NoError(t, err)
}

// end records how the certificate of a user's mobile ID ended.
func (p *place) end(t *testing.T, user string, outcome mobileid.CertificateOutcome) {
	t.Helper()
	m, err := p.store.MobileID(t.Context(), "mid-"+user)
	require.NoError(t, err)
	result := mobileid.CertificateResult{
		CertificateID: m.Certificates[0].CertificateID, IssuerDN: m.Certificates[0].IssuerDN, NotAfter: m.Certificates[0].NotAfter, CA: "ca", Outcome: outcome,
		StatusAtCA: mobileid.StatusGood, Proof: []mobileid.Proof{{Source: mobileid.ProofFromCA, At: time.Now(), SHA256: strings.Repeat("ab", 32)}},
	}
	if outcome == mobileid.OutcomeRevoked {
		result.StatusAtCA, result.Reason, result.RevokedAt = mobileid.StatusRevoked, mobileid.Unspecified, time.Now()
	}
	_, err = p.store.RecordRevocations(t.Context(), mobileid.RevocationOrder{
		MobileID: m.ID, Process: processOf(m.ID), Decision: mobileid.Decision{UserID: user}, CA: "ca", Certificates: []mobileid.CertificateResult{result},
	})
	require.NoError(t, err)
}

func (p *place) progress(t *testing.T, temporal client.Client, user string) desk.Progress {
	t.Helper()
	d := &desk.Desk{Store: p.store, Locks: starter.New(temporal, "queue")}
	progress, err := d.Progress(t.Context(), user, "mid-"+user)
	require.NoError(t, err)
	return progress
}

var mainPart = regexp.MustCompile(`(?s)<main.*</main>`)

func (b *browser) mainOf(path string) string {
	b.t.Helper()
	response, body := b.get(path)
	require.Equal(b.t, http.StatusOK, response.StatusCode, body)
	return mainPart.FindString(body)
}

// A lock that somebody terminated before it had locked anything keeps nobody from locking.
func TestStoppedBeforeLocked(t *testing.T) {
	for _, how := range []enumspb.WorkflowExecutionStatus{
		enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
	} {
		t.Run(how.String(), func(t *testing.T) {
			status := workflows.LockStatus{Phase: workflows.Locking, LockResult: workflows.LockResult{RequestedAt: time.Now()}}
			temporal := process(t, how, status)
			owners := taking(temporal)
			p := newPlace(t).on(t, temporal)
			progress := p.progress(t, temporal, "anna")
			require.Equal(t, desk.StageStopped, progress.Stage)
			require.True(t, progress.Finished())

			b := p.signedIn(t, "anna")
			page := b.mainOf("/mobile-ids/mid-anna/progress")
			require.Contains(t, page, "Your mobile ID is not locked")
			require.NotContains(t, page, "goes on")
			require.NotContains(t, page, "data-events")
			require.Contains(t, page, `href="/mobile-ids/mid-anna/lock"`)
			require.Contains(t, b.mainOf("/mobile-ids/mid-anna"), `href="/mobile-ids/mid-anna/lock"`)
			response, _ := b.post("/mobile-ids/mid-anna/lock", url.Values{"form": {b.form("/mobile-ids/mid-anna/lock")}, "decision": {"next"}})
			require.Equal(t, http.StatusSeeOther, response.StatusCode)
			require.Equal(t, []string{"anna mid-anna"}, *owners)
		})
	}
}

// What is locked with a certificate that is not revoked, and nothing works on it, is not
// said to go on; its owner can have it go on.
func TestStoppedAfterLocked(t *testing.T) {
	revoking := workflows.LockStatus{Phase: workflows.NeedsOperator, LockResult: workflows.LockResult{RequestedAt: time.Now(), LockedAt: time.Now()}}
	for name, temporal := range map[string]*mocks.Client{
		"its history is gone": noProcess(),
		"terminated":          process(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, revoking),
		"an earlier one":      process(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, workflows.LockStatus{Phase: workflows.Closed, LockResult: workflows.LockResult{Outcome: workflows.OutcomeCancelled}}),
		"a refused one":       process(t, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, workflows.LockStatus{Phase: workflows.Closed, Refusal: mobileid.NotEntitled("no")}),
	} {
		t.Run(name, func(t *testing.T) {
			owners := taking(temporal)
			p := newPlace(t).on(t, temporal)
			p.lockInIM(t, "anna")
			progress := p.progress(t, temporal, "anna")
			require.Equal(t, desk.StageLocked, progress.Stage)
			require.True(t, progress.Idle)
			require.False(t, progress.NeedsHelp)
			require.False(t, progress.Finished(), "reconciliation may go on with it")

			b := p.signedIn(t, "anna")
			for _, path := range []string{"/mobile-ids/mid-anna", "/mobile-ids/mid-anna/progress", "/mobile-ids", "/", "/history"} {
				page := b.mainOf(path)
				require.NotContains(t, page, "being revoked", path)
				require.NotContains(t, page, "The lock goes on", path)
				require.NotContains(t, page, "working", path)
			}
			require.Contains(t, b.mainOf("/mobile-ids/mid-anna"), `href="/mobile-ids/mid-anna/lock">Go on with the lock</a>`)
			require.Contains(t, b.mainOf("/mobile-ids/mid-anna/progress"), `href="/mobile-ids/mid-anna/lock">Go on with the lock</a>`)
			page := b.mainOf("/mobile-ids/mid-anna/lock")
			require.Contains(t, page, "Go on with this lock?")
			require.NotContains(t, page, "Nothing has happened yet")
			require.Empty(t, *owners, "to look at it starts nothing")

			form := b.form("/mobile-ids/mid-anna/lock")
			otto := p.signedIn(t, "otto")
			response, _ := otto.get("/mobile-ids/mid-anna/lock")
			require.Equal(t, http.StatusNotFound, response.StatusCode)
			for path, values := range map[string]url.Values{
				"/mobile-ids/mid-anna/lock": {"form": {form}, "decision": {"next"}},
				"/mobile-ids/mid-otto/lock": {"form": {form}, "decision": {"next"}},
			} {
				_, _ = otto.post(path, values)
			}
			_, _ = b.post("/mobile-ids/mid-anna/lock", url.Values{"decision": {"next"}})
			require.Empty(t, *owners, "the form is its owner's alone")
			response, _ = b.post("/mobile-ids/mid-anna/lock", url.Values{"form": {form}, "decision": {"next"}})
			require.Equal(t, http.StatusSeeOther, response.StatusCode)
			require.Contains(t, response.Header.Get("Location"), "/mobile-ids/mid-anna/progress")
			require.Equal(t, []string{"anna mid-anna"}, *owners)
		})
	}
}

// A lock that is under way offers no second button.
func TestLockUnderwayOffersNothing(t *testing.T) {
	temporal := process(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, workflows.LockStatus{Phase: workflows.Revoking, LockResult: workflows.LockResult{LockedAt: time.Now()}})
	p := newPlace(t).on(t, temporal)
	p.lockInIM(t, "anna")
	require.False(t, p.progress(t, temporal, "anna").Idle)
	b := p.signedIn(t, "anna")
	response, _ := b.get("/mobile-ids/mid-anna/lock")
	require.Equal(t, "/mobile-ids/mid-anna/progress", response.Header.Get("Location"))
	require.NotContains(t, b.mainOf("/mobile-ids/mid-anna/progress"), "Go on with the lock")
	require.Contains(t, b.mainOf("/mobile-ids/mid-anna"), "Locking, see progress")
}

// What a process did last is not taken for undone, because it was recorded after the store
// was read.
func TestEndIsReadAgain(t *testing.T) {
	p := newPlace(t)
	p.lockInIM(t, "anna")
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(
		func(context.Context, string, string) *workflowservice.DescribeWorkflowExecutionResponse {
			p.end(t, "anna", mobileid.OutcomeRevoked)
			return nil
		}, serviceerror.NewNotFound("none"))
	require.Equal(t, desk.StageRevoked, p.progress(t, temporal, "anna").Stage)
}

// A lock that has closed without others seeing it is finished: nobody waits for what does
// not come.
func TestClosedUnseen(t *testing.T) {
	closed := workflows.LockStatus{Phase: workflows.Closed, Revoked: true, LockResult: workflows.LockResult{Outcome: workflows.OutcomeLocked, Warning: "not everybody can see it"}}
	for name, temporal := range map[string]*mocks.Client{
		"closed":              process(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, closed),
		"its history is gone": noProcess(),
		"terminated":          process(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, workflows.LockStatus{Phase: workflows.Publishing, Revoked: true}),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t).on(t, temporal)
			p.lockInIM(t, "anna")
			p.end(t, "anna", mobileid.OutcomeRevoked)
			progress := p.progress(t, temporal, "anna")
			require.Equal(t, desk.StageRevoked, progress.Stage)
			require.True(t, progress.Finished())
			page := p.signedIn(t, "anna").mainOf("/mobile-ids/mid-anna/progress")
			require.Contains(t, page, "Your mobile ID is locked")
			require.NotContains(t, page, "will notice soon")
			require.NotContains(t, page, "working")
			require.NotContains(t, page, "The lock goes on")
			require.NotContains(t, page, "data-events")
		})
	}
	publishing := process(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, workflows.LockStatus{Phase: workflows.Publishing, Revoked: true})
	p := newPlace(t).on(t, publishing)
	p.lockInIM(t, "anna")
	p.end(t, "anna", mobileid.OutcomeRevoked)
	require.False(t, p.progress(t, publishing, "anna").Finished())
	require.Contains(t, p.signedIn(t, "anna").mainOf("/mobile-ids/mid-anna/progress"), "will notice soon")
}

// Where no worker can tell what Cancel of a Get comes to, nobody says that nothing was
// changed: certificates may have been issued.
func TestCancelGetWithoutWorker(t *testing.T) {
	temporal := &mocks.Client{}
	temporal.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(&workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{RunId: "run-1"}, Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}, nil)
	temporal.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil, serviceerror.NewWorkflowNotReady("no worker"))
	temporal.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil, serviceerror.NewDeadlineExceeded("no worker"))
	temporal.On("SignalWorkflow", mock.Anything, mock.Anything, mock.Anything, workflows.Cancel, mock.Anything).Return(nil)
	p := newPlace(t).on(t, temporal)
	b := p.signedIn(t, "anna")
	response, body := b.post("/get/cancel", nil)
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	require.Contains(t, body, "Your Cancel is stored")
	require.NotContains(t, mainPart.FindString(body), "Nothing was changed")
	temporal.AssertCalled(t, "SignalWorkflow", mock.Anything, mock.Anything, mock.Anything, workflows.Cancel, mock.Anything)
}

// A Get that somebody terminated is said to have stopped, and keeps nobody from the next
// one, which has a grant of its own.
func TestStoppedGet(t *testing.T) {
	temporal := process(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, workflows.GetStatus{Phase: workflows.Issuing})
	temporal.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil, serviceerror.NewNotFound("workflow execution already completed")).Once()
	p := newPlace(t).on(t, temporal)
	p.lockInIM(t, "anna")
	p.end(t, "anna", mobileid.OutcomeRevoked)
	b := p.signedIn(t, "anna")
	page := b.mainOf("/get/progress")
	require.Contains(t, page, "Get mobile ID has stopped")
	require.NotContains(t, page, "being issued")
	require.NotContains(t, page, "data-events")
	response, _ := b.post("/get/cancel", nil)
	require.Equal(t, "/get/progress", response.Header.Get("Location"), "certificates may have been issued")
	form := b.form("/get")

	run, handle := &mocks.WorkflowRun{}, &mocks.WorkflowUpdateHandle{}
	run.On("GetRunID").Return("run-2")
	handle.On("Get", mock.Anything, mock.Anything).Return(nil)
	temporal.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(run, nil)
	temporal.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(handle, nil)
	response, body := b.post("/get", url.Values{"form": {form}, "decision": {"next"}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode, body)
	applicant, err := p.store.Applicant(t.Context(), "anna")
	require.NoError(t, err)
	require.NotNil(t, applicant.Grant)
}

// A lock whose certificates had all expired has revoked nothing: no page and no receipt
// dates it, or says that others see it.
func TestLockOfExpired(t *testing.T) {
	p := newPlace(t).on(t, noProcess())
	carl, expired := mobileid.User{ID: "carl", Name: "Carl", Active: true, Roles: []string{mobileid.SelfServiceRole}}, certificate("c1")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	require.NoError(t, p.store.PutUser(t.Context(), carl, "carl@example.com"))
	hash, err := session.HashPassword(password)
	require.NoError(t, err)
	require.NoError(t, p.store.PutPassword(t.Context(), "carl", hash))
	require.NoError(t, p.store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: "mid-carl", Name: "Phone of Carl", Owner: carl, State: mobileid.Active, Certificates: []mobileid.Certificate{expired},
	}))
	p.lockInIM(t, "carl")
	p.end(t, "carl", mobileid.OutcomeExpiredNotRevoked)
	progress := p.progress(t, noProcess(), "carl")
	require.Equal(t, desk.StageRevoked, progress.Stage)
	require.Zero(t, progress.RevokedAt)
	require.Zero(t, progress.VisibleAt)
	require.False(t, progress.LockedAt.IsZero())
	require.True(t, progress.Finished())

	b := p.signedIn(t, "carl")
	page := b.mainOf("/mobile-ids/mid-carl/progress")
	require.Contains(t, page, "Its certificates had expired, so none had to be revoked.")
	require.Regexp(t, `Revoked at the certificate authority: <span class="word">not needed: expired</span></li>`, page)
	require.Regexp(t, `Visible to other services: <span class="word">not needed: expired</span></li>`, page)
	for _, wrong := range []string{"Other services see it", "working", "goes on", "data-events"} {
		require.NotContains(t, page, wrong)
	}
	page = b.mainOf("/mobile-ids/mid-carl/receipt")
	require.Contains(t, page, "<dt>Revoked at the certificate authority</dt><dd>not needed: expired</dd>")
	require.Contains(t, page, "<dt>Visible to other services</dt><dd>not needed: expired</dd>")
	_, text := b.get("/mobile-ids/mid-carl/receipt.txt")
	require.Contains(t, text, "Revoked at the certificate authority  not needed: expired\n")
	require.Contains(t, text, "Visible to other services             not needed: expired\n")
	require.Contains(t, b.mainOf("/history"), "No certificate had to be revoked.")
}
