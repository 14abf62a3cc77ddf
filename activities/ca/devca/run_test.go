package devca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

// run starts a CA and returns where it serves and how to stop it.
func run(t *testing.T, options devca.RunOptions) (devca.Addresses, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ready, ended := make(chan devca.Addresses, 1), make(chan error, 1)
	go func() { ended <- devca.Run(ctx, options, func(a devca.Addresses) { ready <- a }) }()
	select {
	case a := <-ready:
		return a, func() error { cancel(); return <-ended }
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(deadline):
		require.Fail(t, "the CA does not start")
	}
	return devca.Addresses{}, nil
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	first, stop := run(t, devca.RunOptions{Dir: dir})
	require.True(t, strings.HasPrefix(first.PublicURL, "http://127.0.0.1:"))
	require.True(t, strings.HasPrefix(first.APIURL, "https://127.0.0.1:"))
	written, err := devca.ReadAddresses(dir)
	require.NoError(t, err)
	require.Equal(t, first, written)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert, err := driverOf(t, dir).Issue(t.Context(), devcatest.CSR(t, key, "Anna"), "authentication", 1)
	require.NoError(t, err)
	require.Equal(t, []string{first.PublicURL + "/crl.der"}, cert.CRLDistributionPoints)
	require.NoError(t, stop())

	second, stop := run(t, devca.RunOptions{Dir: dir})
	require.Equal(t, first, second, "URLs in certificates stay good over a restart")
	response, err := http.Get(cert.CRLDistributionPoints[0]) //nolint:noctx // a test
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	answer, err := driverOf(t, dir).Revoke(t.Context(), devcatest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	require.NoError(t, stop())
}

func TestRunOnATakenPort(t *testing.T) {
	dir := t.TempDir()
	first, stop := run(t, devca.RunOptions{Dir: dir})
	require.NoError(t, stop())
	base, err := url.Parse(first.PublicURL)
	require.NoError(t, err)
	taken, err := net.Listen("tcp", base.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })

	second, stop := run(t, devca.RunOptions{Dir: dir})
	require.NotEqual(t, first.PublicURL, second.PublicURL)
	require.Equal(t, first.APIURL, second.APIURL)
	require.NoError(t, stop())

	err = devca.Run(t.Context(), devca.RunOptions{Dir: t.TempDir(), PublicAddress: base.Host}, nil)
	require.ErrorContains(t, err, base.Host)
}

func TestRunOnAFolderInUse(t *testing.T) {
	dir := t.TempDir()
	first, stop := run(t, devca.RunOptions{Dir: dir})
	require.ErrorIs(t, devca.Run(t.Context(), devca.RunOptions{Dir: dir}, nil), devca.ErrInUse)
	written, err := devca.ReadAddresses(dir)
	require.NoError(t, err)
	require.Equal(t, first, written, "the second one must not overwrite where the first one serves")
	require.NoError(t, stop())
}

func TestServeEndsWithAListener(t *testing.T) {
	s, err := devca.Open(t.TempDir(), devca.Options{})
	require.NoError(t, err)
	public, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	api, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, public.Close())
	require.ErrorContains(t, s.Serve(t.Context(), public, api), "serve the development CA")
	_, err = s.Issue(t.Context(), devca.IssueRequest{})
	require.Error(t, err)
}
