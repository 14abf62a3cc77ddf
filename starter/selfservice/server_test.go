package selfservice

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/mocks"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
	"mobileid/starter/selfservice/session"
	"mobileid/workflows"
)

const password = "a password for tests"

// place is Self-Service on a real store, without a Temporal that answers.
type place struct {
	*httptest.Server
	server *Server
	store  *identitymanager.Store
	logs   *observer.ObservedLogs
}

// newPlace makes one with the users anna and otto, one mobile ID each (mid-anna and
// mid-otto), and rolf, who has a password but not the role.
func newPlace(t testing.TB, change ...func(*config.Config)) *place {
	t.Helper()
	return newPlaceWith(t, Options{}, change...)
}

func newPlaceWith(t testing.TB, o Options, change ...func(*config.Config)) *place {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Store.DSN = filepath.Join(dir, "im.db")
	c.Audit.KeyFile = filepath.Join(dir, "audit.key")
	c.Serve.FormKeyFile = filepath.Join(dir, "serve.key")
	c.Get.Enabled = true
	for _, change := range change {
		change(&c)
	}
	for _, file := range []string{c.Audit.KeyFile, c.Serve.FormKeyFile} {
		_, err := config.MakeKey(file)
		require.NoError(t, err)
	}
	store, err := identitymanager.Configured(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	hash, err := session.HashPassword(password)
	require.NoError(t, err)
	for _, id := range []string{"anna", "otto", "rolf"} {
		user := mobileid.User{ID: id, Name: "The " + id, Active: true, Roles: []string{mobileid.SelfServiceRole}}
		if id == "rolf" {
			user.Roles = nil
		}
		require.NoError(t, store.PutUser(t.Context(), user, id+"@example.com"))
		require.NoError(t, store.PutPassword(t.Context(), id, hash))
		require.NoError(t, store.CreateMobileID(t.Context(), mobileid.MobileID{
			ID: "mid-" + id, Name: "Phone of " + id, Owner: user, State: mobileid.Active, Certificates: []mobileid.Certificate{certificate("a1" + id[:1])},
		}))
	}
	// Nobody listens there.
	temporal, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(nil)})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	core, logs := observer.New(zapcore.DebugLevel)
	server, err := New(c, store, temporal, zap.New(core), o)
	require.NoError(t, err)
	p := &place{Server: httptest.NewServer(server.Handler()), server: server, store: store, logs: logs}
	t.Cleanup(p.Close)
	return p
}

func certificate(serial string) mobileid.Certificate {
	serial = strings.NewReplacer("o", "0", "r", "1").Replace(serial)
	return mobileid.Certificate{
		CertificateID: mobileid.CertificateID{Issuer: strings.Repeat("ab", 32), Serial: serial},
		IssuerDN:      "CN=Test CA", NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 24), State: mobileid.CertificateValid,
	}
}

// browser keeps cookies and does not follow redirects.
type browser struct {
	*http.Client
	t     testing.TB
	place *place
}

func (p *place) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, place: p, Client: &http.Client{
		Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// signedIn is a browser in which a user has signed in.
func (p *place) signedIn(t testing.TB, user string) *browser {
	t.Helper()
	b := p.browser(t)
	response, body := b.post("/sign-in", url.Values{"user": {user}, "password": {password}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode, body)
	return b
}

// begun is a browser with a session of anna's that began by some method.
func (p *place) begun(t testing.TB, user, method string) *browser {
	t.Helper()
	b := p.browser(t)
	token := rand.Text()
	sum := sha256.Sum256([]byte(token))
	require.NoError(t, p.store.StartSession(t.Context(), identitymanager.Session{
		ID: hex.EncodeToString(sum[:]), User: mobileid.User{ID: user}, Method: method, ExpiresAt: time.Now().Add(time.Hour),
	}, ""))
	u, err := url.Parse(p.URL)
	require.NoError(t, err)
	b.Jar.SetCookies(u, []*http.Cookie{{Name: "mobileid", Value: token, Path: "/"}})
	return b
}

func (b *browser) do(request *http.Request) (*http.Response, string) {
	b.t.Helper()
	response, err := b.Do(request)
	require.NoError(b.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response, string(body)
}

func (b *browser) request(method, path string, body io.Reader) *http.Request {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.place.URL+path, body)
	require.NoError(b.t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return request
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	return b.do(b.request(http.MethodGet, path, nil))
}

func (b *browser) post(path string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	return b.do(b.request(http.MethodPost, path, strings.NewReader(form.Encode())))
}

var sealedForm = regexp.MustCompile(`name="form" value="([^"]+)"`)

// form reads what is sealed in the form of a page.
func (b *browser) form(path string) string {
	b.t.Helper()
	response, body := b.get(path)
	require.Equal(b.t, http.StatusOK, response.StatusCode, body)
	found := sealedForm.FindStringSubmatch(body)
	require.NotNil(b.t, found, body)
	return found[1]
}

func (b *browser) cookie() *http.Cookie {
	b.t.Helper()
	u, err := url.Parse(b.place.URL)
	require.NoError(b.t, err)
	for _, cookie := range b.Jar.Cookies(u) {
		if cookie.Name == "mobileid" {
			return cookie
		}
	}
	require.Fail(b.t, "nobody is signed in")
	return nil
}

func TestSignIn(t *testing.T) {
	p := newPlace(t)
	b := p.browser(t)
	response, _ := b.get("/mobile-ids/mid-anna")
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Equal(t, "/sign-in?then=%2Fmobile-ids%2Fmid-anna", response.Header.Get("Location"))

	response, wrong := b.post("/sign-in", url.Values{"user": {"anna"}, "password": {"wrong"}})
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	_, unknown := b.post("/sign-in", url.Values{"user": {"nobody"}, "password": {"wrong"}})
	require.Equal(t, wrong, strings.ReplaceAll(unknown, "nobody", "anna"), "who exists is not told")

	response, _ = b.post("/sign-in", url.Values{"user": {"anna"}, "password": {password}, "then": {"/mobile-ids/mid-anna"}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Equal(t, "/mobile-ids/mid-anna", response.Header.Get("Location"))
	set := response.Cookies()[0]
	require.True(t, set.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, set.SameSite)
	require.Equal(t, "/", set.Path)
	require.Len(t, set.Value, 43, "256 bits")

	first := b.cookie().Value
	response, body := b.get("/")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, body, "What do you want to do?")
	require.Contains(t, body, "Phone of anna")
	require.NotContains(t, body, "otto")

	// Signing in again begins a new session, and ends the one before.
	_, _ = b.post("/sign-in", url.Values{"user": {"anna"}, "password": {password}})
	require.NotEqual(t, first, b.cookie().Value)
	old := p.browser(t)
	request := old.request(http.MethodGet, "/", nil)
	request.AddCookie(&http.Cookie{Name: set.Name, Value: first})
	response, _ = old.do(request)
	require.Equal(t, http.StatusSeeOther, response.StatusCode)

	kept := b.cookie()
	response, _ = b.post("/sign-out", nil)
	require.Equal(t, "/sign-in?ended=signed-out", response.Header.Get("Location"))
	request = old.request(http.MethodGet, "/", nil)
	request.AddCookie(kept)
	response, _ = old.do(request)
	require.Equal(t, http.StatusSeeOther, response.StatusCode, "it has ended here, whatever a browser keeps")
}

func TestSignOutEverywhere(t *testing.T) {
	p := newPlace(t)
	b, elsewhere, other := p.signedIn(t, "anna"), p.begun(t, "anna", "openid"), p.signedIn(t, "otto")
	_, body := b.get("/")
	require.Contains(t, body, `action="/sign-out/everywhere"`)
	_, _ = p.browser(t).post("/sign-out/everywhere", nil)
	response, _ := elsewhere.get("/")
	require.Equal(t, http.StatusOK, response.StatusCode, "nobody can do it who is not signed in")
	response, _ = b.post("/sign-out/everywhere", nil)
	require.Equal(t, "/sign-in?ended=signed-out", response.Header.Get("Location"))
	require.Contains(t, response.Header.Get("Clear-Site-Data"), "cache")
	for _, b := range []*browser{b, elsewhere} {
		response, _ = b.get("/")
		require.Equal(t, http.StatusSeeOther, response.StatusCode)
	}
	response, _ = other.get("/")
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// A token that somebody put into the browser before is worth nothing afterwards.
func TestSessionFixation(t *testing.T) {
	p := newPlace(t)
	b := p.browser(t)
	request := b.request(http.MethodPost, "/sign-in", strings.NewReader(url.Values{"user": {"anna"}, "password": {password}}.Encode()))
	planted := strings.Repeat("A", 43)
	request.AddCookie(&http.Cookie{Name: "mobileid", Value: planted})
	response, _ := b.do(request)
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.NotEqual(t, planted, response.Cookies()[0].Value)
	attacker := p.browser(t)
	request = attacker.request(http.MethodGet, "/", nil)
	request.AddCookie(&http.Cookie{Name: "mobileid", Value: planted})
	response, _ = attacker.do(request)
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
}

func TestSignInIsLimited(t *testing.T) {
	p := newPlace(t)
	b := p.browser(t)
	for range 10 {
		response, _ := b.post("/sign-in", url.Values{"user": {"anna"}, "password": {"wrong"}})
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	}
	response, body := b.post("/sign-in", url.Values{"user": {"anna"}, "password": {password}})
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode, "not even the right one is looked at")
	require.Contains(t, body, "too many tries")
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	response, _ = b.post("/sign-in", url.Values{"user": {"otto"}, "password": {password}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode, "others are not kept out")
}

// Whoever knows a user's name can keep out browsers that are not known, and no others.
func TestKnownBrowserIsNotKeptOut(t *testing.T) {
	p := newPlace(t)
	known, foreign := p.signedIn(t, "anna"), p.browser(t)
	right, wrong := url.Values{"user": {"anna"}, "password": {password}}, url.Values{"user": {"anna"}, "password": {"wrong"}}
	try := func(b *browser, form url.Values) int {
		response, _ := b.post("/sign-in", form)
		return response.StatusCode
	}
	for range 11 {
		_ = try(foreign, wrong)
	}
	require.Equal(t, http.StatusTooManyRequests, try(foreign, right))
	require.Equal(t, http.StatusSeeOther, try(known, right), "the user's own browser")
	require.Equal(t, http.StatusTooManyRequests, try(foreign, right), "which gives nobody else new tries")

	// The cookie is of this user alone, and has its own tries.
	u, err := url.Parse(p.URL)
	require.NoError(t, err)
	var device *http.Cookie
	for _, cookie := range known.Jar.Cookies(u) {
		if cookie.Name == "mobileid-device" {
			device = cookie
		}
	}
	require.NotNil(t, device)
	require.NotContains(t, device.Value, "anna")
	ottos := p.signedIn(t, "otto")
	require.Equal(t, http.StatusTooManyRequests, try(ottos, right), "otto's browser is none of anna's")
	stolen := p.browser(t)
	stolen.Jar.SetCookies(u, []*http.Cookie{{Name: device.Name, Value: device.Value, Path: "/"}})
	for range 10 {
		require.Equal(t, http.StatusUnauthorized, try(stolen, wrong))
	}
	require.Equal(t, http.StatusTooManyRequests, try(stolen, right), "it is no way around the limit")
	forged := p.browser(t)
	forged.Jar.SetCookies(u, []*http.Cookie{{Name: device.Name, Value: device.Value[1:], Path: "/"}})
	require.Equal(t, http.StatusTooManyRequests, try(forged, right))
	response, _ := p.browser(t).post("/sign-in", url.Values{"user": {"otto"}, "password": {password}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Equal(t, "mobileid-device", response.Cookies()[1].Name)
	require.True(t, response.Cookies()[1].HttpOnly)
	require.Positive(t, response.Cookies()[1].MaxAge)
}

// However many passwords are tried from an address, the known browsers behind it are not
// kept out. Whoever signs in there takes no try from the others.
func TestAddressKeepsOutNoKnownBrowser(t *testing.T) {
	p := newPlace(t)
	known := p.signedIn(t, "anna")
	try := func(b *browser, user, password string) int {
		response, _ := b.post("/sign-in", url.Values{"user": {user}, "password": {password}})
		return response.StatusCode
	}
	foreign := p.browser(t)
	// Those who have tried too often are not looked at, and count here all the same.
	for i := range 59 {
		want := http.StatusUnauthorized
		if i >= 10 {
			want = http.StatusTooManyRequests
		}
		require.Equal(t, want, try(foreign, "rolf", "wrong"))
	}
	for range 3 {
		require.Equal(t, http.StatusSeeOther, try(p.browser(t), "otto", password), "who signs in does not count")
	}
	require.Equal(t, http.StatusUnauthorized, try(foreign, "otto", "wrong"), "the sixtieth")
	require.Equal(t, http.StatusTooManyRequests, try(p.browser(t), "otto", password), "a browser that is not known")
	for range 10 {
		require.Equal(t, http.StatusUnauthorized, try(known, "anna", "wrong"))
	}
	require.Equal(t, http.StatusTooManyRequests, try(known, "anna", password), "it had its own tries, and then those of the address")
	require.NoError(t, p.store.ForgetOldSessions(t.Context(), 0))
	require.Equal(t, http.StatusSeeOther, try(known, "anna", password))
	for range 61 {
		_ = try(foreign, "rolf", "wrong")
	}
	require.Equal(t, http.StatusTooManyRequests, try(foreign, "anna", password))
	require.Equal(t, http.StatusSeeOther, try(known, "anna", password), "the user's own browser")
}

func TestCookieOverTLS(t *testing.T) {
	p := newPlace(t, func(c *config.Config) { c.Serve.PublicURL = "https://id.example.com" })
	response, _ := p.browser(t).post("/sign-in", url.Values{"user": {"anna"}, "password": {password}})
	set := response.Cookies()[0]
	require.Equal(t, "__Host-mobileid", set.Name)
	require.True(t, set.Secure)
	require.Equal(t, "__Host-mobileid-device", response.Cookies()[1].Name)
	require.True(t, response.Cookies()[1].Secure)
	require.Empty(t, set.Domain)
	require.NotEmpty(t, response.Header.Get("Strict-Transport-Security"))
}

// Whatever is somebody else's looks as if it were not there, byte by byte.
func TestNotYours(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	for _, path := range []string{"", "/lock", "/progress", "/progress/events", "/receipt", "/receipt.txt"} {
		t.Run("GET "+path, func(t *testing.T) {
			foreign, theirs := b.get("/mobile-ids/mid-otto" + path)
			unknown, nothing := b.get("/mobile-ids/mid-none" + path)
			require.Equal(t, http.StatusNotFound, foreign.StatusCode)
			require.Equal(t, http.StatusNotFound, unknown.StatusCode)
			require.Equal(t, theirs, nothing)
			foreign.Header.Del("Date")
			unknown.Header.Del("Date")
			require.Equal(t, foreign.Header, unknown.Header)
		})
	}
	_, elsewhere := b.get("/nowhere")
	_, theirs := b.get("/mobile-ids/mid-otto")
	require.Equal(t, elsewhere, theirs)
}

func TestWithoutTheRole(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "rolf")
	for _, path := range []string{"/", "/mobile-ids", "/mobile-ids/mid-rolf", "/mobile-ids/mid-rolf/lock", "/get", "/history"} {
		response, body := b.get(path)
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, body, "This is not available", path)
		require.NotContains(t, body, "Phone of rolf", path)
	}
	// It counts as it is now, and not as it was at the sign-in.
	b = p.signedIn(t, "anna")
	require.NoError(t, p.store.PutUser(t.Context(), mobileid.User{ID: "anna", Active: false, Roles: []string{mobileid.SelfServiceRole}}, ""))
	response, _ := b.get("/")
	require.Equal(t, http.StatusNotFound, response.StatusCode)
}

func TestHeaders(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	response, body := b.get("/mobile-ids")
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	require.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, response.Header.Get("Content-Security-Policy"), "unsafe")
	require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
	require.NotContains(t, body, "<script>")
	require.NotContains(t, body, "style=")
	for _, asset := range regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(body, -1) {
		response, content := b.get(asset[1])
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.NotEmpty(t, content)
		require.Contains(t, response.Header.Get("Cache-Control"), "immutable")
	}
	response, _ = b.get("/assets/../server.go")
	require.NotEqual(t, http.StatusOK, response.StatusCode)
}

func TestOtherSitesCannotPost(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	form := b.form("/mobile-ids/mid-anna/lock")
	for name, header := range map[string][2]string{
		"another site":   {"Sec-Fetch-Site", "cross-site"},
		"a sibling":      {"Sec-Fetch-Site", "same-site"},
		"another origin": {"Origin", "https://evil.example"},
		"no origin":      {"Origin", "null"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/sign-out", "/sign-out/everywhere", "/mobile-ids/mid-anna/lock", "/get", "/get/cancel", "/sign-in"} {
				request := b.request(http.MethodPost, path, strings.NewReader(url.Values{"form": {form}, "decision": {"next"}}.Encode()))
				request.Header.Set(header[0], header[1])
				response, _ := b.do(request)
				require.Equal(t, http.StatusForbidden, response.StatusCode, path)
			}
		})
	}
	response, _ := b.get("/")
	require.Equal(t, http.StatusOK, response.StatusCode, "still signed in")
}

// A form counts for the session and the mobile ID for which it was shown, and for a
// while.
func TestForms(t *testing.T) {
	p := newPlace(t)
	anna, otto := p.signedIn(t, "anna"), p.signedIn(t, "otto")
	mine, ottos := anna.form("/mobile-ids/mid-anna/lock"), otto.form("/mobile-ids/mid-otto/lock")
	short := newPlace(t, func(c *config.Config) { c.Serve.FormTimeout = time.Nanosecond })
	late := short.signedIn(t, "anna")
	for _, test := range []struct {
		name     string
		browser  *browser
		path     string
		form     string
		decision string
	}{
		{"none", anna, "/mobile-ids/mid-anna/lock", "", "next"},
		{"forged", anna, "/mobile-ids/mid-anna/lock", strings.Repeat("A", 200), "next"},
		{"of another user", anna, "/mobile-ids/mid-otto/lock", ottos, "next"},
		{"for another mobile ID", anna, "/mobile-ids/mid-otto/lock", mine, "next"},
		{"in another session of the same user", p.signedIn(t, "anna"), "/mobile-ids/mid-anna/lock", mine, "next"},
		{"of another page", anna, "/get", mine, "next"},
		{"no button", anna, "/mobile-ids/mid-anna/lock", mine, ""},
		{"unknown button", anna, "/mobile-ids/mid-anna/lock", mine, "unlock"},
		{"too old", late, "/mobile-ids/mid-anna/lock", late.form("/mobile-ids/mid-anna/lock"), "next"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, body := test.browser.post(test.path, url.Values{"form": {test.form}, "decision": {test.decision}})
			require.Equal(t, http.StatusBadRequest, response.StatusCode, body)
			require.Contains(t, body, "Nothing was changed")
		})
	}
	response, _ := p.browser(t).post("/mobile-ids/mid-anna/lock", url.Values{"form": {mine}, "decision": {"next"}})
	require.Equal(t, "/sign-in?ended=undone&then=%2Fmobile-ids%2Fmid-anna%2Flock", response.Header.Get("Location"), "without a session it is worth nothing")
}

// Who signed in with a mobile ID is warned that it may have been the only way in.
func TestStrandingIsWarnedOf(t *testing.T) {
	p := newPlace(t)
	_, body := p.begun(t, "anna", "openid").get("/mobile-ids/mid-anna/lock")
	require.Contains(t, body, "Lock this mobile ID?")
	require.NotContains(t, body, "you signed in with")
	_, body = p.begun(t, "anna", identitymanager.ByMobileID).get("/mobile-ids/mid-anna/lock")
	require.Contains(t, body, "you signed in with this mobile ID.")
	require.Contains(t, body, "another way to sign in")
	require.NoError(t, p.store.CreateMobileID(t.Context(), mobileid.MobileID{
		ID: "mid-other", Name: "Tablet", Owner: mobileid.User{ID: "anna"}, State: mobileid.Active, Certificates: []mobileid.Certificate{certificate("a9")},
	}))
	_, body = p.begun(t, "anna", identitymanager.ByMobileID).get("/mobile-ids/mid-anna/lock")
	require.Contains(t, body, "you signed in with a mobile ID, maybe this one.")

	// What was locked since then may have been signed in with, and what was got since then
	// was not.
	b := p.begun(t, "anna", identitymanager.ByMobileID)
	p.lockFor(t, "anna", b.ownRequest())
	_, body = b.get("/mobile-ids/mid-other/lock")
	require.Contains(t, body, "you signed in with a mobile ID, maybe this one.")
	_, body = p.begun(t, "anna", identitymanager.ByMobileID).get("/mobile-ids/mid-other/lock")
	require.Contains(t, body, "you signed in with this mobile ID.")
	b = p.begun(t, "otto", identitymanager.ByMobileID)
	p.lockFor(t, "otto", b.ownRequest())
	p.end(t, "otto", mobileid.OutcomeRevoked)
	got := p.get(t, "otto")
	_, body = b.get("/mobile-ids/" + got + "/lock")
	require.Contains(t, body, "Lock this mobile ID?")
	require.NotContains(t, body, "you signed in with")
	_, body = p.begun(t, "otto", identitymanager.ByMobileID).get("/mobile-ids/" + got + "/lock")
	require.Contains(t, body, "you signed in with this mobile ID.", "it is there by now")
}

// get is what Get does in the store, and returns the id of the new mobile ID.
func (p *place) get(t *testing.T, user string) string {
	t.Helper()
	grant, err := p.store.PutGrant(t.Context(), user, "test", time.Hour)
	require.NoError(t, err)
	process, decision := mobileid.Process{Name: workflows.Get, WorkflowID: "get", RunID: "run-1"}, mobileid.Decision{UserID: user}
	_, err = p.store.Register(t.Context(), mobileid.RegistrationOrder{
		MobileID: grant.MobileID, UserID: user, Name: "New phone", Process: process, Decision: decision, RequestedAt: time.Now(),
	})
	require.NoError(t, err)
	issued := certificate("b9")
	issued.State = mobileid.CertificateIssued
	_, err = p.store.RecordIssued(t.Context(), mobileid.IssueOrder{
		MobileID: grant.MobileID, Process: process, Decision: decision, CA: "ca", Certificates: []mobileid.Certificate{issued},
	})
	require.NoError(t, err)
	_, err = p.store.Activate(t.Context(), mobileid.ActivationOrder{MobileID: grant.MobileID, UserID: user, Process: process, Decision: decision})
	require.NoError(t, err)
	return grant.MobileID
}

// Where Next was pressed one stays signed in. Whoever else has the mobile ID does not.
func TestLockSignsOutWhoHasTheMobileID(t *testing.T) {
	p := newPlace(t)
	owner, thief := p.begun(t, "anna", identitymanager.ByMobileID), p.begun(t, "anna", identitymanager.ByMobileID)
	_, _ = thief.get("/mobile-ids/mid-anna/lock")
	requestID := owner.requestID(owner.form("/mobile-ids/mid-anna/lock?then=get"))
	_, err := p.store.Lock(t.Context(), mobileid.LockOrder{
		MobileID: "mid-anna", Owner: "anna", RequestID: requestID, RequestedAt: time.Now(),
		Process: mobileid.Process{Name: "x", WorkflowID: "w", RunID: "r"},
	})
	require.NoError(t, err)
	response, _ := owner.get("/mobile-ids")
	require.Equal(t, http.StatusOK, response.StatusCode)
	for _, path := range []string{"/mobile-ids", "/get", "/get/code.png"} {
		response, _ = thief.get(path)
		require.Equal(t, http.StatusSeeOther, response.StatusCode)
		require.Contains(t, response.Header.Get("Location"), "/sign-in?ended=time")
	}
}

// Without Temporal a Next is not taken, the page says so, and the same press can be
// repeated.
func TestNextWithoutTemporal(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	form := b.form("/mobile-ids/mid-anna/lock")
	response, body := b.post("/mobile-ids/mid-anna/lock", url.Values{"form": {form}, "decision": {"next"}})
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Contains(t, body, "could not be stored")
	require.Equal(t, form, sealedForm.FindStringSubmatch(body)[1])
	m, err := p.store.MobileID(t.Context(), "mid-anna")
	require.NoError(t, err)
	require.Equal(t, mobileid.Active, m.State)
}

func TestLimits(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	response, _ := b.post("/sign-in", url.Values{"user": {strings.Repeat("a", 20<<10)}})
	require.Equal(t, http.StatusBadRequest, response.StatusCode)

	var open []*http.Response
	defer func() {
		for _, response := range open {
			_ = response.Body.Close()
		}
	}()
	for range 6 {
		response, err := b.Do(b.request(http.MethodGet, "/mobile-ids/mid-anna/progress/events", nil))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		open = append(open, response)
	}
	response, _ = p.signedIn(t, "anna").get("/mobile-ids/mid-anna/progress/events")
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "one user cannot take them all, with as many sessions as may be")
	require.NotEmpty(t, response.Header.Get("Retry-After"))

	slow := newPlace(t, func(c *config.Config) { c.Serve.Rate = 1 })
	hasty := slow.browser(t)
	limited := 0
	for range burst + 50 {
		if response, _ := hasty.get("/assets/x"); response.StatusCode == http.StatusTooManyRequests {
			limited++
		}
	}
	require.Positive(t, limited)
	response, _ = hasty.get("/healthz")
	require.Equal(t, http.StatusOK, response.StatusCode, "probes are not limited")
}

// What is finished is told from the audit alone.
func TestReceipt(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	at := time.Now().UTC().Truncate(time.Second)
	process := mobileid.Process{Name: "x", WorkflowID: "w", RunID: "r"}
	decision := mobileid.Decision{UserID: "anna"}
	_, err := p.store.Lock(ctx, mobileid.LockOrder{MobileID: "mid-anna", Owner: "anna", Process: process, Decision: decision, RequestedAt: at})
	require.NoError(t, err)
	result := mobileid.CertificateResult{
		CertificateID: certificate("a1a").CertificateID, IssuerDN: "CN=Test CA", NotAfter: at.Add(time.Hour), CA: "ca", StatusAtCA: mobileid.StatusRevoked,
		Outcome: mobileid.OutcomeRevoked, Reason: mobileid.Unspecified, RevokedAt: at.Add(2 * time.Second),
		Proof: []mobileid.Proof{{Source: mobileid.ProofFromOCSP, At: at.Add(2 * time.Second), SHA256: strings.Repeat("cd", 32)}},
	}
	_, err = p.store.RecordRevocations(ctx, mobileid.RevocationOrder{
		MobileID: "mid-anna", Process: process, Decision: decision, CA: "ca", Certificates: []mobileid.CertificateResult{result},
	})
	require.NoError(t, err)
	result.StateInIM, result.VisibleAt = mobileid.CertificateRevoked, at.Add(3*time.Second)
	_, err = p.store.Record(ctx, mobileid.Record{
		MobileID: "mid-anna", Event: mobileid.EventVisible, Process: process, CA: "ca", Certificates: []mobileid.CertificateResult{result},
	})
	require.NoError(t, err)

	b := p.signedIn(t, "anna")
	response, text := b.get("/mobile-ids/mid-anna/receipt.txt")
	require.Equal(t, "text/plain; charset=utf-8", response.Header.Get("Content-Type"))
	require.Regexp(t, `Reference +mid-anna/1\n`, text)
	require.Regexp(t, `Request received +`+at.Format(time.RFC3339), text)
	require.Regexp(t, `Revoked at the certificate authority +`+at.Add(2*time.Second).Format(time.RFC3339), text)
	require.Regexp(t, `Visible to other services +`+at.Add(3*time.Second).Format(time.RFC3339), text)
	require.Contains(t, text, strings.Repeat("cd", 32))
	_, page := b.get("/mobile-ids/mid-anna/receipt")
	require.Contains(t, page, "mid-anna/1")
	_, page = b.get("/mobile-ids/mid-anna/progress")
	require.Contains(t, page, "Your mobile ID is locked")
	require.Contains(t, page, "(1 of 1)")
	_, page = b.get("/mobile-ids/mid-anna/lock")
	require.Contains(t, page, "This mobile ID is locked already")
	require.Contains(t, page, "by you")
	_, page = b.get("/history")
	require.Contains(t, page, "Phone of anna")
	_, page = b.get("/mobile-ids")
	require.Contains(t, page, "This cannot be undone")
}

// The log tells of every request, and of nobody.
func TestLogHoldsNoPersonalData(t *testing.T) {
	p := newPlace(t)
	b := p.signedIn(t, "anna")
	_, _ = b.get("/mobile-ids/mid-anna/receipt")
	_, _ = b.get("/mobile-ids?secret=token")
	_, _ = b.get("/nowhere/anna")
	lines := p.logs.FilterMessage("Request").All()
	require.Len(t, lines, 4)
	require.Equal(t, "/mobile-ids/{id}/receipt", lines[1].ContextMap()["route"])
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	for _, line := range p.logs.All() {
		text, err := encoder.EncodeEntry(line.Entry, line.Context)
		require.NoError(t, err)
		for _, private := range []string{"anna", "127.0.0.1", "token", b.cookie().Value} {
			require.NotContains(t, text.String(), private)
		}
	}
}

func TestConnectionsAreLoggedWithoutAddresses(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	for line, want := range map[string]string{
		"http: TLS handshake error from 192.0.2.7:53412: EOF\n":                                    "http: TLS handshake error from an address: EOF",
		"http: TLS handshake error from [2001:db8::7]:53412: tls: no cipher suite":                 "http: TLS handshake error from an address: tls: no cipher suite",
		"http2: server: error reading preface from client [fe80::1%eth0]:5: bad":                   "http2: server: error reading preface from client an address: bad",
		"x from 192.0.2.7:5: read tcp 10.0.0.1:443->192.0.2.7:5: read: connection reset by peer\n": "x from an address: read tcp an address->an address: read: connection reset by peer",
	} {
		n, err := nameless{zap.New(core)}.Write([]byte(line))
		require.NoError(t, err)
		require.Len(t, line, n)
		require.Equal(t, want, logs.TakeAll()[0].Message)
	}
}

func TestProbesAndStop(t *testing.T) {
	p := newPlace(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(ctx, listener) }()
	p.URL = "http://" + listener.Addr().String()
	b := p.signedIn(t, "anna")
	response, _ := b.get("/healthz")
	require.Equal(t, http.StatusOK, response.StatusCode)
	response, body := b.get("/readyz")
	require.Equal(t, http.StatusOK, response.StatusCode, "it is of use without Temporal")
	require.Contains(t, body, `"temporal":"does not answer"`)
	require.Contains(t, body, `"identityManager":"ok"`)

	request := b.request(http.MethodGet, "/", nil)
	request.Header.Set("X-Long", strings.Repeat("a", 64<<10))
	response, _ = b.do(request)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)

	// An open event stream does not keep it from stopping.
	stream, err := b.Do(b.request(http.MethodGet, "/mobile-ids/mid-anna/progress/events", nil))
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	_, err = bufio.NewReader(stream.Body).ReadString('\n')
	require.NoError(t, err)
	stop()
	select {
	case err := <-served:
		require.NoError(t, err)
		require.NoError(t, p.store.Close())
		w := httptest.NewRecorder()
		p.server.ready(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
}

// Anybody may ask whether it is ready, as often as they like: Temporal and the store are
// asked once a second.
func TestReadyIsKept(t *testing.T) {
	p := newPlace(t)
	temporal := &mocks.Client{}
	s, err := New(p.server.config, p.store, temporal, zap.NewNop(), Options{})
	require.NoError(t, err)
	now := time.Now()
	s.reached.now = func() time.Time { return now }
	asked, answer := make(chan struct{}), make(chan struct{})
	temporal.On("CheckHealth", mock.Anything, mock.Anything).Return(func(ctx context.Context, _ *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
		asked <- struct{}{}
		<-answer
		return &client.CheckHealthResponse{}, ctx.Err()
	})
	answered := make(chan string, 20)
	ask := func(ctx context.Context) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
		answered <- w.Body.String()
	}
	impatient, leave := context.WithCancel(t.Context())
	go ask(impatient)
	<-asked
	for range 9 {
		go ask(t.Context())
	}
	leave()
	answer <- struct{}{}
	for range 10 {
		require.Contains(t, <-answered, `"temporal":"ok"`, "whoever asked first may be gone")
	}
	ask(t.Context())
	temporal.AssertNumberOfCalls(t, "CheckHealth", 1)
	now = now.Add(probeEvery)
	go ask(t.Context())
	<-asked
	answer <- struct{}{}
	for range 2 {
		<-answered
	}
	temporal.AssertNumberOfCalls(t, "CheckHealth", 2)
}

func TestServeTLS(t *testing.T) {
	some := httptest.NewTLSServer(http.NotFoundHandler())
	some.Close()
	pair := some.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	p := newPlace(t, func(c *config.Config) { c.Serve.CertificateFile, c.Serve.KeyFile = certificateFile, keyFile })
	ctx, stop := context.WithCancel(t.Context())
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(ctx, listener) }()
	p.URL = "https://" + listener.Addr().String()
	b := p.browser(t)
	b.Transport = some.Client().Transport
	response, _ := b.post("/sign-in", url.Values{"user": {"anna"}, "password": {password}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Equal(t, "__Host-mobileid", response.Cookies()[0].Name)
	response, _ = b.get("/")
	require.Equal(t, http.StatusOK, response.StatusCode)

	// What is no handshake is told of, and not who it came from.
	other, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	require.NoError(t, err)
	_, err = other.Write([]byte("this is no handshake"))
	require.NoError(t, err)
	failed := func() []observer.LoggedEntry { return p.logs.FilterMessageSnippet("TLS handshake error").All() }
	require.Eventually(t, func() bool { return len(failed()) > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, other.Close())
	for _, line := range failed() {
		require.NotContains(t, line.Message, "127.0.0.1")
	}
	stop()
	require.NoError(t, <-served)
}
