package selfservice

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/starter/selfservice/seal"
)

// unused sets back when the sessions were used last.
func (p *place) unused(t *testing.T, since time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", p.server.config.Store.DSN)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), `UPDATE sessions SET seen_at = $1`, time.Now().Add(-since).UTC().Format("2006-01-02T15:04:05.000000Z"))
	require.NoError(t, err)
}

func (b *browser) secondsLeft() int {
	b.t.Helper()
	response, body := b.get("/session/left")
	require.Equal(b.t, http.StatusOK, response.StatusCode)
	left, err := strconv.Atoi(body)
	require.NoError(b.t, err, body)
	return left
}

// requestID opens the form of a lock of mid-anna.
func (b *browser) requestID(form string) string {
	b.t.Helper()
	key, err := config.ReadKey("serve.form_key_file", b.place.server.config.Serve.FormKeyFile)
	require.NoError(b.t, err)
	sealer, err := seal.New(key, "form", nil)
	require.NoError(b.t, err)
	var seen struct {
		RequestID string `json:"requestId"`
	}
	require.NoError(b.t, sealer.Open(form, &seen, b.session().ID, "mid-anna"))
	return seen.RequestID
}

// ownRequest is the id of a request of the browser's session.
func (b *browser) ownRequest() string { return b.session().RequestID() }

func (b *browser) session() identitymanager.Session {
	id := sha256.Sum256([]byte(b.cookie().Value))
	return identitymanager.Session{ID: hex.EncodeToString(id[:])}
}

// Who is about to be signed out can put it off, and who was is told so.
func TestSessionEnds(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	_, body := b.get("/mobile-ids")
	require.Contains(t, body, "You are signed out at")
	require.Contains(t, body, "Stay signed in")
	require.Regexp(t, `data-session="(1[78]\d\d)"`, body)

	p.unused(t, 29*time.Minute)
	for range 2 {
		left := b.secondsLeft()
		require.LessOrEqual(t, left, 60, "to ask is not to use it")
		require.Greater(t, left, 20)
	}
	response, _ := b.post("/session", url.Values{"then": {"/history"}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Equal(t, "/history", response.Header.Get("Location"))
	require.Greater(t, b.secondsLeft(), 1700)
	response, _ = b.post("/session", url.Values{"then": {"https://evil.example/"}})
	require.Equal(t, "/", response.Header.Get("Location"))

	form := b.form("/mobile-ids/mid-anna/lock")
	p.unused(t, 31*time.Minute)
	require.Zero(t, b.secondsLeft())
	response, _ = b.get("/mobile-ids/mid-anna/lock?then=get")
	require.Equal(t, "/sign-in?ended=time&then=%2Fmobile-ids%2Fmid-anna%2Flock%3Fthen%3Dget", response.Header.Get("Location"))
	_, body = b.get(response.Header.Get("Location"))
	require.Contains(t, body, "Your session has ended.")
	require.Contains(t, body, `value="/mobile-ids/mid-anna/lock?then=get"`)
	response, _ = b.post("/mobile-ids/mid-anna/lock", url.Values{"form": {form}, "decision": {"next"}})
	require.Equal(t, "/sign-in?ended=undone&then=%2Fmobile-ids%2Fmid-anna%2Flock", response.Header.Get("Location"))
	_, body = b.get(response.Header.Get("Location"))
	require.Contains(t, body, "what you have pressed was not done")
	response, _ = b.post("/get/cancel", nil)
	require.Equal(t, "/sign-in?ended=undone&then=%2Fget%2Fprogress", response.Header.Get("Location"))
}

// What ends whatever anybody does is said to: only to sign in again helps.
func TestSessionEndsForGood(t *testing.T) {
	p := newPlace(t, func(c *config.Config) { c.Serve.SessionTimeout, c.Serve.IdleTimeout = 10*time.Minute, 20*time.Minute })
	_, body := p.signedIn(t, "anna").get("/mobile-ids/mid-anna")
	require.NotContains(t, body, "Stay signed in")
	require.Contains(t, body, `href="/sign-in?then=%2fmobile-ids%2fmid-anna"`)
	require.Regexp(t, `data-session="(59\d|600)"`, body)
}

// A form can be given more time, as often as one likes: it stays the same request, and
// what was chosen in it stays.
func TestMoreTime(t *testing.T) {
	p := newPlace(t, func(c *config.Config) { c.Serve.AskReason = true })
	b := p.signedIn(t, "anna")
	form := b.form("/mobile-ids/mid-anna/lock?then=get")
	request := b.requestID(form)
	require.NotEmpty(t, request)
	for range 12 {
		response, body := b.post("/mobile-ids/mid-anna/lock?then=get", url.Values{"form": {form}, "decision": {"more"}, "reason": {"keyCompromise"}})
		require.Equal(t, http.StatusOK, response.StatusCode, body)
		require.Contains(t, body, `value="keyCompromise" checked`)
		require.Contains(t, body, "Next step after this:")
		require.Contains(t, body, "Nothing has happened yet.")
		again := sealedForm.FindStringSubmatch(body)[1]
		require.NotEqual(t, form, again)
		require.Equal(t, request, b.requestID(again))
		form = again
	}
	response, body := b.post("/get", url.Values{"form": {form}, "decision": {"more"}})
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "of another page")
	require.Contains(t, body, `href="/get"`)

	old := newPlace(t, func(c *config.Config) { c.Serve.FormTimeout = time.Nanosecond })
	b = old.signedIn(t, "anna")
	for _, decision := range []string{"next", "cancel", "more"} {
		response, body = b.post("/mobile-ids/mid-anna/lock?then=get", url.Values{"form": {b.form("/mobile-ids/mid-anna/lock")}, "decision": {decision}})
		require.Equal(t, http.StatusBadRequest, response.StatusCode, "too old for everything")
		require.Contains(t, body, "Nothing was changed: what you have pressed")
		require.Regexp(t, regexp.MustCompile(`href="/mobile-ids/mid-anna/lock\?then=get"`), body, "the way back")
	}
}
