package devca

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"mobileid"
)

// journalHeader is the first line; the number is the version of the format.
const journalHeader = "devca-journal 1"

// maxJournalLine is the longest line that is read, in bytes. Requests are
// smaller by far, so a longer line is damage.
const maxJournalLine = 1 << 20

// ErrDamaged reports that the journal or the CRL on disk is not as it was written.
var ErrDamaged = errors.New("damaged")

// ErrClosed reports that the server was closed.
var ErrClosed = errors.New("the development CA is closed")

// errBroken reports that an earlier write failed. What is on disk is then
// unknown until the journal is read again, so nothing more is taken.
var errBroken = errors.New("the journal takes no more records after a failed write; restart the development CA")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// operation is what a journal record says happened.
type operation string

const (
	opIssue operation = "issue"
	// opIssueOnce issues the one certificate that its key gets.
	opIssueOnce operation = "issueOnce"
	opRevoke    operation = "revoke"
	opRelease   operation = "release"
)

// noArgument stands in the argument field of a release.
const noArgument = "-"

// record is one line of the journal.
type record struct {
	at       time.Time
	op       operation
	serial   serialNumber
	argument string
}

// journal is the append-only file that the CA's memory is rebuilt from.
//
// Writers append in memory, in the order of their decisions, and then wait. The
// first that waits writes and syncs for all that came by then.
type journal struct {
	mu       sync.Mutex
	flushed  sync.Cond
	file     *os.File
	pending  []byte
	checksum uint32
	appended uint64 // number of records appended since the start
	durable  uint64 // number of those that are synced
	flushing bool
	closed   bool
	err      error // why no more records can be written
}

// openJournal reads the journal, calling apply for each record in turn, and
// makes it if there is none. It returns how many bytes of an unfinished last
// line it cut off.
func openJournal(f folder, apply func(record) error) (*journal, int64, error) {
	exists, err := f.has(journalFile)
	if err != nil {
		return nil, 0, err
	}
	if !exists {
		if err = f.write(journalFile, []byte(journalHeader+"\n"), 0o600); err != nil {
			return nil, 0, err
		}
	}
	file, err := os.OpenFile(f.path(journalFile), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	j := &journal{file: file}
	j.flushed.L = &j.mu
	cut, err := j.read(apply)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("read journal %s: %w", file.Name(), err), file.Close())
	}
	return j, cut, nil
}

// read replays the file and leaves its end where the next record belongs.
func (j *journal) read(apply func(record) error) (cut int64, err error) {
	reader := bufio.NewReaderSize(j.file, maxJournalLine)
	var end int64
	for number := 1; ; number++ {
		var line []byte
		line, err = reader.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			cut = int64(len(line))
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return 0, fmt.Errorf("line %d is too long: %w", number, ErrDamaged)
		}
		if err != nil {
			return 0, err
		}
		end += int64(len(line))
		if err = j.readLine(line[:len(line)-1], number, apply); err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if end == 0 {
		return 0, fmt.Errorf("line 1: no %q: %w", journalHeader, ErrDamaged)
	}
	if cut > 0 {
		if err = j.file.Truncate(end); err != nil {
			return 0, err
		}
		if err = j.file.Sync(); err != nil {
			return 0, err
		}
	}
	_, err = j.file.Seek(end, io.SeekStart)
	return cut, err
}

func (j *journal) readLine(line []byte, number int, apply func(record) error) error {
	if number == 1 {
		if string(line) != journalHeader {
			return fmt.Errorf("not %q: %w", journalHeader, ErrDamaged)
		}
		j.checksum = crc32.Checksum(line, castagnoli)
		return nil
	}
	sum, body, _ := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || len(sum) != 8 || crc32.Update(j.checksum, castagnoli, body) != uint32(want) {
		return fmt.Errorf("its checksum does not fit: %w", ErrDamaged)
	}
	j.checksum = uint32(want)
	rec, err := parseRecord(body)
	if err != nil {
		return err
	}
	return apply(rec)
}

func parseRecord(body []byte) (record, error) {
	fields := bytes.SplitN(body, []byte(" "), 4)
	if len(fields) != 4 {
		return record{}, fmt.Errorf("%d fields instead of 4 after the checksum: %w", len(fields), ErrDamaged)
	}
	at, err := time.Parse(time.RFC3339, string(fields[0]))
	if err != nil {
		return record{}, err
	}
	integer, err := mobileid.ParseSerial(string(fields[2]))
	if err != nil {
		return record{}, err
	}
	serial, _ := serialOf(integer)
	rec := record{at: at, op: operation(fields[1]), serial: serial}
	if rec.op != opIssue { // these certificates themselves are not needed in memory
		rec.argument = string(fields[3])
	}
	return rec, nil
}

// append adds a record in memory and returns its number, to wait for. An error
// means that nothing happened.
func (j *journal) append(rec record) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, j.err
	}
	if j.closed {
		return 0, ErrClosed
	}
	body := fmt.Appendf(nil, "%s %s %s %s", rec.at.Format(time.RFC3339), rec.op, rec.serial, rec.argument)
	j.checksum = crc32.Update(j.checksum, castagnoli, body)
	j.pending = fmt.Appendf(j.pending, "%08x %s\n", j.checksum, body)
	j.appended++
	return j.appended, nil
}

// wait returns once the record with that number, and all before it, are on
// disk. An error means that they may or may not be.
func (j *journal) wait(number uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.durable < number {
		if j.flushing {
			j.flushed.Wait()
			continue
		}
		if j.err != nil {
			return j.err
		}
		j.flush()
	}
	return nil
}

// flush writes and syncs what is pending. It is called with the lock held and
// gives it up meanwhile, so that others can append for the next one.
func (j *journal) flush() {
	batch, last := j.pending, j.appended
	j.pending, j.flushing = nil, true
	j.mu.Unlock()

	_, err := j.file.Write(batch)
	if err == nil {
		err = j.file.Sync()
	}

	j.mu.Lock()
	j.flushing = false
	if err != nil {
		// After a failed sync the kernel may drop the pages and report success
		// next time, so trying again would prove nothing.
		j.err = errors.Join(errBroken, err)
	} else {
		j.durable = last
	}
	j.flushed.Broadcast()
}

// broken returns why the journal takes no more records, or nil.
func (j *journal) broken() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && j.closed {
		return ErrClosed
	}
	return j.err
}

// close refuses new records, writes those that are pending, and closes the file.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	last := j.appended
	j.mu.Unlock()
	return errors.Join(j.wait(last), j.file.Close())
}
