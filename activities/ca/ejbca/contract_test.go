package ejbca_test

import (
	"crypto/x509/pkix"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/ejbca"
	"mobileid/activities/ca/ejbca/ejbcatest"
)

func newDriver(t testing.TB, options ejbca.Options) *ejbca.Driver {
	t.Helper()
	driver, err := ejbca.New(options)
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	return driver
}

func TestContract(t *testing.T) {
	catest.Run(t, catest.Product{
		Driver: "ejbca",
		Name:   "EJBCA REST API",
		Fake:   true,
		Reasons: []mobileid.Reason{
			mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
			mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
		},
		Expired: mobileid.OutcomeRevoked,
	}, func(t testing.TB, name pkix.Name) *catest.Server {
		fake := ejbcatest.Start(t, name)
		driver := newDriver(t, fake.Driver(fake.Officer))
		return &catest.Server{
			Issuer:  fake.Certificate,
			Driver:  driver,
			Faults:  catest.NewFaults(driver.Client(), func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/revoke") }),
			Issue:   fake.Issue,
			Denied:  newDriver(t, fake.Driver(fake.Auditor)),
			Hold:    fake.Hold,
			Approve: fake.Approve,
			CRLURL:  fake.CRLURL,
		}
	})
}
