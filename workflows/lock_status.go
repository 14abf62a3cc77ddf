package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"mobileid"
)

// LockSummary is the static summary of a lock in lists of processes.
func LockSummary(mobileID string) string { return "Lock mobile ID " + mobileID }

// attributeValues are the values of the search attributes.
type attributeValues struct {
	MobileID    string    `json:"mobileId,omitempty"`
	User        string    `json:"user,omitempty"`
	Phase       Phase     `json:"phase,omitempty"`
	Outcome     Outcome   `json:"outcome,omitempty"`
	RequestedAt time.Time `json:"requestedAt,omitzero"`
}

// show makes a change of phase visible: in the search attributes, upserted
// together and only when one changes, and in the current details.
func (l *lock) show(phase Phase) {
	l.phase = phase
	l.describe()
	if !l.Policy.Attributes.Enabled {
		return
	}
	now := attributeValues{
		MobileID: l.Policy.Attributes.MobileID,
		User:     l.Policy.Attributes.User,
		Phase:    l.visiblePhase(),
		Outcome:  l.outcome,
	}
	if l.Decision == next {
		now.RequestedAt = l.RequestedAt
	}
	updates := now.since(l.Attributes)
	if len(updates) == 0 {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(l.ctx, updates...); err != nil {
		l.log.Error("Search attributes are not set", "error", err)
		return
	}
	l.Attributes = now
}

// since lists the attributes that differ from the ones before.
func (a attributeValues) since(before attributeValues) []temporal.SearchAttributeUpdate {
	var updates []temporal.SearchAttributeUpdate
	keyword := func(key temporal.SearchAttributeKeyKeyword, now, before string) {
		if now != before {
			updates = append(updates, key.ValueSet(now))
		}
	}
	keyword(AttributeMobileID, a.MobileID, before.MobileID)
	keyword(AttributeUser, a.User, before.User)
	keyword(AttributePhase, string(a.Phase), string(before.Phase))
	keyword(AttributeOutcome, string(a.Outcome), string(before.Outcome))
	if !a.RequestedAt.Equal(before.RequestedAt) {
		updates = append(updates, AttributeRequestedAt.ValueSet(a.RequestedAt))
	}
	return updates
}

// visiblePhase is the phase that callers see: waiting for an operator anywhere
// comes before all else, and an end before that.
func (l *lock) visiblePhase() Phase {
	switch {
	case l.outcome != "" || l.refusal != nil:
		return Closed
	case len(l.stuck) > 0 || l.cannotRevoke() > 0:
		return NeedsOperator
	}
	return l.phase
}

// cannotRevoke counts the certificates that only an operator can cure.
func (l *lock) cannotRevoke() int {
	count := 0
	for _, c := range l.Certificates {
		if c.CannotRevoke != "" {
			count++
		}
	}
	return count
}

func (l *lock) result() LockResult {
	result := LockResult{
		Outcome:               l.outcome,
		MobileID:              l.request.MobileID,
		LockedAt:              l.LockedAt,
		DecidedBy:             l.DecidedBy,
		CancellationRequested: l.cancellationRequested(),
		Audit:                 l.Audit,
		Warning:               l.warning,
		Get:                   l.Get,
		Certificates:          slices.Clone(l.Certificates),
	}
	if result.Certificates == nil {
		result.Certificates = []mobileid.CertificateResult{}
	}
	if l.Decision == next {
		result.RequestedAt = l.RequestedAt
	}
	if l.endStates {
		result.RevokedAt = l.RevokedAt
		result.VisibleAt = l.visibleAt
	}
	return result
}

func (l *lock) status() LockStatus {
	status := LockStatus{
		LockResult:    l.result(),
		Phase:         l.visiblePhase(),
		MobileIDState: l.State,
		Refusal:       l.refusal,
		Revoked:       l.endStates,
		ThenGet:       l.ThenGet,
		Retries:       l.Retries,
		Ignored:       l.Ignored,
	}
	if l.Decision == undecided {
		status.Deadline = l.deadline
	}
	if status.Phase == NeedsOperator {
		status.Needs = l.needs()
	}
	return status
}

// needs tells the operator what to do, and why.
func (l *lock) needs() string {
	lines := slices.Clone(l.words)
	for _, c := range l.Certificates {
		if c.CannotRevoke != "" {
			lines = append(lines, fmt.Sprintf("certificate %s of %s at %s: %s", c.Serial, c.IssuerDN, orUnknown(c.CA), c.CannotRevoke))
		}
	}
	return "mend the cause, then send retry. " + strings.Join(lines, "; ")
}

func orUnknown(ca string) string {
	if ca == "" {
		return "no configured CA"
	}
	return ca
}

// describe writes the current details that the Web UI shows: where the lock
// stands, what can be sent, and a table of the certificates. It costs no event.
func (l *lock) describe() {
	var b strings.Builder
	phase := l.visiblePhase()
	fmt.Fprintf(&b, "**%s**", phase)
	switch phase {
	case AwaitingConfirmation:
		fmt.Fprintf(&b, " until %s. Send `next` or `cancel`.", l.deadline.UTC().Format(time.RFC3339))
	case NeedsOperator:
		fmt.Fprintf(&b, ": %s", markdown(l.needs()))
	case Locking, Revoking, Publishing:
		b.WriteString(". Send `retry` to try the waiting step again now.")
	case Closed:
		if l.outcome != "" {
			fmt.Fprintf(&b, " as %s", l.outcome)
		}
	}
	b.WriteString("\n")
	if len(l.Certificates) > 0 {
		b.WriteString("\n| serial | CA | in IM | at the CA |\n|---|---|---|---|\n")
	}
	const most = 20
	for i, c := range l.Certificates {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more\n", len(l.Certificates)-most)
			break
		}
		atCA := string(c.Outcome)
		if c.CannotRevoke != "" {
			atCA = "needs an operator"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Serial, markdown(orUnknown(c.CA)), c.StateInIM, atCA)
	}
	workflow.SetCurrentDetails(l.ctx, b.String())
}

// markdown keeps words of others from breaking the table or the page.
func markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace(text)
}
