package stack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// temporalPackage is the last release of the temporal program that `go install`
// accepts: later ones carry a replace directive.
const temporalPackage = "github.com/temporalio/cli/cmd/temporal@v1.5.1"

// FindTemporal returns the temporal program: from PATH, from bin, or installed
// into bin now, which takes about three minutes.
func FindTemporal(ctx context.Context, bin string, progress io.Writer) (string, error) {
	if path, err := exec.LookPath("temporal"); err == nil {
		return path, nil
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	path := filepath.Join(bin, "temporal")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintln(progress, "  … building the temporal program, about three minutes, once")
	return path, build(ctx, progress, []string{"GOBIN=" + bin}, "install", temporalPackage)
}

// FindCluster returns the programs of Temporal's production server, from PATH or from
// bin.
func FindCluster(bin string) (*Cluster, error) {
	var c Cluster
	for name, program := range map[string]*string{"temporal-server": &c.Server, "temporal-sql-tool": &c.SQLTool} {
		path, err := findInstalled(bin, name)
		if err != nil {
			return nil, fmt.Errorf("%s is not installed: run 'make cluster': %w", name, err)
		}
		*program = path
	}
	return &c, nil
}

// FindStepCA returns the step-ca program, from PATH or from bin.
func FindStepCA(bin string) (string, error) {
	path, err := findInstalled(bin, "step-ca")
	if err != nil {
		return "", fmt.Errorf("step-ca is not installed: run 'make demo-cas': %w", err)
	}
	return path, nil
}

// findInstalled returns a program, from PATH or from bin.
func findInstalled(bin, name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path, err := filepath.Abs(filepath.Join(bin, name))
	if err != nil {
		return "", err
	}
	_, err = os.Stat(path)
	return path, err
}

// FindWorker returns the worker program that stands beside this program, or
// builds it into bin.
func FindWorker(ctx context.Context, bin string, progress io.Writer) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "worker")
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		return beside, nil
	}
	path := filepath.Join(bin, "worker")
	fmt.Fprintln(progress, "  … building the worker")
	return path, build(ctx, progress, nil, "build", "-o", path, "mobileid/worker")
}

// build runs the go program, and shows what it says if it fails.
func build(ctx context.Context, progress io.Writer, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // arguments are ours
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		_, _ = progress.Write(output)
		return fmt.Errorf("go %v: %w", args, err)
	}
	return nil
}
