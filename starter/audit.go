package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// errAudit means that the audit is not what was written.
var errAudit = errors.New("the audit is not what was written: keep the database as it is, and find out who could write to it")

func (p *program) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show, verify and seal the record of what was locked",
		Long: `The audit says who locked what and when, and how it was proven. Its records are
chained per mobile ID under a key outside the database.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.auditVerifyCommand(), p.auditShowCommand(), p.auditCheckpointCommand())
	return cmd
}

// openStore opens Identity Manager's store, with a schema that fits.
func (p *program) openStore(ctx context.Context) (*identitymanager.Store, config.Config, error) {
	c, err := p.config()
	if err != nil {
		return nil, c, err
	}
	store, err := identitymanager.Configured(ctx, c)
	if err != nil {
		return nil, c, err
	}
	if err := store.CheckSchema(ctx); err != nil {
		return nil, c, errors.Join(err, store.Close())
	}
	return store, c, nil
}

func (p *program) auditVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [MOBILE_ID]",
		Short: "Find altered, removed, inserted and cut-off records",
		Long: `Verify recomputes the audit chains under the audit key. It compares each with its
head, with the lock that the mobile ID has, and with the checkpoints in
audit.checkpoint_dir; without checkpoints, records cut off at the end of a chain
go unnoticed if its head was set back with them.

Exit codes:
  0  everything is as it was written
  1  it is not, or it could not be read
  2  usage: the command line or the configuration is wrong`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, c, err := p.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			mobileID := strings.Join(args, "")
			if mobileID != "" {
				if err := mobileid.CheckID("mobileId", mobileID); err != nil {
					return err
				}
			}
			return p.verifyAudit(cmd.Context(), store, c.Audit, mobileID)
		},
	}
}

// verified is what verify answers.
type verified struct {
	identitymanager.AuditReport
	Checkpoint      *identitymanager.Checkpoint `json:"checkpoint,omitempty"` // the last one, if any
	CheckpointFault string                      `json:"checkpointFault,omitempty"`
	Whole           bool                        `json:"whole"`
}

func (p *program) verifyAudit(ctx context.Context, store *identitymanager.Store, c config.Audit, mobileID string) error {
	var checkpoints identitymanager.Checkpoints
	var checkpointFault error
	if c.CheckpointDir != "" {
		checkpoints, checkpointFault = store.ReadCheckpoints(c.CheckpointDir)
	}
	report, err := store.VerifyAudit(ctx, mobileID, checkpoints.Marks, p.auditProgress())
	if err != nil {
		return err
	}
	answer := verified{AuditReport: report, Whole: report.Total == 0 && checkpointFault == nil}
	if answer.Faults == nil {
		answer.Faults = []identitymanager.AuditFault{}
	}
	if checkpoints.Last.Number > 0 {
		answer.Checkpoint = &checkpoints.Last
	}
	if checkpointFault != nil {
		answer.CheckpointFault = checkpointFault.Error()
	}
	if p.json {
		err = p.printJSON(answer)
	} else {
		p.printVerified(answer)
	}
	if err == nil && !answer.Whole {
		err = errAudit
	}
	return err
}

// auditProgress shows how far a long verification got, to a person.
func (p *program) auditProgress() func(identitymanager.AuditReport) {
	file, ok := p.err.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func(r identitymanager.AuditReport) {
		fmt.Fprintf(p.err, "\r%d records of %d mobile IDs, %d faults", r.Records, r.Chains, r.Total)
	}
}

func (p *program) printVerified(v verified) {
	for _, fault := range v.Faults {
		fmt.Fprintln(p.out, fault)
	}
	if more := v.Total - int64(len(v.Faults)); more > 0 {
		fmt.Fprintf(p.out, "... and %d more\n", more)
	}
	if v.Total > 0 && v.Total >= v.Records {
		fmt.Fprintln(p.out, "All records are altered: is audit.key_file the key that they were written with?")
	}
	fmt.Fprintf(p.out, "%d records of %d mobile IDs: ", v.Records, v.Chains)
	if v.Total > 0 {
		fmt.Fprintf(p.out, "%d fault(s).\n", v.Total)
	} else {
		fmt.Fprintln(p.out, "each as it was written, none missing.")
	}
	switch {
	case v.CheckpointFault != "":
		fmt.Fprintf(p.out, "Checkpoints: %s.\n", v.CheckpointFault)
	case v.Checkpoint == nil:
		fmt.Fprintln(p.out, "No checkpoint: records cut off together with their head would not be noticed.")
	default:
		fmt.Fprintf(p.out, "Checkpoint %d of %s covers %d mobile IDs; its MAC is %s.\n", v.Checkpoint.Number, when(v.Checkpoint.At), v.Checkpoint.Chains, v.Checkpoint.MAC)
	}
}

func (p *program) auditCheckpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Write the heads of all audit chains to a file outside the database",
		Long: `Checkpoint writes what 'starter audit verify' compares with into
audit.checkpoint_dir. The worker does it by itself once per audit.checkpoint_every.
Keep the files, and the MAC that is printed, where nobody who can write to the
database can write too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, c, err := p.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			if c.Audit.CheckpointDir == "" {
				return fmt.Errorf("%w: audit.checkpoint_dir is empty", errUsage)
			}
			written, err := store.Checkpoint(cmd.Context(), c.Audit.CheckpointDir)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(written)
			}
			fmt.Fprintf(p.out, "Checkpoint %d: %d mobile IDs, %d moved since the last one. MAC %s\n", written.Number, written.Chains, written.Moved, written.MAC)
			return nil
		},
	}
}

func (p *program) auditShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show MOBILE_ID",
		Short: "Print the record of a mobile ID, and how to check its proofs",
		Long: `Show prints what the audit says of a mobile ID: who decided, the four times, and
each certificate with its proofs. Below each certificate stand the openssl
commands by which anybody can see the revocation, without us.

Exit codes:
  0  shown, and the chain is as it was written
  1  the chain is not as it was written, or could not be read
  2  usage: the command line or the configuration is wrong
  3  refused: nothing is recorded of this mobile ID`,
		Args: oneMobileID,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, c, err := p.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			return p.showAudit(cmd.Context(), store, c, args[0])
		},
	}
}

// shown is what show answers.
type shown struct {
	MobileID string        `json:"mobileId"`
	Whole    bool          `json:"whole"` // the chain is as it was written
	Records  []shownRecord `json:"records"`
	Checks   []shownCheck  `json:"checks"`
}

type shownRecord struct {
	mobileid.AuditMark
	mobileid.Record
}

// shownCheck is how others see that a certificate is revoked.
type shownCheck struct {
	mobileid.CertificateID
	CA       string   `json:"ca"`
	Commands []string `json:"commands"`
}

func (p *program) showAudit(ctx context.Context, store *identitymanager.Store, c config.Config, mobileID string) error {
	report, err := store.VerifyAudit(ctx, mobileID, nil, nil)
	if err != nil {
		return err
	}
	trail, err := store.AuditTrail(ctx, mobileID)
	if err != nil {
		return err
	}
	if len(trail) == 0 && report.Total == 0 {
		return &mobileid.Refusal{Type: mobileid.TypeMobileIDNotFound, Message: "nothing is recorded of mobile ID " + mobileID}
	}
	answer := shown{MobileID: mobileID, Whole: report.Total == 0, Records: []shownRecord{}, Checks: []shownCheck{}}
	for _, entry := range trail {
		answer.Records = append(answer.Records, shownRecord{entry.AuditMark, entry.Record})
		answer.check(c.CAs, entry.Record)
	}
	if p.json {
		err = p.printJSON(answer)
	} else {
		err = p.printShown(answer)
	}
	if err == nil && !answer.Whole {
		for _, fault := range report.Faults {
			fmt.Fprintln(p.err, fault)
		}
		err = errAudit
	}
	return err
}

// check adds how to check a record's certificates, once for each.
func (s *shown) check(cas []config.CA, record mobileid.Record) {
	for _, certificate := range record.Certificates {
		known := slices.ContainsFunc(s.Checks, func(c shownCheck) bool { return c.CertificateID == certificate.CertificateID })
		at := slices.IndexFunc(cas, func(c config.CA) bool { return c.Name == certificate.CA })
		if known || at < 0 || certificate.Outcome == "" {
			continue
		}
		if commands := opensslCommands(cas[at], certificate.Serial); len(commands) > 0 {
			s.Checks = append(s.Checks, shownCheck{certificate.CertificateID, certificate.CA, commands})
		}
	}
}

// opensslCommands ask the CA's public sources about a certificate, and check the
// signature of their answers against the CA's certificate.
func opensslCommands(c config.CA, serial string) []string {
	var commands []string
	if c.OCSPURL != "" {
		commands = append(commands, fmt.Sprintf("openssl ocsp -issuer %s -CAfile %s -serial 0x%s -url %s",
			shellWord(c.IssuerFile), shellWord(c.IssuerFile), serial, shellWord(c.OCSPURL)))
	}
	if c.CRLURL != "" {
		upper := strings.ToUpper(serial)
		if len(upper)%2 == 1 {
			upper = "0" + upper
		}
		commands = append(commands, fmt.Sprintf("curl -s %s | openssl crl -inform DER -CAfile %s -noout -text | grep -A 3 'Serial Number: %s'",
			shellWord(c.CRLURL), shellWord(c.IssuerFile), upper))
	}
	return commands
}

// shellWord quotes what a shell would take apart.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+=,", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (p *program) printShown(s shown) error {
	fmt.Fprintf(p.out, "Mobile ID %s: %d record(s)%s\n", s.MobileID, len(s.Records), wholeWords(s.Whole))
	for _, r := range s.Records {
		fmt.Fprintf(p.out, "\n%d  %s  %s\n", r.Number, when(r.At), r.Event)
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		row := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "   %s\t%s\n", name, value)
			}
		}
		row("decided by", decidedBy(r.Decision))
		row("note", r.Decision.Note)
		if !r.RequestedAt.IsZero() {
			row("requested", when(r.RequestedAt))
		}
		row("state before", string(r.From))
		row("reason", string(r.Reason))
		if r.Refusal != nil {
			row("refused", fmt.Sprintf("%s: %s", r.Refusal.Type, r.Refusal.Message))
		}
		if r.Failure != nil {
			row("failed", fmt.Sprintf("%s: %s", r.Failure.Type, r.Failure.Message))
		}
		row("for", r.Owner)
		row("CA", r.CA)
		if r.Process.WorkflowID != "" { // a grant is of no process
			row("process", fmt.Sprintf("%s, run %s", r.Process.WorkflowID, r.Process.RunID))
		}
		row("MAC", r.MAC)
		if err := w.Flush(); err != nil {
			return err
		}
		for _, c := range r.Certificates {
			if err := p.printShownCertificate(c); err != nil {
				return err
			}
		}
	}
	for _, check := range s.Checks {
		fmt.Fprintf(p.out, "\nSee for yourself that %s is revoked:\n", check.CertificateID)
		for _, command := range check.Commands {
			fmt.Fprintf(p.out, "  %s\n", command)
		}
	}
	return nil
}

func (p *program) printShownCertificate(c mobileid.CertificateResult) error {
	fmt.Fprintf(p.out, "   certificate %s of %s\n", c.Serial, c.IssuerDN)
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	if c.Outcome != "" {
		fmt.Fprintf(w, "     at the CA\t%s\n", atCA(c))
		fmt.Fprintf(w, "     revoked\t%s\n", when(c.RevokedAt))
		fmt.Fprintf(w, "     visible\t%s\n", when(c.VisibleAt))
	}
	fmt.Fprintf(w, "     in IM\t%s\n", c.StateInIM)
	for _, proof := range c.Proof {
		number := ""
		if proof.Number != "" {
			number = ", number " + proof.Number
		}
		fmt.Fprintf(w, "     proof\t%s of %s%s, SHA-256 %s\n", proof.Source, when(proof.At), number, proof.SHA256)
	}
	return w.Flush()
}

func wholeWords(whole bool) string {
	if whole {
		return ", each as it was written, none missing."
	}
	return ". THE CHAIN IS NOT AS IT WAS WRITTEN."
}

func decidedBy(d mobileid.Decision) string {
	switch {
	case d.UserID != "" && d.By != "" && d.By != d.UserID:
		return fmt.Sprintf("user %s, by %s", d.UserID, d.By)
	case d.UserID != "":
		return "user " + d.UserID
	case d.By != "":
		return "operator " + d.By
	}
	return ""
}
