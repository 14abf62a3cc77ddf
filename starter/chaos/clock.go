package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// offsetVariable is the test configuration of a process that was built by
// BuildShifted: by how much its clock is off.
const offsetVariable = "CHAOS_CLOCK_OFFSET"

// offsetSource is added to package time. It reads the variable once, at start.
const offsetSource = `package time

import "syscall"

var clockOffset = readClockOffset()

func readClockOffset() int64 {
	text, _ := syscall.Getenv("` + offsetVariable + `")
	offset, err := ParseDuration(text)
	if err != nil {
		return 0
	}
	return int64(offset / Second)
}
`

// The place in time.Now, with and without the offset.
const (
	nowTells   = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}"
	nowShifted = "\tsec, nsec, mono := runtimeNow()\n\tsec += clockOffset\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}"
)

// ErrNoSeam means that this Go's time.Now is not as the build of a shifted clock
// expects it.
var ErrNoSeam = errors.New("time.Now of this Go is not as expected: see nowTells in starter/chaos/clock.go")

// BuildShifted builds worker and starter into dir from the module in the folder
// module, the same as ever but for their clock: it is off by what the variable
// CHAOS_CLOCK_OFFSET says. Everything in the process goes by it, libraries and TLS
// too; only the monotonic clock, by which time-outs run, does not. The programs of a
// release have no such thing: package time is replaced by the -overlay of go build.
// With race they have the race detector, which needs a C compiler.
func BuildShifted(ctx context.Context, module, dir string, race bool) error {
	root, err := goTool(ctx, module, false, "env", "GOROOT")
	if err != nil {
		return err
	}
	original := filepath.Join(strings.TrimSpace(root), "src", "time", "time.go")
	text, err := os.ReadFile(original) //nolint:gosec // the source of Go itself
	if err != nil {
		return err
	}
	if strings.Count(string(text), nowTells) != 1 {
		return ErrNoSeam
	}
	// In a folder of its own name, so that Go's build cache finds what it has.
	overlay := filepath.Join(dir, "overlay")
	if err := os.MkdirAll(overlay, 0o750); err != nil {
		return err
	}
	files := map[string]string{
		original: strings.Replace(string(text), nowTells, nowShifted, 1),
		filepath.Join(filepath.Dir(original), "clock_offset.go"): offsetSource,
	}
	replace := map[string]string{}
	for name, content := range files {
		replace[name] = filepath.Join(overlay, filepath.Base(name))
		if err := os.WriteFile(replace[name], []byte(content), 0o600); err != nil {
			return err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	listFile := filepath.Join(overlay, "overlay.json")
	if err := os.WriteFile(listFile, list, 0o600); err != nil {
		return err
	}
	build := []string{"build", "-trimpath", "-overlay", listFile, "-o", dir}
	if race {
		build = append(build, "-race")
	}
	_, err = goTool(ctx, module, race, append(build, "mobileid/worker", "mobileid/starter")...)
	return err
}

// goTool runs the go program, and returns what it says.
func goTool(ctx context.Context, module string, cgo bool, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // arguments are ours
	command.Dir = module
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if cgo {
		command.Env = append(command.Env, "CGO_ENABLED=1")
	}
	var wrong strings.Builder
	command.Stderr = &wrong
	said, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, wrong.String())
	}
	return string(said), nil
}

// clockOffsets are how wrong clocks are.
var clockOffsets = []time.Duration{-10 * time.Minute, 10 * time.Minute}
