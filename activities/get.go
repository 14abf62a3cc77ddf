package activities

import (
	"time"

	"mobileid"
)

// Names of the activities of Get mobile ID, as they stand in histories.
const (
	ValidateGetName         = "ValidateGet"
	RegisterMobileIDName    = "RegisterMobileID"
	ProvisionName           = "Provision"
	ReadKeysName            = "ReadKeys"
	IssueAtCAName           = "IssueAtCA"
	RecordIssuedName        = "RecordIssued"
	InstallCertificatesName = "InstallCertificates"
	ReadInstallationName    = "ReadInstallation"
	ActivateMobileIDName    = "ActivateMobileID"
	FindIssuedName          = "FindIssued"
	AbandonMobileIDName     = "AbandonMobileID"
	AwaitNoneLiveName       = "AwaitNoneLive"
)

// GetPolicy is the configuration that a Get runs under. As with a lock, history
// holds it, and a changed one applies to later starts. It holds nothing secret.
type GetPolicy struct {
	Deadline    time.Duration `json:"deadline"` // for Next or Cancel
	MobileID    string        `json:"mobileId"` // the one that is granted
	ProfileName string        `json:"profileName"`
	CA          CAPolicy      `json:"ca"`
	Keys        []KeyPolicy   `json:"keys"`
	NotAfter    time.Time     `json:"notAfter"`    // of the certificates
	ScanWait    time.Duration `json:"scanWait"`    // how long the phone may take to scan and answer
	StepWait    time.Duration `json:"stepWait"`    // how long messaging and the CA are tried
	InstallWait time.Duration `json:"installWait"` // how long the phone may take to install the certificates

	Attributes AttributePolicy `json:"attributes"`
}

// KeyPolicy is one key that the phone makes, with the certificate for it.
type KeyPolicy struct {
	ID        string `json:"id"`        // authentication, signature or encryption
	Procedure string `json:"procedure"` // how the CA calls the certificate
}

// ValidateGetInput is what ValidateGet needs.
type ValidateGetInput struct {
	UserID  string           `json:"userId"`
	By      string           `json:"by,omitempty"`
	Process mobileid.Process `json:"process"`
	// Insist refuses at once if another mobile ID is active, because nobody will be
	// there to have it locked.
	Insist bool `json:"insist,omitempty"`
}

// ValidateGetResult is what a Get knows before Next.
type ValidateGetResult struct {
	Policy GetPolicy      `json:"policy"`
	Live   []LiveMobileID `json:"live"`
}

// LiveMobileID is a mobile ID of the user that stands in the way of a new one.
type LiveMobileID struct {
	ID    string         `json:"id"`
	State mobileid.State `json:"state"`
}

// ProvisionInput is what Provision needs.
type ProvisionInput struct {
	MobileID   string    `json:"mobileId"`
	UserID     string    `json:"userId"`
	WorkflowID string    `json:"workflowId"`
	Policy     GetPolicy `json:"policy"`
}

// CommandSent is a command that messaging has taken.
type CommandSent struct {
	CommandID string    `json:"commandId"`
	ExpiresAt time.Time `json:"expiresAt"` // of the phone's time to answer
	// Asked is what a provision command asked for, to measure the answer by.
	Asked []AskedKey `json:"asked,omitempty"`
}

// AskedKey is a key that a phone was asked for.
type AskedKey struct {
	ID          string   `json:"id"`
	Types       []string `json:"types"`
	CSRTemplate []byte   `json:"csrTemplate"` // DER, with a throw-away key
}

// ReadKeysInput is what ReadKeys needs.
type ReadKeysInput struct {
	MobileID string      `json:"mobileId"`
	Command  CommandSent `json:"command"`
}

// MadeKeys is what the phone made, verified.
type MadeKeys struct {
	ProfileID string    `json:"profileId"` // of the app
	Keys      []MadeKey `json:"keys"`
}

// MadeKey is a key with its request.
type MadeKey struct {
	ID  string `json:"id"`
	CSR []byte `json:"csr"` // DER
}

// IssueInput is what IssueAtCA and FindIssued need.
type IssueInput struct {
	CA       CAPolicy    `json:"ca"`
	Policies []KeyPolicy `json:"policies"`
	Keys     []MadeKey   `json:"keys"`
	NotAfter time.Time   `json:"notAfter"`
}

// IssuedCertificate is a certificate for a key.
type IssuedCertificate struct {
	KeyID       string               `json:"keyId"`
	Certificate mobileid.Certificate `json:"certificate"`
}

// IssueResult is what the CA issued.
type IssueResult struct {
	Certificates []IssuedCertificate `json:"certificates"`
	Chain        [][]byte            `json:"chain,omitempty"` // the CA's own, DER
}

// InstallInput is what InstallCertificates needs.
type InstallInput struct {
	MobileID     string              `json:"mobileId"`
	UserID       string              `json:"userId"`
	WorkflowID   string              `json:"workflowId"`
	ProfileID    string              `json:"profileId"`
	Certificates []IssuedCertificate `json:"certificates"`
	Chain        [][]byte            `json:"chain"`
	Wait         time.Duration       `json:"wait"`
}

// ReadInstallationInput is what ReadInstallation needs.
type ReadInstallationInput struct {
	MobileID string   `json:"mobileId"`
	Command  string   `json:"command"`
	Keys     []string `json:"keys"` // that must be installed
}

// AwaitNoneLiveInput is what AwaitNoneLive needs.
type AwaitNoneLiveInput struct {
	UserID   string `json:"userId"`
	MobileID string `json:"mobileId,omitempty"` // this one alone; empty: all of the user's
}
