package notify

import (
	"context"
	"errors"
	"fmt"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/mail"
	"mobileid/activities/messaging"
)

// problems say to the owner why a Get failed. What the failure itself says is for
// operators.
var problems = map[mobileid.FailureType]string{
	mobileid.FailureCancelled:        "It was cancelled.",
	mobileid.FailurePhoneSilent:      "The phone did not answer in time.",
	mobileid.FailurePhoneRefused:     "It was declined on the phone.",
	mobileid.FailureBadSignature:     "What the phone answered could not be believed.",
	mobileid.FailureWrongNonce:       "What the phone answered could not be believed.",
	mobileid.FailureBadRequest:       "What the phone answered is not what it was asked for.",
	mobileid.FailureCARefused:        "No certificates were issued for it.",
	mobileid.FailureMessagingRefused: "No phone could be reached.",
	mobileid.FailureNotEntitled:      "You may not have a mobile ID any more.",
	mobileid.FailureMobileIDActive:   "There is another mobile ID of yours.",
	mobileid.FailureConflict:         "It was changed by somebody else meanwhile.",
}

// letter writes what a notice tells. It is mobileid.ErrNoProvisioning if there is
// nothing to tell any more.
func (s *Sender) letter(ctx context.Context, n identitymanager.Notice) (mail.Letter, error) {
	facts := n.Facts
	about := mail.About{UserName: facts.UserName, MobileID: n.MobileID, Name: facts.MobileName, Reference: facts.WorkflowID}
	times := mail.Times{RequestedAt: facts.RequestedAt, LockedAt: facts.LockedAt, RevokedAt: facts.RevokedAt, VisibleAt: facts.VisibleAt}
	by := mail.ByOperator
	if facts.ByOwner {
		by = mail.ByOwner
	}
	switch n.Kind {
	case identitymanager.NoticeLockRequested:
		return mail.LockRequested{About: about, Times: times, DecidedBy: by, Reason: facts.Reason, Certificates: certificates(facts)}, nil
	case identitymanager.NoticeLockFinished:
		return mail.LockFinished{About: about, Times: times, DecidedBy: by, Reason: facts.Reason, Certificates: facts.Certificates}, nil
	case identitymanager.NoticeGetFinished:
		return mail.GetFinished{
			About: about, RequestedAt: facts.RequestedAt, ActiveAt: facts.EndedAt, ValidUntil: facts.ValidUntil, DecidedBy: by, Certificates: certificates(facts),
		}, nil
	case identitymanager.NoticeGetFailed:
		return mail.GetFailed{
			About: about, RequestedAt: facts.RequestedAt, FailedAt: facts.EndedAt, Problem: problems[facts.Failure],
			NothingMade: facts.NothingMade, CleanedUp: facts.CleanedUp, OldLocked: facts.OldLocked,
		}, nil
	case identitymanager.NoticeQR:
		provisioning, err := s.outbox.Scannable(ctx, n.MobileID, facts.CommandID)
		if err != nil {
			return nil, err
		}
		picture, err := messaging.QR(provisioning.URI)
		if err != nil {
			return nil, &mail.Error{Failure: mail.Invalid, Op: "write " + string(n.Kind), Err: err}
		}
		return mail.GetQR{About: about, PNG: picture, ValidUntil: provisioning.ExpiresAt}, nil
	case identitymanager.NoticeLockOverdue:
		if facts.Overdue == nil {
			return nil, &mail.Error{Failure: mail.Invalid, Op: "write " + string(n.Kind), Err: errors.New("it tells of no lock")}
		}
		return mail.LockOverdue{Threshold: facts.Overdue.Threshold, SeenAt: n.CreatedAt, Locks: facts.Overdue.Locks, More: facts.Overdue.More}, nil
	}
	// A later version knows it, and its workers run beside this one while it is rolled out.
	return nil, fmt.Errorf("kind %q is not known to this version", n.Kind)
}

// certificates are those that a notice lists.
func certificates(facts identitymanager.NoticeFacts) []mobileid.Certificate {
	all := make([]mobileid.Certificate, len(facts.Certificates))
	for i, c := range facts.Certificates {
		all[i] = mobileid.Certificate{CertificateID: c.CertificateID, NotAfter: c.NotAfter}
	}
	return all
}
