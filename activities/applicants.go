package activities

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/messaging"
)

// Applicants is what Get mobile ID needs of Identity Manager. Every method that
// changes something is idempotent for one process, like those of IdentityManager.
type Applicants interface {
	// Applicant reads who asks. An unknown user is one who is not active.
	Applicant(ctx context.Context, userID string) (mobileid.Applicant, error)
	// Register uses up the grant and creates the mobile ID as registered, or returns
	// a refusal: the grant is gone, the user lost the right, another mobile ID is live.
	Register(ctx context.Context, order mobileid.RegistrationOrder) (mobileid.Receipt, error)
	// PutProvisioning keeps the secrets by which a phone is reached, in the place of
	// earlier ones of the mobile ID.
	PutProvisioning(ctx context.Context, p mobileid.Provisioning) error
	// Provisioning reads them, or returns mobileid.ErrNoProvisioning.
	Provisioning(ctx context.Context, mobileID string) (mobileid.Provisioning, error)
	// PutCommand notes a command whose answer is awaited.
	PutCommand(ctx context.Context, c mobileid.Command) error
	// Installation reads the command by which a phone gets the certificates of a mobile
	// ID, or returns mobileid.ErrNoCommand.
	Installation(ctx context.Context, mobileID string) (mobileid.Command, error)
	// Answer reads the answer to a command, or returns mobileid.ErrNoAnswer.
	Answer(ctx context.Context, commandID string) ([]byte, error)
	// RecordIssued takes over what a CA has issued.
	RecordIssued(ctx context.Context, order mobileid.IssueOrder) (mobileid.Receipt, error)
	// Activate makes the mobile ID active and its certificates valid, or returns a
	// refusal or a *mobileid.ConflictError. It forgets the secrets.
	Activate(ctx context.Context, order mobileid.ActivationOrder) (mobileid.Receipt, error)
	// Abandon makes a registered mobile ID locked. It forgets the secrets.
	Abandon(ctx context.Context, order mobileid.AbandonOrder) (mobileid.Receipt, error)
}

// Messenger sends commands to phones.
type Messenger interface {
	Provision(ctx context.Context, command messaging.Provision) (messaging.Accepted, error)
	Certificates(ctx context.Context, command messaging.Certificates) (messaging.Accepted, error)
}

// Get is what the activities of Get mobile ID work on, beside those of a lock.
type Get struct {
	Applicants  Applicants
	Messaging   Messenger
	Attestation messaging.AttestationKeys
	Settings    GetSettings
}

// GetSettings are what the configuration says about every Get: the options of the
// original, by its script MobileIDScriptOptions.
type GetSettings struct {
	Deadline    time.Duration
	CA          string // that issues
	Keys        []KeySetting
	KeyTypes    []messaging.KeyType // in the order of preference
	Years       int                 // of validity
	UserID      UserName            // how the app and the certificates call the user
	ServerName  string              // what the app shows as the issuer
	ProfileName string              // what the app shows as the name; %s is the user's name
	ScanWait    time.Duration
	StepWait    time.Duration
	InstallWait time.Duration
	QRByEmail   bool // Identity Manager has the code sent to the main address
	// WorkflowID returns the workflow id that the Get of a user must have.
	WorkflowID func(userID string) string
}

// KeySetting is one certificate of a mobile ID.
type KeySetting struct {
	ID        string
	Usage     messaging.Usage
	Procedure string
}

// UserName says by what a user is called in messaging.
type UserName string

// The names of a user in messaging.
const (
	UserByEmail UserName = "email" // the main address; the default of the original
	UserByID    UserName = "id"
)

// name is how messaging calls the user.
func (s GetSettings) name(a mobileid.Applicant) (string, error) {
	if s.UserID == UserByID {
		return a.User.ID, nil
	}
	if len(a.Emails) == 0 || a.Emails[0] == "" {
		return "", mobileid.NotEntitled("the user has no email address, by which the app would call them")
	}
	return a.Emails[0], nil
}

// reachable refuses a user who could not get the code.
func (s GetSettings) reachable(a mobileid.Applicant) error {
	if s.QRByEmail && len(a.Emails) == 0 {
		return mobileid.NotEntitled("the user has no email address, to which the QR code would be sent")
	}
	return nil
}

// profileName is what the app shows.
func (s GetSettings) profileName(a mobileid.Applicant) string {
	name := a.User.Name
	if name == "" {
		name = a.User.ID
	}
	return strings.ReplaceAll(s.ProfileName, "%s", name)
}

// subject is the name in the certificates.
func subject(a mobileid.Applicant) pkix.Name {
	name := a.User.Name
	if name == "" {
		name = a.User.ID
	}
	return pkix.Name{CommonName: name, SerialNumber: a.User.ID}
}

// errGetNotConfigured is a worker that has nothing to do a Get with.
var errGetNotConfigured = mobileid.InvalidRequest("process", "is not configured: Get mobile ID needs the sections get and messaging")

// applicant reads who asks.
func (a *Activities) applicant(ctx context.Context, userID string) (mobileid.Applicant, error) {
	return a.Get.Applicants.Applicant(ctx, userID)
}

// failure turns a failure of Get into what ends it.
func failure(kind mobileid.FailureType, err error) error {
	return &mobileid.Failure{Type: kind, Message: err.Error()}
}

// messagingFailure sorts an error of messaging: what a retry can cure goes on.
func messagingFailure(err error) error {
	var e *messaging.Error
	if errors.As(err, &e) && !messaging.Curable(err) {
		return failure(mobileid.FailureMessagingRefused, err)
	}
	return err
}
