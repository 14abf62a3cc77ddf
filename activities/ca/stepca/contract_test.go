package stepca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/stepca"
	"mobileid/starter/stack/smallstep"
)

// program is the real step-ca: from PATH, or where `make tools` puts it.
func program(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("step-ca"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../../.bin/step-ca")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatal("step-ca is missing: run 'make tools'")
	}
	return path
}

func startCA(t testing.TB, name pkix.Name) *smallstep.Server {
	t.Helper()
	server, err := smallstep.Start(t.Context(), program(t), t.TempDir(), name)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return server
}

func newDriver(t testing.TB, options stepca.Options) *stepca.Driver {
	t.Helper()
	driver, err := stepca.New(options)
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	return driver
}

// strangersKey is a provisioner key that the CA does not know.
func strangersKey(t testing.TB) string {
	t.Helper()
	return catest.NewCredentials(t, "stranger").KeyFile
}

// issue has a certificate issued by the CA itself, unless its serial number or its
// end is chosen: then it is signed with the CA's key, which the CA cannot tell.
func issue(t testing.TB, server *smallstep.Server, driver *stepca.Driver, request catest.IssueRequest) *x509.Certificate {
	t.Helper()
	if request.Serial != nil || !request.NotAfter.IsZero() {
		return (&catest.Issuer{Certificate: server.Issuer, Key: server.Key}).Sign(t, request)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "anna.example"}, DNSNames: []string{"anna.example"},
	}, key)
	require.NoError(t, err)
	cert, err := driver.Issue(t.Context(), csr)
	require.NoError(t, err)
	return cert
}

func TestContract(t *testing.T) {
	catest.Run(t, catest.Product{
		Driver: "stepca",
		Name:   "step-ca v0.30.2",
		Reasons: []mobileid.Reason{
			mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
			mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
		},
		TakesUnknownSerials: true,
		Expired:             mobileid.OutcomeExpiredNotRevoked,
		Without: map[string]string{
			"waits for approval":    "step-ca has no approvals",
			"on hold becomes final": "step-ca does not make a hold final: a second request is answered with already revoked",
		},
	}, func(t testing.TB, name pkix.Name) *catest.Server {
		server := startCA(t, name)
		driver := newDriver(t, server.Driver())
		denied := server.Driver()
		denied.KeyFile = strangersKey(t)
		return &catest.Server{
			Issuer: server.Issuer,
			Driver: driver,
			Faults: catest.NewFaults(driver.Client(), func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/revoke") }),
			Issue: func(t testing.TB, request catest.IssueRequest) *x509.Certificate {
				return issue(t, server, driver, request)
			},
			Denied: newDriver(t, denied),
			CRLURL: server.CRLURL,
		}
	})
}
