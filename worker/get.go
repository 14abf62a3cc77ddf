package main

import (
	"errors"
	"fmt"

	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/config"
	"mobileid/workflows"
)

// newGet makes what Get mobile ID works on, nil if it is not configured. The faults
// are reported at once.
func newGet(c config.Config, store *identitymanager.Store, cas *ca.Authorities) (*activities.Get, error) {
	if !c.Get.Enabled {
		return nil, nil //nolint:nilnil // see activities.Activities.Get
	}
	settings, settingsErr := getSettings(c)
	client, clientErr := messaging.NewClient(messaging.Options{
		URL: c.Messaging.URL, ClientID: c.Messaging.ClientID, APIKeyFile: c.Messaging.APIKeyFile,
		ServerCAFile: c.Messaging.ServerCAFile, Timeout: c.Messaging.CallTimeout,
	})
	attestation, attestationErr := messaging.ReadAttestationKeys(c.Messaging.AttestationFile)
	var issuingErr error
	if authority, ok := cas.ByName(c.Get.CA); ok && authority.Driver != nil && !authority.Issues() {
		issuingErr = fmt.Errorf("get.ca: the driver of %s does not issue", c.Get.CA)
	}
	if err := errors.Join(settingsErr, clientErr, attestationErr, issuingErr); err != nil {
		return nil, err
	}
	return &activities.Get{Applicants: store, Messaging: client, Attestation: attestation, Settings: settings}, nil
}

// getSettings are the part of the configuration that applies to every Get.
func getSettings(c config.Config) (activities.GetSettings, error) {
	key, err := config.GetHashKey(c)
	if err != nil {
		return activities.GetSettings{}, err
	}
	settings := activities.GetSettings{
		Deadline:    c.Get.Deadline,
		CA:          c.Get.CA,
		Years:       c.Get.Years,
		UserID:      activities.UserName(c.Get.UserID),
		ServerName:  c.Get.ServerName,
		ProfileName: c.Get.ProfileName,
		ScanWait:    c.Get.ScanWait,
		StepWait:    c.Get.StepWait,
		InstallWait: c.Get.InstallWait,
		QRByEmail:   c.Get.QR == config.QRByEmail,
		WorkflowID:  workflows.GetWorkflowIDs(key),
	}
	for _, certificate := range []struct {
		wanted    bool
		id        string
		usage     messaging.Usage
		procedure string
	}{
		{c.Get.Authentication, "authentication", messaging.Authentication, c.Get.ProcAuthentication},
		{c.Get.Signature, "signature", messaging.Signature, c.Get.ProcSignature},
		{c.Get.Encryption, "encryption", messaging.Encryption, c.Get.ProcEncryption},
	} {
		if certificate.wanted {
			settings.Keys = append(settings.Keys, activities.KeySetting{ID: certificate.id, Usage: certificate.usage, Procedure: certificate.procedure})
		}
	}
	for _, text := range c.Get.KeyTypes {
		kind, err := messaging.ParseKeyType(text)
		if err != nil {
			return settings, fmt.Errorf("get.key_types: %w", err)
		}
		settings.KeyTypes = append(settings.KeyTypes, kind)
	}
	return settings, nil
}
