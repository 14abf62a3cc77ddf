package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
)

// certificateWord stands in an input for a certificate of the configured CA.
const certificateWord = "CERTIFICATE-OF-ANNA"

// Any import: each line that is at fault is named, and then nothing of the file is
// written; what is taken is in the store, and taken again without a change.
func FuzzImportFile(f *testing.F) {
	store, issuer := inInstallation(f)
	certificate := strings.ReplaceAll(string(pemOf(issuer.Sign(f, catest.IssueRequest{}))), "\n", `\n`)
	for _, text := range []string{
		`{"id":"anna","name":"Anna","emails":["a@x.example"],"mobileIds":[{"id":"mid-1","name":"phone","certificates":["CERTIFICATE-OF-ANNA"]}]}`,
		`{"id":"bert"}` + "\n\n" + `{"id":"bert"}`, `{"id":"carl","roles":[],"active":false}`, `{"id":"dora","roles":[" "]}`, `{"id":""}`, `{"id":"e\u0000"}`, `{"ID":"x"}{}`,
		`{"id":"fred","mobileIds":[{"id":"../x"}]}`, `{"id":"gert","mobileIds":[{"id":"mid-1"}]}`, `{"id":"hans","certificates":1}`, `[]`, `null`, "\xff", `{"id":"\ud800"}`,
		`{"id":"ida","emails":["i@x.example\r\nBcc: y@x.example"]}`, `{"id":"jan","mobileIds":[{"id":"mid-9","certificates":["-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"]}]}`,
	} {
		f.Add([]byte(text + "\n"))
	}
	named := regexp.MustCompile(`^(line [0-9]+: .*)?$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "users.jsonl")
		require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(certificateWord), []byte(certificate)), 0o600))
		before, err := store.Users(t.Context(), "", 100_000)
		require.NoError(t, err)
		var out, said bytes.Buffer
		code := execute(t.Context(), []string{"user", "import", file}, strings.NewReader(""), &out, &said)
		after, err := store.Users(t.Context(), "", 100_000)
		require.NoError(t, err)
		if code != exitDone {
			require.Equal(t, exitUsage, code, "%s", &said)
			require.Equal(t, before, after, "it was refused")
			require.Empty(t, out.String())
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			for _, line := range lines[:len(lines)-1] {
				require.Regexp(t, named, line)
			}
			return
		}
		for _, user := range after {
			require.NoError(t, checkPerson(user, nil))
		}
		mobileIDs, err := store.MobileIDsOf(t.Context(), "anna")
		require.NoError(t, err)
		for _, m := range mobileIDs {
			require.NoError(t, mobileid.CheckID("id", m.ID))
		}
		said.Reset()
		require.Equal(t, exitDone, execute(t.Context(), []string{"user", "import", file}, strings.NewReader(""), &out, &said), "%s", &said)
		again, err := store.Users(t.Context(), "", 100_000)
		require.NoError(t, err)
		require.Equal(t, after, again)
	})
}
