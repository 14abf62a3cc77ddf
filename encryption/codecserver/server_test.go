package codecserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"mobileid/config"
	"mobileid/encryption"
	"mobileid/encryption/codecserver"
)

const (
	token  = "0123456789abcdef"
	origin = "https://temporal.example.com"
)

// server is a running codec server with the keyset that it has.
type server struct {
	url    string
	keyset *encryption.Keyset
	logged *observer.ObservedLogs
	plain  *commonpb.Payload
	body   string // a request with the plain payload, encrypted
}

func start(t *testing.T, change func(c *config.CodecServer)) *server {
	t.Helper()
	folder := t.TempDir()
	_, err := encryption.Create(filepath.Join(folder, "keyset.json"))
	require.NoError(t, err)
	s := &server{}
	s.keyset, err = encryption.Open(filepath.Join(folder, "keyset.json"), nil)
	require.NoError(t, err)
	tokenFile := filepath.Join(folder, "token")
	require.NoError(t, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
	c := config.Default().CodecServer
	c.TokenFile, c.Origins = tokenFile, []string{origin}
	if change != nil {
		change(&c)
	}
	core, logged := observer.New(zap.DebugLevel)
	served, err := codecserver.New(c, s.keyset, zap.New(core))
	require.NoError(t, err)
	running := httptest.NewServer(served.Handler())
	t.Cleanup(running.Close)
	s.url, s.logged = running.URL, logged
	s.plain, err = converter.GetDefaultDataConverter().ToPayload("anna")
	require.NoError(t, err)
	encoded, err := s.keyset.Encode([]*commonpb.Payload{s.plain})
	require.NoError(t, err)
	s.body = asJSON(t, encoded...)
	return s
}

func asJSON(t *testing.T, payloads ...*commonpb.Payload) string {
	t.Helper()
	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: payloads})
	require.NoError(t, err)
	return string(body)
}

// ask sends a request and returns the answer, read to its end.
func (s *server) ask(t *testing.T, method, path, body string, headers map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range headers {
		if name == "Host" {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(text)
}

var authorized = map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "X-Namespace": "default"}

func with(headers map[string]string, name, value string) map[string]string {
	changed := map[string]string{name: value}
	for n, v := range headers {
		if n != name {
			changed[n] = v
		}
	}
	return changed
}

func TestRequests(t *testing.T) {
	open := func(c *config.CodecServer) { c.TokenFile = "" }
	encodes := func(c *config.CodecServer) { c.Encode = true }
	for name, test := range map[string]struct {
		change  func(c *config.CodecServer)
		method  string
		path    string
		body    string // empty: the encrypted payload
		headers map[string]string
		code    int
		says    string
	}{
		"decode":                  {path: "/decode", headers: authorized, code: http.StatusOK, says: "ImFubmEi"},
		"of a namespace":          {path: "/default/decode", headers: authorized, code: http.StatusOK, says: "ImFubmEi"},
		"by a page":               {path: "/decode", headers: with(authorized, "Origin", origin), code: http.StatusOK, says: "ImFubmEi"},
		"plain passes":            {path: "/decode", body: `{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"MQ=="}]}`, headers: authorized, code: http.StatusOK, says: "MQ=="},
		"another scheme's letter": {path: "/decode", headers: with(authorized, "Authorization", "bearer "+token), code: http.StatusOK, says: "ImFubmEi"},
		"no token":                {path: "/decode", headers: with(authorized, "Authorization", ""), code: http.StatusUnauthorized, says: "token"},
		"another token":           {path: "/decode", headers: with(authorized, "Authorization", "Bearer "+token+"0"), code: http.StatusUnauthorized, says: "token"},
		"half a token":            {path: "/decode", headers: with(authorized, "Authorization", "Bearer "+token[:8]), code: http.StatusUnauthorized, says: "token"},
		"another scheme":          {path: "/decode", headers: with(authorized, "Authorization", "Basic "+token), code: http.StatusUnauthorized, says: "token"},
		"a token alone":           {path: "/decode", headers: with(authorized, "Authorization", token), code: http.StatusUnauthorized, says: "token"},
		"a page of another site":  {path: "/decode", headers: with(authorized, "Origin", "https://evil.example.com"), code: http.StatusForbidden, says: "origins"},
		"encode is off":           {path: "/encode", headers: authorized, code: http.StatusForbidden, says: "codec_server.encode"},
		"encode is on":            {change: encodes, path: "/default/encode", body: asJSON(t, &commonpb.Payload{Data: []byte("x")}), headers: authorized, code: http.StatusOK, says: "YmluYXJ5L2VuY3J5cHRlZA=="},
		"encode needs the token":  {change: encodes, path: "/encode", headers: nil, code: http.StatusUnauthorized, says: "token"},
		"no download":             {path: "/download", headers: authorized, code: http.StatusNotFound, says: "not found"},
		"deeper":                  {path: "/a/b/decode", headers: authorized, code: http.StatusNotFound, says: "not found"},
		"GET":                     {method: http.MethodGet, path: "/decode", headers: authorized, code: http.StatusMethodNotAllowed, says: "Not Allowed"},
		"no JSON":                 {path: "/decode", body: "anna", headers: authorized, code: http.StatusBadRequest, says: "syntax"},
		"too long":                {path: "/decode", body: strings.Repeat(" ", 8<<20+1), headers: authorized, code: http.StatusRequestEntityTooLarge, says: "8388608"},
		"a key that is missing":   {path: "/decode", body: asJSON(t, &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/encrypted"), "encryption-key-id": []byte("7")}}), headers: authorized, code: http.StatusBadRequest, says: "key 7"},
		"on this machine":         {change: open, path: "/decode", headers: with(authorized, "Authorization", ""), code: http.StatusOK, says: "ImFubmEi"},
		"under a foreign name":    {change: open, path: "/decode", headers: with(authorized, "Host", "evil.example.com:80"), code: http.StatusForbidden, says: "loopback"},
		"health":                  {method: http.MethodGet, path: "/healthz", code: http.StatusOK, says: "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.change)
			method, body := test.method, test.body
			if method == "" {
				method = http.MethodPost
			}
			if body == "" {
				body = s.body
			}
			response, text := s.ask(t, method, test.path, body, test.headers)
			require.Equal(t, test.code, response.StatusCode, text)
			require.Contains(t, text, test.says)
			for _, entry := range s.logged.All() {
				line, err := json.Marshal(entry.ContextMap())
				require.NoError(t, err)
				require.NotContains(t, entry.Message+string(line), "anna")
				require.NotContains(t, entry.Message+string(line), "ImFubmEi")
				require.NotContains(t, entry.Message+string(line), token)
			}
		})
	}
}

// Who asked for what is logged, without what was in it.
func TestRequestLog(t *testing.T) {
	s := start(t, nil)
	s.ask(t, http.MethodPost, "/orders/decode", s.body, authorized)
	require.Equal(t, 1, s.logged.Len())
	fields := s.logged.All()[0].ContextMap()
	require.Equal(t, "decode", fields["verb"])
	require.Equal(t, "orders", fields["namespace"])
	require.EqualValues(t, http.StatusOK, fields["code"])
	require.EqualValues(t, len(s.body), fields["bytes"])
}

// Browsers ask first whether a page may.
func TestCORS(t *testing.T) {
	s := start(t, nil)
	preflight := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,x-namespace"}
	response, _ := s.ask(t, http.MethodOptions, "/default/decode", "", with(preflight, "Origin", origin))
	require.Equal(t, origin, response.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", response.Header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "POST", response.Header.Get("Access-Control-Allow-Methods"))
	require.NotEmpty(t, response.Header.Get("Access-Control-Allow-Headers"))
	response, _ = s.ask(t, http.MethodPost, "/decode", s.body, with(authorized, "Origin", origin))
	require.Equal(t, origin, response.Header.Get("Access-Control-Allow-Origin"))

	for name, other := range map[string]string{"another": "https://evil.example.com", "null": "null", "longer": origin + ".evil.example.com", "plain": "http://temporal.example.com"} {
		t.Run(name, func(t *testing.T) {
			response, _ := s.ask(t, http.MethodOptions, "/default/decode", "", with(preflight, "Origin", other))
			require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
		})
	}
	none := start(t, func(c *config.CodecServer) { c.Origins = nil })
	response, _ = none.ask(t, http.MethodOptions, "/decode", "", with(preflight, "Origin", origin))
	require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
}

func TestRateLimit(t *testing.T) {
	s := start(t, func(c *config.CodecServer) { c.RateLimit = 0.001 })
	for range 3 { // strangers use nothing up
		response, _ := s.ask(t, http.MethodPost, "/decode", s.body, nil)
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	}
	response, _ := s.ask(t, http.MethodPost, "/decode", s.body, authorized)
	require.Equal(t, http.StatusOK, response.StatusCode)
	response, text := s.ask(t, http.MethodPost, "/decode", s.body, authorized)
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	require.Contains(t, text, "rate_limit")
	require.NotEmpty(t, response.Header.Get("Retry-After"))
}

// A new token counts from the next request on; one that cannot be read lets nobody in.
func TestTokenFile(t *testing.T) {
	var file string
	s := start(t, func(c *config.CodecServer) { file = c.TokenFile })
	const young = "fedcba9876543210"
	require.NoError(t, os.WriteFile(file, []byte(young), 0o600))
	response, _ := s.ask(t, http.MethodPost, "/decode", s.body, authorized)
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	response, _ = s.ask(t, http.MethodPost, "/decode", s.body, with(authorized, "Authorization", "Bearer "+young))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, os.Remove(file))
	response, text := s.ask(t, http.MethodPost, "/decode", s.body, with(authorized, "Authorization", "Bearer "+young))
	require.Equal(t, http.StatusInternalServerError, response.StatusCode)
	require.NotContains(t, text, file)
}

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"a short token":            {"secret", 0o600, "16 characters"},
		"a token for all to read":  {token, 0o644, "mode 0644"},
		"a certificate that isn't": {"", 0, "codec_server.certificate_file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default().CodecServer
			file := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(file, []byte(test.content), 0o600))
			if test.mode != 0 {
				require.NoError(t, os.Chmod(file, test.mode))
				c.TokenFile = file
			} else {
				c.CertificateFile, c.KeyFile = file, file
			}
			_, err := codecserver.New(c, nil, zap.NewNop())
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// The server listens with TLS, is asked by the SDK's own remote codec as the temporal
// program is, and stops when told.
func TestServe(t *testing.T) {
	folder := t.TempDir()
	_, err := encryption.Create(filepath.Join(folder, "keyset.json"))
	require.NoError(t, err)
	keyset, err := encryption.Open(filepath.Join(folder, "keyset.json"), nil)
	require.NoError(t, err)
	c := config.Default().CodecServer
	c.Address, c.Encode = "127.0.0.1:0", true
	pool := makeCertificate(t, folder)
	c.CertificateFile, c.KeyFile = filepath.Join(folder, "tls.pem"), filepath.Join(folder, "tls.key")
	served, err := codecserver.New(c, keyset, zap.NewNop())
	require.NoError(t, err)
	listener, url, err := served.Listen(t.Context())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- served.Serve(ctx, listener) }()

	require.True(t, strings.HasPrefix(url, "https://127.0.0.1:"), url)
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{
		Endpoint: url + "/default", Client: http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	})
	plain := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"anna"`)}
	encoded, err := remote.Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	require.False(t, bytes.Contains(encoded[0].GetData(), []byte("anna")))
	decoded, err := remote.Decode(encoded)
	require.NoError(t, err)
	require.True(t, proto.Equal(plain, decoded[0]))

	stop()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the server does not stop")
	}
}

func makeCertificate(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(folder, "tls.pem"), certificate, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	return pool
}
