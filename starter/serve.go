package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"mobileid/starter/selfservice"
	"mobileid/starter/selfservice/session"
	"mobileid/telemetry"
)

// scrapeTimeout is for a request of Prometheus, with its answer.
const scrapeTimeout = 10 * time.Second

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve Self-Service: the pages for the owners of mobile IDs",
		Long: `Serve is the Self-Service backend: users sign in, see their mobile IDs, lock them
and get new ones. Any number of instances can serve one store. It stops on SIGTERM
or SIGINT, after the requests under way have ended.

/healthz says that it lives, /readyz that it is not stopping, and that Temporal or
Identity Manager answers: either alone is of use to people.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) error {
	store, c, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	logger := c.Log.Logger()
	defer func() { _ = logger.Sync() }()
	options, err := p.temporal(c)
	if err != nil {
		return err
	}
	metrics, err := telemetry.NewServeMetrics(ctx, slog.New(zapslog.NewHandler(logger.Core())))
	if err != nil {
		return err
	}
	options.MetricsHandler = metrics.Temporal()
	// It serves without Temporal, too, and tells people so.
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return err
	}
	defer temporal.Close()
	server, err := selfservice.New(c, store, temporal, logger, selfservice.Options{Failures: p.failures, Trace: p.traces.Pages, Observer: metrics})
	if err != nil {
		return err
	}
	if err := metrics.ObserveStreams(server.OpenStreams); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Serve.Address)
	if err != nil {
		return fmt.Errorf("serve.address: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	if c.Serve.MetricsAddress != "" {
		scrapes, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Serve.MetricsAddress)
		if err != nil {
			return errors.Join(fmt.Errorf("serve.metrics_address: %w", err), listener.Close())
		}
		group.Go(func() error { return serveMetrics(ctx, scrapes, metrics.Handler()) })
	}
	logger.Info("Self-Service is served", zap.String("url", c.Serve.URL()))
	group.Go(func() error { return server.Serve(ctx, listener) })
	return group.Wait()
}

// serveMetrics answers Prometheus until ctx ends.
func serveMetrics(ctx context.Context, listener net.Listener, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: scrapeTimeout, ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape that is cut off is asked for again
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve.metrics_address: %w", err)
	}
	return nil
}

func (p *program) passwordCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "password --user USER",
		Short: "Give a user of the store a password for Self-Service",
		Long: `Password reads a new password, from the terminal or the first line of standard
input, and keeps its hash. The user's sessions end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" {
				return fmt.Errorf("%w: --user is missing", errUsage)
			}
			store, _, err := p.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			hash, err := p.readPasswordHash()
			if err != nil {
				return err
			}
			return store.PutPassword(cmd.Context(), user, hash)
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the user")
	return cmd
}

// readPasswordHash reads a password, and returns what is kept of it.
func (p *program) readPasswordHash() (string, error) {
	password, err := p.readPassword()
	if err != nil {
		return "", err
	}
	hash, err := session.HashPassword(password)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return hash, nil
}

// readPassword reads a password without showing it.
func (p *program) readPassword() (string, error) {
	if in, ok := p.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		fmt.Fprint(p.err, "New password: ")
		text, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(p.err)
		return string(text), err
	}
	lines := bufio.NewScanner(p.in)
	if !lines.Scan() {
		return "", errors.Join(errors.New("no password on standard input"), lines.Err())
	}
	return strings.TrimSuffix(lines.Text(), "\r"), nil
}
