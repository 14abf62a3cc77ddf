package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.temporal.io/sdk/interceptor"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/ca/configured"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/embedded"
	"mobileid/config"
)

// The variables that make the test program another one. They must not look like
// settings of the worker.
const (
	workerVariable    = "WORKER_TEST_POINT"
	messagingVariable = "WORKER_TEST_MESSAGING"
)

// point is where a worker process meets its end.
type point struct {
	At     string // for example Register/after: the effect is there, and nobody was told
	Passes int    // how often it passes unharmed
	Lose   bool   // the worker issues, and never hears the CA's answer
}

// hooks are called at the points of a worker, by the name of the point.
type hooks struct {
	hit  func(at string)
	lose bool
}

// killer returns the hook that ends this process at a point.
func (p point) killer() func(string) {
	var passed atomic.Int32
	return func(at string) {
		if at == p.At && int(passed.Add(1)) == p.Passes+1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			// The signal may take a moment to stop all threads.
			time.Sleep(5 * time.Second)
		}
	}
}

// runPointedWorker is the worker program with a point where it ends.
func runPointedWorker(spec string) error {
	var p point
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := load(os.Args[1:])
	if err != nil {
		return err
	}
	w, err := assemble(ctx, c, nil, hooks{hit: p.killer(), lose: p.Lose})
	if err != nil {
		return err
	}
	defer func() { _ = w.store.Close() }()
	w.log = c.Log.Logger()
	if _, err := w.measure(ctx); err != nil {
		return err
	}
	options, err := config.Temporal()
	if err != nil {
		return err
	}
	options.Interceptors = append(options.Interceptors, &pointedTemporal{hit: p.killer()})
	if w.temporal, err = dial(ctx, zap.NewNop(), options); err != nil {
		return err
	}
	defer w.temporal.Close()
	return w.serve(ctx)
}

// load reads the settings as the worker program does.
func load(args []string) (config.Config, error) {
	flags := pflag.NewFlagSet("worker", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return config.Config{}, err
	}
	return config.Load(flags)
}

// assemble puts a worker together as the program does, with hooks around its effects.
// It opens the store unless there is one.
func assemble(ctx context.Context, c config.Config, store *identitymanager.Store, h hooks) (*worker, error) {
	w := &worker{log: zap.NewNop(), config: c, store: store}
	var err error
	if w.cas, err = configured.Authorities(c.CAs); err != nil {
		return nil, err
	}
	for _, authority := range w.cas.All() {
		driver, ok := authority.Driver.(*devca.Driver)
		if !ok {
			return nil, fmt.Errorf("CA %s is not devca", authority.Name)
		}
		authority.Driver = &pointedDriver{Driver: driver, hooks: h}
	}
	if w.store == nil {
		if w.store, err = identitymanager.Configured(ctx, c); err != nil {
			return nil, err
		}
	}
	if w.settings, err = settings(c); err != nil {
		return nil, err
	}
	if w.get, err = newGet(c, w.store, w.cas); err != nil {
		return nil, err
	}
	if w.get != nil {
		w.get.Applicants = &pointedApplicants{Applicants: w.get.Applicants, hooks: h}
		w.get.Messaging = &pointedMessenger{Messenger: w.get.Messaging, hooks: h}
	}
	return w, nil
}

// pointedApplicants is the real store, with a point before and after each effect.
type pointedApplicants struct {
	activities.Applicants
	hooks
}

func (p *pointedApplicants) Applicant(ctx context.Context, userID string) (mobileid.Applicant, error) {
	p.hit("Applicant/before")
	defer p.hit("Applicant/after")
	return p.Applicants.Applicant(ctx, userID)
}

func (p *pointedApplicants) Register(ctx context.Context, order mobileid.RegistrationOrder) (mobileid.Receipt, error) {
	p.hit("Register/before")
	defer p.hit("Register/after")
	return p.Applicants.Register(ctx, order)
}

func (p *pointedApplicants) PutProvisioning(ctx context.Context, provisioning mobileid.Provisioning) error {
	defer p.hit("PutProvisioning/after")
	return p.Applicants.PutProvisioning(ctx, provisioning)
}

func (p *pointedApplicants) PutCommand(ctx context.Context, c mobileid.Command) error {
	p.hit("PutCommand/before")
	defer p.hit("PutCommand/after")
	return p.Applicants.PutCommand(ctx, c)
}

func (p *pointedApplicants) Answer(ctx context.Context, commandID string) ([]byte, error) {
	p.hit("Answer/before")
	defer p.hit("Answer/after")
	return p.Applicants.Answer(ctx, commandID)
}

func (p *pointedApplicants) RecordIssued(ctx context.Context, order mobileid.IssueOrder) (mobileid.Receipt, error) {
	p.hit("RecordIssued/before")
	defer p.hit("RecordIssued/after")
	return p.Applicants.RecordIssued(ctx, order)
}

func (p *pointedApplicants) Activate(ctx context.Context, order mobileid.ActivationOrder) (mobileid.Receipt, error) {
	p.hit("Activate/before")
	defer p.hit("Activate/after")
	return p.Applicants.Activate(ctx, order)
}

func (p *pointedApplicants) Abandon(ctx context.Context, order mobileid.AbandonOrder) (mobileid.Receipt, error) {
	p.hit("Abandon/before")
	defer p.hit("Abandon/after")
	return p.Applicants.Abandon(ctx, order)
}

// pointedMessenger is the real client, with the same.
type pointedMessenger struct {
	activities.Messenger
	hooks
}

func (p *pointedMessenger) Provision(ctx context.Context, command messaging.Provision) (messaging.Accepted, error) {
	p.hit("Provision/before")
	defer p.hit("Provision/after")
	return p.Messenger.Provision(ctx, command)
}

func (p *pointedMessenger) Certificates(ctx context.Context, command messaging.Certificates) (messaging.Accepted, error) {
	p.hit("Certificates/before")
	defer p.hit("Certificates/after")
	return p.Messenger.Certificates(ctx, command)
}

// pointedDriver is the real driver, with the same.
type pointedDriver struct {
	*devca.Driver
	hooks
}

func (p *pointedDriver) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	p.hit("IssueOnce/before")
	defer p.hit("IssueOnce/after")
	issued, err := p.Driver.IssueOnce(ctx, request)
	if p.lose && err == nil {
		return nil, &ca.Error{Kind: ca.Ambiguous, Op: "issue", Words: "the answer is lost"}
	}
	return issued, err
}

func (p *pointedDriver) Issued(ctx context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	p.hit("Issued/before")
	defer p.hit("Issued/after")
	return p.Driver.Issued(ctx, csr)
}

func (p *pointedDriver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	p.hit("Revoke/before")
	defer p.hit("Revoke/after")
	return p.Driver.Revoke(ctx, cert, reason)
}

// pointedTemporal has a point before and after the process is told of an answer:
// between the store and the process, and between the process and messaging.
type pointedTemporal struct {
	interceptor.ClientInterceptorBase
	hit func(string)
}

// InterceptClient implements interceptor.ClientInterceptor.
func (p *pointedTemporal) InterceptClient(next interceptor.ClientOutboundInterceptor) interceptor.ClientOutboundInterceptor {
	return &pointedCalls{ClientOutboundInterceptorBase: interceptor.ClientOutboundInterceptorBase{Next: next}, hit: p.hit}
}

type pointedCalls struct {
	interceptor.ClientOutboundInterceptorBase
	hit func(string)
}

// SignalWorkflow implements interceptor.ClientOutboundInterceptor.
func (p *pointedCalls) SignalWorkflow(ctx context.Context, in *interceptor.ClientSignalWorkflowInput) error {
	p.hit("Tell/before")
	defer p.hit("Tell/after")
	return p.Next.SignalWorkflow(ctx, in)
}

// runMessaging is the messaging server of a folder. Its arguments are where it serves,
// and where it calls back.
func runMessaging(dir string) error {
	return embedded.Run(context.Background(), embedded.RunOptions{Dir: dir, Address: os.Args[1], Server: embedded.Options{
		CallbackURL: os.Args[2], CallbackCAFile: filepath.Join(dir, embedded.ServerCAFile), CallbackRetry: moment,
	}}, func(embedded.Addresses) { fmt.Println("messaging is ready") })
}
