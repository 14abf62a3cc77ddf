package cmrest_test

import (
	"crypto/x509/pkix"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
	"mobileid/activities/ca/cmrest/cmresttest"
)

func newDriver(t testing.TB, options cmrest.Options) *cmrest.Driver {
	t.Helper()
	driver, err := cmrest.New(options)
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	return driver
}

// product says that of both modes. The table has one column for the driver.
var product = catest.Product{
	Driver: "cmrest",
	Name:   "CM REST API of Nexus Protocol Gateway",
	Fake:   true,
	Reasons: []mobileid.Reason{
		mobileid.KeyCompromise, mobileid.AffiliationChanged, mobileid.Superseded, mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn,
	},
	Expired: mobileid.OutcomeRevoked,
	Without: map[string]string{"waits for approval": "the API has no approvals of revocations"},
}

// The default: the caller signs. What counts as a request to revoke is the signed one;
// the one before it has no effect.
func TestContract(t *testing.T) {
	catest.Run(t, product, func(t testing.TB, name pkix.Name) *catest.Server {
		return contractServer(t, cmresttest.Start(t, name), isSigned)
	})
}

// The gateway signs.
func TestContractSignedByServer(t *testing.T) {
	catest.Run(t, product, func(t testing.TB, name pkix.Name) *catest.Server {
		fake := cmresttest.Start(t, name)
		fake.SignByServer()
		return contractServer(t, fake, isRevoke)
	})
}

func contractServer(t testing.TB, fake *cmresttest.Fake, counts func(*http.Request) bool) *catest.Server {
	t.Helper()
	driver := newDriver(t, fake.Driver(fake.Officer))
	return &catest.Server{
		Issuer: fake.Certificate,
		Driver: driver,
		Faults: catest.NewFaults(driver.Client(), counts),
		Issue:  fake.Issue,
		Denied: newDriver(t, fake.Driver(fake.Auditor)),
		Hold:   fake.Hold,
		CRLURL: fake.CRLURL,
	}
}

// What counts is, as for revocations, the request that has an effect.
func TestIssuingContract(t *testing.T) {
	catest.RunIssuing(t, func(t testing.TB) *catest.IssuingServer {
		return issuingServer(t, cmresttest.Start(t, someName), func(r *http.Request) bool { return isIssue(r) && multipartForm(r).Has("signature") })
	})
}

func TestIssuingContractSignedByServer(t *testing.T) {
	catest.RunIssuing(t, func(t testing.TB) *catest.IssuingServer {
		fake := cmresttest.Start(t, someName)
		fake.SignByServer()
		return issuingServer(t, fake, isIssue)
	})
}

func issuingServer(t testing.TB, fake *cmresttest.Fake, counts func(*http.Request) bool) *catest.IssuingServer {
	t.Helper()
	driver := newDriver(t, fake.Driver(fake.Officer))
	return &catest.IssuingServer{
		Issuer: fake.Certificate, Driver: driver, Faults: catest.NewFaults(driver.Client(), counts), Procedure: cmresttest.Procedure,
	}
}

func isIssue(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/certificates/pkcs10") }

// multipartForm is form, of the other kind.
func multipartForm(r *http.Request) url.Values {
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	_, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil
	}
	parts, err := multipart.NewReader(body, parameters["boundary"]).ReadForm(1 << 20)
	if err != nil {
		return nil
	}
	return parts.Value
}

func isRevoke(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/certificates/revoke") }

func isSigned(r *http.Request) bool { return isRevoke(r) && form(r).Has("signature") }

// form reads a copy of the form, and leaves the request as it is.
func form(r *http.Request) url.Values {
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil
	}
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil
	}
	return values
}
