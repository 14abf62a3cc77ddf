package stack

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// The names of the children. Further workers are called worker-2 and so on; what is
// started with Run has the name that it was given.
const (
	DevCA     = "devca"
	Messaging = "messaging"
	Temporal  = "temporal"
	Worker    = "worker"
	Serve     = "serve"
	Postgres  = "postgres" // with a Cluster
)

// Names are the names of all children, those that have ended included, in the order
// in which they were started.
func (s *Stack) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	if s.postgres != nil {
		names = append(names, Postgres)
	}
	for _, p := range s.processes {
		names = append(names, p.name)
	}
	return names
}

// find returns a child by its name.
func (s *Stack) find(name string) (*process, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if p.name == name {
			return p, true
		}
	}
	return nil, false
}

// Process returns a child by its name: see Names. A test that stops or kills it sees
// what the others make of that.
func (s *Stack) Process(name string) (*os.Process, bool) {
	if p, ok := s.find(name); ok {
		return p.cmd.Process, true
	}
	if name == Postgres && s.postgres != nil {
		return s.postgres.Process(), true
	}
	return nil, false
}

// isPostgres reports that a name means the PostgreSQL server, which is there.
func (s *Stack) isPostgres(name string) bool { return name == Postgres && s.postgres != nil }

// Kill ends a child as a power cut would, with SIGKILL, and returns when it is gone.
// Restart brings it back.
func (s *Stack) Kill(name string) error {
	if s.isPostgres(name) {
		return s.postgres.Kill()
	}
	return s.end(name, syscall.SIGKILL)
}

// Terminate asks a child to end in order, and returns when it is gone. Restart brings
// it back.
func (s *Stack) Terminate(name string) error {
	if s.isPostgres(name) {
		return s.postgres.Stop()
	}
	return s.end(name, syscall.SIGTERM)
}

func (s *Stack) end(name string, signal syscall.Signal) error {
	p, ok := s.find(name)
	if !ok {
		return fmt.Errorf("end %s: it was never started", name)
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("end %s: %w", name, err)
	}
	<-p.done
	return nil
}

// Pause holds a child: it keeps its connections and answers nobody until Resume. Of
// PostgreSQL each process is held.
func (s *Stack) Pause(name string) error { return s.signal(name, syscall.SIGSTOP) }

// Resume lets a child go on after Pause.
func (s *Stack) Resume(name string) error { return s.signal(name, syscall.SIGCONT) }

func (s *Stack) signal(name string, signal syscall.Signal) error {
	var err error
	switch p, ok := s.find(name); {
	case ok:
		err = p.cmd.Process.Signal(signal)
	case s.isPostgres(name):
		err = s.postgres.Signal(signal)
	default:
		err = fmt.Errorf("it was never started")
	}
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", signal, name, err)
	}
	return nil
}

// Restart starts a child anew, after it has ended, as it was started before: on
// its ports and its files. It does not wait until the child can be used: see Await.
func (s *Stack) Restart(name string) error {
	if s.isPostgres(name) {
		return s.postgres.Restart()
	}
	p, ok := s.find(name)
	if !ok {
		return fmt.Errorf("restart %s: it was never started", name)
	}
	<-p.done
	anew, err := s.launch(name, p.cmd.Path, p.cmd.Args[1:], p.env)
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	anew.ready = p.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes[slices.Index(s.processes, p)] = anew
	return p.log.Close()
}

// Await returns when a child can be used, or why it will not be.
func (s *Stack) Await(ctx context.Context, name string) error {
	p, ok := s.find(name)
	switch {
	case s.isPostgres(name):
		return nil // who starts it waits for it
	case !ok:
		return fmt.Errorf("wait for %s: it was never started", name)
	case p.ready == nil:
		return nil
	}
	if err := p.await(ctx, p.ready); err != nil {
		return fmt.Errorf("wait for %s: %w", name, err)
	}
	return nil
}

// Ended returns a channel that is closed when a child has ended.
func (s *Stack) Ended(name string) <-chan struct{} {
	if p, ok := s.find(name); ok {
		return p.done
	}
	return nil
}

// Wait returns when ctx ends or a child has ended by itself.
func (s *Stack) Wait(ctx context.Context) error {
	s.mu.Lock()
	processes := slices.Clone(s.processes)
	s.mu.Unlock()
	ended := make(chan *process, len(processes))
	for _, p := range processes {
		go func() {
			<-p.done
			ended <- p
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case p := <-ended:
		return fmt.Errorf("%s ended by itself (%s); see %s", p.name, p.cmd.ProcessState, p.log.Name())
	}
}
