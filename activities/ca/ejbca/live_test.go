//go:build live

package ejbca_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/ejbca"
)

// TestLive revokes one certificate at a real EJBCA, for good:
//
//	MOBILEID_LIVE_EJBCA_URL=https://host/ejbca/ejbca-rest-api
//	MOBILEID_LIVE_EJBCA_ISSUER_DN='CN=...'   as EJBCA shows it
//	MOBILEID_LIVE_EJBCA_CERT, _KEY, _SERVER_CA   PEM files
//	MOBILEID_LIVE_EJBCA_VICTIM   PEM file of the certificate to revoke
//
//	go test -tags live -run TestLive ./activities/ca/ejbca
func TestLive(t *testing.T) {
	get := func(name string) string { return os.Getenv("MOBILEID_LIVE_EJBCA_" + name) }
	driver := newDriver(t, ejbca.Options{
		URL: get("URL"), IssuerDN: get("ISSUER_DN"), ClientCertFile: get("CERT"), ClientKeyFile: get("KEY"), ServerCAFile: get("SERVER_CA"),
	})
	require.NoError(t, driver.Check(t.Context()))
	text, err := os.ReadFile(get("VICTIM"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	_, err = driver.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	evidence, err := driver.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
	require.Equal(t, mobileid.Superseded, evidence.Reason)
}
