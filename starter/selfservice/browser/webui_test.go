package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// maxPicture is the most that a picture of the documentation may have, in bytes.
const maxPicture = 120_000

// columns is what operating.md has people put into the list, as the Web UI keeps it.
const columns = `localStorage.setItem("namespace-workflow-table-columns", JSON.stringify({default: [
	{label: "Status"}, {label: "MobileId"}, {label: "MobileIdUser"}, {label: "LockPhase"}, {label: "LockOutcome"}, {label: "LockRequestedAt"}, {label: "Type"}]}))`

// What operators see of locks in Temporal's own Web UI, the one of the development
// server: search attributes as columns, summaries, current details, ids of steps. The
// pictures of the documentation come from here:
//
//	UPDATE_PICTURES=1 go test ./starter/selfservice/browser -run TestWebUI
func TestWebUI(t *testing.T) {
	in := start(t)
	done, waits, stuck := "mid-1001", "mid-1002", "mid-1003"
	_, err := in.Locks.User("anna").Lock(t.Context(), done, client.LockOptions{})
	require.NoError(t, err)
	_, err = in.Locks.User("anna").WaitClosed(t.Context(), done, nil)
	require.NoError(t, err)
	_, err = in.Locks.User("bert").Start(t.Context(), waits, client.LockOptions{})
	require.NoError(t, err)
	require.NoError(t, in.Store.AddCertificates(t.Context(), stuck, strangers(t)))
	_, err = in.Locks.Operator("olof").Lock(t.Context(), stuck, client.LockOptions{Owner: "carl"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := in.Locks.Operator("olof").Status(t.Context(), stuck)
		revoked := 0
		for _, c := range status.Certificates {
			if c.Outcome != "" {
				revoked++
			}
		}
		return err == nil && status.Phase == workflows.NeedsOperator && revoked == 2
	}, patience, 50*time.Millisecond)

	w := in.open(t, in.Stack.UIAddress)
	w.Do(chromedp.EmulateViewport(1700, 470, chromedp.EmulateScale(1)), emulation.SetTimezoneOverride("UTC"), chromedp.Navigate(w.URL), chromedp.Evaluate(columns, nil))
	query := fmt.Sprintf(`MobileId IN ("%s", "%s", "%s")`, done, waits, stuck)
	w.webUI("/workflows?query="+url.QueryEscape(query), "MobileId", "LockPhase", "LockRequestedAt", done, "closed", "locked", waits, "awaitingConfirmation", stuck, "needsOperator",
		workflows.Lock, workflows.LockForOperator)
	w.keep("webui-list")

	for _, test := range []struct {
		id, tab, name string
		height        int64
		sees          []string
	}{
		{waits, "user-metadata", "webui-waiting", 760, []string{"Lock mobile ID " + waits, "awaitingConfirmation", "Send next or cancel", "in IM", "valid"}},
		{stuck, "user-metadata", "webui-needs-operator", 800, []string{
			"Lock mobile ID " + stuck, "needsOperator", "mend the cause, then send retry", "no configured CA", "Nobody's CA", "Revoked", "needs an operator",
		}},
		{done, "history", "webui-done", 1120, []string{
			"Lock mobile ID " + done, "Completed", `"outcome": "locked"`, "Lock " + done + " in Identity Manager",
			"Revoke 2 certificates at devca", "Revoke 2 certificates of devca in Identity Manager",
		}},
	} {
		described, err := in.Temporal.DescribeWorkflowExecution(t.Context(), workflows.LockWorkflowID(test.id), "")
		require.NoError(t, err)
		w.Do(chromedp.EmulateViewport(1400, test.height, chromedp.EmulateScale(1)))
		w.webUI("/workflows/"+url.PathEscape(workflows.LockWorkflowID(test.id))+"/"+described.GetWorkflowExecutionInfo().GetExecution().GetRunId()+"/"+test.tab,
			append(test.sees, workflows.LockWorkflowID(test.id))...)
		w.keep(test.name)
	}
}

// strangers is a certificate of a CA that nobody has configured.
func strangers(t *testing.T) mobileid.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x5eed), Subject: pkix.Name{CommonName: "Nobody's CA"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	c, err := mobileid.NewCertificate(parsed, mobileid.CertificateValid)
	require.NoError(t, err)
	return c
}

// wholeText is what a page says. The Web UI shows Markdown in frames, which are closed to
// its scripts: of these it is what they are given to show.
const wholeText = `[document.body.innerText, ...[...document.querySelectorAll("iframe")].map((f) =>
	f.contentDocument?.body?.innerText || decodeURIComponent(f.src.replaceAll("+", " ")).replaceAll(/[\x60*]/g, ""))].join("\n")`

// webUI goes to a page of the namespace, and waits until it says all of it. What it
// says changes by itself, so the page is read until it does.
func (w *window) webUI(path string, says ...string) {
	w.T.Helper()
	w.Do(chromedp.Navigate(w.URL + "/namespaces/default" + path))
	var text string
	missing := func() (missing []string) {
		w.Do(chromedp.Evaluate(wholeText, &text))
		for _, s := range says {
			if !strings.Contains(text, s) {
				missing = append(missing, s)
			}
		}
		return missing
	}
	for end := time.Now().Add(patience); len(missing()) > 0; {
		if !time.Now().Before(end) {
			w.keep("webui-failed")
			require.Fail(w.T, "the page does not say all that it must", "%s\nmissing: %q", text, missing())
		}
	}
}

// keep keeps a picture of what the window shows among the output of the tests, and
// with UPDATE_PICTURES in the documentation.
func (w *window) keep(name string) {
	w.T.Helper()
	small := w.Capture()
	require.Less(w.T, len(small), maxPicture)
	folders := []string{filepath.Join("..", "..", "..", ".dev", "pictures")}
	if os.Getenv("UPDATE_PICTURES") != "" && !w.T.Failed() {
		folders = append(folders, filepath.Join("..", "..", "..", "docs", "pictures"))
	}
	for _, folder := range folders {
		require.NoError(w.T, os.MkdirAll(folder, 0o755))
		require.NoError(w.T, os.WriteFile(filepath.Join(folder, name+".png"), small, 0o644))
	}
}

// The pictures that the documentation shows are there, and none is big.
func TestPicturesOfTheDocumentation(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	require.NoError(t, err)
	shown := regexp.MustCompile(`!\[[a-z ]+\]\((docs/pictures/[a-z-]+\.png)\)`).FindAllStringSubmatch(string(readme), -1)
	require.Len(t, shown, 4)
	for _, s := range shown {
		info, err := os.Stat(filepath.Join("..", "..", "..", s[1]))
		require.NoError(t, err, "run: UPDATE_PICTURES=1 go test ./starter/selfservice/browser -run TestWebUI")
		require.Less(t, info.Size(), int64(maxPicture))
	}
}
