package vault_test

import (
	"crypto/x509/pkix"
	"net/http"
	"strings"
	"testing"

	"mobileid"
	"mobileid/activities/ca/catest"
)

func TestContract(t *testing.T) {
	catest.Run(t, catest.Product{
		Driver: "vault",
		Name:   "PKI engine of Vault v1.14.8",
		Reasons: []mobileid.Reason{
			mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
			mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
		},
		Expired: mobileid.OutcomeExpiredNotRevoked,
		Without: map[string]string{
			"waits for approval":    "Vault has no approvals of revocations",
			"on hold becomes final": "Vault has no hold",
		},
	}, func(t testing.TB, name pkix.Name) *catest.Server {
		e := startEngine(t, name)
		driver := newDriver(t, e.options())
		denied := e.options()
		e.write(t, "stranger", []byte("hvs.a-stranger"))
		denied.TokenFile = e.file("stranger")
		return &catest.Server{
			Issuer:  e.issuer.Certificate,
			Driver:  driver,
			Faults:  catest.NewFaults(driver.Client(), func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/revoke") }),
			Issue:   e.issue,
			Denied:  newDriver(t, denied),
			OCSPURL: e.public.URL + "/ocsp",
			CRLURL:  e.public.URL + "/crl",
		}
	})
}
