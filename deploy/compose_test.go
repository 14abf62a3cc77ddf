package deploy_test

import (
	"bufio"
	"bytes"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"mobileid/config"
)

const (
	composeFile    = "../docker-compose.yml"
	dockerFile     = "../Dockerfile"
	ignoreFile     = "../.dockerignore"
	containersPage = "../docs/containers.md"
)

// compose is the part of the Compose file format that the file uses: another key is a
// spelling mistake, or one for the tests to know.
type compose struct {
	Name     string                    `yaml:"name"`
	Services map[string]service        `yaml:"services"`
	Configs  map[string]source         `yaml:"configs"`
	Secrets  map[string]source         `yaml:"secrets"`
	Volumes  map[string]map[string]any `yaml:"volumes"`
	Rest     map[string]map[string]any `yaml:",inline"` // x-*, which others are made from
}

type service struct {
	Image       string            `yaml:"image"`
	Build       string            `yaml:"build"`
	Hostname    string            `yaml:"hostname"`
	Entrypoint  []string          `yaml:"entrypoint"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Configs     []struct {
		Source string `yaml:"source"`
		Target string `yaml:"target"`
	} `yaml:"configs"`
	Secrets     []string    `yaml:"secrets"`
	Volumes     []string    `yaml:"volumes"`
	Ports       []string    `yaml:"ports"`
	NetworkMode string      `yaml:"network_mode"`
	Healthcheck healthcheck `yaml:"healthcheck"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Deploy struct {
		Replicas int `yaml:"replicas"`
	} `yaml:"deploy"`
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	Profiles    []string `yaml:"profiles"`
	Restart     string   `yaml:"restart"`
	StopGrace   string   `yaml:"stop_grace_period"`
}

type healthcheck struct {
	Test        []string `yaml:"test"`
	Interval    string   `yaml:"interval"`
	Timeout     string   `yaml:"timeout"`
	Retries     int      `yaml:"retries"`
	StartPeriod string   `yaml:"start_period"`
	Disable     bool     `yaml:"disable"`
}

type source struct {
	Content string `yaml:"content"`
	File    string `yaml:"file"`
}

func (s service) ours() bool { return s.Build != "" }

// job reports whether a service does its work and ends.
func (s service) job() bool { return strings.HasPrefix(s.Restart, "on-failure:") }

func readCompose(t *testing.T) compose {
	t.Helper()
	text, err := os.ReadFile(composeFile)
	require.NoError(t, err)
	// By way of plain maps, which resolves merges before keys are checked.
	var plain map[string]any
	require.NoError(t, yaml.Unmarshal(text, &plain))
	text, err = yaml.Marshal(plain)
	require.NoError(t, err)
	var c compose
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&c))
	for key := range c.Rest {
		require.True(t, strings.HasPrefix(key, "x-"), "%s is no key of a Compose file", key)
	}
	return c
}

// eachService runs a test for each service.
func (c compose) eachService(t *testing.T, test func(t *testing.T, s service)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		t.Run(name, func(t *testing.T) { test(t, c.Services[name]) })
	}
}

func TestComposeHasTheWholeSystem(t *testing.T) {
	c := readCompose(t)
	require.ElementsMatch(t, []string{
		"postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui", "devca", "messaging", "keyset", "setup",
		"worker", "serve", "codec", "prometheus", "grafana", "starter",
	}, slices.Collect(maps.Keys(c.Services)))
	require.Equal(t, 2, c.Services["worker"].Deploy.Replicas)
	require.Equal(t, c.Services["temporal"].Environment["DB"], "postgres12")
	for _, variable := range []string{config.DeploymentNameVariable, config.BuildIDVariable} {
		require.Equal(t, "${"+variable+":-}", c.Services["worker"].Environment[variable], "off unless it is given")
	}
}

// pinned is a tag that names one version.
var pinned = regexp.MustCompile(`^[a-z/-]+:(v?\d+(\.\d+)+(-[a-z]+)?|local)$`)

func TestComposeImagesArePinnedAndListed(t *testing.T) {
	c := readCompose(t)
	page, err := os.ReadFile(containersPage)
	require.NoError(t, err)
	listed := func(t *testing.T, image string) {
		t.Helper()
		require.Regexp(t, pinned, image)
		name, tag, _ := strings.Cut(image, ":")
		require.Contains(t, string(page), "| `"+name+"` | `"+tag+"` | ", "what was checked of it is in %s", containersPage)
	}
	c.eachService(t, func(t *testing.T, s service) {
		listed(t, s.Image)
		require.NotContains(t, s.Image, "auto-setup", "it is deprecated")
		require.Equal(t, s.ours(), strings.HasPrefix(s.Image, "mobileid:"))
	})
	require.Equal(t, c.Services["temporal-schema"].Image, c.Services["temporal-namespace"].Image)
	require.Equal(t, strings.TrimPrefix(c.Services["temporal"].Image, "temporalio/server"),
		strings.TrimPrefix(c.Services["temporal-schema"].Image, "temporalio/admin-tools"), "the schema is the server's")
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(readDockerfile(t), -1) {
		if from[1] != "scratch" {
			listed(t, from[1])
		}
	}
}

func TestComposePublishesOnLoopbackAlone(t *testing.T) {
	taken := map[string]bool{}
	readCompose(t).eachService(t, func(t *testing.T, s service) {
		for _, port := range s.Ports {
			require.Regexp(t, `^127\.0\.0\.1:\d+:\d+$`, port)
			published := port[:strings.LastIndex(port, ":")]
			require.False(t, taken[published], "%s is published twice", published)
			taken[published] = true
		}
		switch s.NetworkMode {
		case "", "none":
		case "host":
			// It publishes what it listens at.
			require.True(t, s.ours())
			c := loadSettings(t, readCompose(t), s)
			host, _, err := net.SplitHostPort(c.CodecServer.Address)
			require.NoError(t, err)
			require.True(t, config.IsLoopback(host), "codec_server.address is %s", c.CodecServer.Address)
			require.Equal(t, []string{"/starter", "codec", "serve"}, s.Entrypoint)
		default:
			require.Fail(t, "network_mode", s.NetworkMode)
		}
	})
}

// The temporal program has the codec server encode all that it sends, so the operators'
// scripts can do nothing with one that only decodes.
func TestComposeCodecServerEncodes(t *testing.T) {
	c := readCompose(t)
	require.True(t, loadSettings(t, c, c.Services["codec"]).CodecServer.Encode)
}

func TestComposeOursAreLockedDown(t *testing.T) {
	readCompose(t).eachService(t, func(t *testing.T, s service) {
		if !s.ours() {
			return
		}
		require.True(t, s.ReadOnly)
		require.Equal(t, []string{"ALL"}, s.CapDrop)
		require.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt)
	})
	file := readDockerfile(t)
	require.Regexp(t, `(?m)^FROM scratch$`, file)
	require.Regexp(t, `(?m)^USER 65532:65532$`, file)
	require.Contains(t, file, "CGO_ENABLED=0")
}

func TestComposeStartOrder(t *testing.T) {
	c := readCompose(t)
	var visit func(t *testing.T, name string, path []string)
	visit = func(t *testing.T, name string, path []string) {
		t.Helper()
		require.NotContains(t, path, name, "services wait for each other")
		require.Contains(t, c.Services, name)
		for other, d := range c.Services[name].DependsOn {
			need := c.Services[other]
			switch d.Condition {
			case "service_healthy":
				require.NotEmpty(t, need.Healthcheck.Test, "%s waits for the health of %s, which has none", name, other)
			case "service_completed_successfully":
				require.True(t, need.job(), "%s waits for the end of %s, which is no job", name, other)
			default:
				require.Equal(t, "service_started", d.Condition)
			}
			visit(t, other, append(path, name))
		}
	}
	for name := range c.Services {
		visit(t, name, nil)
	}
	c.eachService(t, func(t *testing.T, s service) {
		if s.job() || slices.Contains(s.Profiles, "tools") {
			require.Empty(t, s.Healthcheck.Test, "it ends by itself")
			require.Equal(t, s.ours(), s.Healthcheck.Disable, "the image has the worker's")
			return
		}
		require.Equal(t, "unless-stopped", s.Restart)
		require.Greater(t, len(s.Healthcheck.Test), 1)
		require.Equal(t, "CMD", s.Healthcheck.Test[0])
		require.NotZero(t, s.Healthcheck.Retries)
		require.NotEmpty(t, s.Healthcheck.Interval)
		require.NotEmpty(t, s.Healthcheck.Timeout)
		if s.ours() {
			require.Equal(t, []string{"/starter", "healthcheck"}, s.Healthcheck.Test[1:3], "nothing else is in the image")
		}
	})
	for _, name := range []string{"worker", "serve"} {
		require.Equal(t, "service_completed_successfully", c.Services[name].DependsOn["setup"].Condition, name)
	}
}

// loadSettings loads what a service of ours runs with as it would, but that files
// within its container are not there.
func loadSettings(t *testing.T, c compose, s service) config.Config {
	t.Helper()
	variables := map[string]string{}
	for _, assignment := range regexp.MustCompile(`\b(MOBILEID_\w+)=(\S+)`).FindAllStringSubmatch(readDockerfile(t), -1) {
		variables[assignment[1]] = assignment[2]
	}
	require.NotEmpty(t, variables)
	for name, value := range s.Environment {
		if strings.HasPrefix(name, "MOBILEID_") {
			variables[name] = value
		}
	}
	for _, mounted := range s.Configs {
		if mounted.Target != variables[config.FileVariable] {
			continue
		}
		file := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(file, []byte(c.Configs[mounted.Source].Content), 0o600))
		variables[config.FileVariable] = file
	}
	t.Chdir(t.TempDir()) // there is no config.yaml in the image
	for name, value := range variables {
		t.Setenv(name, value)
	}
	loaded, err := config.Load(nil)
	require.NoError(t, err)
	return loaded
}

func TestComposeSettingsAreSettings(t *testing.T) {
	c := readCompose(t)
	c.eachService(t, func(t *testing.T, s service) {
		if !s.ours() {
			require.NotContains(t, strings.Join(slices.Collect(maps.Keys(s.Environment)), " "), "MOBILEID_")
			return
		}
		loaded := loadSettings(t, c, s)
		require.Equal(t, "json", loaded.Log.Format)
		if len(s.Configs) == 0 {
			return
		}
		require.Equal(t, "postgres", loaded.Store.Driver)
		require.True(t, loaded.Get.Enabled)
		require.Contains(t, c.Services["messaging"].Entrypoint, "--callback-url=https://worker:8444")
		require.Equal(t, "0.0.0.0:8444", loaded.Messaging.CallbackAddress)
		require.NotEmpty(t, loaded.Encryption.KeysetFile)
	})
}

// A file that something names must come from somewhere.
func TestComposeFilesAreMounted(t *testing.T) {
	c := readCompose(t)
	c.eachService(t, func(t *testing.T, s service) {
		said := strings.Join(slices.Concat(s.Entrypoint, s.Command, s.Healthcheck.Test, slices.Collect(maps.Values(s.Environment))), "\n")
		for _, mounted := range s.Configs {
			require.Contains(t, c.Configs, mounted.Source)
			said += "\n" + c.Configs[mounted.Source].Content
		}
		for _, secret := range regexp.MustCompile(`/run/secrets/(\w+)`).FindAllStringSubmatch(said, -1) {
			require.Contains(t, s.Secrets, secret[1])
		}
		mounts := map[string]bool{}
		for _, volume := range s.Volumes {
			name, folder, _ := strings.Cut(volume, ":")
			require.Contains(t, c.Volumes, name)
			folder, _, _ = strings.Cut(folder, ":")
			mounts[folder] = true
			if s.ours() {
				require.Contains(t, readDockerfile(t), "/out/lib/"+filepath.Base(folder)+" ", "a volume takes its owner from the folder in the image")
			}
		}
		if !s.ours() {
			return
		}
		for _, folder := range regexp.MustCompile(`/var/lib/\w+`).FindAllString(said, -1) {
			require.True(t, mounts[folder], "%s is on no volume", folder)
		}
	})
	for name, content := range c.Configs {
		if content.File == "" {
			require.NotEmpty(t, content.Content, name)
			continue
		}
		require.FileExists(t, filepath.Join("..", content.File))
	}
}

func TestComposeSecretsAreMade(t *testing.T) {
	c := readCompose(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	made := func() map[string]string {
		cmd := exec.CommandContext(t.Context(), "make", "-C", "..", "--no-print-directory", "secrets", "SECRETS="+dir)
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, string(said))
		files := map[string]string{}
		for name, secret := range c.Secrets {
			require.Equal(t, ".secrets", filepath.Dir(secret.File), name)
			require.Empty(t, secret.Content, "%s must come from a file", name)
			text, err := os.ReadFile(filepath.Join(dir, filepath.Base(secret.File)))
			require.NoError(t, err)
			require.NotEmpty(t, text, name)
			files[name] = string(text)
			info, err := os.Stat(filepath.Join(dir, filepath.Base(secret.File)))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "%s: users within containers read it", name)
		}
		return files
	}
	first := made()
	require.Equal(t, first, made(), "volumes were made with the first ones")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	dsn, err := url.Parse(strings.TrimSpace(first["mobileid_dsn"]))
	require.NoError(t, err)
	password, _ := dsn.User.Password()
	require.Equal(t, first["mobileid_password"], password)
	require.Equal(t, "postgres:5432", dsn.Host)
	c.eachService(t, func(t *testing.T, s service) {
		for _, secret := range s.Secrets {
			require.Contains(t, c.Secrets, secret)
		}
		for name, value := range s.Environment {
			if strings.Contains(name, "PASSWORD") || strings.Contains(name, "_PWD") || strings.Contains(name, "SECRET") {
				require.Regexp(t, `^/run/secrets/`, value, "%s must be a file", name)
			}
			for _, secret := range first {
				require.NotContains(t, value, strings.TrimSpace(secret))
			}
		}
	})
}

// Prometheus has the rules under the name of job that they use, and the workers'
// port; Grafana has it as its data source.
func TestComposeWatches(t *testing.T) {
	c := readCompose(t)
	type scrapes struct {
		RuleFiles []string `yaml:"rule_files"`
		Scrape    []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string `yaml:"names"`
				Port  int      `yaml:"port"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	var here, example scrapes
	require.NoError(t, yaml.Unmarshal([]byte(c.Configs["prometheus"].Content), &here))
	text, err := os.ReadFile("prometheus/prometheus.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &example))
	require.Equal(t, example.RuleFiles, here.RuleFiles)
	require.Len(t, here.Scrape, 2)
	for i, want := range []struct {
		service string
		port    int
	}{{"worker", 8081}, {"serve", 8084}} {
		require.Equal(t, example.Scrape[i].Job, here.Scrape[i].Job)
		require.Equal(t, []string{want.service}, here.Scrape[i].DNS[0].Names)
		require.Equal(t, want.port, here.Scrape[i].DNS[0].Port)
	}
	require.Equal(t, "0.0.0.0:8084", c.Services["serve"].Environment["MOBILEID_SERVE_METRICS_ADDRESS"])

	text, err = os.ReadFile("grafana/datasource.yaml")
	require.NoError(t, err)
	require.Contains(t, string(text), "url: http://prometheus:9090\n")
	text, err = os.ReadFile("grafana/dashboards.yaml")
	require.NoError(t, err)
	require.Contains(t, string(text), "path: /etc/grafana/mobileid\n")
	targets := map[string]string{}
	for _, mounted := range c.Services["grafana"].Configs {
		targets[c.Configs[mounted.Source].File] = mounted.Target
	}
	require.Equal(t, map[string]string{
		"deploy/grafana/datasource.yaml": "/etc/grafana/provisioning/datasources/mobileid.yaml",
		"deploy/grafana/dashboards.yaml": "/etc/grafana/provisioning/dashboards/mobileid.yaml",
		"deploy/grafana/dashboard.json":  "/etc/grafana/mobileid/dashboard.json",
	}, targets)
}

// What the programs are built from must get to the builder.
func TestComposeBuilderGetsAllPackages(t *testing.T) {
	text, err := os.ReadFile(ignoreFile)
	require.NoError(t, err)
	let := map[string]bool{"mobileid": true} // the root, by !*.go
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if folder, ok := strings.CutPrefix(lines.Text(), "!"); ok {
			let["mobileid/"+folder] = true
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./worker", "./starter")
	cmd.Dir = ".."
	packages, err := cmd.Output()
	require.NoError(t, err)
	for _, path := range strings.Fields(string(packages)) {
		parts := strings.SplitN(path, "/", 3)
		if parts[0] == "mobileid" {
			require.True(t, let[strings.Join(parts[:min(2, len(parts))], "/")], "%s is kept from the builder by %s", path, ignoreFile)
		}
	}
}

// Where there is docker with its compose plugin, it reads the file too. Nothing is
// started.
func TestComposeByDocker(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "docker", "compose", "version").Run(); err != nil {
		t.Logf("docker compose is not installed (%v): the file is checked by the other tests alone", err)
		return
	}
	said, err := exec.CommandContext(t.Context(), "docker", "compose", "--file", composeFile, "--profile", "tools", "config", "--quiet").CombinedOutput()
	require.NoError(t, err, string(said))
}

func readDockerfile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(dockerFile)
	require.NoError(t, err)
	return string(text)
}
