package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice/observe"
	"mobileid/telemetry"
)

func newMetrics(t *testing.T) *telemetry.Metrics {
	t.Helper()
	m, err := telemetry.NewMetrics(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return m
}

// scrape asks as Prometheus does.
func scrape(t *testing.T, m interface{ Handler() http.Handler }) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, recorder.Code)
	text, err := io.ReadAll(recorder.Body)
	require.NoError(t, err)
	return string(text)
}

// full has measured one of everything.
func full(t *testing.T) *telemetry.Metrics {
	t.Helper()
	m := newMetrics(t)
	for _, stage := range []identitymanager.Stage{identitymanager.StageLocked, identitymanager.StageRevoked, identitymanager.StageVisible} {
		m.Reached(identitymanager.Milestone{Stage: stage, After: 3 * time.Millisecond})
	}
	observer := m.Calls(t.Context(), []string{"issuing"})
	for _, call := range []ca.Call{ca.CallRevoke, ca.CallStatus, ca.CallIssue, ca.CallFind, ca.CallOCSP, ca.CallCRL} {
		_, done := observer.Calling(t.Context(), "issuing", call)
		done(ca.ClassDone)
	}
	require.NoError(t, m.ObserveLocks(func(context.Context) (telemetry.Locks, bool) {
		return telemetry.Locks{Open: map[string]int64{"needsOperator": 2}, Overdue: map[string]int64{"15m": 1}}, true
	}))
	now := time.Now()
	require.NoError(t, m.ObserveCAs(func() []ca.Health {
		return []ca.Health{{
			CA: "issuing", Driver: &ca.Part{OK: true}, OCSP: &ca.Part{}, CRL: &ca.Part{OK: true, At: now.Add(-time.Hour), Next: now.Add(-time.Minute)},
			Until: now.Add(48 * time.Hour),
		}}
	}))
	return m
}

// fullServe is full for Self-Service.
func fullServe(t *testing.T) *telemetry.ServeMetrics {
	t.Helper()
	m, err := telemetry.NewServeMetrics(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	m.Answered("/mobile-ids/{id}", http.StatusNotFound, 3*time.Millisecond)
	m.Refused(observe.LimitStreams)
	m.SignIn(observe.ByPassword, observe.TooMany)
	require.NoError(t, m.ObserveStreams(func() int { return 7 }))
	return m
}

func TestServeMetrics(t *testing.T) {
	text := scrape(t, fullServe(t))
	for _, line := range []string{
		`mobileid_serve_request_seconds_count{class="4xx",route="/mobile-ids/{id}"} 1`,
		`mobileid_serve_request_seconds_bucket{class="4xx",route="/mobile-ids/{id}",le="0.0025"} 0`,
		`mobileid_serve_streams_open 7`,
		`mobileid_serve_refused_total{limit="streams"} 1`,
		`mobileid_serve_refused_total{limit="body"} 0`,
		`mobileid_serve_sign_ins_total{outcome="tooMany",way="password"} 1`,
		`mobileid_serve_sign_ins_total{outcome="failed",way="openid"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
}

func TestMetrics(t *testing.T) {
	text := scrape(t, full(t))
	for _, line := range []string{
		`mobileid_lock_stage_seconds_bucket{stage="locked",le="0.0025"} 0`,
		`mobileid_lock_stage_seconds_bucket{stage="locked",le="0.005"} 1`,
		`mobileid_lock_stage_seconds_bucket{stage="visible",le="604800"} 1`,
		`mobileid_ca_answers_total{ca="issuing",call="revoke",class="Done"} 1`,
		`mobileid_ca_answers_total{ca="issuing",call="revoke",class="CADenied"} 0`,
		`mobileid_ca_answers_total{ca="issuing",call="status",class="CAContradiction"} 0`,
		`mobileid_ca_call_seconds_count{ca="issuing",call="crl"} 1`,
		`mobileid_locks_open{phase="needsOperator"} 2`,
		`mobileid_locks_overdue{threshold="15m"} 1`,
		`mobileid_ca_up{ca="issuing",part="driver"} 1`,
		`mobileid_ca_up{ca="issuing",part="ocsp"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Regexp(t, `(?m)^mobileid_ca_credentials_remaining_seconds\{ca="issuing"\} 1727\d\d\.`, text, "two days")
	require.Regexp(t, `(?m)^mobileid_ca_crl_age_seconds\{ca="issuing"\} 36\d\d\.`, text)
	require.Regexp(t, `(?m)^mobileid_ca_crl_remaining_seconds\{ca="issuing"\} -6\d\.`, text)
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_resident_memory_bytes ")
}

// While the locks cannot be counted there is no number: an old one would look like a
// new one.
func TestLocksThatAreNotCounted(t *testing.T) {
	m := newMetrics(t)
	require.NoError(t, m.ObserveLocks(func(context.Context) (telemetry.Locks, bool) {
		return telemetry.Locks{Open: map[string]int64{"revoking": 1}}, false
	}))
	require.NotContains(t, scrape(t, m), "mobileid_locks")
}

// Temporal's SDK measures in seconds, and its counters are counters.
func TestMetricsOfTheSDK(t *testing.T) {
	m := newMetrics(t)
	sdk := m.Temporal().WithTags(map[string]string{"task_queue": "q"})
	sdk.Counter("temporal_request").Inc(2)
	sdk.Timer("temporal_activity_execution_latency").Record(30 * time.Millisecond)
	for range 100 {
		sdk.Gauge("temporal_num_pollers").Update(3)
	}
	text := scrape(t, m)
	require.Contains(t, text, "# TYPE temporal_request_total counter\n")
	require.Contains(t, text, `temporal_request_total{task_queue="q"} 2`+"\n")
	require.Contains(t, text, `temporal_activity_execution_latency_seconds_bucket{task_queue="q",le="0.025"} 0`+"\n")
	require.Contains(t, text, `temporal_activity_execution_latency_seconds_bucket{task_queue="q",le="0.05"} 1`+"\n")
	require.Contains(t, text, `temporal_num_pollers{task_queue="q"} 3`+"\n")
}

// documented is a row of the table in docs/metrics.md.
var documented = regexp.MustCompile("(?m)^\\| `(mobileid_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|")

// The table of the documentation is what is exported: names, types, labels.
func TestMetricsAreDocumented(t *testing.T) {
	text := scrape(t, full(t)) + scrape(t, fullServe(t))
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	var want []string
	for _, row := range documented.FindAllStringSubmatch(string(page), -1) {
		var labels []string
		for _, label := range regexp.MustCompile("`([a-z_]+)`(?::|,|;|$| )").FindAllStringSubmatch(row[3], -1) {
			labels = append(labels, label[1])
		}
		slices.Sort(labels)
		want = append(want, fmt.Sprintf("%s %s %s", row[1], row[2], strings.Join(labels, ",")))
	}
	var got []string
	for _, metric := range regexp.MustCompile(`(?m)^# TYPE (mobileid_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		labels := map[string]bool{}
		for _, series := range regexp.MustCompile(`(?m)^`+metric[1]+`(?:_bucket)?\{(.*)\}`).FindAllStringSubmatch(text, -1) {
			for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(series[1], -1) {
				if label[1] != "le" {
					labels[label[1]] = true
				}
			}
		}
		var sorted []string
		for label := range labels {
			sorted = append(sorted, label)
		}
		slices.Sort(sorted)
		got = append(got, fmt.Sprintf("%s %s %s", metric[1], metric[2], strings.Join(sorted, ",")))
	}
	require.NotEmpty(t, got)
	require.ElementsMatch(t, want, got)
}
