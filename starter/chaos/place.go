package chaos

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mobileid/starter/stack"
	"mobileid/starter/stack/postgres"
	"mobileid/starter/stack/smallstep"
)

// The processes, as the stack calls them, and those beside it.
const (
	worker      = "worker"
	worker2     = "worker-2"
	serve       = "serve"
	devcaName   = "devca"
	messagingIs = "messaging"
	temporalIs  = "temporal"
	database    = "postgres"    // Temporal's
	imDatabase  = "im-postgres" // Identity Manager's
	stepCA      = "step-ca"
	clients     = "clients" // this process, and phones
)

// addressHeader is how Self-Service is told the address of a client.
const addressHeader = "X-Real-IP"

// stepCRL is the way of both workers to the CRL of step-ca.
const stepCRL = "workers→step-ca-crl"

// imName is the database of Identity Manager.
const imName = "mobileid"

// Programs are what is run.
type Programs struct {
	Starter, Worker string // with a clock that can be off: see BuildShifted
	TemporalServer  string
	TemporalSQLTool string
	StepCA          string
}

// place is the running stack with all that stands between its parts.
type place struct {
	dir      string
	stack    *stack.Stack
	network  *network
	im       *postgres.Server
	disk     *disk
	step     *smallstep.Server
	fronts   map[string]*front
	requests *journal // of revocations, on their way to a CA
	starter  string
	worker   string

	offsets map[string]time.Duration // of clocks, by process; read when one starts
	ended   map[string]int           // how often a process ended by itself
	health  map[string]string        // URL that answers when a process is ready
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// start starts everything in a fresh folder. Its callers close the place also if it
// fails.
func (p *place) start(ctx context.Context, programs Programs, progress io.Writer) error {
	p.network, p.fronts, p.health = newNetwork(), map[string]*front{}, map[string]string{}
	p.offsets, p.ended = map[string]time.Duration{}, map[string]int{}
	p.starter, p.worker = programs.Starter, programs.Worker
	var err error
	if p.requests, err = newJournal(filepath.Join(p.dir, requestsFile)); err != nil {
		return err
	}
	if p.disk, err = mountDisk(); err != nil {
		return err
	}
	// The commit time of each row says when Identity Manager knew what.
	if p.im, err = postgres.StartIn(p.disk.dir, "track_commit_timestamp=on", "max_wal_size=64MB"); err != nil { //nolint:contextcheck // it outlives the start
		return err
	}
	if err := p.im.CreateDatabase(ctx, imName); err != nil {
		return err
	}
	fmt.Fprintln(progress, "  … starting step-ca")
	if p.step, err = smallstep.Start(ctx, programs.StepCA, filepath.Join(p.dir, stepCA), pkix.Name{CommonName: "Chaos step-ca", Organization: []string{"Example"}}); err != nil {
		return err
	}
	p.stack, err = stack.Start(ctx, stack.Options{
		Dir: filepath.Join(p.dir, "stack"), Starter: programs.Starter, Worker: programs.Worker, Progress: progress, Fresh: true, Serve: true,
		Cluster: &stack.Cluster{Server: programs.TemporalServer, SQLTool: programs.TemporalSQLTool},
		CA:      map[string]any{"call_timeout": "5s"},
		Lock:    map[string]any{"notify": false},
		Get:     map[string]any{"scan_wait": "45s", "install_wait": "45s", "step_wait": "30s", "notify": false, "key_types": []string{"EC-P-256"}},
		Sections: map[string]any{
			"store":          map[string]any{"driver": "postgres", "dsn": p.dsn(p.im.Address())},
			"reconciliation": map[string]any{"every": "1m", "min_age": "2m"},
		},
		Environment: p.environment, Via: p.via, Setup: p.setup,
	})
	if err != nil {
		return err
	}
	ports, err := freePort(ctx)
	if err != nil {
		return err
	}
	p.health[worker] = "http://" + p.stack.HealthAddress + "/readyz"
	p.health[worker2] = "http://127.0.0.1:" + ports + "/readyz"
	p.health[serve] = p.stack.ServeURL + "/readyz"
	if _, err := p.network.edge(clients+"→"+serve, host(p.stack.ServeURL)); err != nil {
		return err
	}
	if err := p.stack.Run(worker2, programs.Worker); err != nil {
		return err
	}
	return p.ready(ctx, worker2)
}

// via is how Temporal reaches its database, and messaging the worker.
func (p *place) via(name, address string) (string, error) {
	from := map[string]string{"postgres": temporalIs + "→" + database, "callback": messagingIs + "→" + worker}[name]
	return p.network.edge(from, address)
}

// setup makes the ways between the processes, a configuration for each, and the
// schema. It is called when Temporal and the CAs run, and before the workers do.
func (p *place) setup(ctx context.Context, s *stack.Stack) error {
	p.stack = s
	options := p.step.Driver()
	s.AddCA(map[string]any{
		"name": stepCA, "driver": "stepca", "issuer_file": p.step.IssuerFile(), "url": options.URL, "server_ca_file": options.ServerCAFile,
		"provisioner": options.Provisioner, "key_file": options.KeyFile, "crl_url": p.step.CRLURL, "call_timeout": "5s",
	})
	if err := s.WriteConfig(); err != nil {
		return err
	}
	if err := p.openFronts(ctx); err != nil {
		return err
	}
	// A CRL says where it is published, and is not believed elsewhere: both workers read
	// step-ca's at one address.
	crl, err := p.network.edge(stepCRL, p.fronts["step-ca-crl"].address)
	if err != nil {
		return err
	}
	if err := p.step.PublishAt(ctx, strings.Replace(p.step.CRLURL, host(p.step.CRLURL), crl, 1)); err != nil {
		return err
	}
	for _, process := range []string{worker, worker2, serve, clients} {
		if err := p.configure(process); err != nil {
			return fmt.Errorf("configure %s: %w", process, err)
		}
	}
	command := s.Command(ctx, "setup")
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("starter setup: %w\n%s", err, said)
	}
	return nil
}

// openFronts opens what stands before the CAs.
func (p *place) openFronts(ctx context.Context) error {
	ca := filepath.Join(p.stack.Dir, "ca")
	trust, err := pool(filepath.Join(ca, "tls-ca.pem"))
	if err != nil {
		return err
	}
	server, err := tls.LoadX509KeyPair(filepath.Join(ca, "tls.pem"), filepath.Join(ca, "tls.key"))
	if err != nil {
		return err
	}
	client, err := tls.LoadX509KeyPair(filepath.Join(ca, "client.pem"), filepath.Join(ca, "client.key"))
	if err != nil {
		return err
	}
	stepTrust, err := pool(p.step.Driver().ServerCAFile)
	if err != nil {
		return err
	}
	stepServer, err := p.stepCertificate()
	if err != nil {
		return err
	}
	for _, service := range []struct {
		name, ca, target string
		server           *tls.Config
		transport        *http.Transport
		journal          *journal
	}{
		{
			"devca-api", devcaName, p.stack.CA.APIURL,
			&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust, MinVersion: tls.VersionTLS12},
			&http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: trust, MinVersion: tls.VersionTLS12}},
			p.requests,
		},
		{"devca-public", devcaName, p.stack.CA.PublicURL, nil, &http.Transport{}, nil},
		{
			"step-ca-api", stepCA, p.step.URL,
			&tls.Config{Certificates: []tls.Certificate{stepServer}, MinVersion: tls.VersionTLS12},
			&http.Transport{TLSClientConfig: &tls.Config{RootCAs: stepTrust, MinVersion: tls.VersionTLS12}},
			p.requests,
		},
		{"step-ca-crl", stepCA, p.step.CRLURL, nil, &http.Transport{}, nil},
	} {
		f, err := newFront(ctx, service.ca, service.target, service.server, service.transport, service.journal)
		if err != nil {
			return err
		}
		p.fronts[service.name] = f
	}
	return nil
}

// stepCertificate is for the front of step-ca, by step-ca's own issuer.
func (p *place) stepCertificate() (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.step.Issuer, &key.PublicKey, p.step.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der, p.step.Issuer.Raw}, PrivateKey: key}, nil
}

// configure writes the configuration of one process: that of the stack, with each
// address replaced by the way that this process has to it.
func (p *place) configure(process string) error {
	text, err := os.ReadFile(p.stack.ConfigFile)
	if err != nil {
		return err
	}
	ways := map[string]string{ // what is reached, by its address in the configuration
		host(p.stack.CA.APIURL): "devca-api", host(p.stack.CA.PublicURL): "devca-public", host(p.step.URL): "step-ca-api", host(p.step.CRLURL): "step-ca-crl",
		host(p.stack.Messaging.URL): messagingIs, p.im.Address(): imDatabase,
	}
	var replace []string
	for address, what := range ways {
		upstream := address
		if f, ok := p.fronts[what]; ok {
			upstream = f.address
		}
		if process == serve || process == clients {
			if what != imDatabase {
				continue
			}
		}
		name := process + "→" + what
		if what == "step-ca-crl" {
			name = stepCRL
		}
		way, err := p.network.edge(name, upstream)
		if err != nil {
			return err
		}
		replace = append(replace, address, way)
	}
	if _, err := p.network.edge(process+"→"+temporalIs, p.stack.TemporalAddress); err != nil {
		return err
	}
	return os.WriteFile(p.config(process), []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600) //nolint:gosec // in the folder of the run
}

func (p *place) config(process string) string {
	return filepath.Join(p.dir, "config-"+process+".yaml")
}

// temporalFor is the way of a process to Temporal.
func (p *place) temporalFor(process string) string {
	return p.network.address(process + "→" + temporalIs)
}

// environment is what a process of the stack gets when it starts.
func (p *place) environment(process string) []string {
	variables := []string{p.raceReports()}
	if offset := p.offsets[process]; offset != 0 {
		variables = append(variables, offsetVariable+"="+offset.String())
	}
	switch process {
	case worker2:
		address := strings.TrimSuffix(strings.TrimPrefix(p.health[worker2], "http://"), "/readyz")
		variables = append(variables, "MOBILEID_WORKER_HEALTH_ADDRESS="+address, "MOBILEID_MESSAGING_CALLBACK_ADDRESS=")
	case serve:
		// People come by many addresses, and not from this machine alone.
		variables = append(variables, "MOBILEID_SERVE_ADDRESS_HEADER="+addressHeader)
	case worker:
	default:
		return variables
	}
	return append(variables, "MOBILEID_CONFIG="+p.config(process), "TEMPORAL_ADDRESS="+p.temporalFor(process))
}

// raceReports is the variable by which a program with the race detector writes what that
// finds into the folder of the run, and goes on.
func (p *place) raceReports() string {
	return "GORACE=exitcode=0 log_path=" + filepath.Join(p.dir, racesFile)
}

// races counts what the race detector has found in all programs.
func (p *place) races() (int, error) {
	files, err := filepath.Glob(filepath.Join(p.dir, racesFile+".*"))
	if err != nil {
		return 0, err
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // in the folder of the run
		if err != nil {
			return 0, err
		}
		found += strings.Count(string(text), "WARNING: DATA RACE")
	}
	return found, nil
}

// process finds a running process.
func (p *place) process(name string) (*os.Process, bool) {
	switch name {
	case imDatabase:
		return p.im.Process(), true
	case stepCA:
		return p.step.Process(), true
	}
	return p.stack.Process(name)
}

// restart starts a process again that was killed.
func (p *place) restart(ctx context.Context, name string) error {
	switch name {
	case imDatabase:
		return p.im.Restart() //nolint:contextcheck // it bounds itself: see patience there
	case stepCA:
		return p.step.Restart(ctx)
	}
	return p.stack.Restart(name) //nolint:contextcheck // the process outlives what starts it
}

// supervise starts again what has ended by itself, as a supervisor does: a program
// that finds nobody at its start may end. It counts them.
func (p *place) supervise(ctx context.Context) error {
	for _, name := range []string{worker, worker2, serve, devcaName, messagingIs, temporalIs} {
		select {
		case <-p.stack.Ended(name):
			p.ended[name]++
			if err := p.restart(ctx, name); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// ready returns when a process answers its probe. The others are ready when their
// clients say so.
func (p *place) ready(ctx context.Context, name string) error {
	address, ok := p.health[name]
	if !ok {
		return nil
	}
	client := &http.Client{Timeout: time.Second}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close stops everything, in the order in which it does not hurt.
func (p *place) close() error {
	var errs []error
	if p.stack != nil {
		errs = append(errs, p.stack.Stop())
	}
	if p.step != nil {
		errs = append(errs, p.step.Stop())
	}
	for _, f := range p.fronts {
		f.close()
	}
	p.network.close()
	if p.im != nil {
		errs = append(errs, p.im.Close())
	}
	if p.disk != nil {
		errs = append(errs, p.disk.close())
	}
	if p.requests != nil {
		errs = append(errs, p.requests.close())
	}
	return errors.Join(errs...)
}

func (*place) dsn(address string) string {
	return "postgres://postgres@" + address + "/" + imName + "?sslmode=disable"
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func pool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // in the folder of the run
	if err != nil {
		return nil, err
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return trust, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file) //nolint:gosec // in the folder of the run
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}

func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
