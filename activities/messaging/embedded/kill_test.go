package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
	"mobileid/activities/messaging/phone"
)

// startChild runs the server in a process of its own. It returns how to end it as a
// power switch would.
func (b *bench) startChild() (kill func()) {
	b.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+b.dir, childCallbackCA+"="+b.callCA)
	cmd.Stderr = b.logs
	out, err := cmd.StdoutPipe()
	require.NoError(b.t, err)
	require.NoError(b.t, cmd.Start())
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // the error is that it was killed
	})
	b.t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b.t, err, b.logs.String())
	require.Equal(b.t, "ready\n", line)
	return kill
}

func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(deadline):
		require.Fail(t, "it does not happen")
	}
}

// TestKilledAtEachStep makes a mobile ID while the server is killed and started
// again after each step.
func TestKilledAtEachStep(t *testing.T) {
	b := newBench(t)
	kill := b.startChild()
	b.receive()
	restart := func() {
		kill()
		kill = b.startChild()
	}
	// hold stops the next callback between being kept and being acknowledged.
	hold := func() (kept <-chan struct{}, release func()) {
		reached, gone := make(chan struct{}), make(chan struct{})
		b.inbox.set(func(i *inbox) {
			i.taken = func() {
				b.inbox.set(func(i *inbox) { i.taken = nil })
				close(reached)
				<-gone
			}
		})
		return reached, func() { close(gone) }
	}

	asked := b.command()
	accepted := b.provision(asked)
	restart() // with a command that nobody has fetched

	b.inbox.set(func(i *inbox) { i.failing = true })
	done := b.scan(t.Context(), accepted.Destinations[0].URI, phone.WellBehaved)
	b.eventually("the answer is tried", func(i *inbox) bool { return i.failures > 0 })
	kill() // with an answer that nobody has taken
	kept, release := hold()
	b.inbox.set(func(i *inbox) { i.failing = false })
	kill = b.startChild()
	await(t, kept)
	kill() // with an answer that is taken, which it has not heard
	release()
	answer := b.await(accepted.CommandID)
	kill = b.startChild()
	require.Eventually(t, func() bool { return b.deliveries(messaging.Duplicate) > 0 }, deadline, moment)

	b.inbox.set(func(i *inbox) { i.failing, i.failures = true, 0 })
	sent, err := b.client().Certificates(t.Context(), b.issue(asked, answer))
	require.NoError(t, err)
	restart() // with certificates that are on their way
	scanned := b.phone(done)
	require.NoError(t, scanned.err)
	b.eventually("the acknowledgement is tried", func(i *inbox) bool { return i.failures > 0 })
	restart() // with an acknowledgement that nobody has taken
	b.inbox.set(func(i *inbox) { i.failing = false })
	installed := b.await(sent.CommandID)
	require.Equal(t, messaging.Answered, installed.Outcome)
	require.Equal(t, scanned.profile.ID, installed.ProfileID)
	b.requireNoSecret(asked, accepted, answer)

	late := b.command()
	late.Lifespan = time.Second
	accepted = b.provision(late)
	kill() // with a command that ends meanwhile
	kill = b.startChild()
	require.Equal(t, messaging.TimedOut, b.await(accepted.CommandID).Outcome)
	kill()
}

// TestKilledUnderLoad kills the server while many commands and answers come, several
// times over, and checks that everything it had acknowledged is still so.
func TestKilledUnderLoad(t *testing.T) {
	const rounds, callers = 4, 4
	b := newBench(t)
	kill := b.startChild()
	b.receive()
	b.inbox.set(func(i *inbox) { i.failing = true }) // what is answered waits
	var mu sync.Mutex
	fetchable, answered := map[string]string{}, map[string]bool{} // command id to target
	template := b.command()
	template.Lifespan, template.Timeout = time.Hour, time.Hour // none is to end by itself
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		enough := make(chan struct{})
		var reached sync.Once
		count := 0
		var all sync.WaitGroup
		for range callers {
			client, phone := b.client(), b.httpClient()
			all.Go(func() {
				for ctx.Err() == nil {
					accepted, err := client.Provision(ctx, template)
					if err != nil {
						continue // it was killed; what became of it is its secret
					}
					uri, err := device.ParseContent(accepted.Destinations[0].URI)
					if err != nil {
						continue // the count does not come together then
					}
					mu.Lock()
					fetchable[accepted.CommandID] = uri.String()
					mu.Unlock()
					if accepted.CommandID[0]%2 == 0 && answers(ctx, phone, uri.String(), accepted.CommandID) {
						mu.Lock()
						answered[accepted.CommandID] = true
						mu.Unlock()
					}
					mu.Lock()
					if count++; count >= 20+7*round {
						reached.Do(func() { close(enough) })
					}
					mu.Unlock()
				}
			})
		}
		await(t, enough)
		kill()
		cancel()
		all.Wait()
		kill = b.startChild()
		again := b.httpClient()
		for id, target := range fetchable {
			status, body := b.requestBy(again, http.MethodGet, target, "", "")
			if status == http.StatusNoContent || status == http.StatusNotFound {
				require.True(t, status == http.StatusNoContent, "command %s is lost", id)
				continue
			}
			require.Equal(t, http.StatusOK, status)
			require.False(t, answered[id], "the answer to command %s is lost", id)
			require.Contains(t, body, id)
		}
	}
	require.NotEmpty(t, answered)
	b.inbox.set(func(i *inbox) { i.failing = false })
	for id := range answered {
		require.Equal(t, messaging.Answered, b.await(id).Outcome)
	}
	kill()
}

// answers answers a command as a phone does, and reports whether the server has
// acknowledged it.
func answers(ctx context.Context, client *http.Client, target, id string) bool {
	body, err := json.Marshal(device.Answer{CommandID: id, Outcome: messaging.Answered, ProfileID: "p-" + id, JWS: "a.b.c"})
	if err != nil {
		return false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}
