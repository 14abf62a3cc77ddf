package cmp_test

import (
	"crypto/x509/pkix"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
	"mobileid/activities/ca/cmp/cmptest"
)

func newDriver(t testing.TB, options cmp.Options) *cmp.Driver {
	t.Helper()
	driver, err := cmp.New(options)
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	return driver
}

var product = catest.Product{
	Driver: "cmp",
	Name:   "CMP responder",
	Fake:   true,
	Reasons: []mobileid.Reason{
		mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
		mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
	},
	Expired: mobileid.OutcomeExpiredNotRevoked, // a CRL does not tell, and CMP has no status
}

func TestContract(t *testing.T) {
	catest.Run(t, product, func(t testing.TB, name pkix.Name) *catest.Server {
		fake := cmptest.Start(t, name)
		return server(fake, newDriver(t, fake.Driver(fake.Officer)), newDriver(t, fake.Driver(fake.Auditor)))
	})
}

// The same with a shared secret. The table of the contract has the run above alone.
func TestContractWithSecret(t *testing.T) {
	for _, mac := range []string{cmp.PBM, cmp.PBMAC1} {
		t.Run(mac, func(t *testing.T) {
			catest.Run(t, product, func(t testing.TB, name pkix.Name) *catest.Server {
				fake := cmptest.Start(t, name)
				options := fake.SecretDriver()
				options.MAC = mac
				denied := options
				denied.SecretFile = cmptest.WriteSecret(t, "wrong")
				return server(fake, newDriver(t, options), newDriver(t, denied))
			})
		})
	}
}

func server(fake *cmptest.Fake, driver, denied *cmp.Driver) *catest.Server {
	return &catest.Server{
		Issuer:  fake.Certificate,
		Driver:  driver,
		Faults:  catest.NewFaults(driver.Client(), func(*http.Request) bool { return true }),
		Issue:   fake.Issue,
		Denied:  denied,
		Hold:    fake.Hold,
		Approve: fake.Approve,
		CRLURL:  fake.CRLURL,
	}
}
