package workflows_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/workflows"
	"mobileid/workflows/workflowtest"
)

// childVariable makes the test binary a worker process that can be killed.
const childVariable = "MOBILEID_TEST_CHILD"

// child is a worker process, and where it meets its end.
type child struct {
	Address  string
	Queue    string
	Database string
	Driver   devca.DriverOptions
	Issuer   []byte
	OCSPURL  string
	CRLURL   string
	Wait     time.Duration
	Settings activities.Settings

	Passes int            // how often it passes its point unharmed
	Point  string         // for example Lock/after: the effect is there, and nobody was told
	Signal syscall.Signal // what the process sends to itself there
}

// points are all places inside the activities where a worker can end: before and
// after each effect. Revoke/after lies between the CA's answer and its recording,
// MobileID inside the local activity.
var points = []string{
	"MobileID/before", "MobileID/after", "Lock/before", "Lock/after", "Revoke/before", "Revoke/after", "Status/before",
	"Status/after", "RecordRevocations/before", "RecordRevocations/after", "Record/before", "Record/after",
}

// runChild is the worker process.
func runChild(spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	temporal, err := client.DialContext(ctx, client.Options{HostPort: c.Address, Logger: workflowtest.Quiet(), Identity: "child"})
	if err != nil {
		return err
	}
	defer temporal.Close()
	store, err := identitymanager.Open(ctx, identitymanager.Options{Driver: "sqlite", DSN: c.Database, AuditKey: auditKey})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	driver, err := devca.NewDriver(c.Driver)
	if err != nil {
		return err
	}
	issuer, err := x509.ParseCertificate(c.Issuer)
	if err != nil {
		return err
	}
	var passed atomic.Int32
	hit := func(point string) {
		if point == c.Point && int(passed.Add(1)) == c.Passes+1 {
			_ = syscall.Kill(os.Getpid(), c.Signal)
			// The signal may take a moment to stop all threads. To go on
			// meanwhile could mean to sleep with SQLite's write lock in hand,
			// which nobody can take away. Who is stopped or killed does not wait.
			time.Sleep(5 * time.Second)
		}
	}
	authority, err := newAuthority("devca", issuer, &pointedDriver{Driver: driver, hit: hit}, c.OCSPURL, c.CRLURL, c.Wait)
	if err != nil {
		return err
	}
	authorities, err := ca.NewAuthorities([]*ca.Authority{authority})
	if err != nil {
		return err
	}
	a := &activities.Activities{IM: &pointedIM{IdentityManager: store, hit: hit}, CAs: authorities, Settings: c.Settings}
	w := newWorker(temporal, c.Queue, a)
	if err := w.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	w.Stop()
	return nil
}

// pointedIM is the real store, with a point before and after each effect.
type pointedIM struct {
	activities.IdentityManager
	hit func(point string)
}

func (p *pointedIM) MobileID(ctx context.Context, id string) (mobileid.MobileID, error) {
	p.hit("MobileID/before")
	defer p.hit("MobileID/after")
	return p.IdentityManager.MobileID(ctx, id)
}

func (p *pointedIM) Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error) {
	p.hit("Lock/before")
	defer p.hit("Lock/after")
	return p.IdentityManager.Lock(ctx, order)
}

func (p *pointedIM) RecordRevocations(ctx context.Context, order mobileid.RevocationOrder) (mobileid.RevocationReceipt, error) {
	p.hit("RecordRevocations/before")
	defer p.hit("RecordRevocations/after")
	return p.IdentityManager.RecordRevocations(ctx, order)
}

func (p *pointedIM) Record(ctx context.Context, record mobileid.Record) (mobileid.AuditMark, error) {
	p.hit("Record/before")
	defer p.hit("Record/after")
	return p.IdentityManager.Record(ctx, record)
}

// pointedDriver is the real driver, with the same.
type pointedDriver struct {
	ca.Driver
	hit func(point string)
}

func (p *pointedDriver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	p.hit("Revoke/before")
	defer p.hit("Revoke/after")
	return p.Driver.Revoke(ctx, cert, reason)
}

func (p *pointedDriver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	p.hit("Status/before")
	defer p.hit("Status/after")
	return p.Driver.Status(ctx, cert)
}

// startChild starts a worker process for an installation.
func (i *installation) startChild(point string, signal syscall.Signal) *workflowtest.Child {
	i.t.Helper()
	return i.startChildThatPasses(0, point, signal)
}

// startChildThatPasses starts one that meets its end the next time after so many.
func (i *installation) startChildThatPasses(passes int, point string, signal syscall.Signal) *workflowtest.Child {
	i.t.Helper()
	spec, err := json.Marshal(child{
		Passes:  passes,
		Address: server.Address, Queue: i.queue, Database: i.database, Driver: i.ca.DriverOptions(),
		Issuer: i.ca.Certificate().Raw, OCSPURL: i.ca.OCSPURL(), CRLURL: i.ca.CRLURL(), Wait: i.wait, Settings: i.settings,
		Point: point, Signal: signal,
	})
	require.NoError(i.t, err)
	return workflowtest.StartChild(i.t, "ready", []string{childVariable + "=" + string(spec)})
}

// requireOneOfEach checks that a lock that was cut short left one lock in the
// audit, and sent one request per certificate.
func (i *installation) requireOneOfEach(id string) {
	i.t.Helper()
	i.requireLocked(id)
	locked := 0
	for _, event := range i.events(id) {
		if event == mobileid.EventLocked || event == mobileid.EventResumed {
			locked++
		}
	}
	require.Equal(i.t, 1, locked, "one lock in the audit: %v", i.events(id))
	for _, c := range i.read(id).Certificates {
		require.Equal(i.t, 1, i.ca.Revokes(c.Serial), "one request for %s", c.Serial)
	}
}

// A worker that is killed anywhere is taken over by another one.
func TestWorkerKilledAtEveryStep(t *testing.T) {
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			i := installStopped(t, withProofWait(time.Minute), withSlowCRL)
			id := i.mobileID(2)
			cmd := i.startChild(point, syscall.SIGKILL)
			i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
			cmd.RequireKilled(t)

			i.startWorker()
			result, err := i.execution(id)
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeLocked, result.Outcome)
			i.requireOneOfEach(id)
		})
	}
}

// A hundred certificates are one step. A worker that is killed half-way through, with
// answers of the CA that nobody has seen, costs no certificate a second request.
func TestHundredCertificatesResumedInTheMiddle(t *testing.T) {
	t.Parallel()
	i := installStopped(t)
	id := i.mobileID(100)
	cmd := i.startChildThatPasses(50, "Revoke/after", syscall.SIGKILL)
	i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
	cmd.RequireKilled(t)
	revoked := 0
	for _, c := range i.read(id).Certificates {
		require.Equal(t, mobileid.CertificateValid, c.State, "Identity Manager takes over all of a step, or nothing")
		revoked += i.ca.Revokes(c.Serial)
	}
	require.GreaterOrEqual(t, revoked, 51)
	require.Less(t, revoked, 100)

	i.startWorker()
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireOneOfEach(id)
	require.LessOrEqual(t, i.length(id), 28)
}

// A worker that sleeps longer than every time-out, and wakes up after another
// one has done its work, changes nothing.
func TestWorkerStoppedAtEveryStepAndLate(t *testing.T) {
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			i := installStopped(t, withProofWait(time.Minute), withSlowCRL)
			id := i.mobileID(2)
			cmd := i.startChild(point, syscall.SIGSTOP)
			i.start(id, object{"mobileId": id, "userId": "anna", "confirmed": true})
			require.Eventually(t, func() bool { return stopped(cmd.Process.Pid) }, limit, 20*time.Millisecond, "it stopped at its point")

			i.startWorker()
			result, err := i.executionWithin(id, sleeperLimit)
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeLocked, result.Outcome)
			i.requireLocked(id)
			before := i.events(id)

			require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, cmd.Wait(), "the late worker ends what it was at, and stops")
			require.Equal(t, before, i.events(id), "the late worker changed nothing")
			i.requireLocked(id)
		})
	}
}

// sleeperLimit is long, because the server goes on handing tasks to the polls of
// a sleeping worker, and each has to time out.
const sleeperLimit = 5 * time.Minute

// stopped reports whether a process is stopped by a signal.
func stopped(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 0 && string(fields[0]) == "T"
}

// newWorker makes a worker as the worker program does.
func newWorker(temporal client.Client, queue string, a *activities.Activities) sdkworker.Worker {
	w := sdkworker.New(temporal, queue, sdkworker.Options{
		DisableRegistrationAliasing:  true,
		StickyScheduleToStartTimeout: 2 * time.Second,
		MaxHeartbeatThrottleInterval: activities.HeartbeatInterval,
		WorkerStopTimeout:            20 * time.Second,
	})
	workflows.Register(w)
	a.Register(w)
	return w
}
