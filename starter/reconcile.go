package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"mobileid/workflows"
)

func (p *program) reconcileCommand() *cobra.Command {
	var request workflows.ReconcileRequest
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Find and finish what was left unfinished",
		Long: `Reconcile looks for mobile IDs that a process has left between two states, because
somebody terminated it or a database was restored: locked ones with a certificate
that is not revoked, ones that are not locked although their lock has ended after
Next, and ones that a Get has registered and left. It also looks what is revoked here
up at its CA, which may have been restored from a backup. It starts what finishes
them. A schedule does the same, see reconciliation.every.

With --dry-run it only shows what it has found.

` + exitCodesHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.reconcile(cmd.Context(), request) },
	}
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only show what is found")
	return cmd
}

func (p *program) reconcile(ctx context.Context, request workflows.ReconcileRequest) error {
	temporal, c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer temporal.Close()
	request.MinAge = c.Reconciliation.MinAge
	for {
		result, err := reconcileOnce(ctx, temporal, c.TaskQueue, request)
		if err != nil {
			return err
		}
		if err := p.printReconciliation(result); err != nil {
			return err
		}
		// One that an operator must decide about is found each time.
		started := slices.ContainsFunc(result.Findings, func(f workflows.Finding) bool { return f.Action == workflows.ActionStarted })
		if !result.More || !started {
			return nil
		}
	}
}

func reconcileOnce(ctx context.Context, temporal client.Client, taskQueue string, request workflows.ReconcileRequest) (result workflows.ReconcileResult, err error) {
	run, err := temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.Reconciliation + "/" + uuid.NewString(), TaskQueue: taskQueue,
		StaticSummary: "Find and finish what was left unfinished",
	}, workflows.Reconciliation, request)
	if err != nil {
		return result, fmt.Errorf("start reconciliation: %w", err)
	}
	if err := run.Get(ctx, &result); err != nil {
		return result, fmt.Errorf("reconciliation %s: %w", run.GetID(), err)
	}
	return result, nil
}

func (p *program) printReconciliation(result workflows.ReconcileResult) error {
	if p.json {
		return p.printJSON(result)
	}
	if result.EndedUnknown {
		fmt.Fprintln(p.err, "Locks that have ended after Next were not looked for: the search attributes are not registered.")
	}
	for _, c := range result.Compared {
		if c.Problem != "" {
			fmt.Fprintf(p.err, "Not all that is revoked could be looked up at %s: %s\n", c.CA, c.Problem)
		}
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
	if result.Unlisted > 0 {
		fmt.Fprintf(p.out, "%d more are not listed: a process is at them, or only an operator can help.\n", result.Unlisted)
	}
	if result.More {
		fmt.Fprintf(p.out, "There are more; the next reconciliation goes on. Looked at %s.\n", result.StartedAt.Format(time.RFC3339))
	}
	return nil
}
