package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"mobileid"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

func (p *program) printJSON(v any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printStatus shows where a lock stands: the four times, and each certificate.
func (p *program) printStatus(s starter.Status) error {
	if p.json {
		return p.printJSON(s)
	}
	if s.Stored {
		fmt.Fprintln(p.out, "Stored. No worker answers now; it takes effect when one does.")
		return nil
	}
	fmt.Fprint(p.out, headline(s))
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  requested\t%s\n", when(s.RequestedAt))
	fmt.Fprintf(w, "  locked here\t%s\n", when(s.LockedAt))
	fmt.Fprintf(w, "  revoked at the CA\t%s\n", when(s.RevokedAt))
	fmt.Fprintf(w, "  visible to others\t%s\n", when(s.VisibleAt))
	if s.Audit.Number > 0 {
		fmt.Fprintf(w, "  audit record\t%d\n", s.Audit.Number)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Certificates) > 0 {
		fmt.Fprintln(p.out)
		w = tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  CERTIFICATE\tCA\tIN IM\tAT THE CA\tPROOF")
		for _, c := range s.Certificates {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", short(c.Serial), dash(c.CA), c.StateInIM, atCA(c), proofs(c))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, step := range s.Steps {
		fmt.Fprintf(p.out, "\n  step %s: try %d%s", step.ID, step.Attempt, nextTry(step))
		if step.LastError != "" {
			fmt.Fprintf(p.out, "\n    last answer: %s", step.LastError)
		}
		fmt.Fprintln(p.out)
	}
	if s.Needs != "" && !s.Stopped {
		fmt.Fprintf(p.out, "\nNeeds an operator: %s\n", s.Needs)
	}
	if s.Warning != "" {
		fmt.Fprintf(p.out, "\nWarning: %s\n", s.Warning)
	}
	return nil
}

// headline says in one sentence how it stands, and never more than is true.
func headline(s starter.Status) string {
	switch {
	case s.Stopped:
		return fmt.Sprintf("Mobile ID %s: the lock was ended from outside (%s), and nothing goes on. Start it again.\n", s.MobileID, s.Phase)
	case s.Outcome == workflows.OutcomeCancelled:
		return fmt.Sprintf("Mobile ID %s: cancelled. Nothing was changed.\n", s.MobileID)
	case s.Outcome == workflows.OutcomeExpired:
		return fmt.Sprintf("Mobile ID %s: never answered, so the process has ended. Nothing was changed.\n", s.MobileID)
	case s.Revoked || s.Outcome == workflows.OutcomeLocked:
		return fmt.Sprintf("Mobile ID %s is locked, and its certificates are revoked.\n", s.MobileID)
	case s.Phase == workflows.AwaitingConfirmation:
		return fmt.Sprintf("Mobile ID %s: waits for Next or Cancel until %s.\n", s.MobileID, when(s.Deadline))
	case !s.LockedAt.IsZero():
		return fmt.Sprintf("Mobile ID %s is locked. Its certificates are being revoked (%s).\n", s.MobileID, s.Phase)
	}
	return fmt.Sprintf("Mobile ID %s: %s.\n", s.MobileID, s.Phase)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func nextTry(s starter.Step) string {
	if s.NextTry.IsZero() || s.State == "Started" {
		return ", under way"
	}
	return ", next try " + when(s.NextTry)
}

// short keeps the end of a long serial, by which people compare them.
func short(serial string) string {
	const keep = 12
	if len(serial) <= keep {
		return serial
	}
	return "…" + serial[len(serial)-keep:]
}

func atCA(c mobileid.CertificateResult) string {
	switch {
	case c.CannotRevoke != "":
		return "needs an operator"
	case c.Outcome == "":
		return "open"
	case c.ReasonAtCA != "":
		return fmt.Sprintf("%s (%s)", c.Outcome, c.ReasonAtCA)
	}
	return string(c.Outcome)
}

func proofs(c mobileid.CertificateResult) string {
	sources := make([]string, len(c.Proof))
	for i, proof := range c.Proof {
		sources[i] = string(proof.Source)
	}
	return dash(strings.Join(sources, ", "))
}

func (p *program) printList(list []starter.Listed) error {
	if p.json {
		if list == nil {
			list = []starter.Listed{}
		}
		return p.printJSON(list)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MOBILE ID\tEXECUTION\tPHASE\tOUTCOME\tNEXT AT\tSTARTED")
	for _, l := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.MobileID, l.Execution, dash(l.Phase), dash(l.Outcome), when(l.RequestedAt), when(l.StartedAt))
	}
	return w.Flush()
}

// progress shows the way of a lock: a line that is written over on a terminal,
// and a line per change elsewhere. JSON shows the end alone.
type progress struct {
	program *program
	live    bool
	last    string
}

func (p *program) newProgress() *progress { return &progress{program: p, live: isTerminal(p.out)} }

func (g *progress) update(s starter.Status) {
	if g.program.json {
		return
	}
	line := progressLine(s)
	if line == g.last {
		return
	}
	g.last = line
	if g.live {
		fmt.Fprintf(g.program.out, "\r\033[K%s", line)
		return
	}
	fmt.Fprintln(g.program.out, line)
}

// end leaves the cursor on a line of its own.
func (g *progress) end() {
	if g.live && g.last != "" {
		fmt.Fprint(g.program.out, "\r\033[K")
	}
}

// progressLine shows every certificate as a mark: done, open, or stuck.
func progressLine(s starter.Status) string {
	var marks strings.Builder
	done := 0
	for _, c := range s.Certificates {
		switch {
		case c.CannotRevoke != "":
			marks.WriteString("!")
		case c.StateInIM.Final():
			done++
			marks.WriteString("#")
		case c.Outcome != "":
			marks.WriteString("+")
		default:
			marks.WriteString(".")
		}
	}
	line := fmt.Sprintf("%-13s certificates [%s] %d of %d revoked", s.Phase, marks.String(), done, len(s.Certificates))
	for _, step := range s.Steps {
		if step.LastError != "" {
			line += fmt.Sprintf("; %s: try %d%s", step.ID, step.Attempt, nextTry(step))
		}
	}
	return line
}
