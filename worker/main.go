// Worker runs the processes: it polls their task queue and does what they ask
// for in Identity Manager and at the CAs. Any number of them can run side by
// side; one that dies loses nothing.
//
// It stops on SIGTERM or SIGINT, after the activities under way have ended.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.uber.org/zap"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/ca/configured"
	"mobileid/activities/identitymanager"
	"mobileid/activities/notify"
	"mobileid/config"
	"mobileid/encryption"
	"mobileid/telemetry"
	"mobileid/workflows"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("worker", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	c, err := config.Load(flags)
	if err != nil {
		return err
	}
	log := c.Log.Logger()
	defer func() { _ = log.Sync() }()

	w := worker{log: log, config: c}
	if w.cas, err = configured.Authorities(c.CAs); err != nil {
		return err
	}
	traces, err := w.measure(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := traces.Stop(ctx); err != nil {
			log.Warn("The last traces are not sent", zap.Error(err))
		}
	}()
	if c.Worker.Serves != config.ServesCAs {
		if w.store, err = identitymanager.Configured(ctx, c, func(o *identitymanager.Options) { o.Reached = w.metrics.Reached }); err != nil {
			return err
		}
		defer func() { _ = w.store.Close() }()
		if err := w.store.CheckSchema(ctx); err != nil {
			return err
		}
		if w.settings, err = settings(c); err != nil {
			return err
		}
		if w.get, err = newGet(c, w.store, w.cas); err != nil {
			return err
		}
		if w.mails, err = newMails(log, c, w.store); err != nil {
			return err
		}
	}
	options, err := config.Temporal()
	if err != nil {
		return err
	}
	if w.deployment, err = config.Deployment(); err != nil {
		return err
	}
	keyset, err := encryption.Configured(c.Encryption, func(err error) {
		log.Error("Changed keyset file is of no use; the keys from before stay in use", zap.Error(err))
	})
	if err != nil {
		return err
	}
	keyset.ForWorker(&options)
	options.MetricsHandler = w.metrics.Temporal()
	options.Interceptors = append(options.Interceptors, traces.Interceptors()...)
	if w.temporal, err = dial(ctx, log, options); err != nil {
		return err
	}
	defer w.temporal.Close()
	if w.store != nil && c.SearchAttributes.Enabled {
		if err := checkSearchAttributes(ctx, w.temporal, options.Namespace); err != nil {
			return err
		}
	}
	return w.serve(ctx)
}

// worker is one worker process with the parts that it uses.
type worker struct {
	log      *zap.Logger
	config   config.Config
	temporal client.Client
	cas      *ca.Authorities
	metrics  *telemetry.Metrics
	store    *identitymanager.Store // nil if it serves CAs alone
	settings activities.Settings
	get      *activities.Get // nil if Get mobile ID is not configured
	mails    *notify.Sender  // nil if it serves CAs alone

	deployment sdkworker.DeploymentOptions // which version this is; usually none
}

// dial connects to Temporal, or says within a few seconds that it cannot.
func dial(ctx context.Context, log *zap.Logger, options client.Options) (client.Client, error) {
	options.Logger = newSDKLogger(log)
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("connect to Temporal at %s, namespace %s: %w", options.HostPort, options.Namespace, err)
	}
	log.Info("Connected to Temporal", zap.String("address", options.HostPort), zap.String("namespace", options.Namespace))
	return temporal, nil
}

// checkSearchAttributes refuses to work without the search attributes: a process
// that sets an unregistered one is blocked until it is registered.
func checkSearchAttributes(ctx context.Context, temporal client.Client, namespace string) error {
	missing, err := workflows.MissingSearchAttributes(ctx, temporal, namespace)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("search attributes %s are not registered in namespace %s: run 'starter setup', or set search_attributes.enabled to false",
			strings.Join(missing, ", "), namespace)
	}
	return nil
}

// settings are the part of the configuration that travels with every lock.
func settings(c config.Config) (activities.Settings, error) {
	s := activities.Settings{
		Deadline: c.Lock.Deadline,
		Reason:   mobileid.Reason(c.Lock.Reason),
		Attributes: activities.AttributeSettings{
			Enabled: c.SearchAttributes.Enabled,
			User:    activities.UserAttribute(c.SearchAttributes.User),
		},
	}
	var err error
	if s.Overdue, err = c.Lock.OverdueAfter(); err != nil || s.Attributes.User != activities.UserHashed {
		return s, err
	}
	key, err := config.ReadKey("search_attributes.hash_key_file", c.SearchAttributes.HashKeyFile)
	s.Attributes.HashKey = key
	return s, err
}

// stickyTimeout is how long the task of a process waits for the worker that has
// it in memory, before any worker may take it.
const stickyTimeout = 2 * time.Second

// serve polls until ctx ends, and then lets running activities end.
func (w worker) serve(ctx context.Context) error {
	sdkworker.SetStickyWorkflowCacheSize(w.config.Worker.Cache)
	fatal := make(chan error, 1)
	fail := func(err error) {
		select {
		case fatal <- err:
		default: // another one ends the worker already
		}
	}
	polling := w.pollers(fail)

	cas := &caWatch{authorities: w.cas}
	if err := w.observe(cas); err != nil {
		return err
	}
	probes := health{temporal: w.temporal, cas: cas, metrics: w.metrics.Handler(), stopping: ctx.Done()}
	if w.store != nil {
		probes.store = w.store
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	sites := []site{
		{key: "worker.health_address", address: w.config.Worker.HealthAddress, handler: probes.handler()},
		{key: "worker.profile_address", address: w.config.Worker.ProfileAddress, handler: profiles()},
	}
	if w.get != nil && w.config.Messaging.CallbackAddress != "" {
		receiver, tlsConfig, err := callbacks(w.log, w.config.Messaging, inbox{w.store, w.temporal})
		if err != nil {
			return err
		}
		sites = append(sites, site{"messaging.callback_address", w.config.Messaging.CallbackAddress, receiver, tlsConfig})
	}
	if w.store != nil && w.config.CRLPush.Address != "" {
		receiver, tlsConfig, err := crlPush(w.log, w.config.CRLPush, w.store, w.cas)
		if err != nil {
			return err
		}
		sites = append(sites, site{"crl_push.address", w.config.CRLPush.Address, receiver, tlsConfig})
	}
	for _, site := range sites {
		if site.address == "" {
			continue
		}
		listener, err := listenTLS(site.address, site.tls)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", site.key, err)
		}
		w.log.Info("Serving "+site.key, zap.String("address", listener.Addr().String()))
		go func() {
			if err := serveHTTP(serving, listener, site.handler); err != nil {
				fail(fmt.Errorf("serve %s: %w", site.key, err))
			}
		}()
	}
	if w.store != nil {
		go keepCheckpoints(serving, w.log, w.config.Audit, w.store)
	}
	if w.get != nil {
		go forgetSecrets(serving, w.log, w.store)
	}
	var mailing sync.WaitGroup
	sending, stopSending := context.WithCancel(ctx)
	defer stopSending()
	if w.mails != nil {
		mailing.Go(func() { w.mails.Run(sending) })
	}
	for queue, poller := range polling {
		if err := poller.Start(); err != nil {
			return fmt.Errorf("start polling task queue %s: %w", queue, err)
		}
	}
	w.log.Info("Worker is ready", w.startFields(slices.Sorted(maps.Keys(polling)))...)
	go cas.watch(serving, w.log)
	var err error
	select {
	case <-ctx.Done():
		w.log.Info("Stopping: running activities may end", zap.Duration("atMost", w.config.Worker.StopTimeout))
	case err = <-fatal:
	}
	stopSending()
	var stopping sync.WaitGroup
	stopping.Go(mailing.Wait)
	for _, poller := range polling {
		stopping.Go(poller.Stop)
	}
	stopping.Wait()
	w.log.Info("Worker has stopped")
	return err
}

// site is what the worker serves by HTTP at an address.
type site struct {
	key, address string
	handler      http.Handler
	tls          *tls.Config // nil: plain
}

// pollers makes one for each task queue that is served.
func (w worker) pollers(fatal func(error)) map[string]sdkworker.Worker {
	options := sdkworker.Options{
		MaxConcurrentActivityExecutionSize: w.config.Worker.Activities,
		WorkerStopTimeout:                  w.config.Worker.StopTimeout,
		// So that a retry or a cancellation reaches a running activity soon: the
		// default would hold heartbeats back for most of their timeout.
		MaxHeartbeatThrottleInterval: activities.HeartbeatInterval,
		// Shorter than what a caller waits for an answer, so that the next message
		// after the end of a worker is answered by another one.
		StickyScheduleToStartTimeout: stickyTimeout,
		DisableRegistrationAliasing:  true,
		DeploymentOptions:            w.deployment,
		OnFatalError:                 fatal,
	}
	a := &activities.Activities{CAs: w.cas, Settings: w.settings}
	polling := map[string]sdkworker.Worker{}
	if w.store != nil {
		a.IM, a.Get, a.Unfinished, a.Overdue, a.Revoked = w.store, w.get, w.store, w.store, w.store
		a.Compared = w.compared
		processes := sdkworker.New(w.temporal, w.config.TaskQueue, options)
		workflows.Register(processes)
		a.Register(processes)
		polling[w.config.TaskQueue] = processes
	}
	if w.config.Worker.Serves == config.ServesProcesses {
		return polling
	}
	for _, queue := range w.config.CAQueues() {
		if polling[queue] != nil {
			continue // the CA's queue is the processes' own
		}
		options.DisableWorkflowWorker = true
		polling[queue] = sdkworker.New(w.temporal, queue, options)
		a.RegisterCA(polling[queue])
	}
	return polling
}

// profiles are Go's own: processor time, memory, goroutines.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// startFields say what this worker runs with, without any secret.
func (w worker) startFields(queues []string) []zap.Field {
	fields := []zap.Field{zap.Strings("taskQueues", queues), zap.Strings("cas", names(w.cas))}
	if w.deployment.UseVersioning {
		fields = append(fields, zap.String("deployment", w.deployment.Version.DeploymentName), zap.String("build", w.deployment.Version.BuildID))
	}
	if w.store == nil {
		return fields
	}
	return append(fields,
		zap.Strings("processes", []string{workflows.Lock, workflows.LockForOperator, workflows.Get}),
		zap.Bool("get", w.get != nil),
		zap.String("mail", w.config.Mail.Driver),
		zap.String("store", w.config.Store.Driver),
		zap.Bool("searchAttributes", w.config.SearchAttributes.Enabled),
		zap.Bool("encryption", w.config.Encryption.KeysetFile != ""),
		zap.Duration("deadline", w.config.Lock.Deadline),
	)
}
