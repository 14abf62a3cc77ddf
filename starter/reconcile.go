package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"mobileid/workflows"
)

// notTakenAfter is how long a process waits for a worker until whoever waits for its
// result is told.
const notTakenAfter = 3 * time.Second

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

With --dry-run it only shows what it has found. It is a worker that looks: while none
runs, the command says so and waits.

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
		result, err := p.reconcileOnce(ctx, temporal, c.TaskQueue, request)
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

func (p *program) reconcileOnce(ctx context.Context, temporal client.Client, taskQueue string, request workflows.ReconcileRequest) (result workflows.ReconcileResult, err error) {
	run, err := temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.Reconciliation + "/" + uuid.NewString(), TaskQueue: taskQueue,
		StaticSummary: "Find and finish what was left unfinished",
	}, workflows.Reconciliation, request)
	if err != nil {
		return result, fmt.Errorf("start reconciliation: %w", err)
	}
	waiting, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		p.tellIfNotTaken(waiting, temporal, run)
	}()
	err = run.Get(ctx, &result)
	stop()
	<-told
	if err != nil {
		return result, fmt.Errorf("reconciliation %s: %w", run.GetID(), err)
	}
	return result, nil
}

// tellIfNotTaken says so if no worker has taken the first task of a run after a while. A
// worker that was there and is away is no such case: the run is under way then.
func (p *program) tellIfNotTaken(ctx context.Context, temporal client.Client, run client.WorkflowRun) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(notTakenAfter):
		}
		answer, err := temporal.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		if err != nil {
			continue // what is wrong is told by who waits for the result
		}
		// Of a run that nobody has looked at there are its start and the task.
		if answer.GetPendingWorkflowTask().GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED && answer.GetWorkflowExecutionInfo().GetHistoryLength() <= 2 {
			fmt.Fprintln(p.err, "No worker has taken the reconciliation on yet. It goes on when one does.")
		}
		return
	}
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
