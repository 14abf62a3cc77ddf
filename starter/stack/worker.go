package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// WorkerOptions say how a further worker runs.
type WorkerOptions struct {
	Program string   // empty: that of the stack
	Env     []string // further variables, as NAME=value
	// Callbacks has it take what messaging calls back, which one at a time can do:
	// there is one address.
	Callbacks bool
}

// startWorkers starts the workers of the stack. The first one takes the callbacks.
func (s *Stack) startWorkers(ctx context.Context) error {
	for n := range max(1, s.options.Workers) {
		name := Worker
		if n > 0 {
			name = fmt.Sprintf("%s-%d", Worker, n+1)
		}
		health, profile, err := s.startWorker(ctx, name, WorkerOptions{Env: s.options.WorkerEnv, Callbacks: n == 0})
		if err != nil {
			return err
		}
		if n == 0 {
			s.HealthAddress, s.ProfileAddress = health, profile
		}
	}
	return nil
}

// StartWorker starts one more worker under a name of its own, and returns the address
// of its probes and metrics when it is ready. Kill, Terminate and the like take its
// name.
func (s *Stack) StartWorker(ctx context.Context, name string, options WorkerOptions) (healthAddress string, err error) {
	healthAddress, _, err = s.startWorker(ctx, name, options)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", name, err)
	}
	return healthAddress, nil
}

func (s *Stack) startWorker(ctx context.Context, name string, options WorkerOptions) (health, profile string, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return "", "", err
	}
	health, profile = net.JoinHostPort("127.0.0.1", ports[0]), net.JoinHostPort("127.0.0.1", ports[1])
	program := options.Program
	if program == "" {
		program = s.options.Worker
	}
	env := append(s.Environment(), "MOBILEID_WORKER_HEALTH_ADDRESS="+health, "MOBILEID_WORKER_PROFILE_ADDRESS="+profile)
	if !options.Callbacks {
		env = append(env, noCallbacks)
	}
	p, err := s.spawn(name, program, nil, append(env, options.Env...))
	if err != nil {
		return "", "", err
	}
	return health, profile, p.await(ctx, ready(health))
}

// noCallbacks leaves what messaging calls back to another worker.
const noCallbacks = "MOBILEID_MESSAGING_CALLBACK_ADDRESS="

// ready asks the probe of a worker.
func ready(healthAddress string) func(context.Context) bool {
	return func(ctx context.Context) bool { return answers(ctx, "http://"+healthAddress+"/readyz") }
}

// MeasureWorkerStart starts another worker, returns how long it took until it was
// ready, and stops it.
func (s *Stack) MeasureWorkerStart(ctx context.Context) (time.Duration, error) {
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	health := net.JoinHostPort("127.0.0.1", ports[0])
	start := time.Now()
	p, err := s.launch("another-worker", s.options.Worker, nil, append(s.Environment(), "MOBILEID_WORKER_HEALTH_ADDRESS="+health, noCallbacks))
	if err != nil {
		return 0, err
	}
	err = p.await(ctx, ready(health))
	took := time.Since(start)
	return took, errors.Join(err, p.stop())
}
