package vault_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/vault"
)

const token = "hvs.test-token"

// engine is Vault's real PKI engine, as a process of its own.
type engine struct {
	url      string
	dir      string
	serverCA string // PEM file
	issuer   *catest.Issuer
	public   *httptest.Server // the CRL and OCSP as others reach them, without TLS
	client   *http.Client
}

// program is where `make tools` puts the engine, or PATH.
func program(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("vault-pki"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../../.bin/vault-pki")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatal("vault-pki is missing: run 'make tools'")
	}
	return path
}

func startEngine(t testing.TB, name pkix.Name) *engine {
	t.Helper()
	e := &engine{dir: t.TempDir()}
	server := catest.NewCredentials(t, "vault")
	e.write(t, "token", []byte(token+"\n"))
	cmd := exec.Command(program(t), "-cert", server.CertFile, "-key", server.KeyFile, "-token", token)
	cmd.Stderr = os.Stderr
	lifeline, err := cmd.StdinPipe()
	require.NoError(t, err)
	said, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, lifeline.Close())
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err)
	e.url = strings.TrimSpace(line)

	trust := x509.NewCertPool()
	trust.AddCert(server.Certificate)
	e.serverCA = server.CertFile
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}}
	e.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	e.makeCA(t, name)
	e.publish(t, transport)
	return e
}

func (e *engine) file(name string) string { return filepath.Join(e.dir, name) }

func (e *engine) write(t testing.TB, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(e.file(name), content, 0o600))
}

// makeCA gives the engine a CA that is made here, so that tests can sign what the
// engine would not.
func (e *engine) makeCA(t testing.TB, name pkix.Name) {
	t.Helper()
	e.issuer = catest.NewIssuer(t, name)
	bundle := bundlePEM(t, e.issuer)
	e.call(t, http.MethodPost, "config/ca", map[string]any{"pem_bundle": bundle})
	e.call(t, http.MethodPost, "roles/phone", map[string]any{"allow_any_name": true, "enforce_hostnames": false, "ttl": "8760h", "max_ttl": "8760h"})
	e.call(t, http.MethodPost, "roles/unstored", map[string]any{"allow_any_name": true, "enforce_hostnames": false, "ttl": "8760h", "max_ttl": "8760h", "no_store": true})
}

// bundlePEM is a CA as the engine imports it: certificate and key.
func bundlePEM(t testing.TB, issuer *catest.Issuer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(issuer.Key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate.Raw})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (e *engine) publish(t testing.TB, transport *http.Transport) {
	t.Helper()
	target, err := url.Parse(e.url)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.URL.Path = "/v1/pki" + r.In.URL.Path
	}}
	e.public = httptest.NewServer(proxy)
	t.Cleanup(e.public.Close)
}

// call asks the engine as its administrator.
func (e *engine) call(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	content, err := json.Marshal(body)
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), method, e.url+"/v1/pki/"+path, bytes.NewReader(content))
	require.NoError(t, err)
	request.Header.Set("X-Vault-Token", token)
	response, err := e.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Less(t, response.StatusCode, 300, "%s", text)
	var answer struct{ Data map[string]any }
	if len(text) > 0 {
		require.NoError(t, json.Unmarshal(text, &answer), "%s", text)
	}
	return answer.Data
}

// issue has the engine issue a certificate, unless its serial number or its end is
// chosen: then it is signed with the CA's key, and the engine has never seen it.
func (e *engine) issue(t testing.TB, request catest.IssueRequest) *x509.Certificate {
	t.Helper()
	if request.Serial == nil && request.NotAfter.IsZero() {
		return e.issueByRole(t, "phone")
	}
	return e.issuer.Sign(t, request)
}

func (e *engine) issueByRole(t testing.TB, role string) *x509.Certificate {
	t.Helper()
	data := e.call(t, http.MethodPost, "issue/"+role, map[string]any{"common_name": "anna"})
	require.IsType(t, "", data["certificate"])
	return parse(t, fmt.Sprint(data["certificate"]))
}

func parse(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

func (e *engine) options() vault.Options {
	return vault.Options{URL: e.url, TokenFile: e.file("token"), ServerCAFile: e.serverCA}
}

func newDriver(t testing.TB, options vault.Options) *vault.Driver {
	t.Helper()
	driver, err := vault.New(options)
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	return driver
}
