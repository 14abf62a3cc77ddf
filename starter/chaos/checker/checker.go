// Package checker looks at what is left of a run of locks and Gets, and says what is
// not as it must be. It shares no code with the processes, the store or the CAs: it
// reads PostgreSQL by SQL, the CRL and OCSP with libraries, computes the MACs of the
// audit by the form that package identitymanager documents, takes the histories as the
// server has them, and compares all of that with what clients were told.
//
// It looks when nothing is under way any more. What only a moment could show, that
// Identity Manager was ahead of a CA, it sees by the commit time of each certificate's
// row (track_commit_timestamp) and by when the first request reached the CA.
package checker

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
)

// Rule is one of the promises.
type Rule string

// The rules.
const (
	// Unfinished: an accepted Next did not reach the three end states, or got lost.
	Unfinished Rule = "unfinished"
	// AheadOfCA: Identity Manager said revoked before the CA did.
	AheadOfCA Rule = "ahead-of-ca"
	// LockedWithoutNext: something is locked or revoked, and nobody pressed Next.
	LockedWithoutNext Rule = "locked-without-next"
	// SecondActive: a user has more than one active mobile ID.
	SecondActive Rule = "second-active"
	// Orphan: something is left that nothing leads on from: a process under way, a
	// mobile ID that is registered, a certificate that nobody knows and that is good.
	Orphan Rule = "orphan"
	// Audit: a chain is not whole, or does not say what happened.
	Audit Rule = "audit"
	// Receipt: somebody was told what is not so.
	Receipt Rule = "receipt"
)

// Rules are all of them.
var Rules = []Rule{Unfinished, AheadOfCA, LockedWithoutNext, SecondActive, Orphan, Audit, Receipt}

// CA is a certificate authority, as others see it.
type CA struct {
	Name       string
	Issuer     *x509.Certificate
	CRLURL     string
	OCSPURL    string // empty: it has none
	IssuedFile string // devca's journal, which lists what was issued; empty: not known
}

// Options say where to look.
type Options struct {
	StoreURL     string // Identity Manager, in PostgreSQL
	AuditKeyFile string // 64 hex digits
	ClientsFile  string // what clients asked and were told, a line of JSON each
	RequestsFile string // requests to revoke, on their way to a CA, the same
	History      workflowservice.WorkflowServiceClient
	Namespace    string
	CAs          []CA
}

// Violation is a promise that was not kept.
type Violation struct {
	Rule    Rule   `json:"rule"`
	Subject string `json:"subject"` // the mobile ID, user, certificate or process
	Text    string `json:"text"`
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Rule, v.Subject, v.Text) }

// Report is what was looked at, and what is wrong with it.
type Report struct {
	Violations []Violation `json:"violations"`

	MobileIDs    int `json:"mobileIds"`
	Locked       int `json:"locked"`
	Accepted     int `json:"accepted"` // mobile IDs with an accepted Next
	Certificates int `json:"certificates"`
	Revoked      int `json:"revoked"` // certificates that a CRL lists
	OCSP         int `json:"ocsp"`    // answers
	Records      int `json:"records"` // of the audit
	Histories    int `json:"histories"`
	Events       int `json:"events"`
	Told         int `json:"told"`      // answers to clients
	GotActive    int `json:"gotActive"` // mobile IDs that a Get made and that are active
	TakenBack    int `json:"takenBack"` // and that were given up

	ToLocked  Distribution `json:"toLocked"`  // from Next until the mobile ID is locked
	ToRevoked Distribution `json:"toRevoked"` // from Next until all is revoked, and recorded
}

// Distribution of durations, in nanoseconds.
type Distribution struct {
	N   int           `json:"n"`
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

func distribution(all []time.Duration) Distribution {
	if len(all) == 0 {
		return Distribution{}
	}
	slices.Sort(all)
	at := func(part float64) time.Duration { return all[min(len(all)-1, int(part*float64(len(all))))] }
	return Distribution{N: len(all), P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: all[len(all)-1]}
}

// Check looks at everything. Its error says that something could not be read; what is
// wrong is in the report.
func Check(ctx context.Context, o Options) (Report, error) {
	c := &check{Options: o}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"read the store", c.readStore},
		{"read what clients were told", c.readTold},
		{"read the requests to CAs", c.readRequests},
		{"read the histories", c.readHistories},
		{"read the CAs", c.readCAs},
		{"read the audit key", c.readKey},
	} {
		if err := step.run(ctx); err != nil {
			return Report{}, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	c.judgeLocks()
	c.judgeAhead()
	c.judgeOwners()
	c.judgeOrphans()
	c.judgeAudit()
	c.judgeReceipts()
	c.judgeTold()
	slices.SortFunc(c.report.Violations, func(a, b Violation) int {
		return slices.Compare([]string{string(a.Rule), a.Subject, a.Text}, []string{string(b.Rule), b.Subject, b.Text})
	})
	return c.report, nil
}

// check is one look.
type check struct {
	Options

	report Report

	mobileIDs    map[string]*mobileID
	certificates map[certificateKey]*certificate
	told         map[string]*told // by mobile ID
	answers      []line
	requests     map[certificateKey]time.Time // when the first one reached the CA
	runs         []*run
	locks        map[string][]*run // by mobile ID
	gets         []*run
	crls         map[string]map[string]revocation // by issuer and serial
	key          []byte
}

func (c *check) wrong(rule Rule, subject, text string, args ...any) {
	c.report.Violations = append(c.report.Violations, Violation{rule, subject, fmt.Sprintf(text, args...)})
}

// connect reads the store by a connection of its own.
func (c *check) connect(ctx context.Context, act func(pgx.Tx) error) error {
	conn, err := pgx.Connect(ctx, c.StoreURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, act)
}
