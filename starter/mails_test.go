package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// letter is a mail as its reader sees it.
type letter struct {
	kind, to, subject string
	text              string
	picture           []byte
}

// lettersIn reads what a worker has written into its folder for mails.
func lettersIn(t *testing.T, folder string) []letter {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.eml"))
	require.NoError(t, err)
	all := make([]letter, 0, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		message, err := netmail.ReadMessage(bytes.NewReader(content))
		require.NoError(t, err)
		to, err := message.Header.AddressList("To")
		require.NoError(t, err)
		require.Len(t, to, 1)
		l := letter{kind: strings.Split(filepath.Base(file), "_")[1], to: to[0].Address, subject: message.Header.Get("Subject")}
		l.read(t, message.Header.Get("Content-Type"), message.Body)
		all = append(all, l)
	}
	return all
}

// read takes the parts of a message apart.
func (l *letter) read(t *testing.T, kind string, body io.Reader) {
	t.Helper()
	_, parameters, err := mime.ParseMediaType(kind)
	require.NoError(t, err)
	parts := multipart.NewReader(body, parameters["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		switch inner := part.Header.Get("Content-Type"); {
		case strings.HasPrefix(inner, "multipart/"):
			l.read(t, inner, part)
		case strings.HasPrefix(inner, "text/plain"):
			text, err := io.ReadAll(part)
			require.NoError(t, err)
			l.text = strings.Join(strings.Fields(string(text)), " ")
		case strings.HasPrefix(inner, "image/png"):
			l.picture, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, part))
			require.NoError(t, err)
		}
	}
}

// mailed waits until there are n letters of a kind to an address's owner, and returns them.
func mailed(t *testing.T, d *demo.Demo, kind, user string, n int) []letter {
	t.Helper()
	var found []letter
	require.Eventually(t, func() bool {
		found = nil
		for _, l := range lettersIn(t, filepath.Join(d.Stack.Dir, "mail")) {
			if l.kind == kind && strings.HasPrefix(l.to, user+"@") {
				found = append(found, l)
			}
		}
		return len(found) >= n
	}, time.Minute, 100*time.Millisecond, kind)
	require.Len(t, found, n)
	return found
}

// What happens to people's mobile IDs is told them by mail, each once, by a whole
// installation.
func TestMails(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
		Get: map[string]any{"key_types": []string{"EC-P-256"}, "qr": "email"},
	}, func(ctx context.Context, d *demo.Demo) error {
		temporal, c, err := p.connect(ctx)
		require.NoError(t, err)
		defer temporal.Close()
		g := &getting{demo: d, temporal: temporal, queue: c.TaskQueue}
		gets := client.NewGets(temporal, c.TaskQueue, workflows.GetWorkflowIDs(nil), client.WithAcceptWait(soon))
		d.Locks = client.New(temporal, c.TaskQueue, client.WithAcceptWait(soon))
		anna := mobileid.User{ID: "anna", Name: "Anna Andersson", Active: true, Roles: []string{mobileid.SelfServiceRole}}
		require.NoError(t, d.Store.PutUser(ctx, anna, "anna@example.com", "anna@example.org"))

		t.Run("a lock", func(t *testing.T) { tellsALock(ctx, t, d) })
		t.Run("a Get by a code in a mail", func(t *testing.T) { g.byMail(ctx, t, gets.User("anna", "")) })
		t.Run("a Get that fails", func(t *testing.T) { g.failingByMail(ctx, t, gets.User("carl", "operator")) })

		// A mail is there before the worker notes that it is sent.
		require.Eventually(t, func() bool {
			code, stdout, _ := command(t, "mails")
			return code == exitDone && stdout == "All mails are sent.\n"
		}, soon, 100*time.Millisecond)
		code, _, _ := command(t, "mails", "retry", "nobody")
		require.Equal(t, exitUsage, code)
		all := lettersIn(t, filepath.Join(d.Stack.Dir, "mail"))
		require.Len(t, all, 4+3+4)
		log, err := os.ReadFile(filepath.Join(d.Stack.Dir, "log", "worker.log"))
		require.NoError(t, err)
		require.Equal(t, len(all), strings.Count(string(log), "Mail is sent"), "once each")
		require.NotContains(t, string(log), "@example")
		require.NotContains(t, string(log), "Andersson")
		g.requireNothingSeen(ctx, t)
		return nil
	})
	require.NoError(t, err, out.String())
}

func tellsALock(ctx context.Context, t *testing.T, d *demo.Demo) {
	t.Helper()
	_, err := d.Locks.User("anna").Lock(ctx, "mid-1001", client.LockOptions{Reason: mobileid.KeyCompromise})
	require.NoError(t, err)
	for _, l := range mailed(t, d, "lockRequested", "anna", 2) {
		require.Equal(t, "Your mobile ID is being locked: MobileID Anna Andersson", l.subject)
		require.Contains(t, l.text, "You, or somebody who was signed in as you, asked to lock")
		require.Contains(t, l.text, "somebody else may have it, or its keys")
		require.Contains(t, l.text, "WAS IT NOT YOU?")
	}
	_, err = d.Locks.User("anna").WaitClosed(ctx, "mid-1001", nil)
	require.NoError(t, err)
	addresses := map[string]bool{}
	for _, l := range mailed(t, d, "lockFinished", "anna", 2) {
		addresses[l.to] = true
		require.Equal(t, 2, strings.Count(l.text, ": revoked on "), l.text)
		require.NotContains(t, l.text, "not confirmed", "others see it by then")
	}
	require.Equal(t, map[string]bool{"anna@example.com": true, "anna@example.org": true}, addresses)
}

// byMail gets a mobile ID with the code of the mail.
func (g *getting) byMail(ctx context.Context, t *testing.T, anna *client.Applicant) {
	t.Helper()
	_, err := g.demo.Store.PutGrant(ctx, "anna", "test", time.Hour)
	require.NoError(t, err)
	_, err = anna.Start(ctx)
	require.NoError(t, err)
	shown, err := anna.Next(ctx)
	require.NoError(t, err)
	sent := mailed(t, g.demo, "getQR", "anna", 1)[0]
	require.Equal(t, "anna@example.com", sent.to, "the main address alone")
	code, err := phone.ReadPNG(bytes.NewReader(sent.picture))
	require.NoError(t, err)
	require.Equal(t, g.code(ctx, t, workflows.GetWorkflowID("anna"), shown.MobileID), code)
	_, err = g.scan(ctx, code, phone.WellBehaved)
	require.NoError(t, err)
	done, err := anna.WaitClosed(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeActive, done.Outcome)
	for _, l := range mailed(t, g.demo, "getFinished", "anna", 2) {
		require.Contains(t, l.text, "is ready in your name")
		require.Contains(t, l.text, "You, or somebody who was signed in as you, asked for it.")
		require.Equal(t, 2, strings.Count(l.text, "- the one that ends in "))
	}
}

// failingByMail is a Get of an operator, whose phone declines what was issued.
func (g *getting) failingByMail(ctx context.Context, t *testing.T, carl *client.Applicant) {
	t.Helper()
	_, err := g.demo.Locks.Operator("desk").Lock(ctx, "mid-1003", client.LockOptions{Owner: "carl"})
	require.NoError(t, err)
	require.Contains(t, mailed(t, g.demo, "lockRequested", "carl", 1)[0].text, "An operator of your organisation asked to lock")
	require.Contains(t, mailed(t, g.demo, "lockFinished", "carl", 1)[0].text, "An operator of your organisation asked for it.")
	_, err = g.demo.Locks.Operator("desk").WaitClosed(ctx, "mid-1003", nil)
	require.NoError(t, err)

	_, err = g.demo.Store.PutGrant(ctx, "carl", "test", time.Hour)
	require.NoError(t, err)
	_, err = carl.Start(ctx)
	require.NoError(t, err)
	_, err = carl.Next(ctx)
	require.NoError(t, err)
	code, err := phone.ReadPNG(bytes.NewReader(mailed(t, g.demo, "getQR", "carl", 1)[0].picture))
	require.NoError(t, err)
	scanning, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { _, _ = g.scan(scanning, code, phone.RefuseInstalling) }() // the process says what came of it
	done, err := carl.WaitClosed(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeFailed, done.Outcome)
	failed := mailed(t, g.demo, "getFailed", "carl", 1)[0]
	require.Contains(t, failed.text, "What went wrong: It was declined on the phone.")
	require.Contains(t, failed.text, "whatever was issued for it is revoked. Nobody can use it.")
	require.Contains(t, failed.text, "Your mobile ID from before stays locked")
}
