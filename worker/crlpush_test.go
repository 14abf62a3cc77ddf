package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"mobileid/activities/ca"
	"mobileid/activities/crlpush"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// The site asks for a client certificate, and has one that is not let in told so: both
// are for the receiver to say.
func TestCRLPushSite(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, mode))
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certificate := write("site.pem", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyFile := write("site.key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	c := config.CRLPush{
		CertificateFile: certificate, KeyFile: keyFile, ClientCAFile: certificate, User: "cm", PasswordFile: write("password", 0o600, []byte("secret of the CA\n")), MaxBytes: 4096,
	}
	store, err := identitymanager.Open(t.Context(), identitymanager.Options{
		Driver: "sqlite", DSN: filepath.Join(dir, "im.db"), AuditKey: []byte(strings.Repeat("k", 32)),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	cas, err := ca.NewAuthorities(nil)
	require.NoError(t, err)
	receiver, tlsConfig, err := crlPush(zap.NewNop(), c, store, cas)
	require.NoError(t, err)

	listener, err := listenTLS("127.0.0.1:0", tlsConfig)
	require.NoError(t, err)
	go func() { _ = serveHTTP(t.Context(), listener, receiver) }()
	roots, err := readPool(certificate)
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(certificate, keyFile)
	require.NoError(t, err)
	ask := func(password string, certificates ...tls.Certificate) int {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certificates}}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+listener.Addr().String()+crlpush.Path, strings.NewReader("garbage"))
		require.NoError(t, err)
		if password != "" {
			request.SetBasicAuth("cm", password)
		}
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusUnauthorized, ask(""))
	require.Equal(t, http.StatusUnauthorized, ask("wrong"))
	require.Equal(t, http.StatusBadRequest, ask("secret of the CA"))
	require.Equal(t, http.StatusBadRequest, ask("", pair))

	for name, change := range map[string]func(*config.CRLPush){
		"crl_push.password_file":    func(c *config.CRLPush) { c.PasswordFile = certificate }, // others can read it
		"crl_push.client_ca_file":   func(c *config.CRLPush) { c.ClientCAFile = keyFile },
		"crl_push.certificate_file": func(c *config.CRLPush) { c.CertificateFile = filepath.Join(dir, "none") },
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			change(&c)
			_, _, err := crlPush(zap.NewNop(), c, store, cas)
			require.ErrorContains(t, err, name)
		})
	}
}
