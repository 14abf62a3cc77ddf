//go:build live

package cmrest_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
)

// TestLive revokes one certificate at a real CM, for good:
//
//	MOBILEID_LIVE_CM_URL=https://host:8444/pgwy/api
//	MOBILEID_LIVE_CM_ISSUER_DN='CN=...'   as CM shows it
//	MOBILEID_LIVE_CM_SERIAL_FORMAT        hex or decimal; empty: hex
//	MOBILEID_LIVE_CM_CERT, _KEY, _SERVER_CA   PEM files
//	MOBILEID_LIVE_CM_SIGNING_CERT, _SIGNING_KEY   PEM files; empty: those before
//	MOBILEID_LIVE_CM_VICTIM   PEM file of the certificate to revoke
//
//	go test -tags live -run 'TestLive$' ./activities/ca/cmrest
func TestLive(t *testing.T) {
	driver := liveDriver(t, nil)
	require.NoError(t, driver.Check(t.Context()))
	cert := livePEM(t, "VICTIM")
	evidence, err := driver.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, evidence.Status)
	_, err = driver.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	evidence, err = driver.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
	require.Equal(t, mobileid.Superseded, evidence.Reason)
}

// TestLiveIssue has one certificate issued by a real CM, finds it by its key, and revokes
// it. Beside the settings of TestLive, but for the victim, it takes
//
//	MOBILEID_LIVE_CM_ISSUER      PEM file of the CA's certificate
//	MOBILEID_LIVE_CM_PROCEDURE   token procedure
//
//	go test -tags live -run 'TestLiveIssue$' ./activities/ca/cmrest
//
// Where it fails after the first certificate, CM must not be used to issue: see
// [cmrest.Driver.Issued].
func TestLiveIssue(t *testing.T) {
	driver := liveDriver(t, livePEM(t, "ISSUER"))
	request := ca.IssueRequest{CSR: catest.NewCSR(t, "mobileid test"), Procedure: live("PROCEDURE"), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := driver.IssueOnce(t.Context(), request)
	require.NoError(t, err)
	t.Logf("serial number %x, key identifier %x, until %s", cert.SerialNumber, cert.SubjectKeyId, cert.NotAfter)
	defer func() {
		_, err := driver.Revoke(t.Context(), catest.Name(t, cert), mobileid.CessationOfOperation)
		require.NoError(t, err)
	}()
	found, err := driver.Issued(t.Context(), request.CSR)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Equal(cert))
	require.WithinDuration(t, request.NotAfter, cert.NotAfter, time.Second, "validto counts")
}

func live(name string) string { return os.Getenv("MOBILEID_LIVE_CM_" + name) }

func liveDriver(t *testing.T, issuer *x509.Certificate) *cmrest.Driver {
	t.Helper()
	return newDriver(t, cmrest.Options{
		URL: live("URL"), IssuerDN: live("ISSUER_DN"), SerialFormat: cmrest.SerialFormat(live("SERIAL_FORMAT")), Issuer: issuer,
		ClientCertFile: live("CERT"), ClientKeyFile: live("KEY"), ServerCAFile: live("SERVER_CA"),
		SigningCertFile: live("SIGNING_CERT"), SigningKeyFile: live("SIGNING_KEY"),
	})
}

// livePEM reads the certificate in the file of the setting.
func livePEM(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(live(name))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}
