package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"mobileid"
)

// ValidateGet decides whether a mobile ID may be asked for, and returns the policy
// that it is made under. A refusal is recorded in the audit.
func (a *Activities) ValidateGet(ctx context.Context, in ValidateGetInput) (*ValidateGetResult, error) {
	defer heartbeat(ctx, nothing)()
	if a.Get == nil {
		return nil, translate(errGetNotConfigured)
	}
	applicant, err := a.applicant(ctx, in.UserID)
	if err != nil {
		return nil, translate(err)
	}
	result, err := a.admitGet(applicant, in)
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) {
		return nil, translate(a.recordGetRefusal(ctx, applicant, in, refusal))
	}
	if err != nil {
		return nil, translate(err)
	}
	return result, nil
}

func (a *Activities) admitGet(applicant mobileid.Applicant, in ValidateGetInput) (*ValidateGetResult, error) {
	settings := a.Get.Settings
	if want := settings.WorkflowID(in.UserID); in.Process.WorkflowID != want {
		return nil, mobileid.InvalidRequest("workflowId", "is not the one of this user")
	}
	if err := mobileid.AdmitGet(applicant); err != nil {
		return nil, err
	}
	if _, err := settings.name(applicant); err != nil {
		return nil, err
	}
	if err := settings.reachable(applicant); err != nil {
		return nil, err
	}
	result := &ValidateGetResult{Policy: a.getPolicy(applicant)}
	for _, m := range applicant.Live() {
		switch {
		case m.State == mobileid.Inactive:
			return nil, &mobileid.Refusal{
				Type: mobileid.TypeMobileIDActive, State: m.State,
				Message: "the user has an inactive mobile ID, which only an operator can lock",
			}
		case m.State == mobileid.Active && in.Insist:
			return nil, mobileid.AlreadyActive()
		}
		result.Live = append(result.Live, LiveMobileID{ID: m.ID, State: m.State})
	}
	return result, nil
}

func (a *Activities) getPolicy(applicant mobileid.Applicant) GetPolicy {
	settings := a.Get.Settings
	policy := GetPolicy{
		Deadline:    settings.Deadline,
		MobileID:    applicant.Grant.MobileID,
		ProfileName: settings.profileName(applicant),
		NotAfter:    time.Now().UTC().AddDate(settings.Years, 0, 0).Truncate(time.Second),
		ScanWait:    settings.ScanWait,
		StepWait:    settings.StepWait,
		InstallWait: settings.InstallWait,
		Attributes:  a.attributePolicy(applicant.Grant.MobileID, applicant.User.ID),
	}
	if authority, ok := a.CAs.ByName(settings.CA); ok {
		policy.CA = caPolicy(authority)
	}
	for _, key := range settings.Keys {
		policy.Keys = append(policy.Keys, KeyPolicy{ID: key.ID, Procedure: key.Procedure})
	}
	return policy
}

// recordGetRefusal records a refusal and returns it, or the error that kept it from
// being recorded. Without a grant there is no mobile ID whose chain could tell it.
func (a *Activities) recordGetRefusal(ctx context.Context, applicant mobileid.Applicant, in ValidateGetInput, refusal *mobileid.Refusal) error {
	chain := mobileid.ApplicantChain(in.UserID)
	if applicant.Grant != nil {
		chain = applicant.Grant.MobileID
	}
	_, err := a.IM.Record(ctx, mobileid.Record{
		MobileID: chain,
		Event:    mobileid.EventRefused,
		At:       time.Now().UTC(),
		Process:  in.Process,
		Decision: mobileid.Decision{UserID: in.UserID, By: in.By},
		Refusal:  refusal,
	})
	if err != nil {
		return err
	}
	return refusal
}

// RegisterMobileID uses up the grant and creates the mobile ID as registered.
func (a *Activities) RegisterMobileID(ctx context.Context, order mobileid.RegistrationOrder) (*mobileid.Receipt, error) {
	defer heartbeat(ctx, nothing)()
	receipt, err := a.Get.Applicants.Register(ctx, order)
	return &receipt, translate(err)
}

// RecordIssued takes over in Identity Manager what a CA has issued.
func (a *Activities) RecordIssued(ctx context.Context, order mobileid.IssueOrder) (*mobileid.Receipt, error) {
	defer heartbeat(ctx, nothing)()
	receipt, err := a.Get.Applicants.RecordIssued(ctx, order)
	return &receipt, translate(err)
}

// ActivateMobileID makes the mobile ID active and its certificates valid. That it
// cannot be any more is a failure of the Get.
func (a *Activities) ActivateMobileID(ctx context.Context, order mobileid.ActivationOrder) (*mobileid.Receipt, error) {
	defer heartbeat(ctx, nothing)()
	receipt, err := a.Get.Applicants.Activate(ctx, order)
	var conflict *mobileid.ConflictError
	switch {
	case errors.Is(err, mobileid.ErrMobileIDActive):
		err = failure(mobileid.FailureMobileIDActive, err)
	case errors.Is(err, mobileid.ErrNotEntitled):
		err = failure(mobileid.FailureNotEntitled, err)
	case errors.As(err, &conflict):
		err = failure(mobileid.FailureConflict, err)
	}
	return &receipt, translate(err)
}

// AbandonMobileID makes a registered mobile ID locked.
func (a *Activities) AbandonMobileID(ctx context.Context, order mobileid.AbandonOrder) (*mobileid.Receipt, error) {
	defer heartbeat(ctx, nothing)()
	if a.Get == nil {
		return nil, translate(errGetNotConfigured)
	}
	receipt, err := a.Get.Applicants.Abandon(ctx, order)
	return &receipt, translate(err)
}

const (
	// TypeStillLive is the type of the error while an old mobile ID is not at its end
	// yet. It is retried.
	TypeStillLive = "MobileIDStillLive"
	// liveLook and livePause are how one try of AwaitNoneLive looks, so that a lock
	// that ends within a second costs no retry.
	liveLook  = 5 * time.Second
	livePause = 100 * time.Millisecond
)

// AwaitNoneLive succeeds when no mobile ID of the user is active or has a
// certificate that is not revoked or expired: Identity Manager never says so before
// the CA does. Until then it fails, and the engine tries again.
func (a *Activities) AwaitNoneLive(ctx context.Context, in AwaitNoneLiveInput) error {
	defer heartbeat(ctx, nothing)()
	end := time.Now().Add(liveLook)
	for {
		applicant, err := a.applicant(ctx, in.UserID)
		if err != nil {
			return translate(err)
		}
		live := slices.DeleteFunc(applicant.Live(), func(m mobileid.MobileID) bool { return in.MobileID != "" && m.ID != in.MobileID })
		if len(live) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return temporal.NewApplicationError("mobile ID "+live[0].ID+" is "+string(live[0].State)+", and not all of its certificates are revoked", TypeStillLive)
		}
		select {
		case <-ctx.Done():
			return translate(ctx.Err())
		case <-time.After(livePause):
		}
	}
}
