package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/starter/selfservice/session"
)

// inInstallation makes a folder with an empty store and one CA, as 'starter setup'
// leaves it.
func inInstallation(t testing.TB) (*identitymanager.Store, *catest.Issuer) {
	t.Helper()
	inNewFolder(t)
	issuer := catest.NewIssuer(t, pkix.Name{CommonName: "Example CA"})
	require.NoError(t, os.WriteFile("ca.pem", pemOf(issuer.Certificate), 0o600))
	require.NoError(t, os.WriteFile("config.yaml", []byte("cas: [{name: example, issuer_file: ca.pem, task_queue: zone, crl_url: \"http://127.0.0.1:1/crl\"}]\n"), 0o600))
	c, err := config.Load(nil)
	require.NoError(t, err)
	_, err = setupStore(t.Context(), c)
	require.NoError(t, err)
	store, err := identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, issuer
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// typed runs a command line with something on standard input.
func typed(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// The first user of an empty store can sign in.
func TestFirstUser(t *testing.T) {
	store, _ := inInstallation(t)
	code, _, stderr := typed(t, "correct horse battery\n", "user", "add", "anna", "--name", "Anna Å. Andersson",
		"--email", "anna@example.com", "--email", "anna@home.example", "--password")
	require.Equal(t, exitDone, code, stderr)
	passwords, err := session.NewPasswords(store)
	require.NoError(t, err)
	signIn := func() error { return passwords.SignIn(t.Context(), "anna", "correct horse battery", "127.0.0.1", "") }
	require.NoError(t, signIn())

	code, stdout, stderr := command(t, "-o", "json", "user", "show", "anna")
	require.Equal(t, exitDone, code, stderr)
	require.JSONEq(t, `{"id": "anna", "name": "Anna Å. Andersson", "active": true, "roles": ["BaseRoleSelfServiceUser"],
		"emails": ["anna@example.com", "anna@home.example"]}`, stdout)

	code, _, stderr = command(t, "user", "disable", "anna")
	require.Equal(t, exitDone, code, stderr)
	require.Error(t, signIn())
	code, stdout, _ = command(t, "user", "list")
	require.Equal(t, exitDone, code)
	require.Regexp(t, `(?m)^anna +no +BaseRoleSelfServiceUser +Anna`, stdout)
	code, _, stderr = command(t, "user", "enable", "anna")
	require.Equal(t, exitDone, code, stderr)
	require.NoError(t, signIn())

	code, stdout, stderr = command(t, "-o", "json", "user", "grant", "anna", "--by", "olof")
	require.Equal(t, exitDone, code, stderr)
	var grant struct{ MobileID string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &grant))
	trail, err := store.AuditTrail(t.Context(), grant.MobileID)
	require.NoError(t, err)
	require.Len(t, trail, 1)
	require.Equal(t, mobileid.EventGranted, trail[0].Record.Event)
	require.Equal(t, "operator olof", trail[0].Record.Decision.By)
}

func TestUserRefuses(t *testing.T) {
	store, _ := inInstallation(t)
	code, _, stderr := command(t, "user", "add", "anna", "--role", "")
	require.Equal(t, exitDone, code, stderr)
	anna, err := store.User(t.Context(), "anna")
	require.NoError(t, err)
	require.Empty(t, anna.Roles)
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nobody", []string{"add"}, exitUsage, "give one USER"},
		{"one who is there", []string{"add", "anna", "--name", "Another"}, exitError, "there is a user with this id already"},
		{"an id with a line break", []string{"add", "an\nna"}, exitRefused, `"USER" holds characters`},
		{"an id that is too long", []string{"add", strings.Repeat("a", 257)}, exitRefused, "more than 256 bytes"},
		{"an address that is none", []string{"add", "bert", "--email", "Bert <bert@example.com>"}, exitRefused, `"emails[0]" is no mail address`},
		{"an address twice", []string{"add", "bert", "--email", "b@example.com", "--email", "b@example.com"}, exitRefused, `"emails[1]" is given twice`},
		{"a name that moves the cursor", []string{"add", "bert", "--name", "\x1b[2J"}, exitRefused, `"name" holds characters`},
		{"a role with a blank", []string{"add", "bert", "--role", " r"}, exitRefused, `"roles[0]" is no name of a role`},
		{"no password", []string{"add", "bert", "--password"}, exitError, "no password on standard input"},
		{"show nobody", []string{"show", "bert"}, exitError, "no such user"},
		{"disable nobody", []string{"disable", "bert"}, exitError, "no such user"},
		{"grant by nobody", []string{"grant", "anna"}, exitUsage, "--by is missing"},
		{"grant to nobody", []string{"grant", "bert", "--by", "olof"}, exitError, "no such user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, append([]string{"user"}, test.args...)...)
			require.Equal(t, test.code, code, stdout+stderr)
			require.Contains(t, stderr, test.says)
		})
	}
	users, err := store.Users(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []mobileid.User{anna}, users, "nobody came into being, and nothing was changed")
}

// importFile writes a file of an import.
func importFile(t *testing.T, lines ...any) string {
	t.Helper()
	var text bytes.Buffer
	for _, line := range lines {
		if s, ok := line.(string); ok {
			text.WriteString(s + "\n")
			continue
		}
		require.NoError(t, json.NewEncoder(&text).Encode(line))
	}
	name := filepath.Join(t.TempDir(), "users.jsonl")
	require.NoError(t, os.WriteFile(name, text.Bytes(), 0o600))
	return name
}

// person is a line with one mobile ID.
func person(id, mobileID string, certificates ...*x509.Certificate) map[string]any {
	texts := []string{}
	for _, c := range certificates {
		texts = append(texts, string(pemOf(c)))
	}
	return map[string]any{
		"id": id, "name": "Name of " + id, "emails": []string{id + "@example.com"},
		"mobileIds": []map[string]any{{"id": mobileID, "name": "phone", "certificates": texts}},
	}
}

func TestImportUsers(t *testing.T) {
	store, issuer := inInstallation(t)
	first, second, third := issuer.Sign(t, catest.IssueRequest{}), issuer.Sign(t, catest.IssueRequest{}), issuer.Sign(t, catest.IssueRequest{})
	require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "bert", Name: "Kept", Active: true}, "kept@example.com"))
	file := importFile(t, person("anna", "mid-1", first, second), "", person("bert", "mid-2", third), map[string]any{"id": "carl", "active": false, "roles": []string{"other"}})

	code, stdout, stderr := command(t, "user", "import", file, "--dry-run")
	require.Equal(t, exitDone, code, stderr)
	require.Equal(t, "1\tuser anna\twould be created\n1\tmobile ID mid-1\twould be created\n3\tuser bert\tkept\n3\tmobile ID mid-2\twould be created\n4\tuser carl\twould be created\n", stdout)
	_, err := store.User(t.Context(), "anna")
	require.ErrorIs(t, err, identitymanager.ErrUserNotFound)

	code, stdout, stderr = command(t, "user", "import", file)
	require.Equal(t, exitDone, code, stderr)
	require.Equal(t, "1\tuser anna\tcreated\n1\tmobile ID mid-1\tcreated\n3\tuser bert\tkept\n3\tmobile ID mid-2\tcreated\n4\tuser carl\tcreated\n", stdout)
	m, err := store.MobileID(t.Context(), "mid-1")
	require.NoError(t, err)
	require.Equal(t, mobileid.Active, m.State)
	require.Equal(t, mobileid.User{ID: "anna", Name: "Name of anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}, m.Owner)
	require.Len(t, m.Open(), 2)
	bert, err := store.User(t.Context(), "bert")
	require.NoError(t, err)
	require.Equal(t, "Kept", bert.Name)
	carl, err := store.User(t.Context(), "carl")
	require.NoError(t, err)
	require.Equal(t, mobileid.User{ID: "carl", Roles: []string{"other"}}, carl)

	t.Run("again, after it was cut off", func(t *testing.T) {
		require.NoError(t, store.DeleteMobileID(t.Context(), "mid-2"))
		code, stdout, stderr := command(t, "-o", "json", "user", "import", file)
		require.Equal(t, exitDone, code, stderr)
		var results []string
		for decoder := json.NewDecoder(strings.NewReader(stdout)); decoder.More(); {
			var done imported
			require.NoError(t, decoder.Decode(&done), stdout)
			results = append(results, done.User+" "+done.Result)
			for _, m := range done.MobileIDs {
				results = append(results, m.ID+" "+m.Result)
			}
		}
		require.Equal(t, []string{"anna kept", "mid-1 kept", "bert kept", "mid-2 created", "carl kept"}, results)
	})
}

// All that is at fault is named by line and field, and nothing is written.
func TestImportUsersRefuses(t *testing.T) {
	store, issuer := inInstallation(t)
	stranger := catest.NewIssuer(t, pkix.Name{CommonName: "Somebody else's CA"})
	known := issuer.Sign(t, catest.IssueRequest{})
	require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "olga", Active: true}, ""))
	require.NoError(t, store.CreateMobileID(t.Context(), mobileid.MobileID{ID: "mid-olga", Owner: mobileid.User{ID: "olga"}, State: mobileid.Active}))
	good := person("anna", "mid-1", known)
	for _, test := range []struct {
		name string
		line any
		says string
	}{
		{"no JSON", "anna,Anna", "line 2: it is not one JSON object of an import"},
		{"two objects", `{"id": "a"} {"id": "b"}`, "line 2: it is not one JSON object of an import: more follows it"},
		{"an unknown field", `{"id": "a", "email": "a@example.com"}`, `line 2: it is not one JSON object of an import: json: unknown field "email"`},
		{"no id", `{"name": "A"}`, `line 2: "id" is missing`},
		{"an address that is none", `{"id": "a", "emails": ["a@example.com", "b"]}`, `line 2: "emails[1]" is no mail address`},
		{"an id that is no mobile ID's", person("bert", "../x"), `line 2: "mobileIds[0].id" may hold only`},
		{"a user twice", map[string]any{"id": "anna"}, `line 2: "id" stands in line 1 already`},
		{"a mobile ID twice", person("bert", "mid-1"), `line 2: "mobileIds[0].id" stands in line 1 already`},
		{"a certificate twice", person("bert", "mid-2", known), `line 2: "mobileIds[0].certificates[0]" stands in line 1 already`},
		{"no certificate", `{"id": "b", "mobileIds": [{"id": "mid-2", "certificates": ["MIIB"]}]}`, `line 2: "mobileIds[0].certificates[0]" is not one certificate in PEM`},
		{"another CA's", person("bert", "mid-2", stranger.Sign(t, catest.IssueRequest{})), `line 2: "mobileIds[0].certificates[0]" was issued by "CN=Somebody else's CA", which is none of cas`},
		{"another user's already", person("bert", "mid-olga"), `line 2: "mobileIds[0].id" is another user's already`},
		{"there, with other certificates", person("olga", "mid-olga", issuer.Sign(t, catest.IssueRequest{})), "is there already, without certificate serial"},
		{"a line that is too long", `{"id": "` + strings.Repeat("a", maxImportLine) + `"}`, fmt.Sprintf("line 2 has more than %d bytes", maxImportLine)},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, "user", "import", importFile(t, good, test.line))
			require.Equal(t, exitUsage, code, stdout+stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.says)
			require.Contains(t, stderr, "nothing was written")
			users, err := store.Users(context.WithoutCancel(t.Context()), "", 10)
			require.NoError(t, err)
			require.Len(t, users, 1)
		})
	}
}
