package configured_test

import (
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp/cmptest"
	"mobileid/activities/ca/configured"
	"mobileid/config"
)

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
