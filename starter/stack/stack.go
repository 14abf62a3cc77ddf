// Package stack runs the processes of a development installation on free
// loopback ports: Temporal's development server, devca, messaging, the worker, and
// Self-Service if asked for. Each is a process of its own, so that one can be killed
// without the others.
//
// All state lies in one folder.
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
	"syscall"
	"time"

	"mobileid/activities/ca/devca"
	"mobileid/activities/messaging/embedded"
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
	// worker starts.
	Setup func(ctx context.Context, s *Stack) error
	// Cluster, if not nil, is run in the place of the temporal program.
	Cluster *Cluster
	// CA are further settings of the CA.
	CA map[string]any
	// Get and Lock are further settings of Get mobile ID and of Lock mobile ID.
	Get, Lock map[string]any
	// Sections are further sections of the configuration.
	Sections map[string]any
	// Serve runs Self-Service, too.
	Serve bool
}

// Stack is a running installation.
type Stack struct {
	Dir             string
	ConfigFile      string
	TemporalAddress string
	UIAddress       string // URL of Temporal's Web UI
	HealthAddress   string // of the worker
	ProfileAddress  string // of the worker
	ServeURL        string // of Self-Service; empty: it does not run
	CA              devca.Addresses
	Messaging       embedded.Addresses

	options   Options
	cas       []map[string]any // beside devca
	processes []*process
	postgres  *postgres.Server // with a Cluster
	unlock    func() error

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
}

const (
	startTimeout = time.Minute
	stopTimeout  = 15 * time.Second
	pollInterval = 50 * time.Millisecond
)

// Start starts everything, or stops again what it has started and returns why.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
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
		{"the worker", s.startWorker},
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
	p, err := s.spawn("devca", s.options.Starter, []string{"devca", "--dir", dir}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func() bool {
		s.CA, err = devca.ReadAddresses(dir)
		return err == nil && answers(ctx, s.CA.PublicURL+"/healthz")
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
	dir := s.messagingDir()
	p, err := s.spawn("messaging", s.options.Starter, []string{
		"messaging", "--dir", dir, "--callback-url", "https://" + s.callbackAddress, "--callback-ca", filepath.Join(dir, embedded.ServerCAFile),
	}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func() bool {
		s.Messaging, err = embedded.ReadAddresses(dir)
		return err == nil && listens(ctx, s.Messaging.URL)
	})
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
	return p.await(ctx, func() bool {
		// The UI's server asks the frontend, so its answer means that both are up.
		return answers(ctx, s.UIAddress+"/api/v1/namespaces/default")
	})
}

func (s *Stack) startWorker(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	s.HealthAddress = "127.0.0.1:" + ports[0]
	s.ProfileAddress = "127.0.0.1:" + ports[1]
	p, err := s.spawn("worker", s.options.Worker, nil, append(s.Environment(),
		"MOBILEID_WORKER_HEALTH_ADDRESS="+s.HealthAddress, "MOBILEID_WORKER_PROFILE_ADDRESS="+s.ProfileAddress))
	if err != nil {
		return err
	}
	return p.await(ctx, func() bool { return answers(ctx, "http://"+s.HealthAddress+"/readyz") })
}

// startServe starts Self-Service at the address that the configuration has.
func (s *Stack) startServe(ctx context.Context) error {
	p, err := s.spawn("serve", s.options.Starter, []string{"serve"}, s.Environment())
	if err != nil {
		return err
	}
	s.ServeURL = "http://" + s.serveAddress
	return p.await(ctx, func() bool { return answers(ctx, s.ServeURL+"/readyz") })
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
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	s.serveAddress = "127.0.0.1:" + ports[0]
	messaging := s.messagingDir()
	get := map[string]any{"enabled": true, "ca": "devca"}
	maps.Copy(get, s.options.Get)
	lock := map[string]any{}
	maps.Copy(lock, s.options.Lock)
	sections := map[string]any{
		"store": s.store(),
		"audit": map[string]any{"key_file": filepath.Join(s.Dir, "audit.key"), "checkpoint_dir": filepath.Join(s.Dir, "checkpoints")},
		"cas":   append([]map[string]any{settings}, s.cas...),
		"mail":  map[string]any{"folder": filepath.Join(s.Dir, "mail")},
		"get":   get,
		"lock":  lock,
		"serve": map[string]any{"address": s.serveAddress, "form_key_file": filepath.Join(s.Dir, "serve.key")},
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

// MeasureWorkerStart starts another worker, returns how long it took until it was
// ready, and stops it.
func (s *Stack) MeasureWorkerStart(ctx context.Context) (time.Duration, error) {
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	p, err := s.spawn("another-worker", s.options.Worker, nil, append(s.Environment(),
		"MOBILEID_WORKER_HEALTH_ADDRESS=127.0.0.1:"+ports[0], "MOBILEID_MESSAGING_CALLBACK_ADDRESS="))
	if err != nil {
		return 0, err
	}
	err = p.await(ctx, func() bool { return answers(ctx, "http://127.0.0.1:"+ports[0]+"/readyz") })
	took := time.Since(start)
	s.processes = s.processes[:len(s.processes)-1]
	return took, errors.Join(err, p.stop())
}

// spawn starts a child whose output goes to a log file. It dies with this
// process, also if this one is killed.
func (s *Stack) spawn(name, program string, args, env []string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(s.Dir, "log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // a fixed name in our own folder
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...) //nolint:gosec // the programs that the caller names
	cmd.Env = append(os.Environ(), env...)
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
	s.processes = append(s.processes, p)
	return p, nil
}

// await returns when the child is ready, or why it will not be.
func (p *process) await(ctx context.Context, ready func() bool) error {
	for !ready() {
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

// Process returns a running child by its name: devca, temporal or worker. A test
// that stops or kills it sees what the others make of that.
func (s *Stack) Process(name string) (*os.Process, bool) {
	for _, p := range s.processes {
		if p.name == name {
			return p.cmd.Process, true
		}
	}
	if name == "postgres" && s.postgres != nil {
		return s.postgres.Process(), true
	}
	return nil, false
}

// Restart starts a child anew, after it has ended, as it was started before: on
// its ports and its files.
func (s *Stack) Restart(name string) error {
	for i, p := range s.processes {
		if p.name != name {
			continue
		}
		<-p.done
		anew, err := s.spawn(name, p.cmd.Path, p.cmd.Args[1:], p.env)
		if err != nil {
			return fmt.Errorf("restart %s: %w", name, err)
		}
		s.processes = slices.Delete(s.processes, len(s.processes)-1, len(s.processes))
		s.processes[i] = anew
		return p.log.Close()
	}
	return fmt.Errorf("restart %s: it was never started", name)
}

// Ended returns a channel that is closed when a child has ended.
func (s *Stack) Ended(name string) <-chan struct{} {
	for _, p := range s.processes {
		if p.name == name {
			return p.done
		}
	}
	return nil
}

// Wait returns when ctx ends or a child has ended by itself.
func (s *Stack) Wait(ctx context.Context) error {
	ended := make(chan *process, len(s.processes))
	for _, p := range s.processes {
		go func() {
			<-p.done
			ended <- p
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case p := <-ended:
		return fmt.Errorf("%s ended by itself (%s); see %s", p.name, p.cmd.ProcessState, p.log.Name())
	}
}

// Stop stops the children, last one first, and waits until they are gone.
func (s *Stack) Stop() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].stop())
	}
	s.processes = nil
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	errs = append(errs, s.unlock())
	return errors.Join(errs...)
}

// stop asks a child to end, and ends it if it does not.
func (p *process) stop() error {
	defer func() { _ = p.log.Close() }()
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

// freePorts asks the system for ports that nobody uses. Somebody may take one
// before our child does; then the child fails and says so.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
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
