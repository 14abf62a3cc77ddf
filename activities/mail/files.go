package mail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	netmail "net/mail"
	"os"
	"path/filepath"
	"time"
)

// idsFolder holds a second name of every message, its ID alone: whoever makes it first
// has sent the message.
const idsFolder = ".ids"

// Files writes each message into a file, for development: any mail program opens it.
// It is safe for concurrent use, by several processes too.
type Files struct {
	sender
	folder string
}

var _ Sender = (*Files)(nil)

// NewFiles returns a sender into a folder, which it makes if it is missing.
func NewFiles(folder string, from netmail.Address, replyTo *netmail.Address) (*Files, error) {
	var missing error
	if folder == "" {
		missing = errors.New("folder: none is given")
	}
	sender, err := newSender(from, replyTo)
	if err := errors.Join(missing, err); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(folder, idsFolder), 0o700); err != nil {
		return nil, err
	}
	return &Files{sender: sender, folder: folder}, nil
}

// Send implements [Sender]. The file is named by time, kind and ID, readable by its
// owner alone (a message may hold a QR), whole once it has its name, and on disk when
// Send returns. A message whose ID has been sent before changes nothing.
func (f *Files) Send(ctx context.Context, message Message) error {
	op := "write mail " + message.ID()
	if err := ctx.Err(); err != nil {
		return &Error{Failure: Unavailable, Op: op, Err: err}
	}
	if message.Date.IsZero() {
		message.Date = time.Now()
	}
	content, err := f.encode(op, message)
	if err != nil {
		return err
	}
	if err := f.write(message, content); err != nil {
		return &Error{Failure: Unavailable, Op: op, Err: err}
	}
	return nil
}

func (f *Files) write(message Message, content []byte) (err error) {
	draft, err := os.CreateTemp(f.folder, ".draft-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(draft.Name())) }()
	_, err = draft.Write(content)
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	// The time in the name is the file's own, so that a try which finds only the first
	// of the two names gives the same second one.
	if err := os.Chtimes(draft.Name(), message.Date, message.Date); err != nil {
		return err
	}
	sent := filepath.Join(f.folder, idsFolder, message.ID())
	if err := link(draft.Name(), sent); err != nil {
		return err
	}
	info, err := os.Stat(sent)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s_%s.eml", info.ModTime().UTC().Format("20060102T150405.000Z"), message.Kind, message.ID())
	if err := link(sent, filepath.Join(f.folder, name)); err != nil {
		return err
	}
	return errors.Join(syncFolder(filepath.Dir(sent)), syncFolder(f.folder))
}

// link gives a file another name, unless that is taken.
func link(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(folder string) error {
	f, err := os.Open(folder) //nolint:gosec // the configured folder
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
