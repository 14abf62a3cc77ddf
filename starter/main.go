// Starter is the command line of the mobile ID processes: it sets the stores up,
// runs the development CA and the demo, and starts and steers locks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"

	"mobileid"
	"mobileid/config"
	"mobileid/encryption"
	starter "mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/telemetry"
	"mobileid/workflows"
)

// Exit codes, the same as those of the scripts.
const (
	exitDone    = 0
	exitError   = 1
	exitUsage   = 2
	exitRefused = 3
	exitEnded   = 4 // cancelled or expired: nothing was changed
)

const exitCodesHelp = `Exit codes:
  0  done
  1  error
  2  usage: the command line or the configuration is wrong
  3  refused: the request or message was turned down, with the reason
  4  cancelled or expired: nothing was changed`

// errUsage marks a mistake of the command line; errEnded a process that ended
// before Next.
var (
	errUsage = errors.New("usage")
	errEnded = errors.New("the process ended before Next: nothing was changed")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{in: stdin, out: stdout, err: stderr}
	root := p.command() //nolint:contextcheck // the commands take it from cmd.Context()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	// Arguments are checked before p.json is set, and their errors are JSON, too.
	if output := root.PersistentFlags().Lookup("output"); output.Value.String() == "json" {
		p.json = true
	}
	if p.endTrace != nil {
		p.endTrace()
	}
	return p.report(err)
}

// program is what the commands share.
type program struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	config   func() (config.Config, error)
	failures converter.FailureConverter // of the connection to Temporal; nil: the SDK's own

	traces   *telemetry.Traces // nil: none are configured
	endTrace func()            // nil: there is none

	// setupMore, if not nil, prepares what a stack has beside the usual parts.
	setupMore func(ctx context.Context, s *stack.Stack) error
}

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "starter",
		Short: "Lock mobile IDs, and all that it takes",
		Long: `Starter locks mobile IDs: it starts the process, sends Next and Cancel, and shows
how far it got. It also sets up what the processes need, and runs the
development CA and the demo.

Every setting of config.yaml is a flag, too (--store.dsn), and a variable
(MOBILEID_STORE_DSN). Temporal is reached as the temporal program does
(TEMPORAL_ADDRESS and the like).

` + exitCodesHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	root.PersistentFlags().StringVarP(&output, "output", "o", "text", "text or json")
	config.Flags(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if output != "text" && output != "json" {
			return fmt.Errorf("%w: --output is %q, must be text or json", errUsage, output)
		}
		p.json = output == "json"
		return p.trace(cmd)
	}
	p.config = func() (config.Config, error) { return config.Load(root.PersistentFlags()) }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(
		p.lockCommand(), p.nextCommand(), p.cancelCommand(), p.retryCommand(), p.statusCommand(), p.listCommand(),
		p.getCommand(), p.serveCommand(), p.passwordCommand(), p.userCommand(), p.caCommand(), p.auditCommand(), p.reconcileCommand(), p.restoreCommand(), p.mailsCommand(), p.setupCommand(), p.codecCommand(), p.devcaCommand(), p.messagingCommand(), p.healthcheckCommand(), p.phoneCommand(), p.demoCommand(), p.demoCAsCommand(), p.runCommand(), p.benchCommand(), p.benchWorkerCommand(),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// report tells of an error and returns the exit code.
func (p *program) report(err error) int {
	if err == nil {
		return exitDone
	}
	var refusal *mobileid.Refusal
	var faults *config.Faults
	switch {
	case errors.Is(err, errEnded):
		return exitEnded
	case errors.As(err, &refusal):
		if p.json {
			_ = p.printJSON(map[string]any{"refusal": refusal})
		} else {
			fmt.Fprintf(p.err, "refused (%s): %s\n", refusal.Type, refusal.Message)
		}
		return exitRefused
	}
	if p.json {
		_ = p.printJSON(map[string]any{"error": err.Error()})
	} else {
		fmt.Fprintln(p.err, "starter:", err)
	}
	if errors.Is(err, errUsage) || errors.As(err, &faults) || isCobraUsage(err) {
		return exitUsage
	}
	return exitError
}

// connect reaches Temporal as the temporal program does.
func (p *program) connect(ctx context.Context) (client.Client, config.Config, error) {
	c, err := p.config()
	if err != nil {
		return nil, c, err
	}
	options, err := p.temporal(c)
	if err != nil {
		return nil, c, err
	}
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, c, fmt.Errorf("connect to Temporal at %s, namespace %s: %w", options.HostPort, options.Namespace, err)
	}
	return temporal, c, nil
}

// temporal is how Temporal is reached: with the encryption and the traces that are
// configured.
func (p *program) temporal(c config.Config) (client.Options, error) {
	options, err := config.Temporal()
	if err != nil {
		return options, err
	}
	keyset, err := encryption.Configured(c.Encryption, func(err error) { fmt.Fprintln(p.err, "starter:", err) })
	if err != nil {
		return options, err
	}
	keyset.ForClient(&options)
	p.failures = options.FailureConverter
	// What goes wrong is told as the command's error; the SDK has nothing to add.
	options.Logger = log.NewStructuredLogger(discard())
	options.Interceptors = append(options.Interceptors, p.traces.Interceptors()...)
	return options, nil
}

// caller makes the library's caller: the user if one is given, else an operator.
func (p *program) caller(ctx context.Context, user, by string) (*starter.Caller, func(), error) {
	temporal, c, err := p.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	library := starter.New(temporal, c.TaskQueue, starter.WithFailures(p.failures))
	if user != "" && by == "" {
		return library.User(user), temporal.Close, nil
	}
	return library.Operator(by), temporal.Close, nil
}

// ended turns the end of a process into the exit it means.
func ended(outcome workflows.Outcome) error {
	if outcome == workflows.OutcomeCancelled || outcome == workflows.OutcomeExpired {
		return errEnded
	}
	return nil
}
