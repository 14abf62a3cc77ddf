package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mobileid/activities/identitymanager"
)

// maxMails is how many mails are listed.
const maxMails = 1000

func (p *program) mailsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mails",
		Short: "List the mails that are not sent",
		Long: `Mails lists what lies in the outbox and is not sent: what is to be tried, again or
for the first time, and what was given up. Whom a mail is for is not shown.

'starter mails retry ID' has one that was given up tried once more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.listMails(cmd.Context()) },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "retry ID",
		Short: "Have a mail that was given up tried once more",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, _, err := p.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			again, err := store.RequeueNotice(cmd.Context(), args[0])
			if err == nil && !again {
				err = fmt.Errorf("%w: there is no mail with this id that was given up", errUsage)
			}
			return err
		},
	})
	return cmd
}

func (p *program) listMails(ctx context.Context) error {
	store, _, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	mails, err := store.OpenNotices(ctx, maxMails)
	if err != nil {
		return err
	}
	if p.json {
		if mails == nil {
			mails = []identitymanager.OpenNotice{}
		}
		return p.printJSON(mails)
	}
	if len(mails) == 0 {
		fmt.Fprintln(p.out, "All mails are sent.")
		return nil
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tMOBILE ID\tSTATE\tSINCE\tTRIES\tPROBLEM")
	for _, m := range mails {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", m.ID, m.Kind, m.MobileID, m.State, when(m.CreatedAt), m.Attempts, dash(m.Problem))
	}
	return w.Flush()
}
