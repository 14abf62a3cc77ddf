// Package workflows holds the processes and their messages.
//
// Everything a caller sends or reads is plain JSON with the field names given
// here; callers in other languages need nothing else. Inputs are read
// leniently where a script may be old (unknown fields, odd signal payloads) and
// strictly where a mistake would go unnoticed (missing or malformed fields).
package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"mobileid"
)

// Names that callers use.
const (
	// TaskQueue is the default task queue of all processes.
	TaskQueue = "mobile-id"

	// Lock is the process "Lock mobile ID (self-service user)" by its symbolic name.
	Lock = "MobileIDSelfServiceProcLock"
	// LockForOperator is the same process, started by an operator for the owner.
	LockForOperator = "MobileIDProcLockForOperator"

	// Next, Cancel and Retry are updates and signals alike.
	Next   = "next"
	Cancel = "cancel"
	Retry  = "retry"

	// StatusQuery is the query that answers with a LockStatus.
	StatusQuery = "status"
)

// LockWorkflowID is the workflow id of every lock of a mobile ID, whoever starts
// it: that there is one running lock per mobile ID follows from it.
func LockWorkflowID(mobileID string) string { return Lock + "/" + mobileID }

// LockRequest is the input of a lock.
type LockRequest struct {
	MobileID  string          `json:"mobileId"`
	UserID    string          `json:"userId"`           // the owner
	By        string          `json:"by,omitempty"`     // LockForOperator: the operator
	Confirmed bool            `json:"confirmed"`        // Next was pressed on the caller's page
	ThenGet   bool            `json:"thenGet"`          // go on to Get mobile ID
	Reason    mobileid.Reason `json:"reason,omitempty"` // RFC 5280 name; empty: the configured default
	Resume    bool            `json:"resume"`           // check every certificate at its CA again

	// Continued is the state of the run before, after continue-as-new. Nobody
	// else can set it: a first run refuses it.
	Continued *lockState `json:"continued,omitempty"`
}

// Message is the payload of next, cancel and retry. Every field is optional.
type Message struct {
	UserID    string          `json:"userId,omitempty"`    // on behalf of this user, who must be the owner; empty: an operator or script
	By        string          `json:"by,omitempty"`        // who decided, for the audit
	RequestID string          `json:"requestId,omitempty"` // the update id; a repeat has the same answer
	Note      string          `json:"note,omitempty"`
	ThenGet   bool            `json:"thenGet,omitempty"` // next: go on to Get mobile ID
	Reason    mobileid.Reason `json:"reason,omitempty"`  // next: counts with the first one
}

// Phase is where a process stands.
type Phase string

// The phases of a lock, in their order. With several CAs it is NeedsOperator if
// any of them waits for an operator, else the least advanced one's.
const (
	Validating           Phase = "validating"
	AwaitingConfirmation Phase = "awaitingConfirmation"
	Locking              Phase = "locking"
	Revoking             Phase = "revoking"
	Publishing           Phase = "publishing"
	NeedsOperator        Phase = "needsOperator"
	Closed               Phase = "closed"
)

// Outcome is how a lock ended. A refused one has none: it ends with the refusal.
type Outcome string

// The outcomes of a lock.
const (
	OutcomeLocked    Outcome = "locked"
	OutcomeCancelled Outcome = "cancelled"
	OutcomeExpired   Outcome = "expired" // never answered
)

// LockResult is the result of a lock, with the proof. Times are four honest
// states, never one for another, and absent while the state does not stand.
type LockResult struct {
	Outcome               Outcome                      `json:"outcome,omitempty"`
	MobileID              string                       `json:"mobileId"`
	RequestedAt           time.Time                    `json:"requestedAt,omitzero"` // Next
	LockedAt              time.Time                    `json:"lockedAt,omitzero"`    // blocked here
	RevokedAt             time.Time                    `json:"revokedAt,omitzero"`   // all at their CA, by the CAs' dates
	VisibleAt             time.Time                    `json:"visibleAt,omitzero"`   // others can see it
	DecidedBy             mobileid.Decision            `json:"decidedBy,omitzero"`
	CancellationRequested bool                         `json:"cancellationRequested,omitempty"` // after Next: noted, and the lock finished
	Audit                 mobileid.AuditMark           `json:"audit,omitzero"`                  // the last record
	Get                   *Execution                   `json:"get,omitempty"`
	Warning               string                       `json:"warning,omitempty"`
	Certificates          []mobileid.CertificateResult `json:"certificates"`
}

// Execution names a run of a process.
type Execution struct {
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"`
}

// LockStatus is the answer to the query, and to next and cancel: the result's
// fields so far, and where the process stands. It holds what the process knows;
// tries and last errors of a waiting step are the engine's pending activities.
type LockStatus struct {
	LockResult
	Phase         Phase             `json:"phase"`
	MobileIDState mobileid.State    `json:"mobileIdState,omitempty"`
	Refusal       *mobileid.Refusal `json:"refusal,omitempty"`
	Needs         string            `json:"needs,omitempty"`   // what an operator should do
	Deadline      time.Time         `json:"deadline,omitzero"` // for Next or Cancel
	ThenGet       bool              `json:"thenGet,omitempty"` // will go on to Get mobile ID
	Revoked       bool              `json:"revoked,omitempty"` // the three end states stand
	Retries       int               `json:"retries,omitempty"` // how often retry took effect
	Ignored       int               `json:"ignored,omitempty"` // signals that did not count
}

// RetryAnswer is the answer to retry.
type RetryAnswer struct {
	Retried bool       `json:"retried"`
	Why     string     `json:"why,omitempty"` // why not
	Status  LockStatus `json:"status"`
}

const (
	maxUserID = 256
	maxNote   = 1024
)

// parseLockRequest reads the input of a lock and refuses, by name, what is
// missing or malformed.
func parseLockRequest(raw converter.RawValue, operator bool) (LockRequest, error) {
	var request LockRequest
	if err := unmarshalObject(raw, "input", &request); err != nil {
		return request, err
	}
	if err := mobileid.CheckID("mobileId", request.MobileID); err != nil {
		return request, err
	}
	if request.UserID == "" {
		return request, mobileid.InvalidRequest("userId", "is missing")
	}
	if err := checkText("userId", request.UserID, maxUserID); err != nil {
		return request, err
	}
	if operator && request.By == "" {
		return request, mobileid.InvalidRequest("by", "is missing: it names the operator")
	}
	if err := checkText("by", request.By, maxUserID); err != nil {
		return request, err
	}
	if err := mobileid.CheckLockReason(request.Reason, operator); err != nil {
		return request, err
	}
	return request, nil
}

// thenGetUnsupported refuses the chain where there is no Get mobile ID to go on to:
// a caller who asked for it must not take a mere lock for the whole.
func thenGetUnsupported() *mobileid.Refusal {
	return mobileid.InvalidRequest("thenGet", "cannot be: Get mobile ID is not configured in the worker")
}

// parseMessage reads the payload of an update strictly. No payload at all is
// the empty message.
func parseMessage(raw converter.RawValue) (Message, error) {
	var message Message
	if raw.Payload() == nil || isNull(raw.Payload()) {
		return message, nil
	}
	if err := unmarshalObject(raw, "payload", &message); err != nil {
		return message, err
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"userId", message.UserID, maxUserID},
		{"by", message.By, maxUserID},
		{"requestId", message.RequestID, maxUserID},
		{"note", message.Note, maxNote},
	} {
		if err := checkText(text.field, text.value, text.limit); err != nil {
			return message, err
		}
	}
	return message, mobileid.CheckLockReason(message.Reason, message.UserID == "")
}

// readMessage reads the payload of a signal. A signal counts with any payload
// or none, so what cannot be read is left out: there is nobody to tell. A batch
// signal of tctl arrives as one JSON string that holds the object; it is
// unpacked.
func readMessage(raw converter.RawValue) Message {
	if payload := raw.Payload(); payload != nil {
		var text string
		if json.Unmarshal(payload.GetData(), &text) == nil {
			raw = converter.NewRawValue(&commonpb.Payload{Metadata: payload.GetMetadata(), Data: []byte(text)})
		}
	}
	message, err := parseMessage(raw)
	if err == nil {
		return message
	}
	var refusal *mobileid.Refusal
	if errors.As(err, &refusal) && refusal.Field == "reason" {
		message.Reason = ""
		return message
	}
	// On whose behalf it came decides whether it counts, so that much is kept.
	if checkText("userId", message.UserID, maxUserID) != nil {
		return Message{}
	}
	return Message{UserID: message.UserID}
}

// unmarshalObject reads a JSON object from a payload into out. Its refusals name
// the field, or whole for what is no object.
func unmarshalObject(raw converter.RawValue, whole string, out any) error {
	payload := raw.Payload()
	if payload == nil || isNull(payload) {
		return mobileid.InvalidRequest(whole, "is missing: it must be one JSON object")
	}
	switch encoding := string(payload.GetMetadata()[converter.MetadataEncoding]); encoding {
	case converter.MetadataEncodingJSON, converter.MetadataEncodingProtoJSON:
	default:
		return mobileid.InvalidRequest(whole, fmt.Sprintf("must be a JSON object, not %q", encoding))
	}
	data := bytes.TrimSpace(payload.GetData())
	if len(data) == 0 || data[0] != '{' {
		return mobileid.InvalidRequest(whole, "must be one JSON object")
	}
	err := json.Unmarshal(data, out)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return mobileid.InvalidRequest(wrongType.Field, "must not be a JSON "+wrongType.Value)
	}
	if err != nil {
		return mobileid.InvalidRequest(whole, "is not valid JSON")
	}
	return nil
}

func isNull(payload *commonpb.Payload) bool {
	return string(payload.GetMetadata()[converter.MetadataEncoding]) == converter.MetadataEncodingNil ||
		bytes.Equal(bytes.TrimSpace(payload.GetData()), []byte("null"))
}

// checkText refuses text that is too long to record or would deface a log.
func checkText(field, text string, limit int) error {
	if len(text) > limit {
		return mobileid.InvalidRequest(field, fmt.Sprintf("has more than %d bytes", limit))
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return mobileid.InvalidRequest(field, "holds characters that cannot be shown")
	}
	return nil
}
