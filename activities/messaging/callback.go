package messaging

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
)

// ASSUMPTION. That callbacks come to /rest/callback/<kind>, for answers and for
// time-outs, and that a phone's keys come as a JWS signed with its attestation key,
// is documented; neither body is in what could be read. These follow the style of
// the commands. A callback:
//
//	{"commandId", "externalId", "status": "answered" | "refused" | "timeout",
//	 "reason": words of the phone, with "refused",
//	 "profileid", "jws": compact JWS,          with an answered provision
//	 "profileid", "keyids": [installed keys]}  with an answered certificate command
//
// The payload of the JWS:
//
//	{"nonce", "userid", "profileid", "keys": [{"keyid", "certreq": base64 PKCS #10}]}
//
// Everything that knows them stands in this file.

// CommandKind is a kind of command, and of its callback.
type CommandKind string

// The kinds that are used here; messaging has more (authenticate, sign, ping).
const (
	KindProvision   CommandKind = "provision"
	KindCertificate CommandKind = "certificate"
)

// Outcome is what became of a command.
type Outcome string

// The outcomes.
const (
	Answered Outcome = "answered"
	Refused  Outcome = "refused" // by the person, or by the app
	TimedOut Outcome = "timeout" // the command's lifespan is over
)

// Callback is what messaging tells of a command. Nothing in it is proven but
// that the sender knows the callback's password; see [Verify].
type Callback struct {
	Kind       CommandKind
	CommandID  string
	ExternalID string
	Outcome    Outcome
	Reason     string   // why it was refused, for people
	ProfileID  string   // of the phone's profile; after an answer
	JWS        string   // after an answer to provision; secret, because the nonce is in it
	Installed  []string // ids of the keys whose certificates the phone has; after an answer to certificate
}

// String leaves out what the phone said.
func (c Callback) String() string {
	return fmt.Sprintf("%s callback %s of command %s", c.Kind, c.Outcome, c.CommandID)
}

// GoString is String, so that no verb prints the JWS.
func (c Callback) GoString() string { return c.String() }

// LogValue is String, so that no handler logs the JWS.
func (c Callback) LogValue() slog.Value { return slog.StringValue(c.String()) }

type callbackBody struct {
	CommandID  string   `json:"commandId"`
	ExternalID string   `json:"externalId,omitempty"`
	Status     string   `json:"status"`
	Reason     string   `json:"reason,omitempty"`
	ProfileID  string   `json:"profileid,omitempty"`
	JWS        string   `json:"jws,omitempty"`
	KeyIDs     []string `json:"keyids,omitempty"`
}

// profileIDs are those that are taken.
var profileIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// CallbackError is a callback that cannot be read.
type CallbackError struct {
	Field string // that is wrong; empty if it is the whole
	Words string
}

func (e *CallbackError) Error() string {
	if e.Field == "" {
		return "read callback: " + e.Words
	}
	return "read callback: " + e.Field + ": " + e.Words
}

// ParseCallback reads the body of a callback. kind is the last part of the path it
// came to. The error is *CallbackError and holds nothing of the content.
func ParseCallback(kind string, body []byte) (Callback, error) {
	var b callbackBody
	if err := readJSON(body, &b); err != nil {
		return Callback{}, &CallbackError{Words: err.Error()}
	}
	c := Callback{
		Kind: CommandKind(kind), CommandID: b.CommandID, ExternalID: b.ExternalID, Outcome: Outcome(b.Status),
		Reason: clean(b.Reason), ProfileID: b.ProfileID, JWS: b.JWS, Installed: b.KeyIDs,
	}
	return c, c.check()
}

func (c Callback) check() error {
	if c.Kind != KindProvision && c.Kind != KindCertificate {
		return &CallbackError{Field: "kind", Words: "it is neither provision nor certificate"}
	}
	if !commandIDs.MatchString(c.CommandID) {
		return &CallbackError{Field: "commandId", Words: "it is missing, or no id"}
	}
	if len(c.ExternalID) > maxText {
		return &CallbackError{Field: "externalId", Words: "it is too long"}
	}
	if c.Outcome == Refused || c.Outcome == TimedOut {
		return nil
	}
	if c.Outcome != Answered {
		return &CallbackError{Field: "status", Words: "it is unknown"}
	}
	if !profileIDs.MatchString(c.ProfileID) {
		return &CallbackError{Field: "profileid", Words: "it is missing, or no id"}
	}
	if c.Kind == KindProvision {
		if c.JWS == "" {
			return &CallbackError{Field: "jws", Words: "it is missing"}
		}
		return nil
	}
	if len(c.Installed) == 0 || len(c.Installed) > maxKeys {
		return &CallbackError{Field: "keyids", Words: fmt.Sprintf("there must be 1 to %d", maxKeys)}
	}
	for _, id := range c.Installed {
		if !keyIDs.MatchString(id) {
			return &CallbackError{Field: "keyids", Words: "one is no name of a key"}
		}
	}
	return nil
}

// Encode puts the callback on the wire, as messaging has to.
func (c Callback) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return encode("encode callback", callbackBody{
		CommandID: c.CommandID, ExternalID: c.ExternalID, Status: string(c.Outcome), Reason: c.Reason,
		ProfileID: c.ProfileID, JWS: c.JWS, KeyIDs: c.Installed,
	})
}

// Statement is what a phone signs when it has made keys. Nonce is a secret.
type Statement struct {
	Nonce     string
	UserID    string
	ProfileID string
	Keys      []MadeKey
}

// MadeKey is a key that a phone has made.
type MadeKey struct {
	KeyID string
	CSR   []byte // DER of a PKCS #10
}

type statementBody struct {
	Nonce     string        `json:"nonce"`
	UserID    string        `json:"userid"`
	ProfileID string        `json:"profileid"`
	Keys      []madeKeyBody `json:"keys"`
}

type madeKeyBody struct {
	KeyID   string `json:"keyid"`
	CertReq string `json:"certreq"`
}

// Encode gives the payload of the JWS, as a phone has to.
func (s Statement) Encode() ([]byte, error) {
	b := statementBody{Nonce: s.Nonce, UserID: s.UserID, ProfileID: s.ProfileID}
	for _, key := range s.Keys {
		b.Keys = append(b.Keys, madeKeyBody{KeyID: key.KeyID, CertReq: base64.StdEncoding.EncodeToString(key.CSR)})
	}
	return encode("encode statement", b)
}

// parseStatement reads the payload of the JWS.
func parseStatement(payload []byte) (Statement, error) {
	var b statementBody
	if err := readJSON(payload, &b); err != nil {
		return Statement{}, err
	}
	if len(b.Keys) > maxKeys {
		return Statement{}, fmt.Errorf("there are more than %d keys", maxKeys)
	}
	s := Statement{Nonce: b.Nonce, UserID: b.UserID, ProfileID: b.ProfileID}
	for _, key := range b.Keys {
		der, err := base64.StdEncoding.DecodeString(key.CertReq)
		if err != nil {
			return Statement{}, errors.New("a certreq is not base64")
		}
		s.Keys = append(s.Keys, MadeKey{KeyID: key.KeyID, CSR: der})
	}
	return s, nil
}
