package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"mobileid/activities/ca/devca"
	"mobileid/starter/bench"
	"mobileid/starter/bench/sizes"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

type benchSizesOptions struct {
	certificates, entries, rows []int
	locks                       int
	file                        string
}

func (p *program) benchSizesCommand() *cobra.Command {
	var o benchSizesOptions
	var short bool
	cmd := &cobra.Command{
		Use:   "sizes",
		Short: "Measure a lock by the number of certificates, revoked entries and rows",
		Long: `Sizes starts Temporal and Identity Manager on PostgreSQL, and measures locks with
few and many certificates, with few and many revoked entries in the development
CA, and with few and many rows in Identity Manager's store. With the most rows it
also reads from PostgreSQL how each statement of a lock was carried out. The exit
code is 1 if one of them reads a table from one end to the other.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if short {
				o = benchSizesOptions{certificates: []int{1, 100}, entries: []int{1, 10_000}, rows: []int{1, 100_000}, locks: 5, file: o.file}
			}
			return p.benchSizes(cmd.Context(), o)
		},
	}
	cmd.Flags().IntSliceVar(&o.certificates, "certificates", []int{1, 10, 100, 1_000}, "of the mobile ID, ascending")
	cmd.Flags().IntSliceVar(&o.entries, "entries", []int{1, 1_000, 100_000, 1_000_000}, "revoked in the CA, ascending")
	cmd.Flags().IntSliceVar(&o.rows, "rows", []int{1, 10_000, 1_000_000, 10_000_000}, "in Identity Manager, ascending")
	cmd.Flags().IntVar(&o.locks, "locks", 50, "measured at each size")
	cmd.Flags().BoolVar(&short, "short", false, "two small sizes of each, to try it in some two minutes; no figures to quote")
	cmd.Flags().StringVar(&o.file, "file", "", "also write the report as JSON into this file, beside the others")
	return cmd
}

// errScans makes the exit code 1.
var errScans = errors.New("a statement of a lock reads a table from one end to the other")

func (p *program) benchSizes(ctx context.Context, o benchSizesOptions) (err error) {
	s, err := p.benchStack(ctx, "postgres", settleForLocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	m, err := p.measuring(ctx, s)
	if err != nil {
		return err
	}
	defer m.close()
	g := &grower{stack: s, seed: m.seed, temporal: m.temporal, queue: m.config.TaskQueue, out: p.out}
	report, err := sizes.Run(ctx, sizes.Options{
		Temporal: m.temporal, TaskQueue: m.config.TaskQueue, Owner: benchOwner, Seed: g.mobileIDs, Revoke: g.revoke, Published: g.published, Fill: g.fill, Plans: g.plans, Filled: filledTables,
		Processes:    func() map[string]bench.Process { return benchProcesses(s, "worker", "temporal", "postgres", "devca") },
		Certificates: o.certificates, Entries: o.entries, Rows: o.rows, Locks: o.locks, Out: p.out,
	})
	if err != nil {
		return err
	}
	report.Place = m.place()
	if err := report.Print(p.out); err != nil {
		return err
	}
	if o.file != "" {
		if err := writeReport(o.file, "sizes", report); err != nil {
			return err
		}
	}
	if len(report.Scanned()) > 0 {
		return errScans
	}
	return nil
}

// grower makes more of everything.
type grower struct {
	stack    *stack.Stack
	seed     *seeder
	temporal client.Client
	queue    string
	out      io.Writer
	entries  int // made in the CA
	people   int // made in the store
}

func (g *grower) mobileIDs(ctx context.Context, n, certificates int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("bench-%d", g.seed.made.Add(1))
		all := make([]*x509.Certificate, certificates)
		group, issuing := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for c := range all {
			group.Go(func() (err error) {
				all[c], err = g.seed.certificate(issuing, nil, false, 0)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		if err := g.seed.create(ctx, ids[i], benchOwner, all...); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// restart ends a process of the stack, does what cannot be done while it runs, and starts
// it again.
func (g *grower) restart(name string, meanwhile func() error) error {
	process, _ := g.stack.Process(name)
	if err := process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-g.stack.Ended(name)
	if err := meanwhile(); err != nil {
		return err
	}
	return g.stack.Restart(name)
}

// revoke makes entries in the CA, up to so many.
func (g *grower) revoke(ctx context.Context, entries int) (time.Duration, error) {
	var start time.Time
	err := g.restart("devca", func() error { //nolint:contextcheck // devca works on in its own time
		first := g.entries + 1
		g.entries = max(entries, g.entries)
		defer func() { start = time.Now() }()
		return devca.Prefill(filepath.Join(g.stack.Dir, "ca"), first, g.entries-first+1)
	})
	if err != nil {
		return 0, err
	}
	for {
		if _, err := fetch(ctx, g.stack.CA.PublicURL+"/healthz"); err == nil {
			return time.Since(start), nil
		}
		if err := pause(ctx); err != nil {
			return 0, err
		}
	}
}

// pollPause is how often it is looked whether something has happened.
const pollPause = 250 * time.Millisecond

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollPause):
		return nil
	}
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", address, response.Status) //nolint:err113 // of a measurement
	}
	const most = 1 << 30
	return io.ReadAll(io.LimitReader(response.Body, most))
}

// published locks one more, and waits from its end until the CRL lists its certificate.
func (g *grower) published(ctx context.Context) (time.Duration, int64, error) {
	ids, err := g.mobileIDs(ctx, 1, 1)
	if err != nil {
		return 0, 0, err
	}
	run, err := g.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.LockWorkflowID(ids[0]), TaskQueue: g.queue},
		workflows.Lock, workflows.LockRequest{MobileID: ids[0], UserID: benchOwner, Confirmed: true})
	if err != nil {
		return 0, 0, err
	}
	if err := run.Get(ctx, nil); err != nil {
		return 0, 0, err
	}
	ended := time.Now()
	m, err := g.seed.store.MobileID(ctx, ids[0])
	if err != nil {
		return 0, 0, err
	}
	number, ok := new(big.Int).SetString(m.Certificates[0].Serial, 16)
	if !ok {
		return 0, 0, hex.ErrLength
	}
	for {
		list, err := fetch(ctx, g.stack.CA.PublicURL+"/crl.der")
		if err != nil {
			return 0, 0, err
		}
		// Serial numbers are random and 16 bytes long: there is no other place for them.
		if bytes.Contains(list, number.Bytes()) {
			return time.Since(ended), int64(len(list)), nil
		}
		if err := pause(ctx); err != nil {
			return 0, 0, err
		}
	}
}

// partsOfPerson is how many rows fill makes for one person: the user, their role, a
// mobile ID, two certificates, an audit record, the head of the chain, and a session.
const partsOfPerson = 8

// filledTables are where they are.
var filledTables = []string{"users", "user_roles", "mobile_ids", "certificates", "audit", "audit_heads", "sessions"}

// fill makes rows in Identity Manager's store, by the database's own means, up to so many.
// They are of the shape of real ones, except that the audit's have no valid MAC and the
// certificates no DER.
func (g *grower) fill(ctx context.Context, rows int) (err error) {
	conn, err := pgx.Connect(ctx, g.stack.Databases()["mobileid"])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	first, last := g.people+1, max(rows/partsOfPerson, 1)
	g.people = max(last, g.people)
	for _, statement := range []string{
		`INSERT INTO users (id, name, email, active, created_at) SELECT 'person-' || n, 'Person ' || n, n || '@example.com', true, now() FROM generate_series($1::int, $2::int) AS n`,
		`INSERT INTO user_roles (user_id, role) SELECT 'person-' || n, 'BaseRoleSelfServiceUser' FROM generate_series($1::int, $2::int) AS n`,
		`INSERT INTO mobile_ids (id, owner, name, state, created_at) SELECT 'theirs-' || n, 'person-' || n, '', 'active', now() FROM generate_series($1::int, $2::int) AS n`,
		`INSERT INTO certificates (issuer, aki, serial, mobile_id, state, issuer_dn, not_before, not_after, created_at)
			SELECT like_it.issuer, like_it.aki, to_hex(n * 2::bigint + i), 'theirs-' || n, 'valid', like_it.issuer_dn, like_it.not_before, like_it.not_after, now()
			FROM generate_series($1::int, $2::int) AS n, generate_series(0, 1) AS i, (SELECT * FROM certificates WHERE mobile_id LIKE 'bench-%' LIMIT 1) AS like_it`,
		`INSERT INTO audit (mobile_id, number, record, mac, idempotency) SELECT 'theirs-' || n, 1, '{"event":"filled"}', md5(n::text), 'filled' FROM generate_series($1::int, $2::int) AS n`,
		`INSERT INTO audit_heads (mobile_id, number, mac) SELECT 'theirs-' || n, 1, md5(n::text) FROM generate_series($1::int, $2::int) AS n`,
		`INSERT INTO sessions (id, user_id, method, created_at, seen_at, expires_at)
			SELECT lpad(n::text, 64, '0'), 'person-' || n, 'openid', now(), now(), now() + interval '8 hours' FROM generate_series($1::int, $2::int) AS n`,
	} {
		if _, err := conn.Exec(ctx, statement, first, last); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `VACUUM ANALYZE`); err != nil { // as the database does by itself in time
		return err
	}
	_, err = conn.Exec(ctx, `CHECKPOINT`)
	return err
}

// plans has PostgreSQL write down how it carries statements out, in connections that the
// worker makes anew.
func (g *grower) plans(ctx context.Context, act func(context.Context) error) ([]sizes.Plan, error) {
	conn, err := pgx.Connect(ctx, g.stack.Databases()["mobileid"])
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range []string{
		`ALTER DATABASE mobileid SET session_preload_libraries = 'auto_explain'`,
		`ALTER DATABASE mobileid SET auto_explain.log_min_duration = 0`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	if err := g.restart("worker", func() error { return nil }); err != nil { //nolint:contextcheck // a restart is not given up half-way
		return nil, err
	}
	log, err := os.Open(g.stack.PostgresLog())
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // it was read
	if _, err := log.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if err := act(ctx); err != nil {
		return nil, err
	}
	return sizes.ReadPlans(log)
}
