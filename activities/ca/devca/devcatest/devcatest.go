// Package devcatest runs a development CA inside a test, with faults to order.
//
// Nothing here is for programs: importing it links the testing package.
package devcatest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
)

// crlInterval keeps tests that wait for a CRL short.
const crlInterval = 20 * time.Millisecond

// issueValidity is how long the certificates of [CA.Issue] are valid.
const issueValidity = 30 * 24 * time.Hour

// CA is a development CA on two ports of the loopback interface, that ends with
// its test.
type CA struct {
	Server    *devca.Server
	Dir       string // the folder, for the files that devca names
	PublicURL string
	APIURL    string

	public   *httptest.Server
	faults   faults
	withheld withheld

	options           devca.Options
	publicSite, calls site
}

// Start runs a CA in a new folder. change, which may be left out, adapts the
// options; PublicURL is set already.
func Start(t testing.TB, change ...func(*devca.Options)) *CA {
	t.Helper()
	c := &CA{Dir: t.TempDir()}
	c.faults.ended = make(chan struct{})

	// The certificates name the port, so it must be known before the server is.
	c.public = httptest.NewUnstartedServer(nil)
	c.PublicURL = "http://" + c.public.Listener.Addr().String()
	options := devca.Options{PublicURL: c.PublicURL, CRLInterval: crlInterval}
	for _, f := range change {
		f(&options)
	}
	c.options = options
	c.open(t)
	t.Cleanup(func() { require.NoError(t, c.Server.Close()) })

	c.public.Config.Handler = &c.publicSite
	c.public.Start()
	t.Cleanup(c.public.Close)

	api := httptest.NewUnstartedServer(c.faults.wrap(&c.calls))
	api.TLS = c.Server.TLSConfig()
	api.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests want
	api.StartTLS()
	c.APIURL = api.URL
	t.Cleanup(api.Close)
	t.Cleanup(func() { close(c.faults.ended) }) // runs first, so that Close does not wait for what hangs
	return c
}

// DriverOptions returns those of a driver that the CA lets in.
func (c *CA) DriverOptions() devca.DriverOptions {
	return devca.DriverOptions{
		URL:            c.APIURL,
		ClientCertFile: filepath.Join(c.Dir, devca.ClientCertFile),
		ClientKeyFile:  filepath.Join(c.Dir, devca.ClientKeyFile),
		ServerCAFile:   filepath.Join(c.Dir, devca.ServerCAFile),
	}
}

// Driver returns a driver that the CA lets in.
func (c *CA) Driver(t testing.TB) *devca.Driver {
	t.Helper()
	driver, err := devca.NewDriver(c.DriverOptions())
	require.NoError(t, err)
	t.Cleanup(driver.Close)
	return driver
}

// Certificate returns the CA certificate.
func (c *CA) Certificate() *x509.Certificate { return c.Server.Certificate() }

// OCSPURL is where the OCSP responder answers.
func (c *CA) OCSPURL() string { return c.PublicURL + "/ocsp" }

// CRLURL is where the CRL is, as DER.
func (c *CA) CRLURL() string { return c.PublicURL + "/crl.der" }

// Issue issues an authentication certificate for a new key.
func (c *CA) Issue(t testing.TB, commonName string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	return c.IssueWith(t, commonName, devca.IssueRequest{})
}

// IssueSerial issues a certificate with the serial number given in hex.
func (c *CA) IssueSerial(t testing.TB, commonName, serial string) *x509.Certificate {
	t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	require.True(t, ok, "serial %q is not hex", serial)
	cert, _ := c.IssueWith(t, commonName, devca.IssueRequest{Serial: number})
	return cert
}

// IssueExpired issues a certificate that ended an hour ago.
func (c *CA) IssueExpired(t testing.TB, commonName string) *x509.Certificate {
	t.Helper()
	cert, _ := c.IssueWith(t, commonName, devca.IssueRequest{NotBefore: time.Now().Add(-2 * time.Hour), Validity: time.Hour})
	return cert
}

// IssueWith issues a certificate for a new key as the request says, with defaults
// for its profile and validity.
func (c *CA) IssueWith(t testing.TB, commonName string, request devca.IssueRequest) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	request.CSR = CSR(t, key, commonName)
	if request.Profile == "" {
		request.Profile = devca.ProfileAuthentication
	}
	if request.Validity == 0 {
		request.Validity = issueValidity
	}
	cert, err := c.Server.Issue(context.Background(), request)
	require.NoError(t, err)
	return cert, key
}

// PublishWhen has everybody read the CRL as it is now, until due reports true: a CA's
// next CRL is then later than its answer, however quick or slow the machine is. It is
// asked each time somebody reads the CRL.
func (c *CA) PublishWhen(due func() bool) { c.withheld.until(due, c.Server.Public()) }

// Hold puts a certificate on hold.
func (c *CA) Hold(t testing.TB, cert *x509.Certificate) {
	t.Helper()
	_, err := c.Server.Revoke(context.Background(), cert.SerialNumber, mobileid.CertificateHold)
	require.NoError(t, err)
}

// patience is far more than the CA takes for a CRL.
const patience = time.Minute

// AwaitListed waits until the CRL lists certificates, named by their serial numbers in
// hex. The CA answers before it publishes.
func (c *CA) AwaitListed(t testing.TB, serials ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer := httptest.NewRecorder()
		c.publicSite.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/crl.der", nil))
		list, err := x509.ParseRevocationList(answer.Body.Bytes())
		if err != nil {
			return false
		}
		listed := map[string]bool{}
		for _, entry := range list.RevokedCertificateEntries {
			listed[entry.SerialNumber.Text(16)] = true
		}
		for _, serial := range serials {
			if !listed[serial] {
				return false
			}
		}
		return true
	}, patience, crlInterval, "the CRL lists %v", serials)
}

// Status returns what the CA itself knows, past all faults.
func (c *CA) Status(t testing.TB, cert *x509.Certificate) devca.CertificateStatus {
	t.Helper()
	status, err := c.Server.Status(context.Background(), cert.SerialNumber)
	require.NoError(t, err)
	return status
}

// CSR returns a certificate request as DER.
func CSR(t testing.TB, key crypto.Signer, commonName string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	require.NoError(t, err)
	return der
}

// Name returns the certificate in the form in which drivers are told of it.
func Name(t testing.TB, cert *x509.Certificate) ca.Certificate {
	t.Helper()
	known, err := mobileid.NewCertificate(cert, mobileid.CertificateValid)
	require.NoError(t, err)
	return ca.Certificate{
		CertificateID: known.CertificateID,
		IssuerDN:      known.IssuerDN,
		NotAfter:      known.NotAfter,
		DER:           known.DER,
	}
}
