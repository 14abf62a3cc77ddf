package activities

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"mobileid"
	"mobileid/activities/ca"
)

// askedDriver notes the certificates that it is asked to revoke.
type askedDriver struct {
	can   ca.Capabilities
	asked []ca.Certificate
}

func (d *askedDriver) Capabilities() ca.Capabilities { return d.can }

func (d *askedDriver) Revoke(_ context.Context, cert ca.Certificate, _ mobileid.Reason) (ca.Answer, error) {
	d.asked = append(d.asked, cert)
	return ca.Answer{Outcome: ca.Revoked, RevokedAt: time.Now()}, nil
}

func (d *askedDriver) Status(context.Context, ca.Certificate) (ca.Evidence, error) {
	return ca.Evidence{
		Status: mobileid.StatusRevoked, RevokedAt: time.Now(), Proof: mobileid.Proof{At: time.Now(), SHA256: "5a"},
	}, nil
}

// keptIM is an Identity Manager with one mobile ID, or none.
type keptIM struct {
	IdentityManager
	kept *mobileid.MobileID
}

func (im keptIM) MobileID(context.Context, string) (mobileid.MobileID, error) {
	if im.kept == nil {
		return mobileid.MobileID{}, mobileid.NotFound()
	}
	return *im.kept, nil
}

func newIssuer(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	issuer, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return issuer
}

// A driver that takes the certificate itself is given it; it does not travel with
// the step.
func TestRevokeAtCAReadsTheCertificateForADriverThatTakesIt(t *testing.T) {
	issuer := newIssuer(t)
	id := mobileid.CertificateID{Issuer: mobileid.HashName(issuer.RawSubject), Serial: "abc"}
	kept := &mobileid.MobileID{ID: "mid-1", Certificates: []mobileid.Certificate{{CertificateID: id, DER: []byte("DER")}}}
	for name, test := range map[string]struct {
		can  ca.Capabilities
		im   IdentityManager
		want []byte
	}{
		"it takes it":              {ca.Capabilities{HasStatus: true, TakesDER: true}, keptIM{kept: kept}, []byte("DER")},
		"it needs it":              {ca.Capabilities{HasStatus: true, NeedsDER: true}, keptIM{kept: kept}, []byte("DER")},
		"it does not":              {ca.Capabilities{HasStatus: true}, keptIM{kept: kept}, nil},
		"deleted meanwhile":        {ca.Capabilities{HasStatus: true, TakesDER: true}, keptIM{}, nil},
		"a worker without a store": {ca.Capabilities{HasStatus: true, TakesDER: true}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &askedDriver{can: test.can}
			authorities, err := ca.NewAuthorities([]*ca.Authority{{Name: "ca", Issuer: issuer, Driver: driver}})
			require.NoError(t, err)
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			a := &Activities{IM: test.im, CAs: authorities}
			a.RegisterCA(env)
			_, err = env.ExecuteActivity(RevokeAtCAName, RevokeAtCAInput{
				CA: CAPolicy{Name: "ca"}, MobileID: "mid-1", Reason: mobileid.Superseded,
				Certificates: []mobileid.CertificateResult{{CertificateID: id, CA: "ca"}},
			})
			require.NoError(t, err)
			require.Len(t, driver.asked, 1)
			require.Equal(t, test.want, driver.asked[0].DER)
		})
	}
}

// A worker that leaves a CA to others says so, if a lock comes to it all the same.
func TestRevokeAtCAWithoutADriver(t *testing.T) {
	authorities, err := ca.NewAuthorities([]*ca.Authority{{Name: "ca", Issuer: newIssuer(t), TaskQueue: "zone"}})
	require.NoError(t, err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	(&Activities{CAs: authorities}).RegisterCA(env)
	_, err = env.ExecuteActivity(RevokeAtCAName, RevokeAtCAInput{CA: CAPolicy{Name: "ca"}})
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.True(t, application.NonRetryable())
	require.ErrorContains(t, err, "no driver")
}
