//go:build live

package cmp_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
)

// TestLive revokes one certificate at a real CA, for good, and asks once more:
//
//	MOBILEID_LIVE_CMP_URL=http://host/ejbca/publicweb/cmp/alias
//	MOBILEID_LIVE_CMP_ISSUER   PEM file of the CA's certificate
//	MOBILEID_LIVE_CMP_CERT, _KEY   PEM files of the RA; or
//	MOBILEID_LIVE_CMP_SECRET, _REFERENCE, _MAC
//	MOBILEID_LIVE_CMP_RESPONDER, _SERVER_CA   PEM files, if needed
//	MOBILEID_LIVE_CMP_VICTIM   PEM file of the certificate to revoke
//
//	go test -tags live -run TestLive ./activities/ca/cmp
//
// What it prints of Check is to be read: not every CA has general messages.
func TestLive(t *testing.T) {
	get := func(name string) string { return os.Getenv("MOBILEID_LIVE_CMP_" + name) }
	driver := newDriver(t, cmp.Options{
		URL: get("URL"), IssuerFile: get("ISSUER"), CertFile: get("CERT"), KeyFile: get("KEY"),
		SecretFile: get("SECRET"), Reference: get("REFERENCE"), MAC: get("MAC"),
		ResponderFile: get("RESPONDER"), ServerCAFile: get("SERVER_CA"),
	})
	t.Logf("check: %v", driver.Check(t.Context()))
	text, err := os.ReadFile(get("VICTIM"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	answer, err := driver.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	again, err := driver.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, ca.AlreadyRevoked, again.Outcome)
	missing := catest.Name(t, cert)
	missing.Serial = "abcdefabcdef"
	_, err = driver.Revoke(t.Context(), missing, mobileid.Superseded)
	require.Equal(t, ca.NotFound, kindOf(t, err))
}
