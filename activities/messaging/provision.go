package messaging

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// Usage says what a key is for, in the product's words.
type Usage string

// The usages. The documentation shows SIG; the others are an assumption.
const (
	Signature      Usage = "SIG"
	Authentication Usage = "AUTH"
	Encryption     Usage = "ENC"
)

// The fixed words of a provision command.
const (
	attestationKey = "ATTESTATION"
	formatJWS      = "jws"
	stateActive    = "ACTIVE"
	storageApp     = "APP"
)

const (
	maxKeys = 8
	// maxText is the longest name in a command, in bytes.
	maxText = 256
)

// keyIDs are the names of keys that are taken: phones name files after them.
var keyIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Header is what all commands have.
type Header struct {
	// Lifespan is how long the phone can answer; Timeout goes to the product as it
	// is. Both are whole seconds on the wire, which is how the unit of the examples
	// (300 and 1500) is read.
	Lifespan time.Duration
	Timeout  time.Duration
	// ExternalID is the caller's own name for the command. Callbacks repeat it.
	ExternalID string
}

// Provision asks a phone to make keys for a new profile.
type Provision struct {
	Header
	Nonce       string // secret; the answer must hold it
	UserID      string // usually the email address
	ServerName  string // what the app shows as the issuer, "Smart ID" by default of the product
	ProfileName string // what the app shows as the name
	Keys        []KeyRequest
}

// KeyRequest asks for one key.
type KeyRequest struct {
	KeyID       string // unique in the command: letters, digits, _ and -
	Usage       Usage
	Types       []KeyType // the first that the phone can do
	CSRTemplate []byte    // DER, see [CSRTemplate]
}

// Expected is what the answer to the command must hold.
func (p Provision) Expected() []ExpectedKey {
	var keys []ExpectedKey
	for _, key := range p.Keys {
		keys = append(keys, ExpectedKey{KeyID: key.KeyID, Types: key.Types, CSRTemplate: key.CSRTemplate})
	}
	return keys
}

// String leaves out the nonce and whom the command is for.
func (p Provision) String() string { return fmt.Sprintf("provision command for %d keys", len(p.Keys)) }

// GoString is String, so that no verb prints the nonce.
func (p Provision) GoString() string { return p.String() }

// LogValue is String, so that no handler logs the nonce.
func (p Provision) LogValue() slog.Value { return slog.StringValue(p.String()) }

// headerBody is commandHeader of all commands.
type headerBody struct {
	Lifespan   int64  `json:"lifespan"`
	Timeout    int64  `json:"timeout"`
	ExternalID string `json:"externalId,omitempty"`
}

// provisionBody is the body of a provision command, as documented.
type provisionBody struct {
	Header  headerBody `json:"commandHeader"`
	Command struct {
		Nonce        string `json:"nonce"`
		UserID       string `json:"userid"`
		SignatureKey string `json:"responsesignaturekey"`
		Format       string `json:"responseformat"`
		Profile      struct {
			ServerName string           `json:"servername"`
			Name       string           `json:"name"`
			Keys       []keyRequestBody `json:"keygenrequests"`
		} `json:"profile"`
	} `json:"provCommand"`
}

type keyRequestBody struct {
	KeyID    string         `json:"keyid"`
	Usage    string         `json:"usage"`
	Types    []keyTypeWords `json:"keytypeprios"`
	Storages []string       `json:"storageprios"`
	State    string         `json:"keystate"`
	CertReq  string         `json:"certreq"` // base64 of a PKCS #10
}

// body checks the command and puts it on the wire. The error is *Error of kind Invalid.
func (p Provision) body(op string) ([]byte, error) {
	if err := p.check(op); err != nil {
		return nil, err
	}
	var b provisionBody
	b.Header = p.Header.body()
	b.Command.Nonce, b.Command.UserID = p.Nonce, p.UserID
	b.Command.SignatureKey, b.Command.Format = attestationKey, formatJWS
	b.Command.Profile.ServerName, b.Command.Profile.Name = p.ServerName, p.ProfileName
	for _, key := range p.Keys {
		request := keyRequestBody{
			KeyID: key.KeyID, Usage: string(key.Usage), Storages: []string{storageApp}, State: stateActive,
			CertReq: base64.StdEncoding.EncodeToString(key.CSRTemplate),
		}
		for _, name := range key.Types {
			request.Types = append(request.Types, keyTypes[name])
		}
		b.Command.Profile.Keys = append(b.Command.Profile.Keys, request)
	}
	return encode(op, b)
}

func encode(op string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, &Error{Kind: Invalid, Op: op, Err: err}
	}
	if len(body) > MaxBody {
		return nil, invalid(op, "", fmt.Sprintf("the command is longer than %d bytes", MaxBody))
	}
	return body, nil
}

// check reports the first field that is wrong.
func (p Provision) check(op string) error {
	if err := p.Header.check(op); err != nil {
		return err
	}
	for _, field := range []struct{ name, text string }{
		{"nonce", p.Nonce}, {"userid", p.UserID}, {"profile.servername", p.ServerName}, {"profile.name", p.ProfileName},
	} {
		if err := checkText(op, field.name, field.text); err != nil {
			return err
		}
	}
	if len(p.Keys) == 0 || len(p.Keys) > maxKeys {
		return invalid(op, "keygenrequests", fmt.Sprintf("%d keys are asked for; it must be 1 to %d", len(p.Keys), maxKeys))
	}
	seen := map[string]bool{}
	for _, key := range p.Keys {
		if !keyIDs.MatchString(key.KeyID) || seen[key.KeyID] {
			return invalid(op, "keyid", fmt.Sprintf("%q is not a name, or is there twice", clean(key.KeyID)))
		}
		seen[key.KeyID] = true
		if err := key.check(op); err != nil {
			return err
		}
	}
	return nil
}

func (k KeyRequest) check(op string) error {
	switch k.Usage {
	case Signature, Authentication, Encryption:
	default:
		return invalid(op, "usage of key "+k.KeyID, fmt.Sprintf("%q is unknown", clean(string(k.Usage))))
	}
	if len(k.Types) == 0 || len(k.Types) > len(keyTypes) {
		return invalid(op, "keytypeprios of key "+k.KeyID, "there must be 1 to 3")
	}
	for _, name := range k.Types {
		if _, err := ParseKeyType(string(name)); err != nil {
			return invalid(op, "keytypeprios of key "+k.KeyID, err.Error())
		}
	}
	if _, err := readTemplate(k.CSRTemplate); err != nil {
		return invalid(op, "certreq of key "+k.KeyID, err.Error())
	}
	return nil
}

func (h Header) body() headerBody {
	return headerBody{
		Lifespan: int64(h.Lifespan / time.Second), Timeout: int64(h.Timeout / time.Second), ExternalID: h.ExternalID,
	}
}

// maxLifespan keeps a command of another's mistake from living for ever.
const maxLifespan = 30 * 24 * time.Hour

func (h Header) check(op string) error {
	for _, field := range []struct {
		name  string
		value time.Duration
	}{{"lifespan", h.Lifespan}, {"timeout", h.Timeout}} {
		if field.value < time.Second || field.value > maxLifespan {
			return invalid(op, field.name, fmt.Sprintf("%s is not between 1s and %s", field.value, maxLifespan))
		}
	}
	if len(h.ExternalID) > maxText {
		return invalid(op, "externalId", "it is too long")
	}
	return nil
}

func checkText(op, field, text string) error {
	if strings.TrimSpace(text) == "" {
		return invalid(op, field, "it is empty")
	}
	if len(text) > maxText {
		return invalid(op, field, fmt.Sprintf("it is longer than %d bytes", maxText))
	}
	return nil
}

func (b headerBody) header() (Header, error) {
	const limit = int64(maxLifespan / time.Second)
	if b.Lifespan < 0 || b.Lifespan > limit || b.Timeout < 0 || b.Timeout > limit {
		return Header{}, errors.New("commandHeader: lifespan or timeout is out of range")
	}
	return Header{
		Lifespan: time.Duration(b.Lifespan) * time.Second, Timeout: time.Duration(b.Timeout) * time.Second,
		ExternalID: b.ExternalID,
	}, nil
}

// ParseProvision reads the body of a provision command, as messaging and a phone
// have to.
func ParseProvision(body []byte) (Provision, error) {
	const op = "read provision command"
	var b provisionBody
	if err := readJSON(body, &b); err != nil {
		return Provision{}, invalid(op, "", err.Error())
	}
	if b.Command.SignatureKey != attestationKey || b.Command.Format != formatJWS {
		return Provision{}, invalid(op, "responseformat", "only jws signed with the key ATTESTATION is known")
	}
	header, err := b.Header.header()
	if err != nil {
		return Provision{}, invalid(op, "", err.Error())
	}
	p := Provision{
		Header: header, Nonce: b.Command.Nonce, UserID: b.Command.UserID,
		ServerName: b.Command.Profile.ServerName, ProfileName: b.Command.Profile.Name,
	}
	for _, request := range b.Command.Profile.Keys {
		template, err := base64.StdEncoding.DecodeString(request.CertReq)
		if err != nil {
			return Provision{}, invalid(op, "certreq", "it is not base64")
		}
		key := KeyRequest{KeyID: request.KeyID, Usage: Usage(request.Usage), CSRTemplate: template}
		for _, words := range request.Types {
			if name, known := keyTypeOf(words); known { // a phone takes the first that it can do
				key.Types = append(key.Types, name)
			}
		}
		p.Keys = append(p.Keys, key)
	}
	return p, p.check(op)
}
