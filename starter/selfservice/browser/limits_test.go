package browser

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
)

// timeLimits lets a form and a session come to their ends: people are asked before, can
// have more time, and learn what has become of what they pressed.
func timeLimits(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "maj", "Maj Modin", "mid-2201"))
	asking := *in
	asking.Config.Serve.AskReason = true
	url, _ := asking.another(t)
	w := in.open(t, url)
	w.signIn("maj")
	w.GoTo("/mobile-ids/mid-2201/lock")
	w.Do(chromedp.Click(`input[value="superseded"]`, chromedp.ByQuery))
	const chosen = `document.querySelector('input[value="superseded"]').checked && document.querySelector("[name=form]").value`
	var before, after string
	w.Evaluate(chosen, &before)
	w.Later(in.Config.Serve.FormTimeout - time.Minute)
	w.IsAsked("Do you need more time?")
	w.picture("lock, the form ends soon")
	w.Follow("More time")
	w.Sees("Lock this mobile ID?")
	w.Evaluate(chosen, &after)
	require.NotEqual(t, before, after, "a new form")
	require.NotEmpty(t, after, "with what was chosen")

	// Nobody answers.
	w.Later(in.Config.Serve.FormTimeout + time.Minute)
	w.IsAsked("This page is too old now")
	w.picture("lock, the form has ended")
	w.Follow("Open it again")
	w.Sees("Lock this mobile ID?")
	in.requireState(t, "mid-2201", mobileid.Active, 2)

	// On a page without a form it is the session that ends.
	w.GoTo("/history")
	in.unused(t, "maj", in.Config.Serve.IdleTimeout-time.Minute)
	w.Later(in.Config.Serve.IdleTimeout - time.Minute)
	w.IsAsked("Do you need more time?")
	require.Contains(t, w.Dialog(), "You will be signed out in a moment.")
	w.picture("history, the session ends soon")
	w.Follow("Stay signed in")
	w.Sees("History")
	in.unused(t, "maj", in.Config.Serve.IdleTimeout)
	w.Later(in.Config.Serve.IdleTimeout)
	w.WaitsFor("Your session has ended.")
	w.picture("sign-in, the session has ended")
	require.Contains(t, w.Address(), "then=%2Fhistory")
}

// tooLate presses Next, without script, when the form or the session has ended.
func tooLate(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "nils", "Nils Nord", "mid-2202"))
	hasty := *in
	hasty.Config.Serve.FormTimeout = time.Nanosecond
	url, _ := hasty.another(t)
	w := in.open(t, url)
	w.WithoutScript()
	w.signIn("nils")
	for form, next := range map[string]string{
		"/mobile-ids/mid-2202/lock": "Next", "/mobile-ids/mid-2202/lock?then=get": "More time", "/get": "Keep it and go back",
	} {
		w.GoTo(form)
		w.Follow(next)
		w.Sees("This page was too old")
		require.Contains(t, w.Text(), "Nothing was changed")
		w.picture("expired " + form)
		w.Follow("Open it again")
		require.Equal(t, form, w.Address())
	}

	w = in.open(t, in.url)
	w.WithoutScript()
	w.signIn("nils")
	w.Follow("Stay signed in")
	w.Sees("What do you want to do?")
	w.GoTo("/mobile-ids/mid-2202/lock?then=get")
	w.Follow("More time")
	w.Sees("Lock this mobile ID?")
	in.unused(t, "nils", in.Config.Serve.IdleTimeout)
	w.Press("Next")
	w.Sees("Sign in")
	require.Contains(t, w.Text(), "what you have pressed was not done")
	w.picture("sign-in, Next came too late")
	in.requireState(t, "mid-2202", mobileid.Active, 2)
	w.fillIn("nils")
	w.Press("Sign in")
	w.Sees("Lock this mobile ID?")
	require.Contains(t, w.Text(), "Next step after this:", "where it was left")
}

// unused sets back when a user has used the service last.
func (in *installation) unused(t *testing.T, user string, since time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", in.Config.Store.DSN+"?_busy_timeout=60000")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), `UPDATE sessions SET seen_at = $1 WHERE user_id = $2`,
		time.Now().Add(-since).UTC().Format("2006-01-02T15:04:05.000000Z"), user)
	require.NoError(t, err)
}

// onlyWayIn is the form for who has signed in with the mobile ID that is to be locked.
func onlyWayIn(t *testing.T, in *installation) {
	require.NoError(t, in.Add(t.Context(), "olga", "Olga Oskarsson", "mid-2203"))
	begin := func(token string) {
		sum := sha256.Sum256([]byte(token))
		require.NoError(t, in.Store.StartSession(t.Context(), identitymanager.Session{
			ID: hex.EncodeToString(sum[:]), User: mobileid.User{ID: "olga"}, Method: identitymanager.ByMobileID, ExpiresAt: time.Now().Add(time.Hour),
		}, ""))
	}
	const token, stolen = "a token of a session that a mobile ID began", "one of a session that began with it elsewhere"
	begin(token)
	begin(stolen)
	w := in.open(t, in.url)
	w.Do(chromedp.ActionFunc(func(ctx context.Context) error {
		return network.SetCookie("mobileid", token).WithURL(in.url).WithHTTPOnly(true).Do(ctx)
	}))
	thief := newSurfer(t, in.url)
	opens := func(path string) int {
		request := thief.request(t, http.MethodGet, path, "")
		request.AddCookie(&http.Cookie{Name: "mobileid", Value: stolen})
		response, _ := thief.send(t, request)
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, opens("/mobile-ids"))
	w.GoTo("/mobile-ids/mid-2203/lock")
	w.Sees("Lock this mobile ID?")
	require.Contains(t, w.Text(), "Warning: you signed in with this mobile ID.")
	require.Contains(t, w.Text(), "Make sure that you have another way to sign in, or ask for help before you press Next.")
	w.picture("lock, the only way in")
	w.GoTo("/mobile-ids/mid-2203/lock?then=get")
	require.Contains(t, w.Text(), "Stay signed in until you have the new one")
	// The session stands after the lock, so that a new one can be got in it.
	w.Press("Next")
	w.Sees("Get a new mobile ID?")
	in.requireState(t, "mid-2203", mobileid.Locked, 0)
	for _, path := range []string{"/mobile-ids", "/get", "/get/code.png"} {
		require.Equal(t, http.StatusSeeOther, opens(path), "whoever has the phone is signed out")
	}
	w.Press("Cancel")
	w.Sees("Nothing was changed.")
}
