package configured_test

import (
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp/cmptest"
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

// What is configured of a CMP CA reaches its driver, in both ways of asking.
func TestCMP(t *testing.T) {
	fake := cmptest.Start(t, pkix.Name{CommonName: "Some CA"})
	byCertificate, bySecret := fake.Plain(fake.Driver(fake.Officer)), fake.SecretDriver()
	for name, section := range map[string]config.CA{
		"certificate, http": {URL: byCertificate.URL, CertificateFile: byCertificate.CertFile, KeyFile: byCertificate.KeyFile},
		"secret, https":     {URL: bySecret.URL, SecretFile: bySecret.SecretFile, Reference: bySecret.Reference, MAC: "pbmac1", ServerCAFile: bySecret.ServerCAFile},
	} {
		t.Run(name, func(t *testing.T) {
			section.Name, section.Driver, section.IssuerFile, section.CRLURL = "one", "cmp", fake.IssuerFile(), fake.CRLURL
			section.ResponderFile, section.CallTimeout, section.Concurrency, section.ProofWait = fake.IssuerFile(), time.Minute, 1, "0"
			authorities, err := configured.Authorities([]config.CA{section})
			require.NoError(t, err)
			health := authorities.Health(t.Context())
			require.Len(t, health, 1)
			require.Empty(t, health[0].Warnings)
			cert := catest.Name(t, fake.Issue(t, catest.IssueRequest{}))
			authority, ok := authorities.For(cert.CertificateID)
			require.True(t, ok)
			result, err := authority.Revoke(t.Context(), cert, mobileid.Superseded, false, time.Now())
			require.NoError(t, err)
			require.Equal(t, mobileid.Superseded, result.ReasonAtCA)
		})
	}
	_, err := configured.Authorities([]config.CA{{Name: "one", Driver: "cmp", IssuerFile: fake.IssuerFile(), URL: "ldap://x"}})
	require.ErrorContains(t, err, "CA one: url")
}
