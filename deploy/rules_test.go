// Package deploy_test holds the tests of what is deployed beside the programs: the
// alert rules of Prometheus, the dashboard of Grafana, and what operators read about
// them. Those of the live installation are in live_test.go.
package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "prometheus/alerts.yaml"
	dashboardFile = "grafana/dashboard.json"
	runbookFile   = "../docs/alerts.md"
)

// rule is an alert rule.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Len(t, file.Groups, 1)
	require.NotEmpty(t, file.Groups[0].Rules)
	return file.Groups[0].Rules
}

// panelQuery is a query of the dashboard.
type panelQuery struct{ panel, expr string }

func readDashboard(t *testing.T) []panelQuery {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	ids := map[int]bool{}
	var queries []panelQuery
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "two panels have id %d", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.NotContains(t, target.Expr, "$", "%s: variables of Grafana are nothing to Prometheus, where the queries are tested", p.Title)
			queries = append(queries, panelQuery{p.Title, target.Expr})
		}
	}
	return queries
}

// program finds one of Prometheus' programs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing: Debian package prometheus", name)
	}
	return path
}

// Whoever is woken by an alert finds one entry, and in it the one command to begin
// with.
func TestAlertsHaveARunbook(t *testing.T) {
	text, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	entries := map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		require.NotContains(t, entries, name)
		entries[name] = body
	}
	command := regexp.MustCompile(`(?m)(?:^    .+\n)+`)
	seen := map[string]bool{}
	for _, r := range readRules(t) {
		require.False(t, seen[r.Alert], "%s is there twice", r.Alert)
		seen[r.Alert] = true
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.Equal(t, "docs/alerts.md#"+strings.ToLower(r.Alert), r.Annotations["runbook"])
		body, ok := entries[r.Alert]
		require.True(t, ok, "%s has no entry in docs/alerts.md", r.Alert)
		require.Len(t, command.FindAllString(body, -1), 1, "the entry of %s has the one command to begin with", r.Alert)
		delete(entries, r.Alert)
	}
	require.Empty(t, entries, "entries without an alert")
}

func TestRulesAreValid(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "prometheus/prometheus.yaml"},
		{"check", "rules", "--lint=all", "--lint-fatal", rulesFile},
		{"test", "rules", "prometheus/alerts_test.yaml"},
	} {
		output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %s\n%s", strings.Join(args, " "), output)
	}
}
