package chaos

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"
)

// Entry is one line of a journal: what a client is about to ask, or was told; or what
// went past on the way to a CA.
type Entry struct {
	At       time.Time `json:"at"`
	Moment   string    `json:"moment"` // before or after
	Call     string    `json:"call"`
	MobileID string    `json:"mobileId,omitempty"`
	UserID   string    `json:"userId,omitempty"`
	CA       string    `json:"ca,omitempty"`
	Serial   string    `json:"serial,omitempty"` // lower-case hex
	Answer   any       `json:"answer,omitempty"`
	Refusal  string    `json:"refusal,omitempty"` // its type
	Error    string    `json:"error,omitempty"`
}

// The moments of an entry.
const (
	before = "before"
	after  = "after"
)

// journal is a file of entries, a line of JSON each, in the order of their writing.
type journal struct {
	mu    sync.Mutex
	file  *os.File
	wrong error // the first failed write
}

func newJournal(file string) (*journal, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in the folder of the run
	if err != nil {
		return nil, err
	}
	return &journal{file: f}, nil
}

// write keeps an entry. A failure is told by close: without its journal a run proves
// nothing.
func (j *journal) write(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.At = time.Now().UTC()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err != nil && j.wrong == nil {
		j.wrong = err
	}
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.wrong, j.file.Close())
}
