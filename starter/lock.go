package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mobileid"
	"mobileid/activities"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// who are the flags that say on whose behalf a command acts.
type who struct{ user, by string }

func (w *who) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.user, "user", "", "the self-service user: must be the owner")
	cmd.Flags().StringVar(&w.by, "by", "", "act as this operator, for the audit (default without --user: your login name)")
}

// operator is the name under which an operator's command is recorded.
func (w who) operator() string {
	if w.by != "" || w.user != "" {
		return w.by
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "operator"
}

func (p *program) lockCommand() *cobra.Command {
	var w who
	var options starter.LockOptions
	var reason string
	var yes, noWait bool
	cmd := &cobra.Command{
		Use:   "lock MOBILE_ID --user USER",
		Short: "Lock a mobile ID and revoke its certificates",
		Long: `Lock asks for Next or Cancel, locks the mobile ID, and follows until all its
certificates are revoked. With --yes, Next is taken as pressed. Without a
terminal and without --yes it starts the process and leaves the answer to
'starter next' or 'starter cancel'.

With --by an operator locks the mobile ID of --user.

` + exitCodesHelp,
		Args: oneMobileID,
		PreRunE: func(*cobra.Command, []string) error {
			if w.user == "" {
				return fmt.Errorf("%w: --user is missing: whose mobile ID is it?", errUsage)
			}
			return nil
		},
		RunE: p.onMobileID(&w, func(ctx context.Context, caller *starter.Caller, id string) error {
			options.Reason = mobileid.Reason(reason)
			options.Owner = w.user
			if options.ThenGet {
				if err := p.grant(ctx, w); err != nil {
					return err
				}
			}
			return p.lock(ctx, caller, id, options, yes, noWait)
		}),
	}
	w.flags(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Next is pressed already")
	cmd.Flags().StringVar(&reason, "reason", "", "RFC 5280 reason (default: the configured one)")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return when the mobile ID is locked; its certificates follow")
	cmd.Flags().BoolVar(&options.ThenGet, "then-get", false, "go on to Get mobile ID, for which a grant is written: 'starter get' shows the code")
	cmd.Flags().BoolVar(&options.Resume, "resume", false, "check every certificate of a locked mobile ID at its CA again; presses nothing: a lock that waits for Next is refused")
	return cmd
}

// grant lets the user get a new mobile ID when the lock goes on to that.
func (p *program) grant(ctx context.Context, w who) error {
	return p.withApplicant(ctx, &w, func(ctx context.Context, a *applicant) error { return a.grant(ctx) })
}

// lock starts a lock, has it confirmed, and follows it.
func (p *program) lock(ctx context.Context, caller *starter.Caller, mobileID string, options starter.LockOptions, yes, noWait bool) error {
	if !yes && !options.Resume {
		status, err := caller.Start(ctx, mobileID, options)
		if err != nil {
			return err
		}
		if status.Phase == workflows.AwaitingConfirmation {
			if !p.canAsk() {
				return p.printStatus(status)
			}
			p.announce(status)
			if !p.askNext() {
				status, err := caller.Cancel(ctx, mobileID, options)
				if err != nil {
					return err
				}
				return errors.Join(p.printStatus(status), ended(status.Outcome))
			}
		}
	}
	status, err := caller.Lock(ctx, mobileID, options)
	if err != nil {
		return err
	}
	return p.follow(ctx, caller, mobileID, status, noWait)
}

// follow shows the progress of a lock after Next.
func (p *program) follow(ctx context.Context, caller *starter.Caller, mobileID string, status starter.Status, noWait bool) error {
	if noWait || status.Stored {
		return errors.Join(p.printStatus(status), ended(status.Outcome))
	}
	screen := p.newProgress()
	status, err := caller.Wait(ctx, mobileID, screen.update)
	screen.end()
	if err != nil {
		return err
	}
	return errors.Join(p.printStatus(status), ended(status.Outcome))
}

func (p *program) nextCommand() *cobra.Command {
	var w who
	var options starter.LockOptions
	var reason string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "next MOBILE_ID",
		Short: "Send Next to a waiting lock",
		Args:  oneMobileID,
		RunE: p.onMobileID(&w, func(ctx context.Context, caller *starter.Caller, id string) error {
			options.Reason = mobileid.Reason(reason)
			status, err := caller.Next(ctx, id, options)
			if err != nil {
				return err
			}
			return p.follow(ctx, caller, id, status, noWait)
		}),
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&options.RequestID, "request-id", "", "repeat an earlier call: it has the same answer")
	cmd.Flags().StringVar(&reason, "reason", "", "RFC 5280 reason, counts with the first Next")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return when the mobile ID is locked; its certificates follow")
	return cmd
}

func (p *program) cancelCommand() *cobra.Command {
	var w who
	var options starter.LockOptions
	cmd := &cobra.Command{
		Use:   "cancel MOBILE_ID",
		Short: "Send Cancel to a waiting lock: nothing is changed",
		Args:  oneMobileID,
		RunE: p.onMobileID(&w, func(ctx context.Context, caller *starter.Caller, id string) error {
			status, err := caller.Cancel(ctx, id, options)
			if err != nil {
				return err
			}
			return p.printStatus(status)
		}),
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&options.RequestID, "request-id", "", "repeat an earlier call: it has the same answer")
	return cmd
}

func (p *program) retryCommand() *cobra.Command {
	var w who
	cmd := &cobra.Command{
		Use:   "retry MOBILE_ID",
		Short: "Make the waiting step of a lock try again now",
		Args:  oneMobileID,
		RunE: p.onMobileID(&w, func(ctx context.Context, caller *starter.Caller, id string) error {
			answer, err := caller.Retry(ctx, id)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(answer)
			}
			if !answer.Retried {
				fmt.Fprintln(p.out, "not retried:", answer.Why)
				return nil
			}
			fmt.Fprintln(p.out, "retried")
			return nil
		}),
	}
	w.flags(cmd)
	return cmd
}

func (p *program) statusCommand() *cobra.Command {
	var w who
	cmd := &cobra.Command{
		Use:   "status MOBILE_ID",
		Short: "Show where a lock stands",
		Args:  oneMobileID,
		RunE: p.onMobileID(&w, func(ctx context.Context, caller *starter.Caller, id string) error {
			status, err := caller.Status(ctx, id)
			if err != nil {
				return err
			}
			return p.printStatus(status)
		}),
	}
	w.flags(cmd)
	return cmd
}

func (p *program) listCommand() *cobra.Command {
	var filter starter.ListFilter
	var user string
	var printQuery bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the locks that are under way",
		Long: `List shows the locks that are under way. With --user it finds those of one owner
also where the search attributes show owners hashed. With --print-query it prints
what to search for, and leaves the search to others:

  temporal workflow list --query "$(starter list --user anna --print-query)"
  tctl workflow list --query "$(starter list --user anna --print-query)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config()
			if err != nil {
				return err
			}
			if filter.User, err = userAttribute(c.SearchAttributes, user); err != nil {
				return err
			}
			if printQuery {
				fmt.Fprintln(p.out, filter.Query(time.Now()))
				return nil
			}
			temporal, c, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer temporal.Close()
			list, err := starter.New(temporal, c.TaskQueue).List(cmd.Context(), filter)
			if err != nil {
				return err
			}
			return p.printList(list)
		},
	}
	cmd.Flags().BoolVar(&filter.Closed, "all", false, "also those that have ended")
	cmd.Flags().BoolVar(&filter.NeedsOperator, "needs-operator", false, "only those that wait for an operator")
	cmd.Flags().DurationVar(&filter.OverdueAfter, "overdue", 0, "only those whose Next is longer ago than this, for example 15m")
	cmd.Flags().StringVar(&user, "user", "", "only those of this owner")
	cmd.Flags().BoolVar(&printQuery, "print-query", false, "print the query for Temporal's list, and do not run it")
	cmd.Flags().IntVar(&filter.Limit, "limit", 0, "at most so many (default 1000)")
	return cmd
}

// userAttribute is how a user stands in search attribute MobileIdUser; empty for
// nobody.
func userAttribute(c config.SearchAttributes, userID string) (string, error) {
	if userID == "" {
		return "", nil
	}
	if !c.Enabled || activities.UserAttribute(c.User) == activities.UserOff {
		return "", fmt.Errorf("%w: --user: search attributes do not tell of users here (search_attributes.user)", errUsage)
	}
	if activities.UserAttribute(c.User) == activities.UserPlain {
		return userID, nil
	}
	key, err := config.ReadKey("search_attributes.hash_key_file", c.HashKeyFile)
	if err != nil {
		return "", err
	}
	return activities.HashUser(key, userID), nil
}

// onMobileID makes a command that acts on one mobile ID on somebody's behalf.
func (p *program) onMobileID(w *who, act func(ctx context.Context, caller *starter.Caller, id string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		caller, done, err := p.caller(cmd.Context(), w.user, w.operator())
		if err != nil {
			return err
		}
		defer done()
		return act(cmd.Context(), caller, args[0])
	}
}

// oneMobileID checks the argument that most commands take.
func oneMobileID(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: give one MOBILE_ID", errUsage)
	}
	return mobileid.CheckID("mobileId", args[0])
}

// isCobraUsage recognises the mistakes that cobra itself reports.
func isCobraUsage(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "unknown command") || strings.HasPrefix(text, "accepts ") || strings.HasPrefix(text, "required flag")
}

// canAsk reports whether there is a person to ask: a terminal on both sides, and
// no other program reading along.
func (p *program) canAsk() bool {
	in, ok := p.in.(*os.File)
	return ok && !p.json && term.IsTerminal(int(in.Fd())) && isTerminal(p.out)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// announce says what Next will do.
func (p *program) announce(status starter.Status) {
	fmt.Fprintf(p.out, "Lock mobile ID %s?\n\n", status.MobileID)
	fmt.Fprintln(p.out, "What happens:")
	fmt.Fprintln(p.out, "  - it stops working for sign-in and signature, for good")
	fmt.Fprintf(p.out, "  - its %d certificates are revoked:\n", len(status.Certificates))
	for _, c := range status.Certificates {
		fmt.Fprintf(p.out, "      serial %s of %s, valid until %s\n", c.Serial, c.IssuerDN, c.NotAfter.Format(time.DateOnly))
	}
	fmt.Fprintf(p.out, "\nNothing has been changed so far. Unanswered, this ends at %s.\n", status.Deadline.Format(time.RFC3339))
}

// askNext asks for Next or Cancel. No answer at all is Cancel.
func (p *program) askNext() bool {
	answers := bufio.NewScanner(p.in)
	for {
		fmt.Fprint(p.out, "Next or Cancel? [next/cancel] ")
		if !answers.Scan() {
			return false
		}
		switch strings.ToLower(strings.TrimSpace(answers.Text())) {
		case "next", "n":
			return true
		case "cancel", "c":
			return false
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
