package messaging_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
)

// inbox answers the same to everything.
type inbox struct {
	delivery messaging.Delivery
	err      error
	got      []messaging.Callback
}

func (i *inbox) Deliver(_ context.Context, c messaging.Callback) (messaging.Delivery, error) {
	i.got = append(i.got, c)
	return i.delivery, i.err
}

func receiver(t *testing.T, i messaging.Inbox, options messaging.ReceiverOptions) *messaging.Receiver {
	t.Helper()
	options.User, options.PasswordFile = "hermod", file(t, "password", password+"\n")
	r, err := messaging.NewReceiver(i, options)
	require.NoError(t, err)
	return r
}

func post(path, user, password, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestReceiver(t *testing.T) {
	const (
		path = "/rest/callback/provision"
		kind = "application/json"
		body = `{"commandId":"c-1","status":"answered","profileid":"p","jws":"` + nonce + `"}`
	)
	padded := func(size int) string { return body + strings.Repeat(" ", size-len(body)) }
	failed := errors.New("the store is down")
	for _, row := range []struct {
		name     string
		request  *http.Request
		delivery messaging.Delivery
		err      error
		status   int
		reaches  bool // the inbox
		logged   string
	}{
		{"new", post(path, "hermod", password, kind, body), messaging.New, nil, 200, true, "c-1"},
		{"duplicate", post(path, "hermod", password, kind, body), messaging.Duplicate, nil, 200, true, "delivery=duplicate"},
		{"late", post(path, "hermod", password, kind, body), messaging.Late, nil, 200, true, "delivery=late"},
		{"for nobody", post(path, "hermod", password, kind, body), messaging.Unknown, nil, 200, true, "delivery=unknown"},
		{"inbox fails", post(path, "hermod", password, kind, body), "", failed, 503, true, "the store is down"},
		{"certificate", post("/rest/callback/certificate", "hermod", password, kind, `{"commandId":"c-1","status":"timeout"}`), messaging.New, nil, 200, true, "kind=certificate"},
		{"with a charset", post(path, "hermod", password, "application/json; charset=utf-8", body), messaging.New, nil, 200, true, ""},
		{"no credentials", post(path, "", "", kind, body), "", nil, 401, false, ""},
		{"wrong user", post(path, "Hermod", password, kind, body), "", nil, 401, false, ""},
		{"wrong password", post(path, "hermod", password+"x", kind, body), "", nil, 401, false, ""},
		{"empty password", post(path, "hermod", "", kind, body), "", nil, 401, false, ""},
		{"wrong type", post(path, "hermod", password, "text/plain", body), "", nil, 415, false, ""},
		{"no type", post(path, "hermod", password, "", body), "", nil, 415, false, ""},
		{"as long as it may be", post(path, "hermod", password, kind, padded(64<<10)), messaging.New, nil, 200, true, ""},
		{"a byte longer", post(path, "hermod", password, kind, padded(64<<10+1)), "", nil, 413, false, ""},
		{"not a callback", post(path, "hermod", password, kind, `{"jws":"`+nonce+`"}`), "", nil, 400, false, "commandId"},
		{"another kind", post("/rest/callback/sign", "hermod", password, kind, body), "", nil, 404, false, ""},
		{"another method", httptest.NewRequest(http.MethodGet, path, http.NoBody), "", nil, 405, false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log bytes.Buffer
			i := &inbox{delivery: row.delivery, err: row.err}
			w := httptest.NewRecorder()
			receiver(t, i, messaging.ReceiverOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}).ServeHTTP(w, row.request)
			require.Equal(t, row.status, w.Code)
			require.Equal(t, row.reaches, len(i.got) == 1)
			require.Contains(t, log.String(), row.logged)
			require.Equal(t, row.status == 503, w.Header().Get("Retry-After") != "")
			for _, secret := range []string{nonce, password} {
				require.NotContains(t, log.String(), secret)
				require.NotContains(t, w.Body.String(), secret)
			}
		})
	}
}

func TestReceiverLimitsRate(t *testing.T) {
	const body = `{"commandId":"c-1","status":"timeout"}`
	i := &inbox{delivery: messaging.New}
	r := receiver(t, i, messaging.ReceiverOptions{Rate: 0.001, Burst: 2})
	codes := func(password string) (codes []int) {
		for range 3 {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, post("/rest/callback/provision", "hermod", password, "application/json", body))
			codes = append(codes, w.Code)
		}
		return codes
	}
	require.Equal(t, []int{401, 401, 429}, codes("wrong"))
	require.Equal(t, []int{200, 200, 429}, codes(password), "strangers do not use up what is for messaging")
	require.Len(t, i.got, 2)
}

func TestNewReceiverReportsAllFaults(t *testing.T) {
	_, err := messaging.NewReceiver(nil, messaging.ReceiverOptions{PasswordFile: file(t, "password", " "), Rate: -1})
	for _, words := range []string{"inbox", "user", "password", "rate"} {
		require.ErrorContains(t, err, words)
	}
}
