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

// GetSummary is the static summary of a Get in lists of processes. It names nobody.
const GetSummary = "Get mobile ID"

// getAttributes are the values of the search attributes of a Get.
type getAttributes struct {
	MobileID string
	User     string
	Phase    Phase
	Outcome  Outcome
}

// show makes a change of phase visible: in the search attributes, upserted together
// and only when one changes, and in the current details.
func (g *get) show(phase Phase) {
	g.phase = phase
	g.describe()
	if !g.policy.Attributes.Enabled {
		return
	}
	now := getAttributes{MobileID: g.policy.Attributes.MobileID, User: g.policy.Attributes.User, Phase: g.visiblePhase(), Outcome: g.outcome}
	var updates []temporal.SearchAttributeUpdate
	for _, a := range []struct {
		key         temporal.SearchAttributeKeyKeyword
		now, before string
	}{
		{AttributeMobileID, now.MobileID, g.attributes.MobileID},
		{AttributeUser, now.User, g.attributes.User},
		{AttributeGetPhase, string(now.Phase), string(g.attributes.Phase)},
		{AttributeGetOutcome, string(now.Outcome), string(g.attributes.Outcome)},
	} {
		if a.now != a.before {
			updates = append(updates, a.key.ValueSet(a.now))
		}
	}
	if len(updates) == 0 {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(g.ctx, updates...); err != nil {
		g.log.Error("Search attributes are not set", "error", err)
		return
	}
	g.attributes = now
}

// visiblePhase is the phase that callers see.
func (g *get) visiblePhase() Phase {
	switch {
	case g.outcome != "" || g.refusal != nil:
		return Closed
	case len(g.stuck) > 0:
		return NeedsOperator
	}
	return g.phase
}

func (g *get) result() GetResult {
	result := GetResult{
		Outcome:      g.outcome,
		MobileID:     g.mobileID,
		RequestedAt:  g.requestedAt,
		ActivatedAt:  g.activatedAt,
		DecidedBy:    g.decidedBy,
		Failure:      g.failure,
		Lock:         g.lock,
		Audit:        g.audit,
		Certificates: slices.Clone(g.certificates),
	}
	if result.Certificates == nil {
		result.Certificates = []mobileid.CertificateResult{}
	}
	return result
}

func (g *get) status() GetStatus {
	status := GetStatus{
		GetResult: g.result(),
		Phase:     g.visiblePhase(),
		Refusal:   g.refusal,
		Deadline:  g.deadline,
		Retries:   g.own.Retries,
		Ignored:   g.ignored,
	}
	if g.decision == undecided && !g.lockAsked {
		status.Live = g.live
	}
	if status.Phase == NeedsOperator {
		status.Needs = strings.Join(g.words, "\n") + "\nMend the cause, then send retry."
	}
	return status
}

// describe keeps the current details: what is waited for, and what can be sent.
func (g *get) describe() {
	var b strings.Builder
	switch phase := g.visiblePhase(); phase {
	case AwaitingConfirmation:
		if g.live != "" && !g.lockAsked {
			fmt.Fprintf(&b, "Mobile ID %s is active. Send `lock` to have it locked first, or `cancel` to keep it, until %s.\n", g.live, stamp(g.deadline))
			break
		}
		fmt.Fprintf(&b, "Waits for `next` or `cancel` until %s.\n", stamp(g.deadline))
	case LockingOld:
		b.WriteString("The old mobile ID is being locked.")
		if g.lock != nil {
			fmt.Fprintf(&b, " Its process is `%s`.", g.lock.WorkflowID)
		}
		b.WriteString("\n")
	case AwaitingPhone:
		fmt.Fprintf(&b, "The QR code waits to be scanned until %s. `cancel` gives it up.\n", stamp(g.deadline))
	case NeedsOperator:
		fmt.Fprintf(&b, "**Needs an operator.** %s\n\nMend the cause, then send `retry`.\n", markdown(strings.Join(g.words, "; ")))
	case TakingBack:
		fmt.Fprintf(&b, "It came to nothing: %s. What was issued is being revoked.\n", markdown(g.failure.Message))
	case Closed:
		fmt.Fprintf(&b, "Closed as %s.", orUnknown(string(g.outcome)))
		if g.failure != nil {
			b.WriteString(" " + markdown(g.failure.Message))
		}
		b.WriteString("\n")
	default:
		fmt.Fprintf(&b, "Phase %s.\n", phase)
	}
	if len(g.certificates) > 0 {
		b.WriteString("\n| serial | CA | in IM |\n|---|---|---|\n")
	}
	for _, c := range g.certificates {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Serial, markdown(orUnknown(c.CA)), c.StateInIM)
	}
	workflow.SetCurrentDetails(g.ctx, b.String())
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
