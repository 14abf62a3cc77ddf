package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Get is the process Get mobile ID: the options of the original's script
// MobileIDScriptOptions, with its defaults, and how long everybody may take.
type Get struct {
	Enabled            bool          `mapstructure:"enabled" doc:"offer Get mobile ID; needs messaging and a CA that issues"`
	CA                 string        `mapstructure:"ca" doc:"name of the CA that issues; its driver must be devca or cmrest"`
	Authentication     bool          `mapstructure:"authentication" doc:"a certificate for authentication"`
	Signature          bool          `mapstructure:"signature" doc:"a certificate for signatures"`
	Encryption         bool          `mapstructure:"encryption" doc:"a certificate for encryption"`
	RecoverEncryption  bool          `mapstructure:"recover_encryption" doc:"bring encryption keys of before to the new phone; must be false, because no driver can"`
	ProcAuthentication string        `mapstructure:"procedure_authentication" doc:"how the CA calls it; devca: a profile; cmrest: a token procedure"`
	ProcSignature      string        `mapstructure:"procedure_signature" doc:"the same"`
	ProcEncryption     string        `mapstructure:"procedure_encryption" doc:"the same"`
	KeyTypes           []string      `mapstructure:"key_types" doc:"what the phone makes, the preferred first: RSA-2048, RSA-3072, EC-P-256"`
	Years              int           `mapstructure:"years" doc:"of validity"`
	UserID             string        `mapstructure:"user_id" doc:"by what messaging and the app call the user: email or id"`
	ServerName         string        `mapstructure:"server_name" doc:"what the app shows as the issuer"`
	ProfileName        string        `mapstructure:"profile_name" doc:"what the app shows as the name; %s is the user's name"`
	QR                 string        `mapstructure:"qr" doc:"how the user gets the QR code: page, or email to the main address, which needs mail.driver smtp but for development"`
	Notify             bool          `mapstructure:"notify" doc:"mail the user, at every address, when a Get has succeeded or failed"`
	WorkflowID         string        `mapstructure:"workflow_id" doc:"user id in the id of the process, which is never encrypted: plain or hashed"`
	Deadline           time.Duration `mapstructure:"deadline" doc:"how long a Get waits for Next or Cancel"`
	GrantFor           time.Duration `mapstructure:"grant_for" doc:"how long a grant may wait to be used"`
	ScanWait           time.Duration `mapstructure:"scan_wait" doc:"how long the phone may take to scan the code and answer"`
	InstallWait        time.Duration `mapstructure:"install_wait" doc:"how long the phone may take to install the certificates"`
	StepWait           time.Duration `mapstructure:"step_wait" doc:"how long messaging and the CA are tried while the user waits"`
}

// Messaging is Smart ID Messaging, by which phones are reached.
type Messaging struct {
	URL                     string        `mapstructure:"url" doc:"https, usually https://host:20400/hermod"`
	ClientID                string        `mapstructure:"client_id" doc:"of the worker, in allowed-clients of messaging"`
	APIKeyFile              string        `mapstructure:"api_key_file" doc:"file with the key of that client"`
	ServerCAFile            string        `mapstructure:"server_ca_file" doc:"PEM file with the CA of messaging's TLS certificate; empty: the system's trust store"`
	AttestationFile         string        `mapstructure:"attestation_file" doc:"JWKS file with the public keys by which phones vouch for what they make"`
	CallTimeout             time.Duration `mapstructure:"call_timeout" doc:"of one call"`
	CallbackAddress         string        `mapstructure:"callback_address" doc:"address where the worker takes callbacks, over TLS; empty: another worker does"`
	CallbackCertificateFile string        `mapstructure:"callback_certificate_file" doc:"PEM file with the certificate for that"`
	CallbackKeyFile         string        `mapstructure:"callback_key_file" doc:"PEM file with its key"`
	CallbackUser            string        `mapstructure:"callback_user" doc:"user name by which messaging calls back (callbackBasicAuth)"`
	CallbackPasswordFile    string        `mapstructure:"callback_password_file" doc:"file with the password for that"`
}

// How the user gets the QR code.
const (
	QROnPage  = "page"
	QRByEmail = "email"
)

func defaultGet() Get {
	return Get{
		Authentication:     true,
		Signature:          true,
		ProcAuthentication: "authentication",
		ProcSignature:      "signature",
		ProcEncryption:     "encryption",
		KeyTypes:           []string{"RSA-2048", "EC-P-256"},
		Years:              2,
		UserID:             "email",
		ServerName:         "Smart ID",
		ProfileName:        "MobileID %s",
		QR:                 QROnPage,
		Notify:             true,
		WorkflowID:         "plain",
		Deadline:           2 * time.Hour,
		GrantFor:           2 * time.Hour,
		ScanWait:           5 * time.Minute,
		InstallWait:        5 * time.Minute,
		StepWait:           2 * time.Minute,
	}
}

// keyTypes are those of package messaging, which this one does not know.
var keyTypes = []string{"RSA-2048", "RSA-3072", "EC-P-256"}

func (c Config) checkGet(f *Faults) {
	g := c.Get
	if !g.Enabled {
		return
	}
	required(f, "get.ca", g.CA)
	at := slices.IndexFunc(c.CAs, func(ca CA) bool { return ca.Name == g.CA })
	switch {
	case g.CA == "":
	case at < 0:
		f.add("get.ca", "is not the name of a CA: "+g.CA)
	case c.CAs[at].Driver != "" && c.CAs[at].Driver != "devca" && c.CAs[at].Driver != "cmrest":
		f.add("get.ca", "has driver "+c.CAs[at].Driver+", which does not issue for phones")
	}
	if !g.Authentication && !g.Signature && !g.Encryption {
		f.add("get", "asks for no certificate")
	}
	if g.RecoverEncryption {
		f.add("get.recover_encryption", "must be false: no driver can recover keys")
	}
	for key, used := range map[string]bool{"authentication": g.Authentication, "signature": g.Signature, "encryption": g.Encryption} {
		procedure := map[string]string{"authentication": g.ProcAuthentication, "signature": g.ProcSignature, "encryption": g.ProcEncryption}[key]
		if used {
			required(f, "get.procedure_"+key, procedure)
		}
	}
	if len(g.KeyTypes) == 0 {
		f.add("get.key_types", "is empty")
	}
	for _, kind := range g.KeyTypes {
		oneOf(f, "get.key_types", kind, keyTypes...)
	}
	if g.Years < 1 || g.Years > 10 {
		f.add("get.years", "must be 1 to 10")
	}
	oneOf(f, "get.user_id", g.UserID, "email", "id")
	required(f, "get.server_name", g.ServerName)
	required(f, "get.profile_name", g.ProfileName)
	oneOf(f, "get.qr", g.QR, QROnPage, QRByEmail)
	oneOf(f, "get.workflow_id", g.WorkflowID, "plain", "hashed")
	if g.WorkflowID == "hashed" {
		required(f, "search_attributes.hash_key_file", c.SearchAttributes.HashKeyFile)
	}
	for key, wait := range map[string]time.Duration{
		"deadline": g.Deadline, "grant_for": g.GrantFor, "scan_wait": g.ScanWait, "install_wait": g.InstallWait, "step_wait": g.StepWait,
	} {
		if wait < time.Second {
			f.add("get."+key, "must be at least 1s")
		}
	}
	c.Messaging.check(f)
}

func (m Messaging) check(f *Faults) {
	if u, err := url.Parse(m.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		f.add("messaging.url", "must be an https URL")
	}
	required(f, "messaging.client_id", m.ClientID)
	required(f, "messaging.api_key_file", m.APIKeyFile)
	required(f, "messaging.attestation_file", m.AttestationFile)
	positive(f, "messaging.call_timeout", m.CallTimeout)
	if m.CallbackAddress == "" {
		return
	}
	if _, _, err := net.SplitHostPort(m.CallbackAddress); err != nil {
		f.add("messaging.callback_address", "must be host:port")
	}
	required(f, "messaging.callback_certificate_file", m.CallbackCertificateFile)
	required(f, "messaging.callback_key_file", m.CallbackKeyFile)
	required(f, "messaging.callback_user", m.CallbackUser)
	required(f, "messaging.callback_password_file", m.CallbackPasswordFile)
	if strings.Contains(m.CallbackUser, ":") {
		f.add("messaging.callback_user", "must not hold a colon (RFC 7617 section 2)")
	}
}
