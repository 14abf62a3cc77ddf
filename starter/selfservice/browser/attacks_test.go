package browser

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/starter/demo"
	"mobileid/starter/selfservice/seal"
	"mobileid/workflows"
)

const (
	veras     = "mid-2301" // of vera, the victim, whose lock waits for Next
	mallorys  = "mid-2302" // of mallory, the attacker
	streamsOf = 8          // event streams of the instance whose streams are attacked
)

// attack is the place of all attacks: an instance of Self-Service, a user who attacks
// another, and what must not change by it.
type attack struct {
	*installation
	provider *provider
	url      string
	cut      string // address of an instance that is cut off from Temporal, where event streams do not end
	runID    string // of the lock of vera's that waits for Next
	vera     *surfer
	mallory  *surfer
}

// surfer is somebody signed in, without a browser: it keeps cookies, and follows nothing.
type surfer struct {
	http.Client
	url string
}

func newSurfer(t *testing.T, address string) *surfer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &surfer{url: address, Client: http.Client{
		Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func signedIn(t *testing.T, address, user string) *surfer {
	t.Helper()
	s := newSurfer(t, address)
	response, _ := s.post(t, "/sign-in", url.Values{"user": {user}, "password": {demo.Password}})
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	return s
}

func (s *surfer) request(t *testing.T, method, path, body string, headers ...string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return request
}

func (s *surfer) send(t *testing.T, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := s.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(text)
}

func (s *surfer) get(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	return s.send(t, s.request(t, http.MethodGet, path, ""))
}

func (s *surfer) post(t *testing.T, path string, form url.Values, headers ...string) (*http.Response, string) {
	t.Helper()
	return s.send(t, s.request(t, http.MethodPost, path, form.Encode(), headers...))
}

var sealedForm = regexp.MustCompile(`name="form" value="([^"]+)"`)

// form reads what is sealed in the form of a page.
func (s *surfer) form(t *testing.T, path string) string {
	t.Helper()
	response, body := s.get(t, path)
	require.Equal(t, http.StatusOK, response.StatusCode, body)
	found := sealedForm.FindStringSubmatch(body)
	require.NotNil(t, found, body)
	return found[1]
}

func (s *surfer) cookie(t *testing.T) *http.Cookie {
	t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	for _, cookie := range s.Jar.Cookies(u) {
		if cookie.Name == "mobileid" {
			return cookie
		}
	}
	require.Fail(t, "nobody is signed in")
	return nil
}

// Each attack is refused, and changes nothing: not the store, not the audit, and no
// process, nor is one started or told anything.
func TestAttacks(t *testing.T) {
	a := newAttack(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, a *attack)
	}{
		{"somebody else's mobile ID by id, pages", byIDOnPages},
		{"somebody else's mobile ID by id, API", byIDOnAPI},
		{"by the id of a process", byProcessID},
		{"joining a running process, pages", joiningOnPages},
		{"joining a running process, API", joiningOnAPI},
		{"joining a running process, library", joiningByLibrary},
		{"as an operator without the role", asOperator},
		{"as an operator with a wrong owner", withWrongOwner},
		{"a replayed form", replayedForm},
		{"a forged form", forgedForm},
		{"a forged cookie", forgedCookie},
		{"a session as token, a token as session", mixedUp},
		{"a cross-site post", crossSite},
		{"session fixation", fixation},
		{"header injection", headerInjection},
		{"two lengths of one request", smuggling},
		{"an oversized body", oversizedBody},
		{"oversized headers", oversizedHeaders},
		{"event-stream exhaustion by one user", streamsOfOne},
		{"event-stream exhaustion by many", streamsOfMany},
		{"a token with the wrong audience", func(t *testing.T, a *attack) {
			a.refusesToken(t, func(c map[string]any) { c["aud"] = "self-service" }, nil)
		}},
		{"a token of another issuer", func(t *testing.T, a *attack) {
			a.refusesToken(t, func(c map[string]any) { c["iss"] = "https://id.example.com" }, nil)
		}},
		{"an expired token", func(t *testing.T, a *attack) {
			a.refusesToken(t, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }, nil)
		}},
		{"an unsigned token", func(t *testing.T, a *attack) { a.refusesToken(t, nil, unsigned) }},
		{"a token with the algorithm swapped", func(t *testing.T, a *attack) { a.refusesToken(t, nil, swapped(a.provider)) }},
		{"a token under a foreign key", func(t *testing.T, a *attack) { a.refusesToken(t, nil, newProvider(t).sign) }},
		{"a token that was changed", func(t *testing.T, a *attack) { a.refusesToken(t, nil, changed(a.provider)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := a.everything(t)
			test.run(t, a)
			require.Equal(t, before, a.everything(t), "nothing changed")
		})
	}

	// What the owner does changes all that is looked at.
	before := a.everything(t)
	code, text := callAPI(t, a.url, a.provider.token(t, "vera"), http.MethodPost, "/mobile-ids/"+veras+"/lock/next", "")
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, code, text)
	require.Eventually(t, func() bool {
		after := a.everything(t)
		return after.MobileIDs[veras] != before.MobileIDs[veras] && after.Audit[veras] != before.Audit[veras] &&
			after.Processes[workflows.LockWorkflowID(veras)] != before.Processes[workflows.LockWorkflowID(veras)]
	}, patience, lookEvery)
}

func newAttack(t *testing.T) *attack {
	t.Helper()
	in := start(t)
	require.NoError(t, in.Add(t.Context(), "vera", "Vera Verdi", veras))
	require.NoError(t, in.Add(t.Context(), "mallory", "Mal Lory", mallorys))
	p := newProvider(t)
	with := in.withAPI(p)
	with.Config.Serve.Rate = 10_000
	a := &attack{installation: with, provider: p}
	a.url, _ = with.another(t)
	cut := *with
	cut.Config.Serve.Streams = streamsOf
	var err error
	cut.Temporal, err = sdkclient.NewLazyClient(sdkclient.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(nil)})
	require.NoError(t, err)
	t.Cleanup(cut.Temporal.Close)
	a.cut, _ = cut.another(t)
	status, err := in.Locks.User("vera").Start(t.Context(), veras, client.LockOptions{})
	require.NoError(t, err)
	require.Equal(t, workflows.AwaitingConfirmation, status.Phase)
	a.runID = status.RunID
	a.vera, a.mallory = signedIn(t, a.url, "vera"), signedIn(t, a.url, "mallory")
	return a
}

// everything is what no attack changes.
type everything struct {
	MobileIDs map[string]string // states, with those of the certificates
	Audit     map[string]string // heads of the chains
	Grants    map[string]bool
	Processes map[string]string // runs, their states, and how many events they have
}

func (a *attack) everything(t *testing.T) everything {
	t.Helper()
	e := everything{MobileIDs: map[string]string{}, Audit: map[string]string{}, Grants: map[string]bool{}, Processes: map[string]string{}}
	all, err := a.Store.List(t.Context(), "", 1000)
	require.NoError(t, err)
	for _, m := range all {
		states := m.Owner.ID + " " + string(m.State)
		for _, c := range m.Certificates {
			states += " " + c.Serial + " " + string(c.State)
		}
		e.MobileIDs[m.ID] = states
		trail, err := a.Store.AuditTrail(t.Context(), m.ID)
		require.NoError(t, err)
		head := ""
		if len(trail) > 0 {
			head = fmt.Sprintf("%d %s", trail[len(trail)-1].Number, trail[len(trail)-1].MAC)
		}
		e.Audit[m.ID] = head
		e.Processes[workflows.LockWorkflowID(m.ID)] = a.process(t, workflows.LockWorkflowID(m.ID))
	}
	for _, user := range []string{"vera", "mallory"} {
		applicant, err := a.Store.Applicant(t.Context(), user)
		require.NoError(t, err)
		e.Grants[user] = applicant.Grant != nil
		e.Processes[workflows.GetWorkflowID(user)] = a.process(t, workflows.GetWorkflowID(user))
	}
	return e
}

// process tells of a process all that a message would change.
func (a *attack) process(t *testing.T, id string) string {
	t.Helper()
	execution, err := a.Temporal.DescribeWorkflowExecution(t.Context(), id, "")
	if _, none := err.(*serviceerror.NotFound); none { //nolint:errorlint // as it comes
		return "none"
	}
	require.NoError(t, err)
	info := execution.GetWorkflowExecutionInfo()
	return fmt.Sprintf("%s %s %d", info.GetExecution().GetRunId(), info.GetStatus(), info.GetHistoryLength())
}

// refusesPages has mallory try everything with a mobile ID of a path, which looks as one
// that does not exist.
func (a *attack) refusesPages(t *testing.T, id string) {
	t.Helper()
	form := a.mallory.form(t, "/mobile-ids/"+mallorys+"/lock")
	for _, page := range []string{"", "/lock", "/progress", "/progress/events", "/receipt", "/receipt.txt"} {
		theirs, text := a.mallory.get(t, "/mobile-ids/"+id+page)
		none, nothing := a.mallory.get(t, "/mobile-ids/mid-none"+page)
		require.Equal(t, http.StatusNotFound, theirs.StatusCode, page)
		require.Equal(t, nothing, text, page)
		theirs.Header.Del("Date")
		none.Header.Del("Date")
		require.Equal(t, none.Header, theirs.Header, page)
	}
	for _, decision := range []string{"next", "cancel"} {
		response, text := a.mallory.post(t, "/mobile-ids/"+id+"/lock", url.Values{"form": {form}, "decision": {decision}})
		require.Equal(t, http.StatusBadRequest, response.StatusCode, decision)
		require.Contains(t, text, "Nothing was changed")
	}
}

// refusesAPI is refusesPages for the API.
func (a *attack) refusesAPI(t *testing.T, id string) {
	t.Helper()
	token := a.provider.token(t, "mallory")
	for _, operation := range [][3]string{
		{http.MethodGet, "", ""},
		{http.MethodGet, "/lock", ""},
		{http.MethodGet, "/lock/events", ""},
		{http.MethodGet, "/receipt", ""},
		{http.MethodPost, "/lock", ""},
		{http.MethodPost, "/lock", `{"confirmed": true}`},
		{http.MethodPost, "/lock", `{"confirmed": true, "thenGet": true}`},
		{http.MethodPost, "/lock/next", ""},
		{http.MethodPost, "/lock/cancel", ""},
		{http.MethodPost, "/lock/retry", ""},
	} {
		code, theirs := callAPI(t, a.url, token, operation[0], "/mobile-ids/"+id+operation[1], operation[2])
		_, nothing := callAPI(t, a.url, token, operation[0], "/mobile-ids/mid-none"+operation[1], operation[2])
		require.Equal(t, http.StatusNotFound, code, "%s %s", operation, theirs)
		require.Equal(t, nothing, theirs)
	}
}

func byIDOnPages(t *testing.T, a *attack) { a.refusesPages(t, "mid-1003") } // of carl, and nothing runs

func byIDOnAPI(t *testing.T, a *attack) { a.refusesAPI(t, "mid-1003") }

// A mobile ID is named by its id alone, and no process by its own.
func byProcessID(t *testing.T, a *attack) {
	for _, id := range []string{workflows.LockWorkflowID(veras), a.runID, workflows.GetWorkflowID("vera")} {
		a.refusesPages(t, url.PathEscape(id))
		a.refusesAPI(t, url.PathEscape(id))
	}
}

func joiningOnPages(t *testing.T, a *attack) { a.refusesPages(t, veras) }

func joiningOnAPI(t *testing.T, a *attack) { a.refusesAPI(t, veras) }

// Even a backend that forgets to look whose it is gets nothing from the library.
func joiningByLibrary(t *testing.T, a *attack) {
	mallory := client.New(a.Temporal, a.Config.TaskQueue, client.WithAcceptWait(patience)).User("mallory")
	for name, join := range map[string]func() error{
		"next":   func() error { _, err := mallory.Next(t.Context(), veras, client.LockOptions{}); return err },
		"cancel": func() error { _, err := mallory.Cancel(t.Context(), veras, client.LockOptions{}); return err },
		"retry":  func() error { _, err := mallory.Retry(t.Context(), veras); return err },
		"status": func() error { _, err := mallory.Status(t.Context(), veras); return err },
		"start":  func() error { _, err := mallory.Start(t.Context(), veras, client.LockOptions{}); return err },
		"lock":   func() error { _, err := mallory.Lock(t.Context(), veras, client.LockOptions{}); return err },
	} {
		require.ErrorIs(t, join(), mobileid.ErrMobileIDNotFound, name)
	}
}

func asOperator(t *testing.T, a *attack) {
	claims := a.provider.claims("mallory")
	claims["roles"] = []string{"operators", "Operator", ""}
	for _, token := range []string{a.provider.token(t, "mallory"), a.provider.token(t, "vera"), a.provider.sign(t, claims)} {
		for _, step := range []string{"", "/next", "/cancel", "/retry"} {
			code, text := callAPI(t, a.url, token, http.MethodPost, "/operator/mobile-ids/"+veras+"/lock"+step, `{"owner": "vera"}`)
			require.Equal(t, http.StatusForbidden, code, text)
		}
		code, text := callAPI(t, a.url, token, http.MethodGet, "/operator/mobile-ids/"+veras+"/lock", "")
		require.Equal(t, http.StatusForbidden, code, text)
	}
}

func withWrongOwner(t *testing.T, a *attack) {
	for _, step := range []string{"", "/next", "/cancel", "/retry"} {
		theirs, text := callAPI(t, a.url, a.provider.operator(t, "olof"), http.MethodPost, "/operator/mobile-ids/"+veras+"/lock"+step, `{"owner": "mallory"}`)
		require.Equal(t, http.StatusNotFound, theirs, text)
		_, nothing := callAPI(t, a.url, a.provider.operator(t, "olof"), http.MethodPost, "/operator/mobile-ids/mid-none/lock"+step, `{"owner": "mallory"}`)
		require.Equal(t, nothing, text)
	}
}

// A form counts in the session that it was shown in, and for its mobile ID.
func replayedForm(t *testing.T, a *attack) {
	carl := signedIn(t, a.url, "carl")
	form := carl.form(t, "/mobile-ids/mid-1003/lock")
	next := url.Values{"form": {form}, "decision": {"next"}}
	response, _ := a.mallory.post(t, "/mobile-ids/mid-1003/lock", next)
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "in another user's session")
	response, _ = signedIn(t, a.url, "carl").post(t, "/mobile-ids/mid-1003/lock", next)
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "in another session of the user")
	cookie := carl.cookie(t)
	_, _ = carl.post(t, "/sign-out", nil)
	response, _ = carl.post(t, "/mobile-ids/mid-1003/lock", next)
	require.Equal(t, http.StatusSeeOther, response.StatusCode, "after signing out")
	response, _ = newSurfer(t, a.url).post(t, "/mobile-ids/mid-1003/lock", next, "Cookie", cookie.Name+"="+cookie.Value)
	require.Equal(t, http.StatusSeeOther, response.StatusCode, "with the cookie of before")
	response, _ = a.mallory.post(t, "/get", next)
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "on another page")
}

// A seal is made with the key of the forms, for a session, a mobile ID and a user.
func forgedForm(t *testing.T, a *attack) {
	mine := a.mallory.form(t, "/mobile-ids/"+mallorys+"/lock")
	box, err := base64.RawURLEncoding.DecodeString(mine)
	require.NoError(t, err)
	box[len(box)/2] ^= 1
	foreign, err := seal.New([]byte(strings.Repeat("k", 32)), "form", nil)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(a.mallory.cookie(t).Value))
	made, err := foreign.Seal(map[string]any{"userId": "vera", "requestId": "r"}, time.Hour, hex.EncodeToString(sum[:]), veras)
	require.NoError(t, err)
	for name, form := range map[string]string{
		"nothing": "", "noise": strings.Repeat("A", 200), "a bit": base64.RawURLEncoding.EncodeToString(box), "another key": made,
		"JSON": `{"userId":"vera"}`, "long": strings.Repeat("A", 8<<10),
	} {
		for _, id := range []string{veras, mallorys} {
			response, text := a.mallory.post(t, "/mobile-ids/"+id+"/lock", url.Values{"form": {form}, "decision": {"next"}})
			require.Equal(t, http.StatusBadRequest, response.StatusCode, "%s: %s", name, text)
		}
	}
}

func forgedCookie(t *testing.T, a *attack) {
	token := a.vera.cookie(t).Value
	sum := sha256.Sum256([]byte(token))
	form := a.vera.form(t, "/get")
	for name, value := range map[string]string{
		"the user": "vera", "noise": strings.Repeat("A", 43), "what the store has": hex.EncodeToString(sum[:]), "one letter less": token[1:],
		"one letter more": token + "A", "long": strings.Repeat("A", 8<<10), "SQL": "' OR '1'='1",
	} {
		other := newSurfer(t, a.url)
		cookie := "mobileid=" + value
		response, _ := other.send(t, other.request(t, http.MethodGet, "/mobile-ids/"+veras, "", "Cookie", cookie))
		require.Equal(t, http.StatusSeeOther, response.StatusCode, name)
		response, _ = other.post(t, "/get", url.Values{"form": {form}, "decision": {"next"}}, "Cookie", cookie)
		require.Equal(t, http.StatusSeeOther, response.StatusCode, name)
		require.True(t, strings.HasPrefix(response.Header.Get("Location"), "/sign-in"))
	}
}

func mixedUp(t *testing.T, a *attack) {
	token := a.provider.token(t, "vera")
	for _, wrong := range []string{a.vera.cookie(t).Value, a.vera.form(t, "/get")} {
		code, text := callAPI(t, a.url, wrong, http.MethodPost, "/mobile-ids/"+veras+"/lock", `{"confirmed": true}`)
		require.Equal(t, http.StatusUnauthorized, code, text)
	}
	response, _ := a.vera.send(t, a.vera.request(t, http.MethodPost, "/api/v1/mobile-ids/"+veras+"/lock", `{"confirmed": true}`, "Content-Type", "application/json"))
	require.Equal(t, http.StatusUnauthorized, response.StatusCode, "a signed-in browser has no token")
	other := newSurfer(t, a.url)
	for _, header := range [][2]string{{"Authorization", "Bearer " + token}, {"Cookie", "mobileid=" + token}} {
		response, _ := other.send(t, other.request(t, http.MethodGet, "/mobile-ids/"+veras, "", header[0], header[1]))
		require.Equal(t, http.StatusSeeOther, response.StatusCode)
	}
}

func crossSite(t *testing.T, a *attack) {
	require.Contains(t, a.signInCookie(t), "SameSite=Lax")
	form := a.vera.form(t, "/get")
	for name, header := range map[string][2]string{
		"another site": {"Sec-Fetch-Site", "cross-site"}, "a sibling": {"Sec-Fetch-Site", "same-site"},
		"another origin": {"Origin", "https://evil.example"}, "no origin": {"Origin", "null"},
	} {
		for _, path := range []string{"/mobile-ids/" + veras + "/lock", "/get", "/get/cancel", "/sign-out", "/sign-in", "/api/v1/mobile-ids/" + veras + "/lock"} {
			response, _ := a.vera.post(t, path, url.Values{"form": {form}, "decision": {"next"}}, header[0], header[1])
			require.Equal(t, http.StatusForbidden, response.StatusCode, "%s %s", name, path)
			require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
		}
	}
	response, _ := a.vera.get(t, "/")
	require.Equal(t, http.StatusOK, response.StatusCode, "still signed in")
}

func (a *attack) signInCookie(t *testing.T) string {
	t.Helper()
	response, _ := newSurfer(t, a.url).post(t, "/sign-in", url.Values{"user": {"carl"}, "password": {demo.Password}})
	return response.Header.Get("Set-Cookie")
}

// A token that somebody put into the browser before is worth nothing afterwards.
func fixation(t *testing.T, a *attack) {
	planted := a.mallory.cookie(t).Value
	for _, value := range []string{strings.Repeat("A", 43), planted} {
		victim := newSurfer(t, a.url)
		response, _ := victim.post(t, "/sign-in", url.Values{"user": {"carl"}, "password": {demo.Password}}, "Cookie", "mobileid="+value)
		require.Equal(t, http.StatusSeeOther, response.StatusCode)
		require.NotEqual(t, value, victim.cookie(t).Value)
		attacker := newSurfer(t, a.url)
		response, _ = attacker.send(t, attacker.request(t, http.MethodGet, "/mobile-ids/mid-1003", "", "Cookie", "mobileid="+value))
		require.Equal(t, http.StatusSeeOther, response.StatusCode)
	}
	a.mallory = signedIn(t, a.url, "mallory") // whose session ended with the second one
}

func headerInjection(t *testing.T, a *attack) {
	const injected = "\r\nSet-Cookie: mobileid=evil\r\n\r\n<script>"
	for _, path := range []string{
		"/sign-in?then=" + url.QueryEscape("/mobile-ids"+injected), "/" + url.PathEscape(injected), "/mobile-ids/" + url.PathEscape(veras+injected) + "/receipt.txt",
		"/mobile-ids/" + url.PathEscape(`x"; filename="y.html`) + "/receipt.txt", "/mobile-ids/" + url.PathEscape(mallorys+injected) + "/lock",
	} {
		for _, surfer := range []*surfer{a.mallory, newSurfer(t, a.url)} {
			response, text := surfer.get(t, path)
			require.NotContains(t, response.Header.Get("Set-Cookie"), "evil", path)
			require.NotContains(t, response.Header.Get("Content-Disposition"), "html", path)
			require.NotContains(t, text, "<script>", path)
			for _, values := range response.Header {
				require.NotContains(t, strings.Join(values, ""), "\n")
			}
		}
	}
	// Where the sign-in leads is a path of ours.
	for _, then := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/x" + injected, "javascript:alert(1)"} {
		response, _ := newSurfer(t, a.url).post(t, "/sign-in", url.Values{"user": {"carl"}, "password": {demo.Password}, "then": {then}})
		require.Equal(t, "/", response.Header.Get("Location"), then)
	}
	// Nobody is believed for what stands in a header.
	for _, header := range [][2]string{
		{"X-User", "vera"}, {"X-Forwarded-User", "vera"}, {"X-Remote-User", "vera"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Original-URL", "/mobile-ids/" + veras},
		{"X-Rewrite-URL", "/mobile-ids/" + veras}, {"X-HTTP-Method-Override", "POST"}, {"Forwarded", "for=vera"},
	} {
		response, text := a.mallory.send(t, a.mallory.request(t, http.MethodGet, "/mobile-ids/"+veras, "", header[0], header[1]))
		require.Equal(t, http.StatusNotFound, response.StatusCode, header)
		require.NotContains(t, text, "Vera")
	}
	evil := a.mallory.request(t, http.MethodGet, "/nowhere", "")
	evil.Host = "evil.example"
	response, text := a.mallory.send(t, evil)
	require.NotContains(t, text+fmt.Sprint(response.Header), "evil.example")
	for _, key := range []string{"a\nb", "a b", "a;b", strings.Repeat("k", 65)} {
		answer := a.raw(t, "POST /api/v1/mobile-ids/"+veras+"/lock HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+a.provider.token(t, "vera")+
			"\r\nIdempotency-Key: "+key+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		require.Contains(t, answer, "HTTP/1.1 400 ", "%q", key)
	}
}

// raw sends bytes, and reads all that is answered.
func (a *attack) raw(t *testing.T, bytes string) string {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	require.NoError(t, connection.SetDeadline(time.Now().Add(patience)))
	_, err = connection.Write([]byte(bytes))
	require.NoError(t, err)
	answer, err := io.ReadAll(connection)
	require.NoError(t, err)
	return string(answer)
}

// Whoever is in front and we see the same requests (RFC 9112 section 6.3).
func smuggling(t *testing.T, a *attack) {
	const inner = "POST /sign-out HTTP/1.1\r\nHost: x\r\n\r\n"
	head := "POST /api/v1/mobile-ids/" + veras + "/lock HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	for name, lengths := range map[string]string{
		"two lengths":       "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"a length of words": "Content-Length: +5\r\n\r\n",
		"an odd coding":     "Transfer-Encoding: xchunked\r\n\r\n",
		"two codings":       "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
		"a space":           "Transfer-Encoding : chunked\r\n\r\n",
	} {
		answer := a.raw(t, head+lengths+inner)
		require.Regexp(t, `^HTTP/1.1 (400|501) `, answer, name)
		require.Equal(t, 1, strings.Count(answer, "HTTP/1.1 "), name)
	}
}

func oversizedBody(t *testing.T, a *attack) {
	large := strings.Repeat("a", 1<<20)
	form := a.vera.form(t, "/get")
	for _, path := range []string{"/get", "/sign-in"} {
		request := a.vera.request(t, http.MethodPost, path, url.Values{"form": {form}, "decision": {"next"}, "more": {large}}.Encode())
		request.ContentLength = -1 // in chunks
		a.refusesBody(t, &a.vera.Client, request)
	}
	token := a.provider.token(t, "vera")
	for _, path := range []string{"/mobile-ids/" + veras + "/lock", "/mobile-ids/" + veras + "/lock/next", "/get"} {
		request := a.vera.request(t, http.MethodPost, "/api/v1"+path, `{"confirmed": true, "reason": "`+large+`"}`, "Content-Type", "application/json", "Authorization", "Bearer "+token)
		a.refusesBody(t, http.DefaultClient, request)
	}
}

// refusesBody: the answer may come while the body is still sent, and the connection ends.
func (a *attack) refusesBody(t *testing.T, by *http.Client, request *http.Request) {
	t.Helper()
	response, err := by.Do(request)
	if err != nil {
		require.Regexp(t, "reset|broken pipe|closed", err.Error())
		return
	}
	require.NoError(t, response.Body.Close())
	require.Contains(t, []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge}, response.StatusCode)
}

func oversizedHeaders(t *testing.T, a *attack) {
	token := a.provider.token(t, "vera")
	for name, header := range map[string]string{
		"one": "X-Long: " + strings.Repeat("a", 64<<10) + "\r\n", "many": strings.Repeat("X-Many: a\r\n", 8<<10),
		"a name": strings.Repeat("a", 64<<10) + ": a\r\n", "the cookie": "Cookie: mobileid=" + strings.Repeat("a", 64<<10) + "\r\n",
	} {
		answer := a.rawRefused(t, "POST /api/v1/mobile-ids/"+veras+"/lock/next HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n"+header+"Content-Length: 0\r\n\r\n")
		require.Contains(t, answer, " 431 ", name)
	}
	answer := a.rawRefused(t, "GET /"+strings.Repeat("a", 64<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Contains(t, answer, " 431 ")
}

// rawRefused sends bytes that are answered before they are read to the end.
func (a *attack) rawRefused(t *testing.T, bytes string) string {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	require.NoError(t, connection.SetDeadline(time.Now().Add(patience)))
	go func() { _, _ = connection.Write([]byte(bytes)) }()
	line, err := bufio.NewReader(connection).ReadString('\n')
	require.NoError(t, err)
	return line
}

// stream opens an event stream, and returns its status and how it is closed.
func (s *surfer) stream(t *testing.T, path string, headers ...string) (int, func()) {
	t.Helper()
	response, err := s.Do(s.request(t, http.MethodGet, path, "", headers...))
	require.NoError(t, err)
	return response.StatusCode, func() { _ = response.Body.Close() }
}

// openMany opens event streams until one is refused, and returns how many are open.
func openMany(t *testing.T, most int, open func() (int, func())) (n int, closeAll func()) {
	t.Helper()
	var closes []func()
	closeAll = func() {
		for _, closeOne := range closes {
			closeOne()
		}
	}
	for range most {
		code, closeOne := open()
		closes = append(closes, closeOne)
		if code != http.StatusOK {
			require.Equal(t, http.StatusServiceUnavailable, code)
			return n, closeAll
		}
		n++
	}
	return n, closeAll
}

// at is the same surfer at another instance: who is signed in at one is at all.
func (s *surfer) at(address string) *surfer { return &surfer{Client: s.Client, url: address} }

// progress is an event stream, which does not end while Temporal is away.
func progress(id string) string { return "/mobile-ids/" + id + "/progress/events" }

// One user takes no more than their own, with as many sessions and tokens as may be.
func streamsOfOne(t *testing.T, a *attack) {
	token := a.provider.token(t, "mallory")
	first, second, i := a.mallory.at(a.cut), signedIn(t, a.cut, "mallory"), 0
	n, closeAll := openMany(t, 20, func() (int, func()) {
		i++
		switch i % 3 {
		case 0:
			return second.stream(t, progress(mallorys))
		case 1:
			return second.stream(t, "/api/v1/mobile-ids/"+mallorys+"/lock/events", "Authorization", "Bearer "+token)
		}
		return first.stream(t, progress(mallorys))
	})
	defer closeAll()
	require.Equal(t, 6, n)
	for range 2 {
		code, closeOne := a.vera.at(a.cut).stream(t, progress(veras))
		defer closeOne()
		require.Equal(t, http.StatusOK, code, "others have theirs")
	}
}

// Many take all that there are, and everything else is served as before.
func streamsOfMany(t *testing.T, a *attack) {
	carl, mallory, vera := signedIn(t, a.cut, "carl"), a.mallory.at(a.cut), a.vera.at(a.cut)
	var closeMallorys, closeCarls func()
	require.Eventually(t, func() bool { // those of before are noticed to be closed
		var n, more int
		n, closeMallorys = openMany(t, 5, func() (int, func()) { return mallory.stream(t, progress(mallorys)) })
		more, closeCarls = openMany(t, streamsOf-n, func() (int, func()) { return carl.stream(t, progress("mid-1003")) })
		if n == 5 && n+more == streamsOf {
			return true
		}
		closeMallorys()
		closeCarls()
		return false
	}, patience, time.Second)
	defer closeMallorys()
	defer closeCarls()
	code, closeOne := vera.stream(t, progress(veras))
	closeOne()
	require.Equal(t, http.StatusServiceUnavailable, code)
	for _, page := range []string{"/", "/mobile-ids/" + veras, "/mobile-ids/" + veras + "/progress", "/mobile-ids/" + veras + "/lock", "/healthz"} {
		response, text := vera.get(t, page)
		require.Less(t, response.StatusCode, 400, "%s: %s", page, text)
	}
	code, text := callAPI(t, a.cut, a.provider.token(t, "vera"), http.MethodGet, "/mobile-ids/"+veras+"/lock", "")
	require.Equal(t, http.StatusOK, code, text)
}

// refusesToken tries to lock with a token of the owner that is not right.
func (a *attack) refusesToken(t *testing.T, change func(map[string]any), sign func(*testing.T, map[string]any) string) {
	t.Helper()
	claims := a.provider.claims("vera")
	claims["roles"] = []string{"operator"}
	if change != nil {
		change(claims)
	}
	if sign == nil {
		sign = a.provider.sign
	}
	token := sign(t, claims)
	for _, operation := range [][2]string{
		{"/mobile-ids/" + veras + "/lock", `{"confirmed": true}`},
		{"/mobile-ids/" + veras + "/lock/next", ""},
		{"/mobile-ids/" + veras + "/lock/cancel", ""},
		{"/get", `{"confirmed": true}`},
		{"/operator/mobile-ids/" + veras + "/lock/next", `{"owner": "vera"}`},
	} {
		code, text := callAPI(t, a.url, token, http.MethodPost, operation[0], operation[1])
		require.Equal(t, http.StatusUnauthorized, code, text)
		require.NotContains(t, text, "vera")
	}
}

func unsigned(t *testing.T, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	require.NoError(t, err)
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(text) + "."
}

// swapped signs with the public key as if it were a shared secret, which the provider
// announces.
func swapped(p *provider) func(*testing.T, map[string]any) string {
	return func(t *testing.T, claims map[string]any) string {
		t.Helper()
		public, err := x509.MarshalPKIXPublicKey(p.key.Public())
		require.NoError(t, err)
		return signed(t, jose.HS256, public, claims)
	}
}

// changed has the signature of another token.
func changed(p *provider) func(*testing.T, map[string]any) string {
	return func(t *testing.T, claims map[string]any) string {
		t.Helper()
		mine := strings.Split(p.token(t, "mallory"), ".")
		text, err := json.Marshal(claims)
		require.NoError(t, err)
		return mine[0] + "." + base64.RawURLEncoding.EncodeToString(text) + "." + mine[2]
	}
}
