package messaging

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
)

// Accepted is the answer to a command: messaging has it, and nothing more.
type Accepted struct {
	CommandID    string
	Destinations []Destination
}

// Destination is where a command went. URI and BID are secrets.
type Destination struct {
	To  string `json:"to"` // "@tmp" for a phone that is not known yet
	BID string `json:"bid"`
	URI string `json:"uri"` // what the QR code carries
}

// String leaves out the secrets.
func (d Destination) String() string { return "destination " + clean(d.To) }

// GoString is String, so that no verb prints the secrets.
func (d Destination) GoString() string { return d.String() }

// LogValue is String, so that no handler logs the secrets.
func (d Destination) LogValue() slog.Value { return slog.StringValue(d.String()) }

// String leaves out the secrets.
func (a Accepted) String() string { return "command " + a.CommandID }

// GoString is String, so that no verb prints the secrets.
func (a Accepted) GoString() string { return a.String() }

// LogValue is String, so that no handler logs the secrets.
func (a Accepted) LogValue() slog.Value { return slog.StringValue(a.String()) }

// acceptedBody is the body of the answer, as documented.
type acceptedBody struct {
	CommandID    string        `json:"commandId"`
	Destinations []Destination `json:"destinations"`
}

// maxURI is what a QR code still shows in a readable size, in bytes.
const maxURI = 1024

// commandIDs are those that are taken: they stand in log lines.
var commandIDs = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// Encode puts the answer on the wire, as messaging has to.
func (a Accepted) Encode() ([]byte, error) {
	return encode("encode answer", acceptedBody(a))
}

// ParseAccepted reads the answer to a command. Of a provision command it must have
// one destination with an uri.
func ParseAccepted(kind CommandKind, body []byte) (Accepted, error) {
	var b acceptedBody
	if err := readJSON(body, &b); err != nil {
		return Accepted{}, err
	}
	if !commandIDs.MatchString(b.CommandID) {
		return Accepted{}, errors.New("commandId: it is missing, or no id")
	}
	if kind != KindProvision {
		return Accepted(b), nil
	}
	if len(b.Destinations) != 1 {
		return Accepted{}, fmt.Errorf("destinations: there are %d, it must be one", len(b.Destinations))
	}
	if uri := b.Destinations[0].URI; uri == "" || len(uri) > maxURI {
		return Accepted{}, errors.New("destinations: the uri is missing or too long")
	}
	return Accepted(b), nil
}
