package mobileid

import "strconv"

// RefusalType is the type of a refusal as callers see it: in the error of the
// workflow, of an update, and in the JSON of every program.
type RefusalType string

// The types of refusals. The first five end a process before Next was accepted;
// the last two answer a message that came too late.
const (
	TypeInvalidRequest    RefusalType = "InvalidRequest"
	TypeMobileIDNotFound  RefusalType = "MobileIDNotFound"
	TypeMobileIDNotActive RefusalType = "MobileIDNotActive"
	TypeNotEntitled       RefusalType = "NotEntitled"
	TypeMobileIDActive    RefusalType = "MobileIDAlreadyActive" // Get: the user has one that is live
	TypeAlreadyConfirmed  RefusalType = "AlreadyConfirmed"
	TypeAlreadyCancelled  RefusalType = "AlreadyCancelled"
)

// Refusal is a final no, with the type that a caller can test for: errors.Is
// against the Err values below compares the type alone.
type Refusal struct {
	Type    RefusalType `json:"type"`
	Message string      `json:"message"`
	Field   string      `json:"field,omitempty"` // InvalidRequest: the field or option
	State   State       `json:"state,omitempty"` // MobileIDNotActive: the state instead
}

// Values for errors.Is.
var (
	ErrInvalidRequest    = &Refusal{Type: TypeInvalidRequest}
	ErrMobileIDNotFound  = &Refusal{Type: TypeMobileIDNotFound}
	ErrMobileIDNotActive = &Refusal{Type: TypeMobileIDNotActive}
	ErrNotEntitled       = &Refusal{Type: TypeNotEntitled}
	ErrMobileIDActive    = &Refusal{Type: TypeMobileIDActive}
	ErrAlreadyConfirmed  = &Refusal{Type: TypeAlreadyConfirmed}
	ErrAlreadyCancelled  = &Refusal{Type: TypeAlreadyCancelled}
)

func (r *Refusal) Error() string { return r.Message }

// Is reports whether target is a Refusal of the same type.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && other.Type == r.Type
}

// InvalidRequest refuses a missing or malformed field or option by its name.
func InvalidRequest(field, problem string) *Refusal {
	return &Refusal{Type: TypeInvalidRequest, Field: field, Message: strconv.Quote(field) + " " + problem}
}

// NotFound refuses a mobile ID that is unknown or belongs to somebody else. The
// words are the same for both, so that nobody learns which IDs exist.
func NotFound() *Refusal {
	return &Refusal{Type: TypeMobileIDNotFound, Message: "no such mobile ID belongs to this user"}
}

// NotActive refuses a mobile ID that is not active, and says what it is.
func NotActive(state State) *Refusal {
	message := "the mobile ID is " + string(state) + ", only an active one can be locked"
	if state == Locked {
		message = "the mobile ID is locked already, and nothing is left to do"
	}
	return &Refusal{Type: TypeMobileIDNotActive, State: state, Message: message}
}

// NotLocked refuses to resume what is not locked: to resume is never to press Next.
func NotLocked() *Refusal {
	return InvalidRequest("resume", "is for a mobile ID that is locked already")
}

// AlreadyActive refuses a new mobile ID while an old one can be used.
func AlreadyActive() *Refusal {
	return &Refusal{Type: TypeMobileIDActive, Message: "the user has an active mobile ID: lock it first, or keep it"}
}

// NotEntitled refuses a user who may not use the process, and says why.
func NotEntitled(why string) *Refusal {
	return &Refusal{Type: TypeNotEntitled, Message: why}
}

// AlreadyConfirmed refuses Cancel after Next.
func AlreadyConfirmed() *Refusal {
	return &Refusal{Type: TypeAlreadyConfirmed, Message: "Next was pressed already: the lock goes on and cannot be cancelled"}
}

// AlreadyCancelled refuses Next after Cancel.
func AlreadyCancelled() *Refusal {
	return &Refusal{Type: TypeAlreadyCancelled, Message: "the process was cancelled already: nothing was changed"}
}
