package configured_test

import (
	"crypto/x509/pkix"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/configured"
	"mobileid/config"
)

// The two officers of cmrest reach the driver, each as what it is for.
func TestOfficersOfCM(t *testing.T) {
	issuer := catest.NewIssuer(t, pkix.Name{CommonName: "Some CA"}).Certificate
	connects, signs := catest.NewCredentials(t, "connects"), catest.NewCredentials(t, "signs")
	section := config.CA{
		Name: "cm", Driver: "cmrest", IssuerFile: catest.WritePEM(t, "ca.pem", "CERTIFICATE", issuer.Raw), URL: "https://localhost:8444/pgwy/api",
		IssuerDN: "CN=Some CA", CertificateFile: connects.CertFile, KeyFile: connects.KeyFile,
		SigningCertFile: signs.CertFile, SigningKeyFile: signs.KeyFile, SerialFormat: "decimal", ProofWait: "0",
	}
	authorities, err := configured.Authorities([]config.CA{section})
	require.NoError(t, err)
	authority, ok := authorities.ByName("cm")
	require.True(t, ok)
	credentialed, ok := authority.Driver.(ca.Credentialed)
	require.True(t, ok)
	require.Len(t, credentialed.Credentials(), 2)
	require.True(t, credentialed.Credentials()[0].Equal(connects.Certificate))
	require.True(t, credentialed.Credentials()[1].Equal(signs.Certificate))

	section.SerialFormat, section.IssuerDN = "octal", ""
	_, err = configured.Authorities([]config.CA{section})
	require.ErrorContains(t, err, "serial format")
	require.ErrorContains(t, err, "issuer DN")
}
