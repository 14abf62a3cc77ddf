package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
	"mobileid/activities/messaging/embedded"
	"mobileid/workflows"
)

// secrets are what must be seen nowhere, and the places where others look. It is
// safe for concurrent use.
type secrets struct {
	mu     sync.Mutex
	forms  map[string]string // what a form is of
	places []place
}

// place is where others look.
type place struct {
	name string
	text []byte
}

// keep adds a secret, in every form in which it could be seen.
func (s *secrets) keep(name, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forms == nil {
		s.forms = map[string]string{}
	}
	for _, form := range formsOf(secret) {
		s.forms[form] = name
	}
}

// look adds a place to search.
func (s *secrets) look(name string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places = append(s.places, place{name, text})
}

// prefix is by how many bytes a form is looked up, and the least that one has.
const prefix = 12

// found lists which secret is seen where. It quotes none.
func (s *secrets) found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	index := map[string][]string{}
	for form := range s.forms {
		index[form[:prefix]] = append(index[form[:prefix]], form)
	}
	var all []string
	for _, p := range s.places {
		seen := map[string]bool{}
		for at := range max(len(p.text)-prefix+1, 0) {
			for _, form := range index[string(p.text[at:at+prefix])] {
				if name := s.forms[form]; !seen[name] && bytes.HasPrefix(p.text[at:], []byte(form)) {
					seen[name] = true
					all = append(all, name+" in "+p.name)
				}
			}
		}
	}
	return all
}

// formsOf writes a secret in every way in which a text can hold it: as it is, in hex,
// escaped for an URL and for JSON, and in base64, whatever stands before and behind.
func formsOf(secret string) []string {
	quoted, _ := json.Marshal(secret) // a string can be marshalled
	forms := []string{
		secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		url.QueryEscape(secret), url.PathEscape(secret), url.QueryEscape(url.QueryEscape(secret)), strings.Trim(string(quoted), `"`),
	}
	for _, form := range slices.Clone(forms) {
		for before := range 3 {
			// Of the characters that hold bits of the neighbours, none counts.
			text := append(bytes.Repeat([]byte{0}, before), form...)
			whole := len(text) / 3 * 3
			skip := []int{0, 2, 3}[before]
			for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				forms = append(forms, alphabet.EncodeToString(text[:whole])[skip:])
			}
		}
	}
	return forms
}

// A search that finds nothing must be able to find something.
func TestSecretsAreFoundInEveryForm(t *testing.T) {
	const secret = `personal:///?url=https%3A%2F%2Fhost%2Fms%2F"x"-0123456789`
	quoted, err := json.Marshal(map[string]string{"uri": secret})
	require.NoError(t, err)
	for name, text := range map[string]string{
		"plain": "see " + secret + ".", "JSON": string(quoted), "hex": hex.EncodeToString([]byte("a" + secret)), "HEX": fmt.Sprintf("%X", secret),
		"query": url.QueryEscape(secret), "path": url.PathEscape(secret), "twice": url.QueryEscape(url.QueryEscape(secret)),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64 behind one byte": base64.StdEncoding.EncodeToString([]byte("a" + secret + "b")),
		"base64 behind two": base64.StdEncoding.EncodeToString([]byte("ab" + secret + "bcd")), "base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte("abc" + secret)),
		"JSON in base64": base64.StdEncoding.EncodeToString(quoted),
	} {
		t.Run(name, func(t *testing.T) {
			var s secrets
			s.keep("the secret", secret)
			s.look("a place", []byte("nothing "+secret[1:len(secret)-1]))
			require.Empty(t, s.found())
			s.look("another place", []byte("… "+text+" …"))
			require.Equal(t, []string{"the secret in another place"}, s.found())
		})
	}
}

// payloads appends the data of all payloads in a message, decoded as far as they are
// not, so that what one quotes is seen, too.
func payloads(m protoreflect.Message, into *bytes.Buffer) {
	if p, ok := m.Interface().(*commonpb.Payload); ok {
		into.Write(p.GetData())
		into.WriteByte('\n')
		var text string
		if json.Unmarshal(p.GetData(), &text) == nil {
			into.WriteString(text + "\n")
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				if field.MapValue().Message() != nil {
					payloads(value.Message(), into)
				}
				return true
			})
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				payloads(value.List().Get(i).Message(), into)
			}
		default:
			payloads(value.Message(), into)
		}
		return true
	})
}

// lookAt searches a message of the engine: on the wire, as JSON, and in its payloads.
func (g *getting) lookAt(t *testing.T, name string, m proto.Message) {
	t.Helper()
	wire, err := proto.Marshal(m)
	require.NoError(t, err)
	text, err := protojson.Marshal(m)
	require.NoError(t, err)
	into := bytes.NewBuffer(append(wire, text...))
	payloads(m.ProtoReflect(), into)
	g.secrets.look(name, into.Bytes())
}

// lookAtProcess searches what the engine tells of a process now: its description and
// the answers to its queries, one of which holds the current details.
func (g *getting) lookAtProcess(ctx context.Context, t *testing.T, workflowID, runID string) {
	t.Helper()
	described, err := g.temporal.DescribeWorkflowExecution(ctx, workflowID, runID)
	require.NoError(t, err)
	g.lookAt(t, "description of "+workflowID, described)
	for _, query := range []string{workflows.StatusQuery, "__temporal_workflow_metadata"} {
		answer, err := g.temporal.QueryWorkflow(ctx, workflowID, runID, query)
		require.NoError(t, err, query)
		var raw converter.RawValue
		require.NoError(t, answer.Get(&raw))
		g.lookAt(t, "answer to "+query+" of "+workflowID, raw.Payload())
	}
}

// command runs a command line whose output is searched.
func (g *getting) command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr = command(t, args...)
	g.secrets.look("starter "+strings.Join(args, " "), []byte(stdout+stderr))
	return code, stdout, stderr
}

// requireNothingSeen searches everything: all histories, descriptions and answers, the
// engine's own database, the logs of all programs, the output of starter, and the
// audit. It is called last, when all Gets are closed.
func (g *getting) requireNothingSeen(ctx context.Context, t *testing.T) {
	t.Helper()
	dir := g.demo.Stack.Dir
	for name, file := range map[string]string{"API key": embedded.APIKeyFile, "callback password": embedded.CallbackPasswordFile} {
		secret, err := messaging.ReadSecret(filepath.Join(dir, "messaging", file))
		require.NoError(t, err)
		g.secrets.keep(name, secret)
		for _, user := range []string{embedded.ClientID, embedded.CallbackUser} {
			g.secrets.keep(name+" in a header", base64.StdEncoding.EncodeToString([]byte(user+":"+secret)))
		}
	}

	processes := g.processes(ctx, t)
	mobileIDs := map[string]bool{}
	for _, info := range processes {
		execution := info.GetExecution()
		iterator := g.temporal.GetWorkflowHistory(ctx, execution.GetWorkflowId(), execution.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for iterator.HasNext() {
			event, err := iterator.Next()
			require.NoError(t, err)
			g.lookAt(t, fmt.Sprintf("event %d of %s, %s", event.GetEventId(), execution.GetWorkflowId(), event.GetEventType()), event)
		}
		if info.GetTaskQueue() == g.queue { // or nobody is there to answer any more
			g.lookAtProcess(ctx, t, execution.GetWorkflowId(), execution.GetRunId())
		}
	}

	all, err := g.demo.Store.List(ctx, "", 1000)
	require.NoError(t, err)
	for _, m := range all {
		mobileIDs[m.ID] = true
		trail, err := g.demo.Store.AuditTrail(ctx, m.ID)
		require.NoError(t, err)
		text, err := json.Marshal(trail)
		require.NoError(t, err)
		g.secrets.look("audit of "+m.ID, text)
		g.command(t, "audit", "show", m.ID)
	}
	require.NotEmpty(t, mobileIDs)
	g.command(t, "-o", "json", "list", "--all")
	g.command(t, "list", "--all")

	logs, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(logs), 4, "of the worker, messaging, devca and Temporal")
	databases, err := filepath.Glob(filepath.Join(dir, "temporal.db*"))
	require.NoError(t, err)
	var engine []byte
	for _, file := range append(logs, databases...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		g.secrets.look(file, text)
		if slices.Contains(databases, file) {
			engine = append(engine, text...)
		}
	}
	require.True(t, bytes.Contains(engine, []byte(all[len(all)-1].ID)), "what the engine was told stands in its database as it is")
	require.Greater(t, len(g.secrets.forms), 100, "there were codes to look for")
	require.Empty(t, g.secrets.found())
	t.Logf("%d processes, %d places, %d forms of secrets", len(processes), len(g.secrets.places), len(g.secrets.forms))
}

// processes are all that the engine knows, once it lists none that runs. The list
// lags a moment behind.
func (g *getting) processes(ctx context.Context, t *testing.T) []*workflowpb.WorkflowExecutionInfo {
	t.Helper()
	var executions []*workflowpb.WorkflowExecutionInfo
	require.Eventually(t, func() bool {
		executions = nil
		var page []byte
		for {
			list, err := g.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{NextPageToken: page})
			if err != nil {
				return false
			}
			g.lookAt(t, "list of processes", list)
			for _, info := range list.GetExecutions() {
				if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
					return false
				}
				executions = append(executions, info)
			}
			if page = list.GetNextPageToken(); len(page) == 0 {
				break
			}
		}
		for _, id := range g.gets {
			if !containsProcess(executions, id) {
				return false
			}
		}
		return true
	}, time.Minute, 200*time.Millisecond, "all processes are closed and listed")
	return executions
}

func containsProcess(executions []*workflowpb.WorkflowExecutionInfo, id string) bool {
	return slices.ContainsFunc(executions, func(e *workflowpb.WorkflowExecutionInfo) bool { return e.GetExecution().GetWorkflowId() == id })
}

// code is the content of the QR code, as Self-Service would show it. What others can
// see while it is good is searched later.
func (g *getting) code(ctx context.Context, t *testing.T, workflowID, mobileID string) string {
	t.Helper()
	provisioning, err := g.demo.Store.Provisioning(ctx, mobileID)
	require.NoError(t, err)
	target, err := device.ParseContent(provisioning.URI)
	require.NoError(t, err)
	g.secrets.keep("nonce of "+mobileID, provisioning.Nonce)
	g.secrets.keep("QR content of "+mobileID, provisioning.URI)
	g.secrets.keep("URL of "+mobileID, target.String())
	g.secrets.keep("last part of the URL of "+mobileID, filepath.Base(target.Path))
	g.noteGet(workflowID)
	g.lookAtProcess(ctx, t, workflowID, "")
	return provisioning.URI
}

// noteGet notes the workflow id of a Get that must be searched.
func (g *getting) noteGet(workflowID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gets = append(g.gets, workflowID)
}
