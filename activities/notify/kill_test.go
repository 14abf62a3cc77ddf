package notify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/identitymanager"
	"mobileid/activities/mail"
	"mobileid/activities/notify"
)

// childVariable makes this program a worker that is killed.
const childVariable = "NOTIFY_TEST_CHILD"

// leaseOfTheDead is how long nobody takes what a killed worker has claimed.
const leaseOfTheDead = 2 * time.Second

// child says what a worker of a test works on, and when it dies.
type child struct {
	Driver, DSN string
	SMTP        string
	SendFirst   bool // die after the server's answer; else before anything is sent
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		fmt.Fprintln(os.Stderr, runChild(spec))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runChild sends mails until it reaches the place where it waits to be killed.
func runChild(spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s, err := identitymanager.Open(ctx, options(c.Driver, c.DSN))
	if err != nil {
		return err
	}
	real, err := newSMTP(c.SMTP)
	if err != nil {
		return err
	}
	o := patient(senderFunc(func(ctx context.Context, m mail.Message) error {
		if c.SendFirst {
			if err := real.Send(ctx, m); err != nil {
				return err
			}
		}
		fmt.Println("here")
		<-ctx.Done()
		return ctx.Err()
	}), nil)
	o.AtOnce, o.Try, o.Lease = 1, limit, leaseOfTheDead
	notify.New(s, o).Run(ctx)
	return ctx.Err()
}

// killWorker runs a worker, and kills it where it waits.
func killWorker(t *testing.T, c child) {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(spec))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "here\n", line)
	require.NoError(t, cmd.Process.Kill())
	require.ErrorContains(t, cmd.Wait(), "killed")
}

// A worker is killed when it has taken a mail, and has not sent it: another one sends
// it, once.
func TestKilledBeforeSending(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, o identitymanager.Options) {
		server := startServer(t)
		lock(t, s, "mid-1", "otto")
		killWorker(t, child{Driver: o.Driver, DSN: o.DSN, SMTP: server.address})
		require.Empty(t, server.mails())
		run(t, s, patient(server.sender(t), nil))
		awaitEmpty(t, s)
		requireEachOnce(t, server.mails(), 1)
	})
}

// A worker is killed when the server has taken a mail, and that is not noted: this is
// where a mail goes out twice, and anybody can tell that it is the same.
func TestKilledAfterSending(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, o identitymanager.Options) {
		server := startServer(t)
		lock(t, s, "mid-1", "otto")
		killWorker(t, child{Driver: o.Driver, DSN: o.DSN, SMTP: server.address, SendFirst: true})
		require.Len(t, server.mails(), 1)
		run(t, s, patient(server.sender(t), nil))
		awaitEmpty(t, s)
		mails := server.mails()
		require.Len(t, mails, 2)
		require.Equal(t, mails[0].messageID, mails[1].messageID)
		require.Equal(t, mails[0].subject, mails[1].subject)
	})
}
