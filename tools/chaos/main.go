// Chaos runs the real stack under faults, and has an independent checker look at what
// is left: see package chaos. `make chaos` builds what it needs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"mobileid/starter/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("chaos", pflag.ContinueOnError)
	seeds := flags.String("seeds", "", "seeds, by spaces; empty: one of the clock's")
	locks := flags.Int("locks", 100, "locks of each run")
	gets := flags.Int("gets", 10, "Gets of each run")
	atOnce := flags.Int("at-once", 24, "clients at once")
	pace := flags.Duration("pace", 50*time.Millisecond, "between two clients that begin")
	dir := flags.String("dir", ".dev/chaos", "folder of the runs and of the report")
	bin := flags.String("bin", ".bin", "folder of the programs")
	shifted := flags.String("shifted", "", "folder of worker and starter, built already with a clock that can be off; empty: they are built")
	race := flags.Bool("race", false, "build them with the race detector")
	write := flags.String("write-table", "", "run nothing: put the table of the runs that --dir has kept into this page")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *write != "" {
		return chaos.WriteTable(*dir, *write)
	}
	list := strings.Fields(*seeds)
	if len(list) == 0 {
		list = []string{strconv.FormatInt(time.Now().Unix(), 10)}
	}
	if *shifted == "" {
		*shifted = filepath.Join(*bin, "shifted")
		if *race {
			*shifted += "-race"
		}
		fmt.Println("  … building worker and starter with a clock that can be off, some minutes the first time")
		if err := chaos.BuildShifted(ctx, ".", *shifted, *race); err != nil {
			return err
		}
	}
	programs, err := chaos.Find(*bin, *shifted)
	if err != nil {
		return err
	}
	var wrong []string
	for _, text := range list {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("--seeds: %w", err)
		}
		report, err := chaos.Run(ctx, chaos.Options{
			Dir: filepath.Join(*dir, "seed-"+text), Programs: programs, Seed: seed, Locks: *locks, Gets: *gets, AtOnce: *atOnce, Pace: *pace, Progress: os.Stdout,
		})
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		report.Print(os.Stdout)
		if err := chaos.Keep(*dir, report); err != nil {
			return err
		}
		if len(report.Found.Violations) > 0 || report.Races > 0 {
			wrong = append(wrong, text)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("promises were not kept, or races found, with seed %s", strings.Join(wrong, ", "))
	}
	return nil
}
