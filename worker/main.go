// Worker runs the processes: it polls their task queue and does what they ask
// for in Identity Manager and at the CAs. Any number of them can run side by
// side; one that dies loses nothing.
//
// It stops on SIGTERM or SIGINT, after the activities under way have ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
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
	"mobileid/config"
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

	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.CheckSchema(ctx); err != nil {
		return err
	}
	authorities, err := configured.Authorities(c.CAs)
	if err != nil {
		return err
	}
	settings, err := settings(c)
	if err != nil {
		return err
	}
	options, err := config.Temporal()
	if err != nil {
		return err
	}
	temporal, err := dial(ctx, log, options)
	if err != nil {
		return err
	}
	defer temporal.Close()
	if c.SearchAttributes.Enabled {
		if err := checkSearchAttributes(ctx, temporal, options.Namespace); err != nil {
			return err
		}
	}
	return serve(ctx, log, c, temporal, store, &activities.Activities{IM: store, CAs: authorities, Settings: settings})
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
	if s.Attributes.User != activities.UserHashed {
		return s, nil
	}
	key, err := config.ReadKey("search_attributes.hash_key_file", c.SearchAttributes.HashKeyFile)
	s.Attributes.HashKey = key
	return s, err
}

// stickyTimeout is how long the task of a process waits for the worker that has
// it in memory, before any worker may take it.
const stickyTimeout = 2 * time.Second

// serve polls until ctx ends, and then lets running activities end.
func serve(ctx context.Context, log *zap.Logger, c config.Config, temporal client.Client, store *identitymanager.Store, a *activities.Activities) error {
	sdkworker.SetStickyWorkflowCacheSize(c.Worker.Cache)
	fatal := make(chan error, 1)
	worker := sdkworker.New(temporal, c.TaskQueue, sdkworker.Options{
		MaxConcurrentActivityExecutionSize: c.Worker.Activities,
		WorkerStopTimeout:                  c.Worker.StopTimeout,
		// So that a retry or a cancellation reaches a running activity soon: the
		// default would hold heartbeats back for most of their timeout.
		MaxHeartbeatThrottleInterval: activities.HeartbeatInterval,
		// Shorter than what a caller waits for an answer, so that the next message
		// after the end of a worker is answered by another one.
		StickyScheduleToStartTimeout: stickyTimeout,
		DisableRegistrationAliasing:  true,
		OnFatalError:                 func(err error) { fatal <- err },
	})
	workflows.Register(worker)
	a.Register(worker)

	cas := &caWatch{authorities: a.CAs}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	for _, site := range []struct {
		key, address string
		handler      http.Handler
	}{
		{"worker.health_address", c.Worker.HealthAddress, health{temporal: temporal, store: store, cas: cas, stopping: ctx.Done()}.handler()},
		{"worker.profile_address", c.Worker.ProfileAddress, profiles()},
	} {
		if site.address == "" {
			continue
		}
		listener, err := net.Listen("tcp", site.address)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", site.key, err)
		}
		log.Info("Serving "+site.key, zap.String("address", listener.Addr().String()))
		go func() {
			if err := serveHTTP(serving, listener, site.handler); err != nil {
				fatal <- fmt.Errorf("serve %s: %w", site.key, err)
			}
		}()
	}
	go keepCheckpoints(serving, log, c.Audit, store)
	if err := worker.Start(); err != nil {
		return fmt.Errorf("start polling: %w", err)
	}
	log.Info("Worker is ready", startFields(c, a.CAs)...)
	go cas.watch(serving, log)
	var err error
	select {
	case <-ctx.Done():
		log.Info("Stopping: running activities may end", zap.Duration("atMost", c.Worker.StopTimeout))
	case err = <-fatal:
	}
	worker.Stop()
	log.Info("Worker has stopped")
	return err
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
func startFields(c config.Config, authorities *ca.Authorities) []zap.Field {
	names := []string{}
	for _, a := range authorities.All() {
		names = append(names, a.Name)
	}
	return []zap.Field{
		zap.String("taskQueue", c.TaskQueue),
		zap.Strings("processes", []string{workflows.Lock, workflows.LockForOperator}),
		zap.Strings("cas", names),
		zap.String("store", c.Store.Driver),
		zap.Bool("searchAttributes", c.SearchAttributes.Enabled),
		zap.Duration("deadline", c.Lock.Deadline),
	}
}
