// Package activities holds the side effects of the processes: what they read
// and change in Identity Manager and at the CAs, and the interfaces that they
// need for it. Errors are translated for Temporal once, in errors.go.
package activities

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"mobileid"
	"mobileid/activities/ca"
)

// Activities are the side effects with what they work on. They are safe for
// concurrent use.
type Activities struct {
	IM       IdentityManager // nil where only CAs are served
	CAs      *ca.Authorities
	Settings Settings
	Get      *Get // nil where Get mobile ID is not configured

	Unfinished UnfinishedFinder // for reconciliation; nil where only CAs are served
	Overdue    OverdueTeller    // nil where only CAs are served
	Revoked    RevokedFinder    // for reconciliation; nil where only CAs are served
	// Compared is told what a comparison with a CA came to; nil: nobody is.
	Compared func(context.Context, Comparison)
}

// Settings are what the configuration says about every lock.
type Settings struct {
	Deadline   time.Duration   // for Next or Cancel
	Reason     mobileid.Reason // where nobody gives one
	Attributes AttributeSettings
	Overdue    []time.Duration // after which operators are told of a lock, in their order
}

// AttributeSettings says which search attributes are set. Attributes are never
// encrypted, so a person's identifier can be hashed under a key, or left out.
type AttributeSettings struct {
	Enabled bool
	User    UserAttribute
	HashKey []byte // for UserHashed
}

// UserAttribute says how the owner stands in the search attribute MobileIdUser.
type UserAttribute string

// The ways of showing the owner in the search attributes.
const (
	UserPlain  UserAttribute = "plain"
	UserHashed UserAttribute = "hashed" // lower-case hex HMAC-SHA256 of the user id
	UserOff    UserAttribute = "off"
)

// Register registers every activity under its name. The steps of Get mobile ID are
// there where it is configured alone: the engine tries a step that one worker does
// not have until another one has it.
func (a *Activities) Register(registry worker.ActivityRegistry) {
	a.RegisterCA(registry)
	for name, function := range map[string]any{
		ValidateLockName:     a.ValidateLock,
		LockInIMName:         a.LockInIdentityManager,
		RevokeInIMName:       a.RevokeInIdentityManager,
		AwaitPublicationName: a.AwaitPublication,
		RecordExitName:       a.RecordExit,
		ValidateGetName:      a.ValidateGet,
		FindUnfinishedName:   a.FindUnfinished,
		FindEndedName:        a.FindEnded,
		WarnOverdueName:      a.WarnOverdue,
		CompareRevokedName:   a.CompareRevoked,
	} {
		registry.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
	if a.Get == nil {
		return
	}
	for name, function := range map[string]any{
		RegisterMobileIDName:    a.RegisterMobileID,
		ProvisionName:           a.Provision,
		ReadKeysName:            a.ReadKeys,
		RecordIssuedName:        a.RecordIssued,
		InstallCertificatesName: a.InstallCertificates,
		ReadInstallationName:    a.ReadInstallation,
		ActivateMobileIDName:    a.ActivateMobileID,
		AbandonMobileIDName:     a.AbandonMobileID,
		AwaitNoneLiveName:       a.AwaitNoneLive,
	} {
		registry.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
}

// RegisterCA registers what speaks to a CA. It needs no Identity Manager.
func (a *Activities) RegisterCA(registry worker.ActivityRegistry) {
	for name, function := range map[string]any{
		RevokeAtCAName: a.RevokeAtCA,
		IssueAtCAName:  a.IssueAtCA,
		FindIssuedName: a.FindIssued,
	} {
		registry.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
}

// HashUser returns the value of MobileIdUser for UserHashed.
func HashUser(key []byte, userID string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(userID))
	return hex.EncodeToString(mac.Sum(nil))
}

// policy is what a lock of one mobile ID runs under.
func (a *Activities) policy(mobileID, userID string) Policy {
	policy := Policy{Deadline: a.Settings.Deadline, Reason: a.Settings.Reason, Attributes: a.attributePolicy(mobileID, userID)}
	if a.Get != nil {
		policy.GetWorkflowID = a.Get.Settings.WorkflowID(userID)
	}
	return policy
}

// attributePolicy says which search attributes a process of the user sets.
func (a *Activities) attributePolicy(mobileID, userID string) AttributePolicy {
	attributes := a.Settings.Attributes
	if !attributes.Enabled {
		return AttributePolicy{}
	}
	policy := AttributePolicy{Enabled: true, MobileID: mobileID}
	switch attributes.User {
	case UserPlain:
		policy.User = userID
	case UserHashed:
		policy.User = HashUser(attributes.HashKey, userID)
	case UserOff:
	}
	return policy
}

// route says for each certificate to which CA it goes, and how these CAs are
// treated. A certificate whose issuer is not configured has no CA.
func (a *Activities) route(certificates []mobileid.Certificate) ([]mobileid.CertificateResult, []CAPolicy) {
	results := make([]mobileid.CertificateResult, 0, len(certificates))
	var policies []CAPolicy
	seen := map[string]bool{}
	for _, c := range certificates {
		result := mobileid.CertificateResult{
			CertificateID: c.CertificateID,
			IssuerDN:      c.IssuerDN,
			NotAfter:      c.NotAfter,
			StateInIM:     c.State,
		}
		if authority, ok := a.CAs.For(c.CertificateID); ok {
			result.CA = authority.Name
			if !seen[authority.Name] {
				seen[authority.Name] = true
				policies = append(policies, caPolicy(authority))
			}
		}
		results = append(results, result)
	}
	return results, policies
}

// caPolicy is how a lock treats a CA as it is configured now.
func caPolicy(authority *ca.Authority) CAPolicy {
	policy := CAPolicy{
		Name:         authority.Name,
		TaskQueue:    authority.TaskQueue,
		CallTimeout:  authority.RequestTimeout,
		Concurrency:  authority.Concurrency,
		ProofWait:    authority.ProofWait,
		ApprovalWait: authority.ApprovalWait,
	}
	if authority.OCSP == nil && authority.CRL == nil {
		policy.ProofWait = 0 // it publishes nothing that could be waited for
	}
	return policy
}

// HeartbeatInterval is the time between two heartbeats of an activity.
const HeartbeatInterval = 2 * time.Second

// heartbeat tells the engine every two seconds that the step is alive, with what
// it has reached so far, until the returned function is called. A step that
// takes less than two seconds tells nothing.
func heartbeat(ctx context.Context, details func() any) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(HeartbeatInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				activity.RecordHeartbeat(ctx, details())
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func nothing() any { return nil }
