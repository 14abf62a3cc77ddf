//go:build live

package cmrest_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
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
//	go test -tags live -run TestLive ./activities/ca/cmrest
func TestLive(t *testing.T) {
	get := func(name string) string { return os.Getenv("MOBILEID_LIVE_CM_" + name) }
	driver := newDriver(t, cmrest.Options{
		URL: get("URL"), IssuerDN: get("ISSUER_DN"), SerialFormat: cmrest.SerialFormat(get("SERIAL_FORMAT")),
		ClientCertFile: get("CERT"), ClientKeyFile: get("KEY"), ServerCAFile: get("SERVER_CA"),
		SigningCertFile: get("SIGNING_CERT"), SigningKeyFile: get("SIGNING_KEY"),
	})
	require.NoError(t, driver.Check(t.Context()))
	text, err := os.ReadFile(get("VICTIM"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
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
