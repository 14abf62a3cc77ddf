package devca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

func TestContract(t *testing.T) {
	catest.Run(t, catest.Product{
		Driver: "devca",
		Name:   "devca, the development CA",
		Reasons: []mobileid.Reason{
			mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
			mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
		},
		Expired: mobileid.OutcomeRevoked,
		Without: map[string]string{
			"waits for approval": "devca has no approvals",
		},
	}, func(t testing.TB, name pkix.Name) *catest.Server {
		c := devcatest.Start(t, func(o *devca.Options) { o.CommonName = name.CommonName })
		driver := c.Driver(t)
		return &catest.Server{
			Issuer: c.Certificate(),
			Driver: driver,
			Faults: catest.NewFaults(driver.Client(), func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/revoke") }),
			Issue: func(t testing.TB, request catest.IssueRequest) *x509.Certificate {
				with := devca.IssueRequest{Serial: request.Serial}
				if !request.NotAfter.IsZero() {
					with.NotBefore = request.NotAfter.Add(-24 * time.Hour)
					with.Validity = 24 * time.Hour
				}
				cert, _ := c.IssueWith(t, "Anna", with)
				return cert
			},
			Denied:  deniedDriver(t, c),
			Hold:    c.Hold,
			OCSPURL: c.OCSPURL(),
			CRLURL:  c.CRLURL(),
		}
	})
}

// deniedDriver comes with the client certificate of another CA.
func deniedDriver(t testing.TB, c *devcatest.CA) *devca.Driver {
	t.Helper()
	options, other := c.DriverOptions(), devcatest.Start(t).DriverOptions()
	options.ClientCertFile, options.ClientKeyFile = other.ClientCertFile, other.ClientKeyFile
	driver, err := devca.NewDriver(options)
	require.NoError(t, err)
	t.Cleanup(driver.Close)
	return driver
}

func TestIssuingContract(t *testing.T) {
	catest.RunIssuing(t, func(t testing.TB) *catest.IssuingServer {
		c := devcatest.Start(t)
		driver := c.Driver(t)
		return &catest.IssuingServer{
			Issuer: c.Certificate(), Driver: driver, Procedure: string(devca.ProfileAuthentication),
			Faults: catest.NewFaults(driver.Client(), func(r *http.Request) bool {
				return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/certificates")
			}),
		}
	})
}
