package identitymanager

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mobileid"
)

// checkpointFormat names the format of a checkpoint file, and keeps its MAC apart
// from any other use of the key.
const checkpointFormat = "mobileid/checkpoint/v1"

const checkpointSuffix = ".jsonl"

// ErrCheckpointTaken means that another program wrote the checkpoint of that
// number first, into the same folder. Nothing is lost: it covers the same chains.
var ErrCheckpointTaken = errors.New("another program wrote this checkpoint")

// Checkpoint is the head of every audit chain at one time, as a file outside the
// database. With it, records that were cut off at the end of a chain are noticed,
// even if the head in the database was set back with them.
//
// A file holds the heads that moved since the file before, as lines of JSON: a
// header with the number and the MAC of the file before, a line per head, and a
// line with the MAC of all lines above, under the audit key. So files cannot be
// altered, exchanged or taken from the middle unnoticed; who can remove the latest
// ones as well is caught by whoever keeps the MAC of the last (it is logged).
type Checkpoint struct {
	Number int64     `json:"number"` // from 1, without gaps
	At     time.Time `json:"at"`
	MAC    string    `json:"mac"`
	Chains int       `json:"chains"` // covered by this one and those before
	Moved  int       `json:"moved"`  // heads in this file
}

type checkpointHeader struct {
	Format   string    `json:"format"`
	Number   int64     `json:"number"`
	At       time.Time `json:"at"`
	Previous string    `json:"previous"` // MAC of the file before, empty for the first
}

type checkpointHead struct {
	MobileID string `json:"mobileId"`
	mobileid.AuditMark
}

type checkpointEnd struct {
	MAC string `json:"mac"`
}

// Checkpoints is what the files of a folder say together.
type Checkpoints struct {
	Last  Checkpoint                    // zero if there is none
	Marks map[string]mobileid.AuditMark // the last known head of every chain, by mobile ID
}

// ReadCheckpoints reads the checkpoint files of a folder, and fails if one is
// missing in between or does not carry its MAC. A folder that is not there is an
// empty one. It keeps the head of every chain in memory, some 200 bytes each.
func (s *Store) ReadCheckpoints(dir string) (Checkpoints, error) {
	all := Checkpoints{Marks: map[string]mobileid.AuditMark{}}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return all, fmt.Errorf("read checkpoints: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), checkpointSuffix) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if name != checkpointName(int64(i+1)) {
			return all, fmt.Errorf("read checkpoints: %s stands where %s should be: a file is missing, or one is too many", name, checkpointName(int64(i+1)))
		}
		if err := all.read(s.key, filepath.Join(dir, name), int64(i+1)); err != nil {
			return all, fmt.Errorf("read checkpoint %s: %w", name, err)
		}
	}
	return all, nil
}

func checkpointName(number int64) string { return fmt.Sprintf("%08d%s", number, checkpointSuffix) }

func (c *Checkpoints) read(key []byte, file string, number int64) error {
	content, err := os.ReadFile(file) //nolint:gosec // in the configured folder
	if err != nil {
		return err
	}
	body, last := cutLastLine(content)
	var end checkpointEnd
	if err := json.Unmarshal(last, &end); err != nil {
		return fmt.Errorf("its last line is not its MAC: %w", err)
	}
	if !hmac.Equal([]byte(end.MAC), []byte(checkpointMAC(key, body))) {
		return errors.New("it does not carry the MAC of its content: it was altered, or the audit key is another one")
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Scan()
	var header checkpointHeader
	if err := json.Unmarshal(lines.Bytes(), &header); err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	if header.Format != checkpointFormat || header.Number != number || header.Previous != c.Last.MAC {
		return errors.New("it does not follow the one before")
	}
	moved := 0
	for lines.Scan() {
		var head checkpointHead
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			return fmt.Errorf("line %d: %w", moved+2, err)
		}
		c.Marks[head.MobileID] = head.AuditMark
		moved++
	}
	c.Last = Checkpoint{Number: number, At: header.At, MAC: end.MAC, Chains: len(c.Marks), Moved: moved}
	return lines.Err()
}

func cutLastLine(content []byte) (body, last []byte) {
	trimmed := bytes.TrimSuffix(content, []byte("\n"))
	at := bytes.LastIndexByte(trimmed, '\n') + 1
	return content[:at], trimmed[at:]
}

func checkpointMAC(key, body []byte) string {
	mac := hmac.New(sha256.New, key)
	writeField(mac, []byte(checkpointFormat))
	writeField(mac, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Checkpoint writes the next checkpoint file into the folder, which it makes if
// need be. It writes none over a chain that went back since the last one: that is
// for [Store.VerifyAudit] to look at. ErrCheckpointTaken means that another
// program did it meanwhile.
func (s *Store) Checkpoint(ctx context.Context, dir string) (Checkpoint, error) {
	before, err := s.ReadCheckpoints(dir)
	if err != nil {
		return Checkpoint{}, err
	}
	const query = `SELECT mobile_id, number, mac FROM audit_heads WHERE number > 0 ORDER BY mobile_id`
	heads, err := collect(ctx, s.read, func(rows *sql.Rows) (checkpointHead, error) {
		var head checkpointHead
		err := rows.Scan(&head.MobileID, &head.Number, &head.MAC)
		return head, err
	}, query)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read heads of the audit chains: %w", err)
	}
	next := Checkpoint{Number: before.Last.Number + 1, At: s.now(), Chains: len(heads)}
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	if err := lines.Encode(checkpointHeader{Format: checkpointFormat, Number: next.Number, At: next.At, Previous: before.Last.MAC}); err != nil {
		return Checkpoint{}, err
	}
	for _, head := range heads {
		mark, known := before.Marks[head.MobileID]
		if known && mark == head.AuditMark {
			continue
		}
		if known && head.Number <= mark.Number {
			return Checkpoint{}, fmt.Errorf("audit chain of mobile ID %s went back from record %d: run 'starter audit verify'", head.MobileID, mark.Number)
		}
		if err := lines.Encode(head); err != nil {
			return Checkpoint{}, err
		}
		next.Moved++
	}
	next.MAC = checkpointMAC(s.key, body.Bytes())
	if err := lines.Encode(checkpointEnd{MAC: next.MAC}); err != nil {
		return Checkpoint{}, err
	}
	if err := writeOnce(dir, checkpointName(next.Number), body.Bytes()); err != nil {
		return Checkpoint{}, fmt.Errorf("write checkpoint %d: %w", next.Number, err)
	}
	return next, nil
}

// writeOnce makes a file that is whole once it has its name, and on disk when
// writeOnce returns.
func writeOnce(dir, name string, content []byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	draft, err := os.CreateTemp(dir, ".draft-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(draft.Name())) }()
	_, err = draft.Write(content)
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	if err := os.Link(draft.Name(), filepath.Join(dir, name)); errors.Is(err, fs.ErrExist) {
		return ErrCheckpointTaken
	} else if err != nil {
		return err
	}
	folder, err := os.Open(dir) //nolint:gosec // the configured folder
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
