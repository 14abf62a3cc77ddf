package activities

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities/messaging"
)

// nonceBytes is the length of the nonce that the phone must sign.
const nonceBytes = 32

// Provision asks messaging to reach a phone that makes keys. Each try has a nonce of
// its own; what an earlier one may have sent is then for nobody.
func (a *Activities) Provision(ctx context.Context, in ProvisionInput) (*CommandSent, error) {
	defer heartbeat(ctx, nothing)()
	applicant, err := a.applicant(ctx, in.UserID)
	if err != nil {
		return nil, translate(err)
	}
	command, err := a.provisionCommand(applicant, in)
	if err != nil {
		return nil, translate(failure(mobileid.FailureMessagingRefused, err))
	}
	accepted, err := a.Get.Messaging.Provision(ctx, command)
	if err != nil {
		return nil, translate(messagingFailure(err))
	}
	expires := time.Now().UTC().Add(in.Policy.ScanWait)
	if err := a.Get.Applicants.PutProvisioning(ctx, mobileid.Provisioning{
		MobileID: in.MobileID, UserID: in.UserID, WorkflowID: in.WorkflowID, CommandID: accepted.CommandID,
		Nonce: command.Nonce, URI: accepted.Destinations[0].URI, ExpiresAt: expires,
	}); err != nil {
		return nil, translate(err)
	}
	sent := &CommandSent{CommandID: accepted.CommandID, ExpiresAt: expires}
	for _, key := range command.Keys {
		asked := AskedKey{ID: key.KeyID, CSRTemplate: key.CSRTemplate}
		for _, kind := range key.Types {
			asked.Types = append(asked.Types, string(kind))
		}
		sent.Asked = append(sent.Asked, asked)
	}
	return sent, nil
}

func (a *Activities) provisionCommand(applicant mobileid.Applicant, in ProvisionInput) (messaging.Provision, error) {
	settings := a.Get.Settings
	name, err := settings.name(applicant)
	if err != nil {
		return messaging.Provision{}, err
	}
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails
	command := messaging.Provision{
		Header:      messaging.Header{Lifespan: in.Policy.ScanWait, Timeout: in.Policy.ScanWait, ExternalID: in.MobileID},
		Nonce:       base64.RawURLEncoding.EncodeToString(nonce),
		UserID:      name,
		ServerName:  settings.ServerName,
		ProfileName: in.Policy.ProfileName,
	}
	for _, key := range in.Policy.Keys {
		at := slices.IndexFunc(settings.Keys, func(s KeySetting) bool { return s.ID == key.ID })
		if at < 0 {
			return messaging.Provision{}, fmt.Errorf("key %s is not in the configuration of this worker", key.ID)
		}
		template, err := messaging.CSRTemplate(subject(applicant))
		if err != nil {
			return messaging.Provision{}, err
		}
		command.Keys = append(command.Keys, messaging.KeyRequest{
			KeyID: key.ID, Usage: settings.Keys[at].Usage, Types: settings.KeyTypes, CSRTemplate: template,
		})
	}
	return command, nil
}

// answer reads what messaging told of a command.
func (a *Activities) answer(ctx context.Context, kind messaging.CommandKind, command string) (messaging.Callback, error) {
	body, err := a.Get.Applicants.Answer(ctx, command)
	if errors.Is(err, mobileid.ErrNoAnswer) {
		return messaging.Callback{}, failure(mobileid.FailurePhoneSilent, errors.New("the phone did not answer in time"))
	}
	if err != nil {
		return messaging.Callback{}, err
	}
	callback, err := messaging.ParseCallback(string(kind), body)
	if err != nil {
		return messaging.Callback{}, failure(mobileid.FailureBadRequest, err)
	}
	switch callback.Outcome {
	case messaging.TimedOut:
		return callback, failure(mobileid.FailurePhoneSilent, errors.New("the phone did not answer in time"))
	case messaging.Refused:
		return callback, failure(mobileid.FailurePhoneRefused, fmt.Errorf("it was declined on the phone: %s", callback.Reason))
	case messaging.Answered:
	}
	return callback, nil
}

// refusals sorts why an answer is not believed.
var refusals = map[messaging.Refusal]mobileid.FailureType{
	messaging.BadSignature: mobileid.FailureBadSignature,
	messaging.WrongNonce:   mobileid.FailureWrongNonce,
}

// ReadKeys verifies the phone's answer to a provision command. One that is missing,
// declined or not to be believed ends the Get.
func (a *Activities) ReadKeys(ctx context.Context, in ReadKeysInput) (*MadeKeys, error) {
	defer heartbeat(ctx, nothing)()
	callback, err := a.answer(ctx, messaging.KindProvision, in.Command.CommandID)
	if err != nil {
		return nil, translate(err)
	}
	provisioning, err := a.Get.Applicants.Provisioning(ctx, in.MobileID)
	if errors.Is(err, mobileid.ErrNoProvisioning) || err == nil && provisioning.CommandID != in.Command.CommandID {
		return nil, translate(failure(mobileid.FailurePhoneSilent, errors.New("the time to scan the code is over")))
	}
	if err != nil {
		return nil, translate(err)
	}
	options := messaging.VerifyOptions{Keys: a.Get.Attestation, Nonce: provisioning.Nonce}
	for _, asked := range in.Command.Asked {
		expected := messaging.ExpectedKey{KeyID: asked.ID, CSRTemplate: asked.CSRTemplate}
		for _, kind := range asked.Types {
			expected.Types = append(expected.Types, messaging.KeyType(kind))
		}
		options.Requests = append(options.Requests, expected)
	}
	requests, err := messaging.Verify(callback, options)
	if err != nil {
		kind := mobileid.FailureBadRequest
		var e *messaging.VerifyError
		if known, ok := refusals[refusalOf(err, &e)]; ok {
			kind = known
		}
		return nil, translate(failure(kind, err))
	}
	made := &MadeKeys{ProfileID: callback.ProfileID}
	for _, request := range requests {
		made.Keys = append(made.Keys, MadeKey{ID: request.KeyID, CSR: request.CSR})
	}
	return made, nil
}

func refusalOf(err error, e **messaging.VerifyError) messaging.Refusal {
	if errors.As(err, e) {
		return (*e).Refusal
	}
	return ""
}

// InstallCertificates sends the certificates to the phone. What an earlier try has
// sent and noted is not sent again: the person at the phone is asked once.
func (a *Activities) InstallCertificates(ctx context.Context, in InstallInput) (*CommandSent, error) {
	defer heartbeat(ctx, nothing)()
	applicant, err := a.applicant(ctx, in.UserID)
	if err != nil {
		return nil, translate(err)
	}
	name, err := a.Get.Settings.name(applicant)
	if err != nil {
		return nil, translate(failure(mobileid.FailureNotEntitled, err))
	}
	known, err := a.Get.Applicants.Installation(ctx, in.MobileID)
	if err == nil {
		return &CommandSent{CommandID: known.CommandID, ExpiresAt: known.ExpiresAt}, nil
	}
	if !errors.Is(err, mobileid.ErrNoCommand) {
		return nil, translate(err)
	}
	command := messaging.Certificates{
		Header: messaging.Header{Lifespan: in.Wait, Timeout: in.Wait, ExternalID: in.MobileID},
		UserID: name, ProfileID: in.ProfileID,
	}
	for _, c := range in.Certificates {
		chain := messaging.Chain{KeyID: c.KeyID, Certificates: append([][]byte{c.Certificate.DER}, in.Chain...)}
		command.Chains = append(command.Chains, chain)
	}
	accepted, err := a.Get.Messaging.Certificates(ctx, command)
	if err != nil {
		return nil, translate(messagingFailure(err))
	}
	sent := &CommandSent{CommandID: accepted.CommandID, ExpiresAt: time.Now().UTC().Add(in.Wait)}
	err = a.Get.Applicants.PutCommand(ctx, mobileid.Command{
		CommandID: sent.CommandID, MobileID: in.MobileID, WorkflowID: in.WorkflowID, Kind: string(messaging.KindCertificate), ExpiresAt: sent.ExpiresAt,
	})
	if err != nil {
		return nil, translate(err)
	}
	return sent, nil
}

// ReadInstallation sees that the phone has installed every certificate.
func (a *Activities) ReadInstallation(ctx context.Context, in ReadInstallationInput) error {
	defer heartbeat(ctx, nothing)()
	callback, err := a.answer(ctx, messaging.KindCertificate, in.Command)
	if err != nil {
		return translate(err)
	}
	for _, key := range in.Keys {
		if !slices.Contains(callback.Installed, key) {
			return translate(failure(mobileid.FailurePhoneRefused, fmt.Errorf("the phone did not install the certificate for %s", key)))
		}
	}
	return nil
}

// failureError is how a failure leaves an activity: its own type and words, never
// retried.
func failureError(f *mobileid.Failure) error {
	return temporal.NewApplicationErrorWithOptions(f.Message, string(f.Type), temporal.ApplicationErrorOptions{
		NonRetryable: true,
		Category:     temporal.ApplicationErrorCategoryBenign,
		Details:      []any{f},
	})
}

// FailureOf finds the failure in an error of an activity of Get. It returns nil for
// any other error.
func FailureOf(err error) *mobileid.Failure {
	var application *temporal.ApplicationError
	if !errors.As(err, &application) || !application.HasDetails() {
		return nil
	}
	var f mobileid.Failure
	if application.Details(&f) != nil || f.Type == "" || string(f.Type) != application.Type() {
		return nil
	}
	return &f
}
