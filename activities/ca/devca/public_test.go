package devca

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func get(t *testing.T, server *httptest.Server, path string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	require.NoError(t, err)
	request.Header = header
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, body
}

func TestPublicDocuments(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	server := httptest.NewServer(s.Public())
	t.Cleanup(server.Close)
	for _, row := range []struct {
		path, mediaType string
		code            int
		want            []byte
	}{
		{"/ca.der", "application/pkix-cert", 200, s.Certificate().Raw},
		{"/ca.pem", "application/x-pem-file", 200, encodeCertificate(s.Certificate().Raw)},
		{"/crl.der", "application/pkix-crl", 200, published(t, s).Raw},
		{"/crl.pem", "application/x-pem-file", 200, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: published(t, s).Raw})},
		{"/healthz", "text/plain; charset=utf-8", 200, []byte("ok\n")},
		{"/ca.key", "text/plain; charset=utf-8", 404, []byte("404 page not found\n")},
		{"/v1/certificates/1", "text/plain; charset=utf-8", 404, []byte("404 page not found\n")},
	} {
		t.Run(row.path, func(t *testing.T) {
			response, body := get(t, server, row.path, nil)
			require.Equal(t, row.code, response.StatusCode)
			require.Equal(t, row.mediaType, response.Header.Get("Content-Type"))
			require.Equal(t, row.want, body)
		})
	}
}

func TestETag(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	server := httptest.NewServer(s.Public())
	t.Cleanup(server.Close)
	for _, path := range []string{"/crl.der", "/crl.pem"} {
		t.Run(path, func(t *testing.T) {
			entries := len(published(t, s).RevokedCertificateEntries)
			first, _ := get(t, server, path, nil)
			tag := first.Header.Get("ETag")
			require.Regexp(t, `^"[0-9a-f]{64}"$`, tag)
			modified, err := http.ParseTime(first.Header.Get("Last-Modified"))
			require.NoError(t, err)
			require.WithinDuration(t, published(t, s).ThisUpdate, modified, 0)

			same, body := get(t, server, path, http.Header{"If-None-Match": {tag}})
			require.Equal(t, http.StatusNotModified, same.StatusCode)
			require.Empty(t, body)
			require.Equal(t, tag, same.Header.Get("ETag"))

			revoke(t, s, issue(t, s, ""), mobileid.Superseded)
			listed(t, s, entries+1)
			changed, _ := get(t, server, path, http.Header{"If-None-Match": {tag}})
			require.Equal(t, http.StatusOK, changed.StatusCode)
			require.NotEqual(t, tag, changed.Header.Get("ETag"))

			// Two CRLs can bear one second, so a date alone never says "the same".
			dated, _ := get(t, server, path, http.Header{"If-Modified-Since": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}})
			require.Equal(t, http.StatusOK, dated.StatusCode)
		})
	}
}

func TestHealthAfterNextUpdate(t *testing.T) {
	now := newClock(time.Now())
	s := open(t, t.TempDir(), Options{Clock: now.Now, CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	require.NoError(t, s.health())
	now.Move(4 * time.Hour)
	response := httptest.NewRecorder()
	s.Public().ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	require.Equal(t, http.StatusServiceUnavailable, response.Code)
	require.Contains(t, response.Body.String(), "nextUpdate")
}

func TestPublicCRLIsParsedByOthers(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	server := httptest.NewServer(s.Public())
	t.Cleanup(server.Close)
	_, body := get(t, server, "/crl.der", nil)
	list, err := x509.ParseRevocationList(body)
	require.NoError(t, err)
	require.NoError(t, list.CheckSignatureFrom(s.Certificate()))
}
