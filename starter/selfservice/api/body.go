package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"

	"github.com/google/uuid"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

const (
	maxKey   = 64 // of an Idempotency-Key
	maxField = 64 // of a field's name that is told back
)

var errMediaType = errors.New("the body must be application/json")

// decision is the body of a call that decides something.
type decision struct {
	confirmed bool
	reason    mobileid.Reason
	thenGet   bool
	owner     string // operators: whose mobile ID it is
	resume    bool   // operators: check every certificate at its CA again
}

// read reads a decision. Only the named fields may be there, spelt so, and once; none
// need be, nor a body.
func (c *call) read(fields ...string) (decision, error) {
	var d decision
	text, err := io.ReadAll(c.r.Body) // the server limits it
	if err != nil {
		return d, err
	}
	if len(text) == 0 {
		return d, nil
	}
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return d, errMediaType
	}
	into := map[string]any{}
	for _, field := range fields {
		into[field] = map[string]any{"confirmed": &d.confirmed, "reason": &d.reason, "thenGet": &d.thenGet, "owner": &d.owner, "resume": &d.resume}[field]
	}
	if err := strict(text, into); err != nil {
		return d, err
	}
	return d, mobileid.CheckLockReason(d.reason, false)
}

// strict reads one JSON object. The decoder of the standard library would take names in
// any case, twice, and null for everything.
func strict(text []byte, into map[string]any) error {
	malformed := mobileid.InvalidRequest("body", "must be one JSON object")
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return malformed
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return malformed
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return malformed
		}
		target, known := into[name]
		if !known {
			return mobileid.InvalidRequest(name[:min(len(name), maxField)], "is not a field here")
		}
		if target == nil {
			return mobileid.InvalidRequest(name, "stands there twice")
		}
		into[name] = nil
		if bytes.Equal(value, []byte("null")) || json.Unmarshal(value, target) != nil {
			return mobileid.InvalidRequest(name, "is not of its type")
		}
	}
	if _, err := decoder.Token(); err != nil {
		return malformed
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return malformed
	}
	return nil
}

// requestID is the Idempotency-Key, or a new one.
func (c *call) requestID() (string, error) {
	const header = "Idempotency-Key"
	values := c.r.Header.Values(header)
	if len(values) == 0 {
		return uuid.NewString(), nil
	}
	if len(values) > 1 {
		return "", mobileid.InvalidRequest(header, "stands there twice")
	}
	key := values[0]
	if len(key) > maxKey {
		return "", mobileid.InvalidRequest(header, "has more than 64 characters")
	}
	return key, mobileid.CheckID(header, key)
}

// order reads who wants what: the key, the body, and that the mobile ID is the owner's,
// which is seen before anything is started or told. The owner is the user, or whom an
// operator names.
func (c *call) order(fields ...string) (desk.LockOrder, decision, error) {
	if c.operator {
		return c.orderForOwner(fields)
	}
	if err := c.owned(); err != nil {
		return desk.LockOrder{}, decision{}, err
	}
	id, err := c.requestID()
	if err != nil {
		return desk.LockOrder{}, decision{}, err
	}
	d, err := c.read(fields...)
	return desk.LockOrder{MobileID: c.id(), RequestID: id, Reason: d.reason, ThenGet: d.thenGet}, d, err
}

func (c *call) orderForOwner(fields []string) (desk.LockOrder, decision, error) {
	id, err := c.requestID()
	if err != nil {
		return desk.LockOrder{}, decision{}, err
	}
	d, err := c.read(append(fields, "owner")...)
	if err != nil {
		return desk.LockOrder{}, decision{}, err
	}
	if d.owner == "" {
		return desk.LockOrder{}, decision{}, mobileid.InvalidRequest("owner", "is missing")
	}
	c.owner = d.owner
	// Not the id of a message of the owner with the same key: the engine would give that
	// one's answer.
	return desk.LockOrder{MobileID: c.id(), RequestID: "operator." + id, Reason: d.reason, Resume: d.resume}, d, c.owned()
}

// owned sees that the mobile ID of the address is the owner's.
func (c *call) owned() error {
	_, err := c.api.Desk.MobileID(c.ctx(), c.owner, c.id())
	return err
}
