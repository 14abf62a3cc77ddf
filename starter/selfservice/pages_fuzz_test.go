package selfservice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.uber.org/zap"
	"golang.org/x/net/html"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// noProcesses is a Temporal in which nothing runs, and which starts nothing.
type noProcesses struct {
	client.Client
	starts int // tries
}

var errStartsNothing = errors.New("it starts nothing")

func (n *noProcesses) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	n.starts++
	return nil, errStartsNothing
}

func (n *noProcesses) NewWithStartWorkflowOperation(client.StartWorkflowOptions, any, ...any) client.WithStartWorkflowOperation {
	return nil
}

func (n *noProcesses) UpdateWithStartWorkflow(context.Context, client.UpdateWithStartWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	n.starts++
	return nil, errStartsNothing
}

func (n *noProcesses) SignalWithStartWorkflow(context.Context, string, string, any, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	n.starts++
	return nil, errStartsNothing
}

func (n *noProcesses) UpdateWorkflow(context.Context, client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	return nil, serviceerror.NewNotFound("workflow not found")
}

func (n *noProcesses) SignalWorkflow(context.Context, string, string, string, any) error {
	return serviceerror.NewNotFound("workflow not found")
}

func (n *noProcesses) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	return nil, serviceerror.NewNotFound("workflow not found")
}

func (n *noProcesses) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return nil, serviceerror.NewNotFound("workflow not found")
}

func (n *noProcesses) CheckHealth(context.Context, *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
	return &client.CheckHealthResponse{}, nil
}

// Words that stand in an input for what no fuzzer finds.
const (
	sessionWord = "SESSION" // the cookie of anna's session
	formWord    = "FORM"    // what is sealed in her form to lock mid-anna
	markWord    = "MARK"    // something that must be escaped
	mark        = `"'><x-mark onx=1>`
)

// fuzzedPages is Self-Service with anna signed in.
type fuzzedPages struct {
	*place
	handler  http.Handler
	temporal *noProcesses
	session  identitymanager.Session
	form     string
}

func newFuzzedPages(f *testing.F) *fuzzedPages {
	f.Helper()
	p := &fuzzedPages{
		place:    newPlace(f, func(c *config.Config) { c.Serve.Rate, c.Serve.AskReason = 1e9, true }),
		temporal: &noProcesses{},
	}
	server, err := New(p.server.config, p.store, p.temporal, zap.NewNop(), Options{})
	require.NoError(f, err)
	close(server.stopping) // so that streams end
	p.handler = server.Handler()
	sum := sha256.Sum256([]byte(sessionWord))
	p.session = identitymanager.Session{ID: hex.EncodeToString(sum[:]), User: mobileid.User{ID: "anna"}, Method: "password", ExpiresAt: time.Now().Add(12 * time.Hour)}
	require.NoError(f, p.store.StartSession(f.Context(), p.session, ""))
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, p.request(f, http.MethodGet, "/mobile-ids/mid-anna/lock", "", "mobileid="+sessionWord, ""))
	found := sealedForm.FindStringSubmatch(w.Body.String())
	require.NotNil(f, found, w.Body)
	p.form = found[1]
	return p
}

func (p *fuzzedPages) request(t testing.TB, method, target, contentType, cookie, body string) *http.Request {
	t.Helper()
	body = strings.NewReplacer(formWord, p.form, markWord, mark, url.QueryEscape(markWord), url.QueryEscape(mark)).Replace(body)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	r.Method = method
	path, query, _ := strings.Cut(target, "?")
	r.URL = &url.URL{Path: strings.ReplaceAll(path, markWord, mark), RawQuery: strings.ReplaceAll(query, markWord, url.QueryEscape(mark))}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Cookie", cookie)
	return r
}

// Any request to the pages, above all any form: nothing breaks and nothing happens
// without what was sealed, no answer tells of another user or holds what came in
// unescaped, and each has the headers that protect it.
func FuzzPages(f *testing.F) {
	const form, session = "application/x-www-form-urlencoded", "mobileid=SESSION"
	for _, path := range []string{
		"/", "/sign-in", "/sign-out", "/sign-out/everywhere", "/session", "/session/left", "/mobile-ids", "/mobile-ids/mid-anna", "/mobile-ids/mid-otto/lock", "/mobile-ids/mid-anna/lock",
		"/mobile-ids/mid-anna/progress", "/mobile-ids/mid-anna/progress/events", "/mobile-ids/mid-anna/receipt", "/mobile-ids/mid-otto/receipt.txt", "/history",
		"/get", "/get/cancel", "/get/progress", "/get/progress/events", "/get/code.png", "/mobile-ids/MARK/lock", "/readyz", "/assets/x", "/api/v1/mobile-ids",
	} {
		f.Add("GET", path+"?then=MARK&next=MARK&ended=MARK", "", session, "")
		f.Add("POST", path, form, session, "form=AAAA&decision=next&then=MARK&user=MARK&password=x&reason=MARK")
	}
	for _, decision := range []string{"next", "cancel", "more", "MARK"} {
		f.Add("POST", "/mobile-ids/mid-anna/lock?then=get", form, session, "form=FORM&reason=MARK&decision="+decision)
		f.Add("POST", "/mobile-ids/mid-otto/lock", form, session, "form=FORM&decision="+decision)
		f.Add("POST", "/get", form, session, "form=FORM&decision="+decision)
	}
	f.Add("POST", "/mobile-ids/mid-anna/lock", "multipart/form-data; boundary=b", session, "--b\r\nContent-Disposition: form-data; name=\"form\"\r\n\r\nFORM\r\n--b--")
	f.Add("POST", "/sign-in", "text/plain", "mobileid=; mobileid-device=MARK", "user=MARK&then=//evil.example")
	f.Add("GET", "//evil.example/..?then=/\\evil.example", form, "mobileid=\"x", "%zz")
	f.Add("POST", "/session", form, session, `then=/\evil.example`)
	f.Add("POST", "/session", form, session, "then=//evil.example/x")
	f.Add("BREW", "/session", form, session, "then=https://evil.example")
	p := newFuzzedPages(f)
	f.Fuzz(func(t *testing.T, method, target, contentType, cookie, body string) {
		if _, err := p.store.Session(t.Context(), p.session.ID, time.Hour); err != nil { // the one before has signed out
			require.NoError(t, p.store.StartSession(t.Context(), p.session, ""))
		}
		p.temporal.starts = 0
		w := httptest.NewRecorder()
		p.handler.ServeHTTP(w, p.request(t, method, target, contentType, cookie, body))

		sealed := strings.Contains(body, formWord) && strings.Contains(cookie, sessionWord)
		if !sealed {
			require.Zero(t, p.temporal.starts, "something starts, and nobody has pressed Next")
		}
		// What is pressed cannot be stored here, and an instance that stops is not ready.
		path, _, _ := strings.Cut(target, "?")
		away := sealed && p.temporal.starts > 0 || path == "/readyz"
		if !away || w.Code != http.StatusServiceUnavailable {
			require.Less(t, w.Code, 500, w.Body)
		}
		requireProtected(t, w)
		require.NotContains(t, w.Body.String(), "Phone of otto")
		p.requireUnchanged(t)
	})
}

// requireProtected checks the headers, where a redirection leads, and that nothing
// that came in has become a part of the page.
func requireProtected(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	h := w.Header()
	require.Equal(t, securityPolicy, h.Get("Content-Security-Policy"))
	require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	require.Equal(t, "same-origin", h.Get("Referrer-Policy"))
	require.NotEmpty(t, h.Get("Cache-Control"))
	if location := h.Get("Location"); location != "" {
		to, err := url.Parse(location)
		require.NoError(t, err, "%q", location)
		require.Empty(t, to.Host+to.Scheme, "%q", location)
		require.True(t, strings.HasPrefix(location, "/"), "%q", location)
		require.False(t, strings.HasPrefix(strings.ReplaceAll(location, `\`, "/"), "//"), "%q", location)
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		return
	}
	for tokens := html.NewTokenizer(w.Body); tokens.Next() != html.ErrorToken; {
		token := tokens.Token()
		if token.Type == html.TextToken || token.Type == html.CommentToken {
			continue
		}
		require.NotEqual(t, "x-mark", token.Data)
		for _, attribute := range token.Attr {
			require.False(t, strings.HasPrefix(attribute.Key, "on"), "%s", token)
			if attribute.Key == "href" || attribute.Key == "action" || attribute.Key == "src" {
				require.Regexp(t, `^(/($|[^/\\])|data:,$|data:image/|mailto:|#|$)`, attribute.Val, "%s", token)
			}
		}
	}
}

func (p *place) requireUnchanged(t *testing.T) {
	t.Helper()
	for _, id := range []string{"mid-anna", "mid-otto"} {
		m, err := p.store.MobileID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mobileid.Active, m.State)
		require.Equal(t, "Phone of "+m.Owner.ID, m.Name)
		require.Equal(t, mobileid.CertificateValid, m.Certificates[0].State)
	}
}
