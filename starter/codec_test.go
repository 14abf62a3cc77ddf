package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities"
	"mobileid/activities/messaging/phone"
	"mobileid/config"
	"mobileid/encryption"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// encrypted is a running stack whose payloads are encrypted.
type encrypted struct {
	programs
	demo     *demo.Demo
	keyset   string   // the worker's file, and starter's
	codec    string   // URL of the codec server
	token    string   // what it asks for
	personal []string // what must stand nowhere in clear
	plain    string   // workflow id of the process that was started in clear
	plainRun string
	serial   string // of a certificate of mid-1003
}

// The whole installation with encrypted payloads: what Temporal keeps tells nothing
// of people, to those who have the keys it tells all, and nothing is lost when keys
// are rotated in the wrong order.
func TestEncryption(t *testing.T) {
	built := build(t)
	p, out := inNewFolder(t)
	folder := t.TempDir()
	e := &encrypted{programs: built, keyset: filepath.Join(folder, "keyset.json"), token: "token-0123456789abcdef"}
	_, err := encryption.Create(e.keyset)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "token"), []byte(e.token), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err = p.onStackOf(ctx, stack.Options{
		Dir: ".dev", Starter: built.starter, Worker: built.worker, Temporal: built.temporal, Progress: out, Fresh: true,
		Get: map[string]any{"workflow_id": "hashed", "key_types": []string{"EC-P-256"}},
		Sections: map[string]any{
			"encryption":        map[string]any{"keyset_file": e.keyset},
			"search_attributes": map[string]any{"user": "hashed", "hash_key_file": filepath.Join(folder, "hash.key")},
			"codec_server":      map[string]any{"address": "127.0.0.1:0", "token_file": filepath.Join(folder, "token"), "encode": true},
		},
	}, func(ctx context.Context, d *demo.Demo) error {
		e.demo = d
		e.personal = personalData(t)
		e.serial = e.personal[len(e.personal)-1] // by the order of the files
		require.NoError(t, d.Play(ctx), out.String())
		e.serveCodec(ctx, t)
		t.Run("last error of a step", func(t *testing.T) { e.lastError(t) })
		t.Run("plain input passes", func(t *testing.T) { e.plainInput(ctx, t) })
		t.Run("a Get", func(t *testing.T) { e.get(ctx, t) })
		t.Run("histories tell nothing of people", func(t *testing.T) { e.searchHistories(ctx, t) })
		t.Run("the codec server tells", func(t *testing.T) { e.decoded(ctx, t) })
		t.Run("found by user", func(t *testing.T) { e.foundByUser(ctx, t) })
		t.Run("keys rotated in the wrong order", func(t *testing.T) { e.wrongOrder(ctx, t) })
		return nil
	})
	require.NoError(t, err, out.String())
}

// personalData is what the demo's people who play a part here can be known by.
func personalData(t *testing.T) []string {
	t.Helper()
	personal := []string{"anna", "bert", "carl", "Andersson", "Berg", "Carlsson", "@example.com", "development CA"}
	files, err := filepath.Glob(".dev/certificates/mid-100[123]-*.pem")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		personal = append(personal, certificate.SerialNumber.Text(16))
	}
	return personal
}

// serveCodec runs the codec server as a process.
func (e *encrypted) serveCodec(ctx context.Context, t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), e.starter, "codec", "serve", "-o", "json")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		require.NoError(t, cmd.Wait(), "it stops when told: %s", &log)
		for _, word := range e.personal {
			require.NotContains(t, log.String(), word)
		}
		require.Contains(t, log.String(), "decode", "requests are logged")
	})
	var answer struct{ URL string }
	require.NoError(t, json.NewDecoder(bufio.NewReader(out)).Decode(&answer))
	e.codec = answer.URL
}

// run runs one of the programs and returns what it says.
func run(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s\n%s%s", name, args, out, &errs)
	return string(out)
}

// lastError stops the CA in the middle of a lock: what the step says reaches those
// who have the keys.
func (e *encrypted) lastError(t *testing.T) {
	ca, ok := e.demo.Stack.Process("devca")
	require.True(t, ok)
	require.NoError(t, ca.Signal(os.Interrupt))
	<-e.demo.Stack.Ended("devca")
	restart := sync.OnceValue(func() error { return e.demo.Stack.Restart("devca") })
	defer restart() // the others need it
	code, stdout, stderr := command(t, "lock", "mid-1003", "--user", "carl", "--yes", "--no-wait")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Eventually(t, func() bool {
		code, stdout, stderr = command(t, "status", "mid-1003")
		return code == exitDone && strings.Contains(stdout, "last answer:")
	}, time.Minute, 200*time.Millisecond)
	require.Contains(t, stdout, "connection refused", "decoded")
	described := run(t.Context(), t, e.temporal, "workflow", "describe", "-w", workflows.LockWorkflowID("mid-1003"), "-o", "json")
	require.Contains(t, described, "Encoded failure")
	require.NotContains(t, described, "refused")
	require.NoError(t, restart())
	_, err := e.demo.Locks.User("carl").WaitClosed(t.Context(), "mid-1003", nil)
	require.NoError(t, err)
}

// plainInput comes from a program that encrypts nothing.
func (e *encrypted) plainInput(ctx context.Context, t *testing.T) {
	id := workflows.LockWorkflowID("mid-1002")
	started := run(ctx, t, e.temporal, "workflow", "start", "-o", "json", "--type", workflows.Lock, "--task-queue", workflows.TaskQueue, "--workflow-id", id,
		"--id-conflict-policy", "Fail", "--input", `{"mobileId": "mid-1002", "userId": "bert"}`)
	var plain struct{ RunID string }
	require.NoError(t, json.Unmarshal([]byte(started), &plain), started)
	require.NotEmpty(t, plain.RunID)
	e.plain, e.plainRun = id, plain.RunID
	run(ctx, t, e.temporal, "workflow", "signal", "--workflow-id", id, "--name", workflows.Cancel)
	status, err := e.demo.Locks.User("bert").WaitClosed(ctx, "mid-1002", nil)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeCancelled, status.Outcome)
}

// get leaves a whole Get, and one with a decision.
func (e *encrypted) get(ctx context.Context, t *testing.T) {
	p := &program{err: io.Discard, config: func() (config.Config, error) { return config.Load(nil) }}
	var status client.GetStatus
	require.NoError(t, p.withApplicant(ctx, &who{user: "anna", by: "test"}, func(ctx context.Context, a *applicant) error {
		require.NoError(t, a.grant(ctx))
		_, err := a.Start(ctx)
		require.NoError(t, err)
		status, err = a.Next(ctx)
		require.NoError(t, err)
		code, err := e.demo.Store.Provisioning(ctx, status.MobileID)
		require.NoError(t, err)
		e.personal = append(e.personal, code.URI, code.Nonce)
		_, err = (&getting{demo: e.demo}).scan(ctx, code.URI, phone.WellBehaved)
		require.NoError(t, err)
		status, err = a.WaitClosed(ctx, nil)
		return err
	}))
	require.Equal(t, workflows.OutcomeActive, status.Outcome)
	require.NotEmpty(t, status.Certificates)
	for _, c := range status.Certificates {
		e.personal = append(e.personal, c.Serial)
	}
	e.personal = append(e.personal, "MobileID Anna")

	code, stdout, stderr := command(t, "get", "--user", "bert")
	require.Equal(t, exitDone, code, stdout+stderr)
	code, stdout, stderr = command(t, "get", "cancel", "--user", "bert")
	require.Equal(t, exitDone, code, stdout+stderr)
	require.Contains(t, stdout, "Cancelled")
	code, _, stderr = command(t, "get", "status", "--user", "nobody")
	require.Equal(t, exitRefused, code, stderr)
}

// execution is a process in Temporal's list.
type execution struct {
	Execution struct{ WorkflowID, RunID string }
	Type      struct{ Name string }
}

func (e *encrypted) executions(ctx context.Context, t *testing.T) []execution {
	t.Helper()
	var list []execution
	require.NoError(t, json.Unmarshal([]byte(run(ctx, t, e.temporal, "workflow", "list", "-o", "json")), &list))
	return list
}

// searchHistories exports all that Temporal keeps and searches every text of it, and
// every payload.
func (e *encrypted) searchHistories(ctx context.Context, t *testing.T) {
	var list []execution
	require.Eventually(t, func() bool {
		list = e.executions(ctx, t)
		return len(list) >= 9 // seven locks, two of them refused, and two Gets
	}, time.Minute, 200*time.Millisecond, "the list lags a moment behind")
	exports := map[string]string{"the list": run(ctx, t, e.temporal, "workflow", "list", "-o", "json")}
	for _, x := range list {
		w, r := x.Execution.WorkflowID, x.Execution.RunID
		exports["history of "+w+" "+r] = run(ctx, t, e.temporal, "workflow", "show", "-w", w, "-r", r, "-o", "json")
		exports["description of "+w+" "+r] = run(ctx, t, e.temporal, "workflow", "describe", "-w", w, "-r", r, "-o", "json")
	}
	payloads := 0
	for name, export := range exports {
		walk(document(t, export), nil, func(path []string, text string) {
			where := fmt.Sprintf("%s: %s", name, strings.Join(path, "."))
			last := path[len(path)-1]
			if name == "history of "+e.plain+" "+e.plainRun && slices.Contains(path, "workflowExecutionStartedEventAttributes") && slices.Contains(path, "input") {
				return // what came in clear stays so
			}
			read := []string{text}
			if last == "data" {
				payloads++
				raw, err := base64.StdEncoding.DecodeString(text)
				require.NoError(t, err, where)
				read = []string{string(raw)} // in base64 anything short may stand by chance
			} else if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
				read = append(read, string(raw))
			}
			for _, text := range read {
				for _, word := range e.personal {
					require.NotContains(t, text, word, where)
				}
				// By contract the id of a lock holds the mobile ID's, and so does a search attribute.
				if !slices.Contains(path, "MobileId") && !strings.HasPrefix(text, workflows.LockWorkflowID("")) {
					require.NotContains(t, text, "mid-100", where)
				}
			}
		})
	}
	require.Greater(t, payloads, 100, "payloads were looked at")
	t.Logf("%d processes, %d payloads", len(list), payloads)
}

func document(t *testing.T, text string) (document any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &document), text)
	return document
}

// texts are all texts of a JSON document, and what payloads hold.
func texts(t *testing.T, export string) string {
	t.Helper()
	var all strings.Builder
	walk(document(t, export), nil, func(path []string, text string) {
		raw, err := base64.StdEncoding.DecodeString(text)
		if path[len(path)-1] == "data" && err == nil {
			text = string(raw)
		}
		all.WriteString(text + "\n")
	})
	return all.String()
}

// walk visits every text of a JSON document, names too.
func walk(value any, path []string, visit func(path []string, text string)) {
	switch v := value.(type) {
	case string:
		visit(path, v)
	case []any:
		for _, element := range v {
			walk(element, path, visit)
		}
	case map[string]any:
		for name, element := range v {
			visit(append(path[:len(path):len(path)], "(name)"), name)
			walk(element, append(path[:len(path):len(path)], name), visit)
		}
	}
}

// decoded shows the same history to those who may ask the codec server.
func (e *encrypted) decoded(ctx context.Context, t *testing.T) {
	id := workflows.LockWorkflowID("mid-1003")
	auth := "Bearer " + e.token
	serial := e.serial
	for _, endpoint := range []string{e.codec, e.codec + "/{namespace}"} {
		export := texts(t, run(ctx, t, e.temporal, "workflow", "show", "-w", id, "-o", "json", "--codec-endpoint", endpoint, "--codec-auth", auth))
		for _, clear := range []string{`"carl"`, serial, "development CA", "Lock mobile ID mid-1003", "Lock mid-1003 in Identity Manager"} {
			require.Contains(t, export, clear)
		}
	}
	refused := texts(t, run(ctx, t, e.temporal, "workflow", "show", "-w", workflows.LockWorkflowID("mid-1001"), "-o", "json", "--codec-endpoint", e.codec, "--codec-auth", auth))
	require.Contains(t, refused, "the mobile ID is locked already", "the words of a failure")
	status := run(ctx, t, e.temporal, "workflow", "query", "-w", id, "--name", workflows.StatusQuery, "-o", "json", "--codec-endpoint", e.codec, "--codec-auth", auth)
	require.Contains(t, status, serial)
	status = run(ctx, t, e.temporal, "workflow", "query", "-w", id, "--name", workflows.StatusQuery, "-o", "json")
	require.NotContains(t, status, serial, "answers of queries are encrypted, too")
	metadata := run(ctx, t, e.temporal, "workflow", "metadata", "-w", id, "-o", "json", "--codec-endpoint", e.codec, "--codec-auth", auth)
	require.Contains(t, metadata, serial, "current details")
	metadata = run(ctx, t, e.temporal, "workflow", "metadata", "-w", id, "-o", "json", "--codec-endpoint", "")
	require.NotContains(t, metadata, serial, "current details are encrypted, too")

	cmd := exec.CommandContext(ctx, e.temporal, "workflow", "query", "-w", id, "--name", workflows.StatusQuery, "--codec-endpoint", e.codec)
	output, err := cmd.CombinedOutput()
	require.Error(t, err, "without the token")
	require.Contains(t, string(output), "the bearer token is missing")

	tctl, err := filepath.Abs(filepath.Join(filepath.Dir(e.temporal), "tctl"))
	if err == nil {
		_, err = os.Stat(tctl)
	}
	if err != nil {
		tctl, err = exec.LookPath("tctl")
	}
	if err != nil {
		t.Skip("tctl is missing: run 'make tools'")
	}
	base := []string{"--address", e.demo.Stack.TemporalAddress}
	shown := run(ctx, t, tctl, append(base, "workflow", "show", "-w", id)...)
	require.NotContains(t, shown, serial)
	shown = run(ctx, t, tctl, append(base, "--codec_endpoint", e.codec, "--codec_auth", auth, "workflow", "show", "-w", id)...)
	require.Contains(t, shown, serial)
}

// foundByUser: the hashed attribute is found by those who have the key.
func (e *encrypted) foundByUser(ctx context.Context, t *testing.T) {
	code, stdout, stderr := command(t, "list", "--all", "--user", "carl")
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "mid-1003")
	require.NotContains(t, stdout, "mid-1001")
	code, query, stderr := command(t, "list", "--all", "--user", "carl", "--print-query")
	require.Equal(t, exitDone, code, stderr)
	require.NotContains(t, query, "carl")
	found := run(ctx, t, e.temporal, "workflow", "list", "--query", strings.TrimSpace(query), "-o", "json")
	require.Contains(t, found, workflows.LockWorkflowID("mid-1003"))
	require.NotContains(t, found, "mid-1001")
	code, stdout, _ = command(t, "list", "--all", "--user", "nobody' OR WorkflowId != '")
	require.Equal(t, exitDone, code)
	require.NotContains(t, stdout, "mid-")
}

// wrongOrder promotes a key before the worker has it: the lock waits, its task says
// which key is missing, and goes on once the worker has the key.
func (e *encrypted) wrongOrder(ctx context.Context, t *testing.T) {
	ahead := filepath.Join(filepath.Dir(e.keyset), "ahead.json")
	content, err := os.ReadFile(e.keyset)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ahead, content, 0o600))
	t.Setenv("MOBILEID_ENCRYPTION_KEYSET_FILE", ahead)
	code, stdout, stderr := command(t, "-o", "json", "codec", "keyset", "rotate")
	require.Equal(t, exitDone, code, stderr)
	var keys []encryption.Key
	require.NoError(t, json.Unmarshal([]byte(stdout), &keys))
	require.Len(t, keys, 2)
	code, stdout, stderr = command(t, "codec", "keyset", "promote", fmt.Sprint(keys[1].ID))
	require.Equal(t, exitDone, code, stderr)
	require.Regexp(t, fmt.Sprintf(`(?m)^%d +AesGcmKey +yes +yes`, keys[1].ID), stdout)

	code, stdout, stderr = command(t, "status", "mid-1003")
	require.Equal(t, exitError, code, "a query that the worker cannot read is not answered: %s", stdout)
	require.Contains(t, stderr, "no worker answers")
	code, stdout, stderr = command(t, "-o", "json", "lock", "mid-1002", "--user", "bert", "--yes", "--no-wait")
	require.Equal(t, exitDone, code, stderr)
	var stored client.Status
	require.NoError(t, json.Unmarshal([]byte(stdout), &stored))
	require.True(t, stored.Stored, "no worker can take it: %s", stdout)
	id := workflows.LockWorkflowID("mid-1002")
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(filepath.Join(".dev", "log", "worker.log"))
		return err == nil && strings.Contains(string(log), fmt.Sprintf("encrypted under key %d", keys[1].ID)) && strings.Contains(string(log), e.keyset)
	}, time.Minute, 100*time.Millisecond, "the worker says which key is missing in which file")
	require.Contains(t, run(ctx, t, e.temporal, "workflow", "describe", "-w", id, "-o", "json"), "_RUNNING")

	content, err = os.ReadFile(ahead)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.keyset+".new", content, 0o600))
	require.NoError(t, os.Rename(e.keyset+".new", e.keyset))
	// The demo's client looks at the worker's file, and so has the key by now.
	status, err := e.demo.Locks.User("bert").Wait(ctx, "mid-1002", nil)
	require.NoError(t, err)
	require.True(t, status.Revoked)
	code, stdout, stderr = command(t, "status", "mid-1003")
	require.Equal(t, exitDone, code, stdout+stderr)
}

func TestKeysetCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "keys", "keyset.json")
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"which file", []string{"codec", "keyset", "list"}, exitUsage, "encryption.keyset_file is missing"},
		{"nothing to decode", []string{"codec", "serve"}, exitUsage, "encryption.keyset_file is missing"},
		{"none yet", []string{"codec", "keyset", "rotate", "--encryption.keyset_file", file}, exitError, "no such file"},
		{"create", []string{"codec", "keyset", "create", "--encryption.keyset_file", file}, exitDone, "AesGcmKey  yes       yes"},
		{"create again", []string{"codec", "keyset", "create", "--encryption.keyset_file", file}, exitError, "is there already, and is kept"},
		{"create if missing", []string{"codec", "keyset", "create", "--if-missing", "--encryption.keyset_file", file}, exitDone, "AesGcmKey  yes       yes"},
		{"rotate", []string{"codec", "keyset", "rotate", "--encryption.keyset_file", file}, exitDone, "AesGcmKey  no        yes"},
		{"promote which", []string{"codec", "keyset", "promote", "--encryption.keyset_file", file}, exitUsage, "accepts 1 arg"},
		{"promote no number", []string{"codec", "keyset", "promote", "newest", "--encryption.keyset_file", file}, exitUsage, "must be a number"},
		{"promote another's", []string{"codec", "keyset", "promote", "0", "--encryption.keyset_file", file}, exitError, "not found"},
		{"list", []string{"codec", "keyset", "list", "--encryption.keyset_file", file}, exitDone, "AesGcmKey  no        yes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, test.args...)
			require.Equal(t, test.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, test.says)
		})
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	var keys struct {
		Key []struct{ KeyData struct{ Value string } }
	}
	require.NoError(t, json.Unmarshal(content, &keys))
	_, stdout, stderr := command(t, "codec", "keyset", "list", "--encryption.keyset_file", file)
	require.Len(t, keys.Key, 2)
	for _, key := range keys.Key {
		require.NotEmpty(t, key.KeyData.Value)
		require.NotContains(t, stdout+stderr, key.KeyData.Value)
	}
}

// How a user stands in the search attribute is for starter to know.
func TestListOfUser(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("hash.key", []byte(strings.Repeat("ab", 32)), 0o600))
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"plain", []string{"--user", "anna"}, exitDone, "AND MobileIdUser = 'anna'"},
		{"quotes", []string{"--user", `o'hara\`}, exitDone, `AND MobileIdUser = 'o\'hara\\'`},
		{"hashed", []string{"--user", "anna", "--search_attributes.user", "hashed", "--search_attributes.hash_key_file", "hash.key"}, exitDone,
			"AND MobileIdUser = '" + activities.HashUser(bytes.Repeat([]byte{0xab}, 32), "anna") + "'"},
		{"no key", []string{"--user", "anna", "--search_attributes.user", "hashed", "--search_attributes.hash_key_file", "none"}, exitError, "search_attributes.hash_key_file"},
		{"off", []string{"--user", "anna", "--search_attributes.user", "off"}, exitUsage, "search_attributes.user"},
		{"none set", []string{"--user", "anna", "--search_attributes.enabled", "false"}, exitUsage, "search_attributes.user"},
		{"everybody's", nil, exitDone, "ExecutionStatus = 'Running'\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, append([]string{"list", "--print-query"}, test.args...)...)
			require.Equal(t, test.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, test.says)
		})
	}
}

// A key is not encrypted under before others can have read it.
func TestRotateTakesItsTime(t *testing.T) {
	inNewFolder(t)
	file := filepath.Join(t.TempDir(), "keyset.json")
	t.Setenv("MOBILEID_ENCRYPTION_KEYSET_FILE", file)
	first, err := encryption.Create(file)
	require.NoError(t, err)
	code, _, stderr := command(t, "codec", "keyset", "rotate", "--promote-after", "1s")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "must be at least 2s")
	keys, err := encryption.List(file)
	require.NoError(t, err)
	require.Equal(t, []encryption.Key{first}, keys, "nothing was changed")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = rotateKeyset(ctx, file, time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	keys, err = encryption.List(file)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.True(t, keys[0].Primary)
	require.Contains(t, fmt.Sprint(rotateKeyset(ctx, file, time.Hour)), "go on with 'starter codec keyset promote")
}
