package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"mobileid/workflows"
)

func (p *program) reconcileCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Find and finish what was left unfinished",
		Long: `Reconcile looks for mobile IDs that a process has left between two states, because
somebody terminated it or a database was restored: locked ones with a certificate
that is not revoked, ones that are not locked although their lock has ended after
Next, and ones that a Get has registered and left. It starts what finishes them. A
schedule does the same, see reconciliation.every.

With --dry-run it only shows what it has found.

` + exitCodesHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.reconcile(cmd.Context(), dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what is found")
	return cmd
}

func (p *program) reconcile(ctx context.Context, dryRun bool) error {
	temporal, c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer temporal.Close()
	run, err := temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.Reconciliation + "/" + uuid.NewString(), TaskQueue: c.TaskQueue,
		StaticSummary: "Find and finish what was left unfinished",
	}, workflows.Reconciliation, workflows.ReconcileRequest{DryRun: dryRun, MinAge: c.Reconciliation.MinAge})
	if err != nil {
		return fmt.Errorf("start reconciliation: %w", err)
	}
	var result workflows.ReconcileResult
	if err := run.Get(ctx, &result); err != nil {
		return fmt.Errorf("reconciliation %s: %w", run.GetID(), err)
	}
	return p.printReconciliation(result)
}

func (p *program) printReconciliation(result workflows.ReconcileResult) error {
	if p.json {
		return p.printJSON(result)
	}
	if result.EndedUnknown {
		fmt.Fprintln(p.err, "Locks that have ended after Next were not looked for: the search attributes are not registered.")
	}
	if len(result.Findings) == 0 {
		fmt.Fprintln(p.out, "Nothing is unfinished.")
		return nil
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MOBILE ID\tOWNER\tSTATE\tPROBLEM\tDONE")
	for _, f := range result.Findings {
		done := string(f.Action)
		if f.Why != "" {
			done += ": " + f.Why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.MobileID, f.UserID, f.State, f.Problem, done)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if result.More {
		fmt.Fprintf(p.out, "There are more; the next reconciliation goes on. Looked at %s.\n", result.StartedAt.Format(time.RFC3339))
	}
	return nil
}
