package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mobileid"
)

// patience is how long a scene may take, and waits for what must come.
const patience = time.Minute

// scene is one thing a user does, and what must come of it.
type scene struct {
	title string
	play  func(ctx context.Context) (string, error)
}

// perform plays the next scene, and returns what was not as it must be.
func (d *Demo) perform(ctx context.Context, s scene) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.scenes++
	fmt.Fprintf(d.Out, "%d. %s\n", d.scenes, s.title)
	text, err := s.play(ctx)
	if err != nil {
		text = "NOT AS IT MUST BE: " + err.Error()
		err = fmt.Errorf("scene %d, %s: %w", d.scenes, s.title, err)
	}
	fmt.Fprintf(d.Out, "   → %s\n", text)
	return err
}

// refused plays a scene that must be refused in a certain way.
func refused(want *mobileid.Refusal, act func(context.Context) error) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		err := act(ctx)
		if !errors.Is(err, want) {
			return "", fmt.Errorf("must be refused as %s, but: %w", want.Type, errOrNone(err))
		}
		return fmt.Sprintf("refused, %s: %s", want.Type, err), nil
	}
}

func errOrNone(err error) error {
	if err == nil {
		return errors.New("it was not refused")
	}
	return err
}

func took(from, to time.Time) string {
	if to.IsZero() {
		return "(not yet)"
	}
	return to.Sub(from).Round(time.Millisecond).String()
}
