package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/starter/bench"
	"mobileid/starter/bench/pages"
	starter "mobileid/starter/client"
	"mobileid/starter/selfservice/session"
	"mobileid/starter/stack"
)

// pageAskers are the visitors who ask for pages. Each has an address, and the server's
// limits are by address.
const pageAskers = 20

// pagesSettle is how long those locks that wait may try their CA before pages are
// measured: the engine tries it less and less often.
const pagesSettle = 30 * time.Second

type benchPagesOptions struct {
	temporal string
	open     int
	pairs    int
	round    time.Duration
	rate     float64
	locks    float64
	file     string
}

func (p *program) benchPagesCommand() *cobra.Command {
	var o benchPagesOptions
	var short bool
	cmd := &cobra.Command{
		Use:   "pages",
		Short: "Measure pages of Self-Service while many progress pages are open",
		Long: `Pages starts Temporal, the development CA, a worker and Self-Service, and asks for
pages at a fixed rate while no progress page is open, and while many are: each of
a user of their own, by a real event stream, about a lock that waits for a CA that
is down. Rounds of the two take turns. A second series has other locks that go
through meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if short {
				o.pairs, o.round = 1, 10*time.Second
			}
			return p.benchPages(cmd.Context(), o)
		},
	}
	temporalFlag(cmd, &o.temporal, postgresServer)
	cmd.Flags().IntVar(&o.open, "open", 500, "progress pages that are open")
	cmd.Flags().IntVar(&o.pairs, "pairs", 3, "pairs of rounds, without and with")
	cmd.Flags().DurationVar(&o.round, "round", 20*time.Second, "of each round")
	cmd.Flags().Float64Var(&o.rate, "rate", 25, "pages asked for, a second")
	cmd.Flags().Float64Var(&o.locks, "locks", 2, "locks that go through meanwhile, a second; 0: none")
	cmd.Flags().BoolVar(&short, "short", false, "one pair of rounds of 10s, to try it; no figures to quote")
	cmd.Flags().StringVar(&o.file, "file", "", "also write the report as JSON into this file, beside the others")
	return cmd
}

func (p *program) benchPages(ctx context.Context, o benchPagesOptions) (err error) {
	if o.open < 1 || o.pairs < 1 || o.round < time.Second || o.rate < 1 || o.locks < 0 {
		return fmt.Errorf("%w: --open, --pairs and --rate must be at least 1, --round 1s, --locks 0", errUsage)
	}
	// Configured as for so many visitors behind a proxy; the limit per session and the
	// one per address stay as they are.
	sections := map[string]any{"address_header": pages.AddressHeader, "streams": o.open + 100}
	down := &downCA{}
	p.setupMore = func(_ context.Context, s *stack.Stack) error { return down.add(s) }
	s, err := p.benchStack(ctx, o.temporal, func(options *stack.Options) {
		options.Serve = true
		options.ServeSettings = sections
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	report, err := p.measurePages(ctx, s, down, o)
	if err != nil {
		return err
	}
	if err := report.Print(p.out); err != nil {
		return err
	}
	if o.file == "" {
		return nil
	}
	return writeReport(o.file, "pages/"+o.temporal, report)
}

func (p *program) measurePages(ctx context.Context, s *stack.Stack, down *downCA, o benchPagesOptions) (pages.Report, error) {
	m, err := p.measuring(ctx, s)
	if err != nil {
		return pages.Report{}, err
	}
	defer m.close()
	fmt.Fprintf(p.out, "  … signing in %d visitors, and locking what waits\n", o.open+pageAskers)
	invited := &guests{seed: m.seed, locks: m.locks(), down: down, sessions: m.sessions()}
	locking := int(o.locks * o.round.Seconds() * float64(2*o.pairs))
	groups := make([][]*pages.Visitor, 3)
	for i, n := range []int{o.open, pageAskers, locking} {
		if groups[i], err = invited.invite(ctx, n, i < 2); err != nil {
			return pages.Report{}, err
		}
	}
	select {
	case <-time.After(pagesSettle):
	case <-ctx.Done():
		return pages.Report{}, ctx.Err()
	}
	processes := benchProcesses(s, "serve", "worker", "temporal", "postgres", "devca")
	report, err := pages.Run(ctx, pages.Options{
		URL: s.ServeURL, Open: groups[0], Asking: groups[1], Locking: groups[2], Pairs: o.pairs, Round: o.round,
		PerSecond: o.rate, LocksPerSecond: o.locks, Out: p.out,
		Usage: func() (map[string]time.Duration, error) { return bench.Used(processes) },
	})
	report.Place = m.place()
	return report, err
}

// guests makes visitors.
type guests struct {
	seed     *seeder
	sessions *session.Sessions
	locks    *starter.Client
	down     *downCA
	made     int
}

// invite makes n visitors with an active mobile ID each, and if waiting, one more whose
// lock waits for the CA that is down.
func (g *guests) invite(ctx context.Context, n int, waiting bool) ([]*pages.Visitor, error) {
	all := make([]*pages.Visitor, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range all {
		g.made++
		number := g.made
		all[i] = &pages.Visitor{
			User: fmt.Sprintf("visitor-%d", number), Active: fmt.Sprintf("active-%d", number),
			Address: fmt.Sprintf("10.%d.%d.%d", number>>16, number>>8&0xff, number&0xff),
		}
		if waiting {
			all[i].Waiting = fmt.Sprintf("waiting-%d", number)
		}
		group.Go(func() error { return g.prepare(ctx, all[i], number) })
	}
	return all, group.Wait()
}

func (g *guests) prepare(ctx context.Context, v *pages.Visitor, number int) error {
	owner := mobileid.User{ID: v.User, Name: v.User, Active: true, Roles: []string{mobileid.SelfServiceRole}}
	if err := g.seed.store.PutUser(ctx, owner, v.User+"@example.com"); err != nil {
		return err
	}
	active, err := g.seed.certificate(ctx, nil, false, 0)
	if err != nil {
		return err
	}
	if err := g.seed.create(ctx, v.Active, v.User, active); err != nil {
		return err
	}
	if err := g.signIn(ctx, v); err != nil || v.Waiting == "" {
		return err
	}
	held, err := g.down.issue(int64(number))
	if err != nil {
		return err
	}
	if err := g.seed.create(ctx, v.Waiting, v.User, held); err != nil {
		return err
	}
	_, err = g.locks.User(v.User).Lock(ctx, v.Waiting, starter.LockOptions{})
	return err
}

// signIn begins a session as the page of that name does once it knows who it is.
func (g *guests) signIn(ctx context.Context, v *pages.Visitor) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "/sign-in", nil)
	if err != nil {
		return err
	}
	answer := cookies{}
	if err := g.sessions.Begin(answer, request, v.User, "password"); err != nil {
		return err
	}
	set := (&http.Response{Header: answer.Header()}).Cookies()
	v.Cookie = &http.Cookie{Name: set[0].Name, Value: set[0].Value} //nolint:gosec // one that is sent, not set
	return nil
}

// cookies is an answer of which the header counts.
type cookies http.Header

// Header is where cookies are set.
func (c cookies) Header() http.Header { return http.Header(c) }

// Write takes what nobody reads.
func (cookies) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader takes what nobody reads.
func (cookies) WriteHeader(int) {}

// downCA is a CA that issued certificates and is not reached now.
type downCA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// add makes the CA, and a section of it in the configuration of a stack.
func (d *downCA) add(s *stack.Stack) (err error) {
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA that is down"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, d.key.Public(), d.key)
	if err != nil {
		return err
	}
	if d.certificate, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "ca", "down.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	const nobody = "https://127.0.0.1:1" // tcpmux, which loopback has not had for decades
	dir := filepath.Join(s.Dir, "ca")
	s.AddCA(map[string]any{
		"name": "down", "driver": "devca", "issuer_file": file, "url": nobody, "ocsp_url": nobody + "/ocsp", "crl_url": nobody + "/crl.der",
		"certificate_file": filepath.Join(dir, "client.pem"), "key_file": filepath.Join(dir, "client.key"), "server_ca_file": filepath.Join(dir, "tls-ca.pem"),
	})
	return nil
}

func (d *downCA) issue(serial int64) (*x509.Certificate, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial + 1), Subject: pkix.Name{CommonName: benchOwner}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, AuthorityKeyId: d.certificate.SubjectKeyId,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, d.certificate, d.key.Public(), d.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
