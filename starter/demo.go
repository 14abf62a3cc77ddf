package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/starter/stack/smallstep"
	"mobileid/workflows"
)

const (
	defaultDir = ".dev"
	defaultBin = ".bin"

	// demoTimeout is more than a demo can take, even on a slow machine.
	demoTimeout = 5 * time.Minute
)

func (p *program) demoCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Lock mobile IDs on real parts, get a new one, and check the end states",
		Long: `Demo starts Temporal's development server, the development CA, the embedded
messaging server and the worker on free loopback ports, makes users with real
certificates, and plays scenes with real clients: locks, and the way from a lost
phone to a mobile ID on another one, which then signs and logs in. It checks the end
states in the store, in the CRL and by OCSP, and fails if one is not as it must be.
Then it stops what it started. The state stays for inspection; the next run starts
anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTimeout)
			defer cancel()
			return p.onStack(ctx, dir, p.playDemo)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "folder of all state")
	return cmd
}

// playDemo plays the scenes and reads the end states back. Its error is all that was
// not as it must be.
func (p *program) playDemo(ctx context.Context, d *demo.Demo) error {
	fmt.Fprintln(p.out, "\nScenes")
	err := errors.Join(d.Play(ctx), d.ReadBack(ctx))
	d.CheckYourself()
	if err == nil {
		fmt.Fprintln(p.out, "\nAll end states are as they must be.")
	}
	return err
}

func (p *program) runCommand() *cobra.Command {
	var dir, temporal string
	var workers int
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the same parts as the demo, with Self-Service, until Ctrl-C",
		Long: `Run starts the parts of the demo and Self-Service, and leaves them running until
Ctrl-C: with Temporal's development server and its Web UI, or with --temporal
postgres on Temporal's production server, which keeps its data, as Identity Manager
does, in a private PostgreSQL server that is removed in the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if workers < 1 {
				return fmt.Errorf("%w: --workers is %d, must be 1 or more", errUsage, workers)
			}
			options, err := p.stackOptions(cmd.Context(), dir, temporal)
			if err != nil {
				return err
			}
			options.Serve, options.Workers = true, workers
			return p.onStackOf(cmd.Context(), options, func(ctx context.Context, d *demo.Demo) error {
				if err := d.PutPasswords(ctx); err != nil {
					return err
				}
				invite(p.out, d.Stack)
				return d.Stack.Wait(ctx)
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "folder of all state")
	temporalFlag(cmd, &temporal, developmentServer)
	cmd.Flags().IntVar(&workers, "workers", 1, "how many workers")
	return cmd
}

// The servers that --temporal names.
const (
	developmentServer = "development"
	postgresServer    = "postgres"
)

func temporalFlag(cmd *cobra.Command, server *string, by string) {
	cmd.Flags().StringVar(server, "temporal", by, developmentServer+" (its server, SQLite) or "+postgresServer+" (the production server)")
}

// findTemporal finds the programs of the server that --temporal names.
func (p *program) findTemporal(ctx context.Context, options *stack.Options, server string) (err error) {
	switch server {
	case developmentServer:
		options.Temporal, err = stack.FindTemporal(ctx, defaultBin, p.out)
	case postgresServer:
		options.Cluster, err = stack.FindCluster(defaultBin)
	default:
		err = fmt.Errorf("%w: --temporal is %q, must be %s or %s", errUsage, server, developmentServer, postgresServer)
	}
	return err
}

func (p *program) demoCAsCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo-cas",
		Short: "Lock a mobile ID with certificates of two CAs, one of which is down for a while",
		Long: `Demo-cas runs the parts of the demo and a real step-ca beside them, which must be
installed ('make demo-cas' does that). A mobile ID with a certificate of each CA is
locked while step-ca is stopped; the end states are read back from both CAs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTimeout)
			defer cancel()
			options, err := p.stackOptions(ctx, dir, developmentServer)
			if err != nil {
				return err
			}
			stepCA, err := stack.FindStepCA(defaultBin)
			if err != nil {
				return err
			}
			return p.demoCAs(ctx, options, stepCA)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "folder of all state")
	return cmd
}

// demoCAs runs the scene with two CAs. stepCA is the step-ca program.
func (p *program) demoCAs(ctx context.Context, options stack.Options, stepCA string) (err error) {
	var step *smallstep.Server
	defer func() {
		if step != nil {
			err = errors.Join(err, step.Stop())
		}
	}()
	p.setupMore = func(ctx context.Context, s *stack.Stack) error {
		fmt.Fprintln(p.out, "  … starting step-ca")
		var err error
		if step, err = smallstep.Start(ctx, stepCA, filepath.Join(options.Dir, "step-ca"), pkix.Name{CommonName: "Example step-ca", Organization: []string{"Example"}}); err != nil {
			return err
		}
		options := step.Driver()
		s.AddCA(map[string]any{
			"name": demo.StepCA, "driver": "stepca", "issuer_file": step.IssuerFile(), "url": options.URL, "server_ca_file": options.ServerCAFile,
			"provisioner": options.Provisioner, "key_file": options.KeyFile, "crl_url": step.CRLURL,
		})
		return nil
	}
	return p.onStackOf(ctx, options, func(ctx context.Context, d *demo.Demo) error {
		err := d.PlayCAs(ctx, step)
		if err == nil {
			fmt.Fprintln(p.out, "\nAll end states are as they must be.")
		}
		return err
	})
}

// stackOptions finds or builds the programs of a fresh stack. temporal is the server,
// as --temporal names it.
func (p *program) stackOptions(ctx context.Context, dir, temporal string) (stack.Options, error) {
	options := stack.Options{Dir: dir, Progress: p.out, Fresh: true}
	err := p.findTemporal(ctx, &options, temporal)
	if err != nil {
		return options, err
	}
	if options.Worker, err = stack.FindWorker(ctx, defaultBin, p.out); err != nil {
		return options, err
	}
	options.Starter, err = os.Executable()
	return options, err
}

// onStack runs act on a fresh stack.
func (p *program) onStack(ctx context.Context, dir string, act func(context.Context, *demo.Demo) error) error {
	options, err := p.stackOptions(ctx, dir, developmentServer)
	if err != nil {
		return err
	}
	return p.onStackOf(ctx, options, act)
}

// onStackOf starts a stack with the demo's users, runs act, and stops it.
func (p *program) onStackOf(ctx context.Context, options stack.Options, act func(context.Context, *demo.Demo) error) (err error) {
	options.Setup = p.setupStack
	s, err := stack.Start(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(p.out, "\nstopping what was started")
		err = errors.Join(err, s.Stop())
	}()
	c, err := p.config()
	if err != nil {
		return err
	}
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	temporal, _, err := p.connect(ctx) // setupStack has told where it is
	if err != nil {
		return err
	}
	defer temporal.Close()
	key, err := config.GetHashKey(c)
	if err != nil {
		return err
	}
	d := &demo.Demo{
		Out: p.out, Stack: s, Store: store, Locks: starter.New(temporal, c.TaskQueue, starter.WithFailures(p.failures)),
		Gets: starter.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(key), starter.WithFailures(p.failures)), Terminal: isTerminal(p.out),
	}
	if err := d.Prepare(ctx); err != nil {
		return err
	}
	return act(ctx, d)
}

// setupStack makes this very program, too, use the new stack.
func (p *program) setupStack(ctx context.Context, s *stack.Stack) error {
	if p.setupMore != nil {
		if err := p.setupMore(ctx, s); err != nil {
			return err
		}
	}
	if err := s.WriteConfig(); err != nil {
		return err
	}
	for _, variable := range [][2]string{{config.FileVariable, s.ConfigFile}, {"TEMPORAL_ADDRESS", s.TemporalAddress}} {
		if err := os.Setenv(variable[0], variable[1]); err != nil {
			return err
		}
	}
	c, err := p.config()
	if err != nil {
		return err
	}
	_, err = setup(ctx, p, c)
	return err
}

// invite prints where everything is and what can be tried.
func invite(w io.Writer, s *stack.Stack) {
	fmt.Fprintf(w, `
Running. Stop with Ctrl-C.

  Self-Service     %[12]s  sign in as anna, bert, carl or eva with the password %[13]q
  Temporal Web UI  %[1]s
  Temporal         %[2]s
  CRL and OCSP     %[3]s
  worker           http://%[4]s/readyz, and /metrics for Prometheus
  logs             %[5]s/log%[14]s

In another terminal:

  export MOBILEID_CONFIG=%[6]s TEMPORAL_ADDRESS=%[2]s
  .bin/starter lock mid-1001 --user anna
  .bin/starter list --all
  temporal workflow query --workflow-id %[7]s --name status

A new mobile ID in the place of an active one; the phone is in a third terminal:

  .bin/starter get --user carl --lock --yes --qr-file %[11]s
  .bin/starter phone scan %[11]s --dir %[5]s/phone --messaging %[5]s/messaging

Without --qr-file the code stands in the terminal, from where 'phone scan -' takes it
pasted, up to an empty line. A lock goes on to the same with --then-get; then 'get'
joins it.

In the Web UI, Start Workflow:

  Workflow ID    %[8]s
  Task Queue     %[9]s
  Workflow Type  %[10]s
  Input          {"mobileId": "mid-1002", "userId": "bert"}

then on its page Send a Signal: next, or cancel. No input is needed.
`, webUI(s), s.TemporalAddress, s.CA.PublicURL, s.HealthAddress, s.Dir, s.ConfigFile,
		workflows.LockWorkflowID("mid-1001"), workflows.LockWorkflowID("mid-1002"), workflows.TaskQueue, workflows.Lock,
		filepath.Join(s.Dir, "qr.png"), s.ServeURL, demo.Password, database(s))
}

// database is how psql reaches Identity Manager's data, if they lie in PostgreSQL.
func database(s *stack.Stack) string {
	server, url := s.Database()
	if server == nil {
		return ""
	}
	return fmt.Sprintf("\n  PostgreSQL       psql '%s'; Temporal's data are in database temporal there", url)
}

// webUI is where the Web UI is. The production server has none of its own.
func webUI(s *stack.Stack) string {
	if s.UIAddress == "" {
		return "none here; the temporal program shows the same"
	}
	return s.UIAddress
}
