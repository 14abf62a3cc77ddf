package crlpush_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/crlpush"
)

// site serves a receiver over TLS that asks for client certificates, as the worker does.
func (p *place) site() *httptest.Server {
	p.t.Helper()
	server := httptest.NewUnstartedServer(p.receiver)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	p.t.Cleanup(server.Close)
	return server
}

// officers is a CA of client certificates, and gives the change that lets them in.
func officers(t testing.TB, names ...string) (*issuer, func(*crlpush.Options)) {
	t.Helper()
	i := newIssuer(t, "Officers")
	roots := x509.NewCertPool()
	roots.AddCert(i.cert)
	return i, func(o *crlpush.Options) { o.Roots, o.ClientNames = roots, names }
}

func forClients(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: name}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// request is one to a site, as a test wants it.
type request struct {
	method, path string // POST, and the path with the tenant
	body         []byte
	certificate  *tls.Certificate
	user         string
	password     string
}

func ask(t testing.TB, server *httptest.Server, r request) (int, http.Header, []byte) {
	t.Helper()
	transport, ok := server.Client().Transport.(*http.Transport)
	require.True(t, ok)
	transport = transport.Clone()
	defer transport.CloseIdleConnections()
	if r.certificate != nil {
		// Whatever the server would like to see.
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.certificate, nil }
	}
	if r.method == "" {
		r.method = http.MethodPost
	}
	if r.path == "" {
		r.path = crlpush.Path + "?tenantId=1"
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, server.URL+r.path, bytes.NewReader(r.body))
	require.NoError(t, err)
	if r.user != "" {
		req.SetBasicAuth(r.user, r.password)
	}
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, body
}

func keyPair(cert *x509.Certificate, key *ecdsa.PrivateKey) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// requireProblem checks an answer that refuses.
func requireProblem(t testing.TB, word string, want, status int, header http.Header, body []byte) {
	t.Helper()
	require.Equal(t, want, status, string(body))
	require.Equal(t, "application/problem+json", header.Get("Content-Type"))
	var problem crlpush.Problem
	require.NoError(t, json.Unmarshal(body, &problem))
	require.Equal(t, "urn:mobileid:crl:"+word, problem.Type)
	require.Equal(t, want, problem.Status)
	require.NotEmpty(t, problem.Title)
}

// Who is not let in changes nothing, and learns nothing.
func TestSenders(t *testing.T) {
	trusted, roots := officers(t, "cm.example.com")
	strangers, _ := officers(t)
	p := sqlitePlace(t, roots)
	site := p.site()
	officer := keyPair(trusted.issue(t, 1, forClients("cm.example.com")))
	server := keyPair(trusted.issue(t, 2, func(c *x509.Certificate) {
		c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: "cm.example.com"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))
	ended := keyPair(trusted.issue(t, 3, forClients("cm.example.com"), func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(1) }))
	for name, test := range map[string]struct {
		request
		in bool
	}{
		"nobody":                     {request{}, false},
		"certificate":                {request{certificate: officer}, true},
		"certificate by DNS name":    {request{certificate: keyPair(trusted.issue(t, 6, forClients("x"), func(c *x509.Certificate) { c.DNSNames = []string{"cm.example.com"} }))}, true},
		"certificate of strangers":   {request{certificate: keyPair(strangers.issue(t, 4, forClients("cm.example.com")))}, false},
		"certificate of another":     {request{certificate: keyPair(trusted.issue(t, 5, forClients("anna")))}, false},
		"certificate for servers":    {request{certificate: server}, false},
		"certificate that has ended": {request{certificate: ended}, false},
		"password":                   {request{user: "cm", password: testPassword}, true},
		"wrong password":             {request{user: "cm", password: testPassword + "!"}, false},
		"no password":                {request{user: "cm"}, false},
		"wrong user":                 {request{user: "root", password: testPassword}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p.receiver = p.newReceiver(roots) // the rate limit begins anew
			site.Config.Handler = p.receiver
			test.body = []byte("garbage")
			status, header, body := ask(t, site, test.request)
			if test.in {
				requireProblem(t, "malformed", http.StatusBadRequest, status, header, body)
				return
			}
			requireProblem(t, crlpush.NotAuthenticated, http.StatusUnauthorized, status, header, body)
			require.Contains(t, header.Get("WWW-Authenticate"), "Basic")
		})
	}
	_, err := crlpush.New(p.store, p.cas, crlpush.Options{})
	require.ErrorContains(t, err, "nobody could bring one")
	_, err = crlpush.New(p.store, p.cas, crlpush.Options{User: "cm"})
	require.ErrorContains(t, err, "password")
}

// Without a user no password lets anybody in, not even none.
func TestSendersWithoutPassword(t *testing.T) {
	_, roots := officers(t)
	p := sqlitePlace(t, roots, func(o *crlpush.Options) { o.User, o.Password = "", "" })
	status, header, body := ask(t, p.site(), request{})
	requireProblem(t, crlpush.NotAuthenticated, http.StatusUnauthorized, status, header, body)
	require.Empty(t, header.Get("WWW-Authenticate"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, crlpush.Path, nil)
	require.NoError(t, err)
	request.SetBasicAuth("", "")
	recorder := httptest.NewRecorder()
	p.receiver.ServeHTTP(recorder, request)
	require.Equal(t, http.StatusUnauthorized, recorder.Code)
}

// Every refusal has its status and its word.
func TestRefusals(t *testing.T) {
	p := sqlitePlace(t, func(o *crlpush.Options) { o.Tenant, o.MaxBytes = "7", 4096 })
	p.mobileID("mid-1", states{11: valid})
	p.take(list{number: 5})
	site := p.site()
	path := crlpush.Path + "?tenantId=7"
	large := map[int64]int{}
	for n := range int64(200) {
		large[1000+n] = 1
	}
	for name, test := range map[string]struct {
		request
		word   string
		status int
	}{
		"no tenant":      {request{path: crlpush.Path}, crlpush.UnknownTenant, http.StatusNotFound},
		"another tenant": {request{path: crlpush.Path + "?tenantId=8"}, crlpush.UnknownTenant, http.StatusNotFound},
		"garbage":        {request{body: []byte("CRL")}, "malformed", http.StatusBadRequest},
		"unknown issuer": {request{body: newIssuer(t, "x").sign(t, list{number: 9})}, "unknownIssuer", http.StatusUnprocessableEntity},
		"bad signature":  {request{body: newIssuer(t, "Issuing CA").sign(t, list{number: 9})}, "badSignature", http.StatusUnprocessableEntity},
		"stale":          {request{body: p.issuer.sign(t, list{number: 4, reasons: map[int64]int{11: 1}})}, crlpush.Stale, http.StatusConflict},
		"no base":        {request{body: p.issuer.sign(t, list{number: 9, base: 8, reasons: map[int64]int{11: 1}})}, crlpush.NoBase, http.StatusConflict},
		"too large":      {request{body: p.issuer.sign(t, list{number: 9, reasons: large})}, crlpush.TooLarge, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p.receiver = p.newReceiver(func(o *crlpush.Options) { o.Tenant, o.MaxBytes = "7", 4096 })
			site.Config.Handler = p.receiver
			if test.path == "" {
				test.path = path
			}
			test.user, test.password = "cm", testPassword
			status, header, body := ask(t, site, test.request)
			requireProblem(t, test.word, test.status, status, header, body)
			require.Equal(t, states{11: valid}, p.states("mid-1"))
		})
	}
	for _, r := range []request{{method: http.MethodGet, path: path}, {path: "/ws/certificate"}} {
		status, _, _ := ask(t, site, r)
		require.GreaterOrEqual(t, status, 404)
	}
	status, _, body := ask(t, site, request{method: http.MethodPut, path: path, user: "cm", password: testPassword, body: p.issuer.sign(t, list{number: 6, reasons: map[int64]int{11: 1}})})
	require.Equal(t, http.StatusOK, status, string(body))
	require.Equal(t, states{11: revoked}, p.states("mid-1"))
}

// Strangers do not keep the CA out, and neither gets through without end.
func TestRateLimits(t *testing.T) {
	p := sqlitePlace(t)
	site := p.site()
	last := func(r request) int {
		status := 0
		for range 40 {
			if status, _, _ = ask(t, site, r); status == http.StatusTooManyRequests {
				return status
			}
		}
		return status
	}
	require.Equal(t, http.StatusTooManyRequests, last(request{}))
	status, _, _ := ask(t, site, request{user: "cm", password: testPassword})
	require.Equal(t, http.StatusBadRequest, status, "it is let in")
	require.Equal(t, http.StatusTooManyRequests, last(request{user: "cm", password: testPassword}))
}

// A store that is away has the CA come again, and its words are for the log.
func TestStoreIsAway(t *testing.T) {
	var written bytes.Buffer
	p := sqlitePlace(t, func(o *crlpush.Options) { o.Logger = slog.New(slog.NewTextHandler(&written, nil)) })
	require.NoError(t, p.store.Close())
	status, header, body := ask(t, p.site(), request{user: "cm", password: testPassword, body: p.issuer.sign(t, list{number: 1})})
	requireProblem(t, crlpush.Unavailable, http.StatusServiceUnavailable, status, header, body)
	require.NotEmpty(t, header.Get("Retry-After"))
	require.NotContains(t, string(body), "sql")
	require.Contains(t, written.String(), "come again")
	require.NotContains(t, written.String(), testPassword)
}

// Many at once are taken one after the other.
func TestSideBySide(t *testing.T) {
	p := sqlitePlace(t)
	site := p.site()
	p.mobileID("mid-1", states{11: valid, 12: valid})
	crl := p.issuer.sign(t, list{number: 1, reasons: map[int64]int{11: 1, 12: 6}})
	var group sync.WaitGroup
	codes := make([]int, 6)
	for n := range codes {
		group.Go(func() { codes[n], _, _ = ask(t, site, request{user: "cm", password: testPassword, body: crl}) })
	}
	group.Wait()
	require.Equal(t, []int{200, 200, 200, 200, 200, 200}, codes)
	require.Len(t, p.events("mid-1"), 2)
	require.Equal(t, states{11: revoked, 12: onHold}, p.states("mid-1"))
}

// What OpenSSL's CA has signed and curl brings, with a client certificate, is taken.
func TestOpenSSLAndCurl(t *testing.T) {
	for _, program := range []string{"openssl", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is missing on this machine")
		}
	}
	trusted, roots := officers(t, "cm.example.com")
	p := sqlitePlace(t, roots)
	p.mobileID("mid-1", states{0x11: valid, 0x12: valid})
	site := p.site()
	dir := t.TempDir()
	file := func(name string, blocks ...*pem.Block) string {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	keyBlock := func(key *ecdsa.PrivateKey) *pem.Block {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	certBlock := func(c *x509.Certificate) *pem.Block { return &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw} }
	ca, caKey := file("ca.pem", certBlock(p.issuer.cert)), file("ca.key", keyBlock(p.issuer.key))
	cert, key := trusted.issue(t, 9, forClients("cm.example.com"))
	client, clientKey := file("client.pem", certBlock(cert)), file("client.key", keyBlock(key))
	serverCA := file("server.pem", certBlock(site.Certificate()))
	index := filepath.Join(dir, "index.txt")
	require.NoError(t, os.WriteFile(index, []byte(strings.Join([]string{
		"R\t350101000000Z\t250101000000Z,keyCompromise\t11\tunknown\t/CN=anna",
		"R\t350101000000Z\t250101000000Z,certificateHold\t12\tunknown\t/CN=anna", "",
	}, "\n")), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "crlnumber"), []byte("0A\n"), 0o600))
	settings := "[ca]\ndefault_ca=d\n[d]\ndatabase=" + index + "\ncrlnumber=" + filepath.Join(dir, "crlnumber") + "\ndefault_md=sha256\ndefault_crl_hours=1\ncrl_extensions=x\n[x]\nauthorityKeyIdentifier=keyid\n"
	conf := filepath.Join(dir, "ca.cnf")
	require.NoError(t, os.WriteFile(conf, []byte(settings), 0o600))
	crl := filepath.Join(dir, "crl.pem")
	output, err := exec.CommandContext(t.Context(), "openssl", "ca", "-config", conf, "-gencrl", "-cert", ca, "-keyfile", caKey, "-out", crl).CombinedOutput()
	require.NoError(t, err, string(output))
	curl := func(more ...string) string {
		t.Helper()
		arguments := append([]string{"-sS", "--noproxy", "*", "--cacert", serverCA, "--data-binary", "@" + crl, "-w", " %{http_code}"}, more...)
		output, err := exec.CommandContext(t.Context(), "curl", append(arguments, site.URL+crlpush.Path+"?tenantId=1")...).CombinedOutput()
		require.NoError(t, err, string(output))
		return string(output)
	}
	require.Contains(t, curl(), " 401")
	said := curl("--cert", client, "--key", clientKey, "-H", "Content-Type: application/pkix-crl")
	require.Contains(t, said, `"number":"a"`)
	require.Contains(t, said, " 200")
	require.Equal(t, states{0x11: revoked, 0x12: onHold}, p.states("mid-1"))
}
