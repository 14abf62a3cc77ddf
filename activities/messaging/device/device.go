// Package device is what a phone and the embedded messaging server say to each
// other. The product's own protocol between app and server is not documented: this
// one is ours, and only the form of the uri in the QR code is the product's.
//
// The phone reads a URL from the QR code, https://<host>/.../rest/ms/<bid>, whose
// last part is a secret that nobody can guess:
//
//	GET   200 [Command], the oldest that waits; 204 if none does; 404 for an unknown bid
//	POST  [Answer]: 200 once it cannot be lost; 404; 409 if its command takes no more
//
// The address stays good for a profile's certificate command after its provision
// command was answered.
package device

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"mobileid/activities/messaging"
)

// Command is a command on its way to a phone.
type Command struct {
	CommandID string                `json:"commandId"`
	Kind      messaging.CommandKind `json:"kind"`
	Body      json.RawMessage       `json:"body"` // as the client sent it
}

// Answer is what a phone says to a command.
type Answer struct {
	CommandID string            `json:"commandId"`
	Outcome   messaging.Outcome `json:"outcome"` // answered or refused
	Reason    string            `json:"reason,omitempty"`
	ProfileID string            `json:"profileId,omitempty"`
	JWS       string            `json:"jws,omitempty"`
	Installed []string          `json:"installed,omitempty"`
}

// scheme is what the app is registered for on a phone.
const scheme = "com.nexusgroup.plugout"

// maxContent is the longest content of a QR code that is read, in bytes.
const maxContent = 4096

// Content is what the QR code for a URL carries. It is as secret as the URL.
func Content(target string) string {
	return scheme + ":///?url=" + url.QueryEscape(target)
}

// ParseContent reads the URL out of the content of a QR code. The error does not
// quote it.
func ParseContent(content string) (*url.URL, error) {
	if len(content) > maxContent {
		return nil, errors.New("QR code: it is too long")
	}
	outer, err := url.Parse(strings.TrimSpace(content))
	if err != nil || outer.Scheme != scheme {
		return nil, errors.New("QR code: it is not one for the Smart ID app")
	}
	query, err := url.ParseQuery(outer.RawQuery)
	if err != nil || len(query["url"]) != 1 {
		return nil, errors.New("QR code: it does not carry one url")
	}
	target, err := url.Parse(query.Get("url"))
	if err != nil || target.Scheme != "https" || target.Host == "" || target.User != nil || target.Fragment != "" {
		return nil, errors.New("QR code: its url is not https")
	}
	return target, nil
}
