package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of times in /proc, the same on every Linux
// (sysconf(_SC_CLK_TCK)).
const ticksPerSecond = 100

// Used is the processor time that each process has used until now.
func Used(processes map[string]Process) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for name, p := range processes {
		t, err := cpu(p.PID, p.Children)
		if err != nil {
			return nil, err
		}
		used[name] = t
	}
	return used, nil
}

// cpu returns the processor time that a process and those of its children that
// have ended used until now. With children it counts living ones too: PostgreSQL
// has a process per connection.
func cpu(pid int, children bool) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name may hold anything, so the fields are counted from its end: the state
	// is field 3, utime to cstime are 14 to 17 (proc(5)).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	total := time.Duration(ticks) * time.Second / ticksPerSecond
	if !children {
		return total, nil
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		pids, _ := os.ReadFile(list) //nolint:gosec // of /proc; a thread that has ended has no children
		for field := range strings.FieldsSeq(string(pids)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			used, _ := cpu(child, true) // one that has ended is counted by its parent
			total += used
		}
	}
	return total, nil
}

// memory returns the resident memory of a process, in bytes.
func memory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// Holds is what a process has at one moment.
type Holds struct {
	Memory      int64 `json:"memory"`      // resident, in bytes
	Tasks       int   `json:"tasks"`       // its threads, or the goroutines if it tells
	Files       int   `json:"files"`       // open ones, connections included
	Connections int   `json:"connections"` // sockets, those that listen included
}

// HeldBy reads what a process has.
func HeldBy(pid int) (Holds, error) {
	var h Holds
	var err error
	if h.Memory, err = memory(pid); err != nil {
		return h, err
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return h, err
	}
	h.Tasks = len(threads)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return h, err
	}
	h.Files = len(files)
	for _, file := range files {
		// One that is closed meanwhile is none.
		if to, _ := os.Readlink(filepath.Join(dir, file.Name())); strings.HasPrefix(to, "socket:") {
			h.Connections++
		}
	}
	return h, nil
}
