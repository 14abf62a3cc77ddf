// Package stack runs the processes of a development installation on free
// loopback ports: Temporal's development server, or its production server on
// PostgreSQL, devca, messaging, workers, and Self-Service if asked for. Each is a
// process of its own, so that one can be killed, stopped or held without the others.
//
// All state lies in one folder, but for PostgreSQL's.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mobileid/activities/ca/devca"
	"mobileid/activities/messaging/embedded"
	"mobileid/starter/stack/port"
	"mobileid/starter/stack/postgres"
)

// Options say what to run.
type Options struct {
	Dir      string    // the folder of all state, usually .dev
	Starter  string    // the starter program
	Worker   string    // the worker program
	Temporal string    // the temporal program
	Progress io.Writer // a line per step; nil: none
	Fresh    bool      // remove the state of an earlier run first
	// Setup prepares the stores once Temporal and devca are up, before the
	// worker starts. Nil: WriteConfig, and the command setup of the starter.
	Setup func(ctx context.Context, s *Stack) error
	// Workers is how many of them run; 0 is one.
	Workers int
	// WorkerEnv are further variables of the workers, as NAME=value.
	WorkerEnv []string
	// Cluster, if not nil, is run in the place of the temporal program.
	Cluster *Cluster
	// CA are further settings of the CA.
	CA map[string]any
	// CRLInterval is the shortest time between two CRLs of devca; 0: its own default.
	CRLInterval time.Duration
	// Get and Lock are further settings of Get mobile ID and of Lock mobile ID, and
	// ServeSettings of Self-Service.
	Get, Lock, ServeSettings map[string]any
	// Sections are further sections of the configuration.
	Sections map[string]any
	// Serve runs Self-Service, too.
	Serve bool
	// Environment, if not nil, gives a child further variables each time it starts.
	Environment func(process string) []string
	// Via, if not nil, gives the address by which one part reaches another in the place
	// of its own: "callback" (messaging to the worker) and "postgres" (Temporal to
	// PostgreSQL). What a child reads from its configuration is for Environment.
	Via func(name, address string) (string, error)
}

// Stack is a running installation.
type Stack struct {
	Dir             string
	ConfigFile      string
	TemporalAddress string
	UIAddress       string // URL of Temporal's Web UI
	HealthAddress   string // of the first worker
	ProfileAddress  string // of the first worker
	ServeURL        string // of Self-Service; empty: it does not run
	MetricsAddress  string // of Self-Service
	CA              devca.Addresses
	Messaging       embedded.Addresses

	options  Options
	cas      []map[string]any // beside devca
	postgres *postgres.Server // with a Cluster
	unlock   func() error

	mu        sync.Mutex // over what follows
	processes []*process // in the order in which they were started

	callbackAddress string // where the worker takes callbacks of messaging
	serveAddress    string // of Self-Service
}

// process is one child.
type process struct {
	name string
	cmd  *exec.Cmd
	env  []string
	log  *os.File
	done chan struct{}
	// ready reports that it can be used; nil: as soon as it runs.
	ready func(context.Context) bool
}

// startTimeout is for one part, on a machine that does other things, too.
const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 15 * time.Second
	pollInterval = 50 * time.Millisecond
)

// Start starts everything, or stops again what it has started and returns why.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
	if options.Setup == nil {
		options.Setup = setup
	}
	s := &Stack{Dir: options.Dir, ConfigFile: filepath.Join(options.Dir, "config.yaml"), options: options}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"devca, the development CA", s.startCA},
		{"messaging, the embedded one", s.startMessaging},
		{s.temporalName(), s.startTemporal},
		{"schema, keys and search attributes", func(ctx context.Context) error { return options.Setup(ctx, s) }},
		{"the worker", s.startWorkers},
		{"Self-Service", s.startServe},
	} {
		if step.name == "Self-Service" && !options.Serve {
			continue
		}
		s.say("starting %s", step.name)
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		err := step.run(ctx)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", step.name, err)
		}
	}
	return s, nil
}

func (s *Stack) say(format string, args ...any) {
	if s.options.Progress != nil {
		fmt.Fprintf(s.options.Progress, "  … "+format+"\n", args...)
	}
}

// state is what a run leaves in the folder.
var state = []string{
	"im.db", "im.db-wal", "im.db-shm", "temporal.db", "temporal.db-wal", "temporal.db-shm",
	"ca", "certificates", "log", "config.yaml", "audit.key", "serve.key", "checkpoints", "temporal-server.yaml", "step-ca",
	"messaging", "phone", "qr.png", "mail",
}

// prepare makes the folder ours: a second run in it would remove the state of
// the first under its feet.
func (s *Stack) prepare() (err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if s.unlock, err = own(filepath.Join(s.Dir, "lock")); err != nil {
		return fmt.Errorf("another run uses %s, stop it first: %w", s.Dir, err)
	}
	if s.options.Fresh {
		for _, name := range state {
			if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
				return fmt.Errorf("remove state of an earlier run: %w", err)
			}
		}
	}
	return os.MkdirAll(filepath.Join(s.Dir, "log"), 0o700)
}

func (s *Stack) startCA(ctx context.Context) error {
	dir := filepath.Join(s.Dir, "ca")
	p, err := s.spawn("devca", s.options.Starter, []string{"devca", "--dir", dir, "--crl-interval", s.options.CRLInterval.String()}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func(ctx context.Context) bool {
		addresses, err := devca.ReadAddresses(dir)
		if err != nil || !answers(ctx, addresses.PublicURL+"/healthz") {
			return false
		}
		s.CA = addresses
		return true
	})
}

// startMessaging starts the embedded messaging server. The worker takes its callbacks
// at a port that is chosen here, and shows the server's own certificate there: both
// are on this machine, and for development.
func (s *Stack) startMessaging(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	s.callbackAddress = "127.0.0.1:" + ports[0]
	callback, err := s.via("callback", s.callbackAddress)
	if err != nil {
		return err
	}
	dir := s.messagingDir()
	p, err := s.spawn("messaging", s.options.Starter, []string{
		"messaging", "--dir", dir, "--callback-url", "https://" + callback, "--callback-ca", filepath.Join(dir, embedded.ServerCAFile),
	}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func(ctx context.Context) bool {
		addresses, err := embedded.ReadAddresses(dir)
		if err != nil || !listens(ctx, addresses.URL) {
			return false
		}
		s.Messaging = addresses
		return true
	})
}

// via is the address by which a part is reached.
func (s *Stack) via(name, address string) (string, error) {
	if s.options.Via == nil {
		return address, nil
	}
	return s.options.Via(name, address)
}

func (s *Stack) messagingDir() string { return filepath.Join(s.Dir, "messaging") }

// listens reports whether anybody takes connections at the host of an URL.
func listens(ctx context.Context, address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	return connection.Close() == nil
}

func (s *Stack) temporalName() string {
	if s.options.Cluster != nil {
		return "Temporal on PostgreSQL"
	}
	return "Temporal's development server"
}

func (s *Stack) startTemporal(ctx context.Context) error {
	if s.options.Cluster != nil {
		return s.startCluster(ctx)
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	s.TemporalAddress = "127.0.0.1:" + ports[0]
	s.UIAddress = "http://127.0.0.1:" + ports[1]
	p, err := s.spawn("temporal", s.options.Temporal, []string{
		"server", "start-dev", "--ip", "127.0.0.1", "--port", ports[0], "--ui-port", ports[1], "--metrics-port", ports[2],
		"--db-filename", filepath.Join(s.Dir, "temporal.db"), "--log-level", "error",
	}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func(ctx context.Context) bool {
		// The UI's server asks the frontend, so its answer means that both are up.
		return answers(ctx, s.UIAddress+"/api/v1/namespaces/default")
	})
}

// startServe starts Self-Service at the address that the configuration has.
func (s *Stack) startServe(ctx context.Context) error {
	p, err := s.spawn("serve", s.options.Starter, []string{"serve"}, s.Environment())
	if err != nil {
		return err
	}
	s.ServeURL = "http://" + s.serveAddress
	return p.await(ctx, func(ctx context.Context) bool { return answers(ctx, s.ServeURL+"/readyz") })
}

// setup is how an installation is prepared if nobody says otherwise.
func setup(ctx context.Context, s *Stack) error {
	if err := s.WriteConfig(); err != nil {
		return err
	}
	if output, err := s.Command(ctx, "setup").CombinedOutput(); err != nil {
		return fmt.Errorf("starter setup: %w\n%s", err, output)
	}
	return nil
}

// Environment is what a program needs to find this installation.
func (s *Stack) Environment() []string {
	return []string{"MOBILEID_CONFIG=" + s.ConfigFile, "TEMPORAL_ADDRESS=" + s.TemporalAddress}
}

// AddCA adds a section to the CAs of the configuration, before WriteConfig.
func (s *Stack) AddCA(settings map[string]any) { s.cas = append(s.cas, settings) }

// WriteConfig writes the configuration file of this installation.
func (s *Stack) WriteConfig() error {
	ca := filepath.Join(s.Dir, "ca")
	// JSON is YAML, and quotes whatever a path may hold.
	settings := map[string]any{
		"name": "devca", "driver": "devca",
		"issuer_file":      filepath.Join(ca, "ca.pem"),
		"url":              s.CA.APIURL,
		"certificate_file": filepath.Join(ca, "client.pem"),
		"key_file":         filepath.Join(ca, "client.key"),
		"server_ca_file":   filepath.Join(ca, "tls-ca.pem"),
		"ocsp_url":         s.CA.PublicURL + "/ocsp",
		"crl_url":          s.CA.PublicURL + "/crl.der",
	}
	maps.Copy(settings, s.options.CA)
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	s.serveAddress, s.MetricsAddress = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	messaging := s.messagingDir()
	get := map[string]any{"enabled": true, "ca": "devca"}
	maps.Copy(get, s.options.Get)
	lock := map[string]any{}
	maps.Copy(lock, s.options.Lock)
	serve := map[string]any{"address": s.serveAddress, "form_key_file": filepath.Join(s.Dir, "serve.key")}
	if s.options.Serve {
		serve["metrics_address"] = s.MetricsAddress // an older build, without Self-Service, does not know it
	}
	maps.Copy(serve, s.options.ServeSettings)
	sections := map[string]any{
		"store": s.store(),
		"audit": map[string]any{"key_file": filepath.Join(s.Dir, "audit.key"), "checkpoint_dir": filepath.Join(s.Dir, "checkpoints")},
		"cas":   append([]map[string]any{settings}, s.cas...),
		"mail":  map[string]any{"folder": filepath.Join(s.Dir, "mail")},
		"get":   get,
		"lock":  lock,
		"serve": serve,
		"messaging": map[string]any{
			"url": s.Messaging.URL, "client_id": embedded.ClientID, "api_key_file": filepath.Join(messaging, embedded.APIKeyFile),
			"server_ca_file": filepath.Join(messaging, embedded.ServerCAFile), "attestation_file": filepath.Join(messaging, embedded.AttestationKeysFile),
			"callback_address": s.callbackAddress, "callback_certificate_file": filepath.Join(messaging, embedded.ServerCAFile),
			"callback_key_file": filepath.Join(messaging, embedded.ServerKeyFile),
			"callback_user":     embedded.CallbackUser, "callback_password_file": filepath.Join(messaging, embedded.CallbackPasswordFile),
		},
	}
	maps.Copy(sections, s.options.Sections)
	text, err := json.MarshalIndent(sections, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.ConfigFile, append(text, '\n'), 0o600)
}

// store is where Identity Manager's data lie: beside Temporal's, if that has a
// PostgreSQL.
func (s *Stack) store() map[string]any {
	if s.postgres == nil {
		return map[string]any{"driver": "sqlite", "dsn": filepath.Join(s.Dir, "im.db")}
	}
	return map[string]any{"driver": "postgres", "dsn": s.postgres.URL(imDatabase)}
}

// Run starts one more child that uses the installation, and does not wait for it.
func (s *Stack) Run(name, program string, args ...string) error {
	_, err := s.spawn(name, program, args, s.Environment())
	return err
}

// Command returns a command line of the starter that uses the installation, for the
// caller to run. It does not outlive this process.
func (s *Stack) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.options.Starter, args...) //nolint:gosec // the program that the caller names
	cmd.Env = append(os.Environ(), s.Environment()...)
	cmd.SysProcAttr = dieWithParent()
	return cmd
}

// spawn launches a child and keeps it.
func (s *Stack) spawn(name, program string, args, env []string) (*process, error) {
	p, err := s.launch(name, program, args, env)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes = append(s.processes, p)
	return p, nil
}

// launch starts a child whose output goes to a log file. It dies with this
// process, also if this one is killed.
func (s *Stack) launch(name, program string, args, env []string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(s.Dir, "log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // a fixed name in our own folder
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...) //nolint:gosec // the programs that the caller names
	cmd.Env = append(os.Environ(), env...)
	if s.options.Environment != nil {
		cmd.Env = append(cmd.Env, s.options.Environment(name)...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	p := &process{name: name, cmd: cmd, env: env, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is told by the process state
		close(p.done)
	}()
	return p, nil
}

// await returns when the child is ready, or why it will not be.
func (p *process) await(ctx context.Context, ready func(context.Context) bool) error {
	if p.ready == nil {
		p.ready = ready
	}
	for !ready(ctx) {
		select {
		case <-p.done:
			return fmt.Errorf("it ended (%s); the end of %s:\n%s", p.cmd.ProcessState, p.log.Name(), tail(p.log.Name()))
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w; the end of %s:\n%s", ctx.Err(), p.log.Name(), tail(p.log.Name()))
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// tail is the end of a log file, for an error message.
func tail(file string) string {
	const most = 2000
	text, err := os.ReadFile(file) //nolint:gosec // our own log
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(string(text))
}

// Stop stops the children, last one first, and waits until they are gone.
func (s *Stack) Stop() error {
	s.mu.Lock()
	processes := s.processes
	s.processes = nil
	s.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(processes) {
		errs = append(errs, p.stop())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	errs = append(errs, s.unlock())
	return errors.Join(errs...)
}

// stop asks a child to end, and ends it if it does not. One that is held is let go.
func (p *process) stop() error {
	defer func() { _ = p.log.Close() }()
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // what follows tells whether it is there
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// freePorts reserves ports for children.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		var err error
		if ports[i], err = port.Reserve(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// answers reports whether a GET succeeds.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := probe.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

var probe = &http.Client{Timeout: time.Second}
