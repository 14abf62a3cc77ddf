package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/config"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// getOptions are the flags of get.
type getOptions struct {
	who
	lock, yes bool
	qrFile    string
}

func (p *program) getCommand() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get --user USER",
		Short: "Get a mobile ID for a user",
		Long: `Get writes a grant for the user, which is recorded in the audit, starts the
process, and asks Next or Cancel; with --yes, Next is taken as pressed. It shows
the QR code for the user's phone, and follows until the mobile ID is active. With
--lock, an active mobile ID of the user is locked first. A Get that runs already, for
example because a lock goes on to it, is joined.

The QR code is a secret for the user alone: who scans it gets the mobile ID. Where
there is no phone, 'starter phone scan' is one.

` + exitCodesHelp,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if o.user == "" {
				return fmt.Errorf("%w: --user is missing: who gets the mobile ID?", errUsage)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return p.withApplicant(cmd.Context(), &o.who, p.get(&o)) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Next is pressed already")
	cmd.Flags().BoolVar(&o.lock, "lock", false, "have an active mobile ID of the user locked first")
	cmd.Flags().StringVar(&o.qrFile, "qr-file", "", "write the QR code as a PNG into this file instead of the terminal")
	for _, message := range []struct {
		name, short string
		act         func(ctx context.Context, a *applicant) error
	}{
		{"status", "Show where the Get of a user stands", func(ctx context.Context, a *applicant) error {
			status, err := a.Status(ctx)
			return errors.Join(err, p.printGet(status, err))
		}},
		{"cancel", "Cancel the Get of a user; what was begun is taken back", func(ctx context.Context, a *applicant) error {
			status, err := a.Cancel(ctx)
			return errors.Join(err, p.printGet(status, err))
		}},
		{"retry", "Make the waiting step try again now", func(ctx context.Context, a *applicant) error {
			answer, err := a.Retry(ctx)
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
		}},
	} {
		var w who
		sub := &cobra.Command{
			Use: message.name + " --user USER", Short: message.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return p.withApplicant(cmd.Context(), &w, message.act) },
		}
		w.flags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

// applicant is the user of a command, with the store that has the user's grant and
// the secrets of the code.
type applicant struct {
	*starter.Applicant
	store *identitymanager.Store
	user  string
	by    string
	c     config.Config
}

// withApplicant runs act for the user of the flags.
func (p *program) withApplicant(ctx context.Context, w *who, act func(context.Context, *applicant) error) error {
	if w.user == "" {
		return fmt.Errorf("%w: --user is missing", errUsage)
	}
	store, c, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if !c.Get.Enabled {
		return fmt.Errorf("%w: get.enabled is false: Get mobile ID is not offered here", errUsage)
	}
	key, err := config.GetHashKey(c)
	if err != nil {
		return err
	}
	temporal, _, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer temporal.Close()
	gets := starter.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(key), starter.WithFailures(p.failures))
	// A shell is an operator's, whoever the user is.
	by := who{by: w.by}.operator()
	return act(ctx, &applicant{Applicant: gets.User(w.user, by), store: store, user: w.user, by: by, c: c})
}

// get starts a Get, has it confirmed, shows the code, and follows to the end.
func (p *program) get(o *getOptions) func(context.Context, *applicant) error {
	return func(ctx context.Context, a *applicant) error {
		if err := a.grant(ctx); err != nil {
			return err
		}
		status, err := a.Start(ctx)
		if err != nil {
			return err
		}
		if status.Live != "" && o.lock {
			if status, err = a.LockFirst(ctx); err != nil {
				return err
			}
		}
		if status.Phase == workflows.AwaitingConfirmation && !o.yes {
			if !p.canAsk() {
				return p.printGet(status, nil)
			}
			fmt.Fprintf(p.out, "Get a mobile ID for %s?\n", a.user)
			if !p.askNext() {
				status, err := a.Cancel(ctx)
				return errors.Join(err, p.printGet(status, err), ended(status.Outcome))
			}
		}
		if status, err = a.Next(ctx); err != nil {
			return err
		}
		if status.Stored {
			return p.printGet(status, nil)
		}
		if err := p.showCode(ctx, a, status, o.qrFile); err != nil {
			return err
		}
		status, err = a.WaitClosed(ctx, p.getProgress())
		if err != nil {
			return err
		}
		if err := errors.Join(p.printGet(status, nil), ended(status.Outcome)); err != nil {
			return err
		}
		if status.Failure != nil {
			return status.Failure
		}
		return nil
	}
}

// grant lets the user get a mobile ID, unless a Get runs already: a new grant would
// make the one void that it was started with. Where nobody can tell whether one runs, for
// example because no worker answers, a grant of before that is still good is kept.
func (a *applicant) grant(ctx context.Context) error {
	if status, err := a.Status(ctx); err == nil && status.Phase != workflows.Closed && !status.Stopped {
		return nil
	}
	_, err := a.store.EnsureGrant(ctx, a.user, "operator "+a.by, a.c.Get.GrantFor, a.c.Get.GrantFor/2)
	return err
}

// showCode shows the QR code once there is one, unless the user gets it by mail.
func (p *program) showCode(ctx context.Context, a *applicant, status starter.GetStatus, file string) error {
	if status.Phase == workflows.Closed {
		return nil
	}
	if a.c.Get.QR == config.QRByEmail {
		fmt.Fprintln(p.err, "The QR code is sent to the user by email (get.qr).")
		return nil
	}
	provisioning, err := a.store.Provisioning(ctx, status.MobileID)
	if err != nil {
		return err
	}
	if file != "" {
		picture, err := messaging.QR(provisioning.URI)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, picture, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(p.err, "Scan %s with the app until %s.\n", file, when(provisioning.ExpiresAt))
		return nil
	}
	text, err := messaging.QRText(provisioning.URI)
	if err != nil {
		return err
	}
	if isTerminal(p.err) {
		text = messaging.InColours(text)
	}
	// Beside the output, which may be kept.
	fmt.Fprintf(p.err, "Scan with the app until %s:\n\n%s\n", when(provisioning.ExpiresAt), text)
	return nil
}

// getProgress shows a line per change of phase. Of the last one the outcome tells.
func (p *program) getProgress() func(starter.GetStatus) {
	var last workflows.Phase
	return func(s starter.GetStatus) {
		if p.json || s.Phase == last || s.Phase == workflows.Closed {
			return
		}
		last = s.Phase
		fmt.Fprintln(p.err, getPhase(s.Phase)+" ...")
	}
}

// getPhases say what goes on, for whoever waits.
var getPhases = map[workflows.Phase]string{
	workflows.Validating:           "The request is looked at",
	workflows.AwaitingConfirmation: "Next or Cancel is waited for",
	workflows.LockingOld:           "The old mobile ID is being locked, and its certificates are being revoked at their CA",
	workflows.Provisioning:         "Messaging is asked for a QR code",
	workflows.AwaitingPhone:        "The phone is waited for",
	workflows.Issuing:              "The CA certifies the phone's keys",
	workflows.Installing:           "The phone takes its certificates",
	workflows.Activating:           "The mobile ID is being made active",
	workflows.TakingBack:           "It failed, and what was issued is being revoked",
	workflows.NeedsOperator:        "It waits for an operator",
}

// getPhase is a phase in words, or as it is called if it has none.
func getPhase(phase workflows.Phase) string {
	if words, known := getPhases[phase]; known {
		return words
	}
	return string(phase)
}

// printGet shows where a Get stands, unless it could not be read.
func (p *program) printGet(s starter.GetStatus, failed error) error {
	if failed != nil {
		return nil
	}
	if p.json {
		return p.printJSON(s)
	}
	fmt.Fprint(p.out, getHeadline(s))
	if s.Stored {
		return nil
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  mobile ID\t%s\n", dash(s.MobileID))
	fmt.Fprintf(w, "  requested\t%s\n", when(s.RequestedAt))
	fmt.Fprintf(w, "  active\t%s\n", when(s.ActivatedAt))
	if s.Lock != nil {
		fmt.Fprintf(w, "  old one locked by\t%s\n", s.Lock.WorkflowID)
	}
	for _, c := range s.Certificates {
		fmt.Fprintf(w, "  certificate\t%s of %s: %s in IM\n", short(c.Serial), dash(c.CA), c.StateInIM)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if s.Needs != "" && !s.Stopped {
		fmt.Fprintf(p.out, "\nNeeds an operator: %s\n", s.Needs)
	}
	return nil
}

// getHeadline says in one sentence how it stands, and never more than is true.
func getHeadline(s starter.GetStatus) string {
	switch {
	case s.Stored:
		return "Stored. No worker answers now; it takes effect when one does.\n"
	case s.Stopped:
		return fmt.Sprintf("It was ended from outside (%s), and nothing goes on. Start it again; reconciliation takes back what was begun.\n", s.Phase)
	case s.Outcome != "":
		return getOutcome(s) + "\n"
	case s.Failure != nil:
		return "No mobile ID comes of it: " + s.Failure.Message + ". What was issued is being revoked.\n"
	case s.Live != "":
		return fmt.Sprintf("Mobile ID %s is active: lock it first (--lock), or keep it, until %s.\n", s.Live, when(s.Deadline))
	case s.Phase == workflows.AwaitingConfirmation:
		return fmt.Sprintf("Waits for Next or Cancel until %s.\n", when(s.Deadline))
	case s.Phase == workflows.AwaitingPhone:
		return fmt.Sprintf("The QR code waits to be scanned until %s.\n", when(s.Deadline))
	}
	return getPhase(s.Phase) + ".\n"
}

// getOutcome says what came of a Get that is closed.
func getOutcome(s starter.GetStatus) string {
	switch {
	case s.Outcome == workflows.OutcomeActive:
		return fmt.Sprintf("The new mobile ID %s is active: it is on the phone, with %d certificates.", s.MobileID, len(s.Certificates))
	case s.Outcome == workflows.OutcomeExpired:
		return "Never answered, so the process has ended. " + getUnchanged(s)
	case s.Outcome == workflows.OutcomeCancelled && s.Failure == nil:
		return "Cancelled. " + getUnchanged(s)
	case s.Failure != nil:
		return "No mobile ID came of it: " + s.Failure.Message + ". Nothing is left behind: what was issued is revoked."
	}
	return "It has ended: " + string(s.Outcome) + "."
}

// getUnchanged says what a Get has left that did not begin: an old mobile ID may have
// been locked for it, and that is not undone.
func getUnchanged(s starter.GetStatus) string {
	if s.Lock != nil {
		return "No new mobile ID was made; the lock of the old one stays."
	}
	return "Nothing was changed."
}
