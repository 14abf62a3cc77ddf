package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/workflows"
)

func (p *program) setupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "setup",
		Short: "Make the store's schema, the keys, and the search attributes",
		Long: `Setup brings everything to where the worker can start: the audit key (made if it
is missing), the schema of Identity Manager's store, and the search attributes and
the schedules of reconciliations and of warnings in Temporal. It can be run again at any time: what is there is kept.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config()
			if err != nil {
				return err
			}
			done, err := setup(cmd.Context(), p, c)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"done": done})
			}
			fmt.Fprintln(p.out, strings.Join(done, "\n"))
			return nil
		},
	}
}

// setup does the three parts and says what each came to.
func setup(ctx context.Context, p *program, c config.Config) ([]string, error) {
	done, err := setupStore(ctx, c)
	if err != nil {
		return done, err
	}
	temporal, _, err := p.connect(ctx)
	if err != nil {
		return done, err
	}
	defer temporal.Close()
	if c.SearchAttributes.Enabled {
		registered, err := setupSearchAttributes(ctx, temporal)
		if err != nil {
			return done, err
		}
		done = append(done, registered)
	}
	scheduled, err := workflows.ScheduleReconciliation(ctx, temporal, c.TaskQueue, c.Reconciliation.Every,
		workflows.ReconcileRequest{MinAge: c.Reconciliation.MinAge})
	if err != nil {
		return done, err
	}
	done = append(done, scheduled)
	every := c.Lock.OverdueEvery
	if len(c.Lock.OverdueMail) == 0 {
		every = 0 // nobody wants to know
	}
	scheduled, err = workflows.ScheduleOverdue(ctx, temporal, c.TaskQueue, every)
	if err != nil {
		return done, err
	}
	return append(done, scheduled), nil
}

func setupSearchAttributes(ctx context.Context, temporal client.Client) (string, error) {
	options, err := config.Temporal()
	if err != nil {
		return "", err
	}
	added, err := workflows.RegisterSearchAttributes(ctx, temporal, options.Namespace)
	if err != nil {
		return "", err
	}
	if len(added) == 0 {
		return "search attributes: all registered", nil
	}
	return "search attributes: registered " + strings.Join(added, ", "), nil
}

func setupStore(ctx context.Context, c config.Config) ([]string, error) {
	var done []string
	keys := []string{c.Audit.KeyFile}
	if c.SearchAttributes.User == "hashed" || c.Get.Enabled && c.Get.WorkflowID == "hashed" {
		keys = append(keys, c.SearchAttributes.HashKeyFile)
	}
	// Whoever does not serve Self-Service can do without.
	if made, err := config.MakeKey(c.Serve.FormKeyFile); err != nil {
		done = append(done, "key: none for the forms of Self-Service, which 'starter serve' needs: "+err.Error())
	} else if made {
		done = append(done, "key: made "+c.Serve.FormKeyFile+" for the forms of Self-Service")
	}
	for _, file := range keys {
		made, err := config.MakeKey(file)
		if err != nil {
			return done, err
		}
		if made {
			done = append(done, "key: made "+file+"; keep a copy, the audit cannot be verified without it")
		}
	}
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return done, err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return done, err
	}
	return append(done, "store: schema is up to date"), nil
}
