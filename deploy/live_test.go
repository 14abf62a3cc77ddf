package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/starter/stack/port"
	"mobileid/telemetry"
	"mobileid/telemetry/otlptest"
	"mobileid/workflows"
)

// limit is far more than any wait in a test takes.
const limit = 90 * time.Second

// installation is a running one, as processes, with a page of its own.
type installation struct {
	*demo.Demo
	temporal client.Client
	traces   *telemetry.Traces
	receiver *otlptest.Receiver
}

// install builds and starts everything. The page sends its traces where the worker
// sends its own.
func install(t *testing.T) *installation {
	t.Helper()
	programs := t.TempDir()
	temporal, err := exec.LookPath("temporal")
	if err != nil {
		if temporal, err = filepath.Abs("../.bin/temporal"); err == nil {
			_, err = os.Stat(temporal)
		}
	}
	if err != nil {
		t.Skip("the temporal program is missing: run 'make tools'")
	}
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", programs, "mobileid/starter", "mobileid/worker").CombinedOutput()
	require.NoError(t, err, "%s", output)

	i := &installation{receiver: otlptest.Start(t)}
	t.Setenv("MOBILEID_LOG_FORMAT", "json")
	t.Setenv("MOBILEID_LOCK_OVERDUE", "1s,15m,4h,12h,24h")
	t.Setenv("MOBILEID_TELEMETRY_OTLP_ENDPOINT", i.receiver.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := t.TempDir()
	var c config.Config
	out := &bytes.Buffer{}
	s, err := stack.Start(ctx, stack.Options{
		Dir: dir, Starter: filepath.Join(programs, "starter"), Worker: filepath.Join(programs, "worker"), Temporal: temporal, Progress: out, Serve: true,
		Setup: func(ctx context.Context, s *stack.Stack) error {
			if err := s.WriteConfig(); err != nil {
				return err
			}
			t.Setenv(config.FileVariable, s.ConfigFile)
			var err error
			if c, err = config.Load(nil); err != nil {
				return err
			}
			return i.setup(ctx, c, s)
		},
	})
	require.NoError(t, err, out)
	t.Cleanup(func() {
		i.temporal.Close()
		require.NoError(t, s.Stop())
	})
	store, err := identitymanager.Configured(ctx, c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	i.Demo = &demo.Demo{Out: io.Discard, Stack: s, Store: store, Locks: starter.New(i.temporal, c.TaskQueue, starter.WithAcceptWait(limit))}
	require.NoError(t, i.Prepare(ctx))
	return i
}

// setup does what 'starter setup' does.
func (i *installation) setup(ctx context.Context, c config.Config, s *stack.Stack) error {
	for _, file := range []string{c.Audit.KeyFile, c.Serve.FormKeyFile} {
		if _, err := config.MakeKey(file); err != nil {
			return err
		}
	}
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	if i.traces, err = telemetry.NewTraces(ctx, c.Telemetry, "page"); err != nil {
		return err
	}
	i.temporal, err = client.DialContext(ctx, client.Options{
		HostPort: s.TemporalAddress, Logger: quiet(), Interceptors: i.traces.Interceptors(),
	})
	if err != nil {
		return err
	}
	_, err = workflows.RegisterSearchAttributes(ctx, i.temporal, client.DefaultNamespace)
	return err
}

// unrouted makes a mobile ID of bert's whose certificate is of a CA that nobody has
// configured.
func (i *installation) unrouted(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "CA that is gone"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	kept, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
	require.NoError(t, err)
	require.NoError(t, i.Store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: id, Name: "old phone", Owner: mobileid.User{ID: "bert"}, State: mobileid.Active, Certificates: []mobileid.Certificate{kept},
	}))
}

// press presses Next on the page.
func (i *installation) press(t *testing.T, mobileID, user string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mobile-ids/{id}/lock", func(w http.ResponseWriter, r *http.Request) {
		if _, err := i.Locks.User(user).Lock(r.Context(), r.PathValue("id"), starter.LockOptions{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mobile-ids/"+mobileID+"/lock", nil)
	i.traces.Pages(mux).ServeHTTP(recorder, request)
	require.Equal(t, http.StatusOK, recorder.Code, recorder.Body)
}

// connect makes one more client of the installation.
func (i *installation) connect(t *testing.T, options client.Options) *starter.Client {
	t.Helper()
	options.HostPort, options.Logger = i.Stack.TemporalAddress, quiet()
	temporal, err := client.DialContext(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	return starter.New(temporal, workflows.TaskQueue, starter.WithAcceptWait(limit))
}

func quiet() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// oddHeader sends something else where the trace belongs.
type oddHeader struct{}

func (oddHeader) Inject(_ context.Context, header workflow.HeaderWriter) error {
	payload, err := converter.GetDefaultDataConverter().ToPayload("no trace")
	header.Set("_tracer-data", payload)
	return err
}

func (oddHeader) InjectFromWorkflow(workflow.Context, workflow.HeaderWriter) error { return nil }

func (oddHeader) Extract(ctx context.Context, _ workflow.HeaderReader) (context.Context, error) {
	return ctx, nil
}

func (oddHeader) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

// prometheus is Debian's, scraping the installation every two seconds. Rules do not
// wait.
type prometheus struct{ address string }

func startPrometheus(t *testing.T, worker, serve string) prometheus {
	t.Helper()
	path := program(t, "prometheus")
	dir := t.TempDir()
	rules, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	rules = regexp.MustCompile(`(?m)^        for: .*\n`).ReplaceAll(rules, nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), rules, 0o600))
	settings, err := os.ReadFile("prometheus/prometheus.yaml")
	require.NoError(t, err)
	text := strings.NewReplacer("127.0.0.1:8081", worker, "127.0.0.1:8084", serve, "15s", "2s").Replace(string(settings))
	file := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	number, err := port.Reserve()
	require.NoError(t, err)
	p := prometheus{address: net.JoinHostPort("127.0.0.1", number)}
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.address)
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said)
		}
	})
	require.Eventually(t, func() bool {
		series, err := p.query(t, `up == 1`)
		return err == nil && series == 2
	}, limit, 200*time.Millisecond, "Prometheus scrapes the worker and Self-Service")
	return p
}

// get asks Prometheus' API.
func (p prometheus) get(t *testing.T, path string, data any) error {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// query returns how many series an expression has now.
func (p prometheus) query(t *testing.T, expr string) (int, error) {
	var data struct {
		Result []json.RawMessage `json:"result"`
	}
	err := p.get(t, "query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// alerts returns the rules by name with how they stand.
func (p prometheus) alerts(t *testing.T) map[string]alertState {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []alertState `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, p.get(t, "rules", &data))
	states := map[string]alertState{}
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			states[r.Name] = r
		}
	}
	return states
}

// alertState is how a rule stands.
type alertState struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Health    string `json:"health"`
	LastError string `json:"lastError"`
}

// onlyWhenBroken are metrics that have no series while all is well.
var onlyWhenBroken = map[string]bool{"temporal_workflow_task_execution_failed_total": true}

// metricName finds the metrics of an expression.
var metricName = regexp.MustCompile(`\b(?:mobileid|temporal|process)_[a-z_]+\b|\bup\b`)

// Real programs, with locks in every way that counts: one done, one that waits for
// Next, one whose CA is down, one that needs an operator. Debian's Prometheus scrapes
// the worker and Self-Service, and evaluates every query and rule.
func TestLiveInstallation(t *testing.T) {
	program(t, "prometheus")
	i := install(t)
	p := startPrometheus(t, i.Stack.HealthAddress, i.Stack.MetricsAddress)

	require.Contains(t, read(t, i.Stack.ServeURL+"/sign-in"), "<form")
	i.press(t, "mid-1001", "anna")
	status, err := i.Locks.User("anna").WaitClosed(t.Context(), "mid-1001", nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, status.Outcome)
	t.Run("one trace leads from the page to the CA", func(t *testing.T) { checkTrace(t, i) })

	i.unrouted(t, "mid-2001")
	i.press(t, "mid-2001", "bert")
	odd := i.connect(t, client.Options{ContextPropagators: []workflow.ContextPropagator{oddHeader{}}})
	_, err = odd.User("bert").Start(t.Context(), "mid-1002", starter.LockOptions{})
	require.NoError(t, err, "a header that is no trace does no harm")
	ca, ok := i.Stack.Process("devca")
	require.True(t, ok)
	require.NoError(t, ca.Kill())
	<-i.Stack.Ended("devca")
	i.press(t, "mid-1003", "carl")

	t.Run("the rules that must fire do", func(t *testing.T) {
		for _, name := range []string{"MobileIDLockNeedsOperator", "MobileIDLockOverdue", "MobileIDCAFailing"} {
			require.Eventually(t, func() bool { return p.alerts(t)[name].State == "firing" }, limit, 500*time.Millisecond, name)
		}
	})
	t.Run("the others do not, and all evaluate", func(t *testing.T) {
		for _, r := range readRules(t) {
			switch r.Alert {
			case "MobileIDLockNeedsOperator", "MobileIDLockOverdue", "MobileIDCAFailing":
				continue
			}
			state := p.alerts(t)[r.Alert]
			require.Equal(t, "ok", state.Health, "%s: %s", r.Alert, state.LastError)
			switch r.Alert {
			case "MobileIDCRLLate", "MobileIDCANotWell", "MobileIDLockSlow", "MobileIDWorkersBusy":
				continue // what they say depends on the time that the test takes
			}
			// A scrape may fail for once where both processors are busy.
			require.Eventually(t, func() bool { return p.alerts(t)[r.Alert].State == "inactive" }, limit, 500*time.Millisecond, r.Alert)
		}
	})
	t.Run("every metric of a rule has series", func(t *testing.T) {
		for _, r := range readRules(t) {
			names := metricName.FindAllString(r.Expr, -1)
			require.NotEmpty(t, names, r.Alert)
			for _, name := range names {
				if onlyWhenBroken[name] {
					continue
				}
				series, err := p.query(t, name)
				require.NoError(t, err)
				require.Positive(t, series, "%s of %s", name, r.Alert)
			}
		}
	})
	t.Run("every query of the dashboard returns series", func(t *testing.T) {
		for _, q := range readDashboard(t) {
			require.Eventually(t, func() bool {
				series, err := p.query(t, q.expr)
				require.NoError(t, err, q.panel)
				return series > 0
			}, limit, 500*time.Millisecond, "%s: %s", q.panel, q.expr)
		}
	})
	t.Run("locks are where they are", func(t *testing.T) {
		for _, expr := range []string{
			`mobileid_locks_open{phase="awaitingConfirmation"} == 1`,
			`mobileid_locks_open{phase="needsOperator"} == 1`,
			`mobileid_locks_open{phase="revoking"} == 1`,
			`mobileid_lock_stage_seconds_count{stage="locked"} == 3`,
			`mobileid_lock_stage_seconds_count{stage="revoked"} == 1`,
			`mobileid_lock_stage_seconds_count{stage="visible"} == 1`,
			`mobileid_locks_overdue{threshold="15m"} == 0`,
			`mobileid_ca_answers_total{ca="devca",call="revoke",class="Revoked"} == 2`,
		} {
			require.Eventually(t, func() bool {
				series, err := p.query(t, expr)
				return err == nil && series == 1
			}, limit, 500*time.Millisecond, expr)
		}
	})
	t.Run("promtool accepts the metrics, and none names anybody", func(t *testing.T) { checkMetrics(t, i) })
	t.Run("every line of the log is JSON and names its process", func(t *testing.T) { checkLog(t, i) })
}

func checkTrace(t *testing.T, i *installation) {
	var spans []otlptest.Span
	require.Eventually(t, func() bool {
		spans = i.receiver.Spans()
		_, page := otlptest.Find(spans, "POST /mobile-ids/{id}/lock")
		_, run := otlptest.Find(spans, "RunWorkflow:"+workflows.Lock)
		return page && run
	}, limit, 100*time.Millisecond)
	byID := map[string]otlptest.Span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	call, ok := otlptest.Find(spans, "CA:revoke")
	require.True(t, ok)
	require.Equal(t, "worker", call.Program)
	require.Equal(t, "Revoked", call.Attributes["mobileid.class"])
	var way []string
	for s := call; s.Name != ""; s = byID[s.ParentID] {
		require.Equal(t, call.TraceID, s.TraceID)
		way = append(way, s.Program+" "+s.Name)
	}
	require.Equal(t, []string{
		"worker CA:revoke", "worker RunActivity:RevokeAtCA", "worker StartActivity:RevokeAtCA", "worker RunWorkflow:" + workflows.Lock,
		"page UpdateWithStartWorkflow:" + workflows.Next, "page POST /mobile-ids/{id}/lock",
	}, way)
}

func checkMetrics(t *testing.T, i *installation) {
	var ours bytes.Buffer
	for _, address := range []string{i.Stack.HealthAddress, i.Stack.MetricsAddress} {
		text := read(t, "http://"+address+"/metrics")
		for _, name := range []string{"anna", "bert", "carl", "mid-1", "mid-2"} {
			require.NotContains(t, text, name)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "mobileid_") {
				ours.WriteString(line)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), program(t, "promtool"), "check", "metrics")
	cmd.Stdin = &ours
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// read is what an address answers.
func read(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	return string(text)
}

func checkLog(t *testing.T, i *installation) {
	file, err := os.Open(filepath.Join(i.Stack.Dir, "log", "worker.log"))
	require.NoError(t, err)
	defer file.Close()
	named := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var line map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line), lines.Text())
		if line["WorkflowType"] == nil {
			continue
		}
		named++
		require.Contains(t, line["WorkflowID"], workflows.LockWorkflowID("mid-"), lines.Text())
		require.NotEmpty(t, line["RunID"], lines.Text())
	}
	require.Positive(t, named, "locks that wait are in the log")
}
