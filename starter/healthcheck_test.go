package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging/embedded"
)

func TestHealthcheck(t *testing.T) {
	well := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
		case "/moved":
			http.Redirect(w, r, "/readyz", http.StatusFound)
		default:
			http.Error(w, "store does not answer", http.StatusServiceUnavailable)
		}
	})
	plain, secure := httptest.NewServer(well), httptest.NewTLSServer(well)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	gone := httptest.NewServer(well)
	gone.Close()
	ca, empty := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(empty, nil, 0o600))

	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"well":                             {args: []string{plain.URL + "/readyz"}},
		"well, by TLS":                     {args: []string{"--ca", ca, secure.URL + "/readyz"}},
		"not ready":                        {args: []string{plain.URL + "/other"}, code: exitError, says: "store does not answer"},
		"elsewhere":                        {args: []string{plain.URL + "/moved"}, code: exitError, says: "302"},
		"away":                             {args: []string{gone.URL + "/readyz"}, code: exitError, says: "refused"},
		"TLS nobody vouches":               {args: []string{secure.URL + "/readyz"}, code: exitError, says: "certificate"},
		"trust without any":                {args: []string{"--ca", empty, secure.URL + "/readyz"}, code: exitUsage, says: "no certificate"},
		"trust that is away":               {args: []string{"--ca", ca + "x", secure.URL + "/readyz"}, code: exitError, says: "--ca"},
		"not a URL":                        {args: []string{"readyz"}, code: exitUsage, says: "http or https"},
		"no URL":                           {code: exitUsage, says: "arg"},
		"a configuration is not looked at": {args: []string{"--store.driver", "none", plain.URL + "/readyz"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, said bytes.Buffer
			code := execute(t.Context(), append([]string{"healthcheck"}, test.args...), strings.NewReader(""), &out, &said)
			require.Equal(t, test.code, code, said.String())
			require.Contains(t, said.String(), test.says)
			require.Empty(t, out.String())
		})
	}
}

// Messaging's certificate is the callbacks' too, where that is asked for.
func TestMessagingIsWellUnderFurtherNames(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"messaging", "--dir", dir, "--name", "worker"}, strings.NewReader(""), io.Discard, io.Discard)
	}()
	ca := filepath.Join(dir, embedded.ServerCAFile)
	require.Eventually(t, func() bool {
		at, err := embedded.ReadAddresses(dir)
		if err != nil {
			return false
		}
		url := strings.TrimSuffix(at.URL, embedded.BasePath) + "/healthz"
		return execute(t.Context(), []string{"healthcheck", "--ca", ca, url}, strings.NewReader(""), io.Discard, io.Discard) == exitDone
	}, time.Minute, 50*time.Millisecond)
	stop()
	require.Equal(t, exitDone, <-ended)
	text, err := os.ReadFile(ca)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.NoError(t, certificate.VerifyHostname("worker"))
	require.NoError(t, certificate.VerifyHostname("localhost"))
}
